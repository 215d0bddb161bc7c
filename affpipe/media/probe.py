"""Facts of a video that need no pixels, from one full decode without colour conversion.

Frames are counted by decoding: headers and packet counts lie (edit lists, damaged or missing data).
"""

from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import InputError, MediaError
from affpipe.media import clock
from affpipe.media.picture.decode import BACKENDS, check_decord, chosen, packet_times
from affpipe.media.picture.shown import believed
from affpipe.media.reader import VideoPass, check_length, open_media, still
from affpipe.media.tracks import audio_track

# Shortfall against the declared duration that is reported; containers round theirs by about a frame.
MISSING_S = 0.1
# A picture that stands longer than both is reported (seconds; times the usual): damage, or a recorder that left pictures out.
HOLE_S, HOLE_TIMES = 0.25, 4
# The comment that the demo renderer puts into its files, so that figures on them are never taken for real ones.
DEMO_COMMENT = "affpipe demo"


@dataclass(frozen=True)
class AudioInfo:
    """The audio track that is chosen when none is named.

    start_s: time of its first packet (codec priming included) on the container's clock, None if unknown.
    """

    codec: str
    sample_rate_hz: int
    channels: int
    start_s: float | None


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video.

    Attributes:
        width, height: pixels as displayed: square ones, after rotation.
        stored_width, stored_height: pixels as stored.
        pixel_ratio: width over height of a stored pixel as the file says, None if it does not.
        rotation_deg: counter-clockwise turn from the stored to the displayed picture: 0, 90, 180 or 270.
        fps: nominal rate, exact. If the usual interval fits no declared rate, the mean rate.
        duration_s: from the first frame to the end of the last.
        variable_rate: whether some interval differs from 1 / fps by over 2 % and over the clock's resolution (a dropped frame counts).
        interlaced: number of frames marked as interlaced.
        high_range: number of frames of high dynamic range, by the name of their transfer.
        treated: what is done to the pictures besides turning them, a line each.
        repaired_times: number of frames whose time is not their pts; see `clock`.
        times_by_dts: whether all times are those of decoding; see `clock`.
        bad_packets, corrupt_frames: how many `reader` skipped, and passed on.
        synthetic: whether the file says that `affpipe demo` rendered it.
        missing_s: declared end of the file minus the end of its last packet, or the same for the track if more is missing; at least 0.
        holes: how often a picture stands for over HOLE_S and over HOLE_TIMES as long as usual.
        longest_s: longest time that a picture stands.
    """

    codec: str
    width: int
    height: int
    rotation_deg: int
    fps: Fraction
    duration_s: float
    variable_rate: bool
    audio: AudioInfo | None
    synthetic: bool
    axis: FrameAxis
    stored_width: int
    stored_height: int
    pixel_ratio: Fraction | None
    interlaced: int
    high_range: dict[str, int]
    treated: tuple[str, ...]
    repaired_times: int
    times_by_dts: bool
    bad_packets: int
    corrupt_frames: int
    missing_s: float
    holes: int
    longest_s: float

    @property
    def faults(self) -> tuple[str, ...]:
        """Faults of the file that a person should know, empty for a sound one."""
        said = (
            (self.repaired_times, f"{self.repaired_times} of {len(self.axis)} timestamps {self._repair}"),
            (self._odd_ratio, f"pixels said to be {self.pixel_ratio} as wide as high, taken as square"),
            (self.bad_packets, f"{self.bad_packets} undecodable packets skipped"),
            (self.corrupt_frames, f"{self.corrupt_frames} damaged frames"),
            (self.holes, f"{self.holes} pictures stand for over {HOLE_S} s, the longest for {self.longest_s:.2f} s"),
            (self.missing_s > MISSING_S, f"ends {self.missing_s:.2f} s before its declared duration"),
        )
        return tuple(text for count, text in said if count)

    @property
    def _repair(self) -> str:
        return "not those of showing, taken from the order of decoding" if self.times_by_dts else "missing or not increasing, repaired"

    @property
    def _odd_ratio(self) -> bool:
        return bool(self.pixel_ratio) and believed(self.pixel_ratio) != self.pixel_ratio

    def facts(self) -> dict[str, Any]:
        """Return all but the axis, ready for JSON; fps and pixel_ratio are fractions ("30000/1001")."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("axis", "audio")}
        return {
            **own,
            "fps": str(self.fps),
            "pixel_ratio": self.pixel_ratio and str(self.pixel_ratio),
            "treated": list(self.treated),
            "audio": self.audio and asdict(self.audio),
            "frames": len(self.axis),
            "faults": list(self.faults),
        }


def probe(path: Path, *, backend: str = "pyav", track: int | None = None, deinterlace: bool = True, tone_map: bool = True) -> VideoInfo:
    """Decode a whole video without converting pixels. Raises MediaError (one line) for a video that cannot be used.

    Args:
        track: number of the video track, see `tracks`. None chooses one without looking for faces.
        deinterlace, tone_map: what is to be done to the pictures, as for `decode.frames`.

    PyAV decodes, whatever the backend. For decord the video must in addition have the packets that its frames claim.
    """
    if backend not in BACKENDS:
        raise InputError(f"probe: want a backend of {BACKENDS}, got {backend!r}")
    track = chosen(path) if track is None else track
    sound = audio_track(path)
    with open_media(path) as container:
        video = VideoPass(container, path, track=track)
        for _ in video:
            pass
        found = clock.times(video.stamps, _frame_s(video))
        times = found.times_s
        if len(times) == 1 and container.format.name in ("gif", "apng"):
            raise still(path)
        if backend == "decord":
            check_decord(video, deinterlace=deinterlace, tone_map=tone_map)
            if packet_times(path, track) != times.tolist():
                raise MediaError(f"{path}: decord: want one frame for each packet, got {len(times)} frames; use the pyav backend")
        width, height = video.shown
        fps = _rate(times, video.stream)
        check_length(path, times[-1] - times[0] + 1 / fps)
        axis = FrameAxis(times, fps)
        tick, stands_s = float(video.stream.time_base), np.diff(times)
        return VideoInfo(
            codec=video.stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            rotation_deg=_rotation(*video.matrix),
            fps=axis.fps,
            duration_s=axis.end_s - axis.start_s,
            variable_rate=bool((np.abs(stands_s - 1 / axis.fps) > max(1.5 * tick, 0.02 / axis.fps)).any()),
            audio=_audio(container.streams.audio[sound.index]) if sound else None,
            synthetic=any(k.lower() == "comment" and text == DEMO_COMMENT for k, text in container.metadata.items()),
            axis=axis,
            stored_width=video.size[0],
            stored_height=video.size[1],
            pixel_ratio=video.ratio,
            interlaced=video.interlaced,
            high_range=dict(video.high_range),
            treated=video.treated(deinterlace=deinterlace, tone_map=tone_map),
            repaired_times=found.repaired,
            times_by_dts=found.by_dts,
            bad_packets=video.bad_packets,
            corrupt_frames=video.corrupt_frames,
            missing_s=max(0.0, _declared_end_s(container) - video.seen_end_s, _track_end_s(container, video.stream) - video.own_end_s),
            holes=int((stands_s > max(HOLE_S, HOLE_TIMES * float(np.median(stands_s)))).sum()) if len(stands_s) else 0,
            longest_s=float(stands_s.max(initial=0.0)),
        )


def _frame_s(video: VideoPass) -> float:
    """Return the duration of a frame by the declared rate, 0 without one. Raises MediaError if the timestamps do not rise either."""
    rate = video.stream.average_rate or video.stream.guessed_rate
    if not (rate or video.stamps.sound):
        raise MediaError(f"{video.path}: want timestamps that rise or a frame rate, got neither; remux the video")
    return float(1 / rate) if rate else 0.0


def _rotation(a: int, b: int, c: int, d: int) -> int:
    # A mirrored picture (negative determinant) has the angle that remains when the mirror image is undone left to right.
    if a * d - b * c < 0:
        a, c = -a, -c
    return {(1, 0): 0, (0, -1): 90, (-1, 0): 180, (0, 1): 270}[a, b]


def _rate(times: np.ndarray, stream: av.VideoStream) -> Fraction:
    """Return the declared rate that agrees with the usual interval within 1 % or one tick; else the mean rate, in exact ticks."""
    declared = [_snapped(rate) for rate in (stream.guessed_rate, stream.average_rate) if rate]
    if len(times) == 1:
        return declared[0] if declared else Fraction(25)
    usual = float(np.median(np.diff(times)))
    for rate in declared:
        if abs(1 / rate - usual) <= max(float(stream.time_base), 0.01 * usual):
            return rate
    return (len(times) - 1) / (round(Fraction(times[-1] - times[0]) / stream.time_base) * stream.time_base)


def _snapped(rate: Fraction) -> Fraction:
    # A clock of milliseconds makes 19001/317 of 60000/1001; the standard rates are a thousandth apart, so a ten-thousandth is safe.
    for standard in (Fraction(round(rate)), Fraction(1000 * round(rate * Fraction(1001, 1000)), 1001)):
        if abs(rate - standard) < standard / 10000:
            return standard
    return rate


def _audio(stream: av.AudioStream) -> AudioInfo:
    context = stream.codec_context
    if context is None:  # a track that this FFmpeg cannot decode: `audio.extract` reports it
        return AudioInfo("unknown", 0, 0, None)
    start_s = None if stream.start_time is None else float(stream.start_time * stream.time_base)
    return AudioInfo(context.codec.canonical_name, context.sample_rate, context.channels, start_s)


def _declared_end_s(container: av.container.InputContainer) -> float:
    if container.duration is None:
        return 0.0
    # Matroska declares the end, the others a length.
    start = 0 if "matroska" in container.format.name else container.start_time or 0
    return (start + container.duration) / av.time_base


def _track_end_s(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Return the end of a track by its own header: from the frame count in AVI, from a length in MP4 and QuickTime, else 0."""
    if container.format.name == "avi":
        return float(stream.frames / stream.average_rate) if stream.average_rate else 0.0
    if "mp4" not in container.format.name or stream.duration is None:
        return 0.0
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
