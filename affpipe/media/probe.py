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

# Shortfall against the declared duration that is worth a word; containers round theirs by about a frame.
MISSING_S = 0.1
# A picture that stands longer, and so many times longer than usual, is worth a word: damage, or a recorder that left pictures out.
HOLE_S, HOLE_TIMES = 0.25, 4
# The comment that the demo renderer puts into its files, so that figures on them are never taken for real ones.
DEMO_COMMENT = "affpipe demo"


@dataclass(frozen=True)
class AudioInfo:
    """The audio track that is chosen by itself.

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
        width, height: pixels as displayed: square ones, after rotation. stored_width, stored_height: as stored.
        pixel_ratio: width by height of a stored pixel as the file says, None where it says nothing.
        rotation_deg: counter-clockwise turn from the stored to the displayed picture: 0, 90, 180 or 270.
        fps: nominal rate, exact; of a video whose usual interval fits no declared rate the mean rate.
        duration_s: from the first frame to the end of the last.
        variable_rate: some interval differs from 1 / fps by over 2 % and over the clock's resolution (a dropped frame counts).
        interlaced, high_range: frames marked as interlaced; frames of high dynamic range, by the name of their transfer.
        treated: what is done to the pictures besides turning them, a line each.
        repaired_times, times_by_dts: frames whose time is not their pts, and whether it is that of decoding; see `clock`.
        bad_packets, corrupt_frames: counts of what `reader` skipped or passed on.
        synthetic: the file says that it was rendered by `affpipe demo`.
        missing_s: declared end of the file minus the end of its last packet, or that of the track where more is missing, at least 0.
        holes, longest_s: how often a picture stands for over HOLE_S and HOLE_TIMES as long as usual, and the longest time that any stands.
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
        """What a person should know of the file, empty for a sound one."""
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
        """All but the axis, ready for JSON; fps and pixel_ratio as fractions ("30000/1001")."""
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
    """Decode a whole video without converting pixels; raises MediaError (one line) for one that cannot be used.

    Args:
        track: which video track, see `tracks`; None: the one that is chosen by itself, no faces being looked for.
        deinterlace, tone_map: what is to be done to the pictures, as for `decode.frames`.

    PyAV decodes whatever the backend; a video to be decoded by decord must in addition have the packets that its frames claim.
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
    """How long a frame is shown by the declared rate. MediaError where there is none and the timestamps alone do not tell."""
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
    """The declared rate that the usual interval agrees with, within 1 % or one tick of the clock; else the mean rate, in exact ticks."""
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
    if context is None:  # there, though not for this FFmpeg: `audio.extract` says so
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
    """Where a track ends by its own header: AVI counts frames there, MP4 and QuickTime give a length; 0 for what has none of its own."""
    if container.format.name == "avi":
        return float(stream.frames / stream.average_rate) if stream.average_rate else 0.0
    if "mp4" not in container.format.name or stream.duration is None:
        return 0.0
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
