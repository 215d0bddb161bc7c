"""Choice among several video or sound tracks of a file, by what each track is and holds, with reasons.

A file with one track of a kind is not examined. Otherwise a pass over the packets shows what each track is; for sound, one second in ten is
decoded. Tracks are numbered from 0 within their kind, in the order of the file, as FFmpeg's `v:0` and `a:0`. Each rule below removes the
tracks that fail it, unless all fail. Of the rest, the one that FFmpeg would play is taken, or else the first.

Rules for video, in order: known to the decoder; moving; not marked as an addition; at least half as long as the longest; a face in at least
half as many pictures as the best.

Rules for sound, in order: decodable; not digitally silent; not marked as an addition; at most QUIETER_DB below the loudest; at least half
as long as the longest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.stream import Disposition

from affpipe.core.errors import MediaError
from affpipe.media.reader import LARGEST_PIXELS, decoded, encrypted, open_media, packets
from affpipe.media.sound.samples import scaled, swing

Wanted = int | Literal["auto"]
QUIETER_DB = 20.0  # a microphone that nobody spoke into is quieter than the one in use by more than this
QUIET = 1.5 / 32768  # less swing, up to one step of 16 bits, is digital silence, dither included
SHARE = 0.5  # least share of the longest track's length, or of the best track's pictures with a face
SAMPLED_S, EVERY_S = 10, 10  # sampled sound: the first seconds, then every tenth
KEYS = 64  # most times of key frames kept for a track
PICTURE = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
ADDED = (
    Disposition.comment
    | Disposition.dub
    | Disposition.karaoke
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.clean_effects
    | Disposition.descriptions
    | Disposition.dependent
)
Faces = Callable[[Path, int, Sequence[float]], float]  # (file, video track, times) -> share of the pictures there that have a face


@dataclass(frozen=True)
class Choice:
    """A track that was chosen.

    Attributes:
        kind: "video" or "audio".
        index: number of the track.
        of: number of tracks of that kind in the file.
        asked: whether a setting or the manifest named the track.
        others: for an automatic choice, index -> reason why that track was not taken.
    """

    kind: str
    index: int
    of: int
    asked: bool = False
    others: Mapping[int, str] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """Notice of the choice for a person; "" if there was nothing to choose."""
        if not self.others:
            return ""
        why = ", ".join(f"{index} {reason}" for index, reason in sorted(self.others.items()))
        return f"took {self.kind} track {self.index} of {self.of} ({why}); `{self.kind}_track` names another"

    def facts(self) -> dict[str, Any]:
        """Return the choice, ready for JSON."""
        others = {str(index): reason for index, reason in self.others.items()}
        return {"index": self.index, "of": self.of, "asked": self.asked, "others": others}


def video_track(path: Path, wanted: Wanted = "auto", *, faces: Faces | None = None) -> Choice | None:
    """Choose the video track; None if there is none but cover pictures.

    Args:
        wanted: number of the track, or "auto".
        faces: looks for faces if several tracks pass all other rules. Without it no faces are looked for.

    Raises MediaError for a number that the file does not have, or a file that does not open.
    """
    with open_media(path) as container:
        streams = container.streams.video
        real = [i for i, stream in enumerate(streams) if not stream.disposition & Disposition.attached_pic]
        covers = {i: "is a cover picture" for i in range(len(streams)) if i not in real}
        if not real or wanted != "auto":
            return _asked(path, "video", wanted, len(streams)) if real else None
        if len(real) == 1:
            return Choice("video", real[0], len(streams), others={})
        tracks = _survey(container, streams)
        left = _Left(real, covers)
        left.keep(lambda i: _known(streams[i]), "cannot be decoded")
        left.keep(lambda i: tracks[i].packets > 1 and not streams[i].disposition & PICTURE, "is a still picture")
        left.keep(lambda i: not streams[i].disposition & ADDED, "is marked as an addition")
        left.keep(lambda i: tracks[i].length_s >= SHARE * max(tracks[k].length_s for k in left.tracks), "is shorter than half")
        if faces and len(left.tracks) > 1:
            seen = {i: faces(path, i, tracks[i].keys) for i in left.tracks}
            left.keep(lambda i: seen[i] > 0 and seen[i] >= SHARE * max(seen.values()), "shows fewer faces")
        return left.choice("video", container.streams.best("video"), streams)


def audio_track(path: Path, wanted: Wanted = "auto") -> Choice | None:
    """Choose the sound track; None if there is none. Arguments and errors as for `video_track`."""
    with open_media(path) as container:
        streams = container.streams.audio
        if not streams:
            return None
        if wanted != "auto" or len(streams) == 1:
            return _asked(path, "audio", wanted, len(streams))
        tracks = _survey(container, streams)
        left = _Left(range(len(streams)), {})
        left.keep(lambda i: tracks[i].heard, "cannot be decoded")
        left.keep(lambda i: tracks[i].swing >= QUIET, "is silent")
        left.keep(lambda i: not streams[i].disposition & ADDED, "is marked as an addition")
        loudest = max(tracks[i].level_db for i in left.tracks)
        left.keep(lambda i: tracks[i].level_db >= loudest - QUIETER_DB, f"is over {QUIETER_DB:.0f} dB quieter")
        left.keep(lambda i: tracks[i].length_s >= SHARE * max(tracks[k].length_s for k in left.tracks), "is shorter than half")
        return left.choice("audio", container.streams.best("audio"), streams)


def _asked(path: Path, kind: str, wanted: Wanted, count: int) -> Choice:
    if wanted == "auto":
        return Choice(kind, 0, count)
    if wanted >= count:
        raise MediaError(f"{path}: want {kind} track {wanted}, got a file with {count}, numbered from 0; mend `{kind}_track`")
    return Choice(kind, wanted, count, asked=True)


class _Left:
    """Tracks that no rule has removed yet, and the reasons why the others were."""

    def __init__(self, tracks: Iterable[int], others: dict[int, str]):
        self.tracks, self.others = list(tracks), others

    def keep(self, passes: Callable[[int], bool], why: str) -> None:
        passing = [i for i in self.tracks if passes(i)]
        if passing:
            self.others |= {i: why for i in self.tracks if i not in passing}
            self.tracks = passing

    def choice(self, kind: str, played: av.stream.Stream | None, streams: Sequence[av.stream.Stream]) -> Choice:
        """Choose among the tracks left: the one that FFmpeg would play, else the largest video, else the first."""
        index = next((i for i in self.tracks if streams[i] == played), None)
        if index is None:
            index = max(self.tracks, key=lambda i: (_pixels(streams[i]), -i))
        rest = {i: "is as good, and not the one that players take" for i in self.tracks if i != index}
        return Choice(kind, index, len(streams), others=self.others | rest)


def _known(stream: av.VideoStream) -> bool:
    return stream.codec_context is not None and _pixels(stream) <= LARGEST_PIXELS


def _pixels(stream: av.stream.Stream) -> int:
    return stream.codec_context.width * stream.codec_context.height if isinstance(stream, av.VideoStream) else 0


@dataclass
class _Track:
    """Facts of a track from a pass over its packets.

    Attributes:
        shown_s: sum of the durations of its packets.
        first_s, last_s: first and last time of its clock.
        keys: times of key frames, every `thinned`th of them.
        heard: whether a sampled packet of sound decodes.
        swing, energy, samples: of the loudest channel in those packets, with a constant removed.
    """

    packets: int = 0
    shown_s: float = 0.0
    first_s: float | None = None
    last_s: float = 0.0
    keys: list[float] = field(default_factory=list)
    thinned: int = 1
    heard: bool = False
    swing: float = 0.0
    energy: float = 0.0
    samples: int = 0

    @property
    def length_s(self) -> float:
        """Length by its packets' durations (a clock may start again), or by its clock if they have none."""
        return self.shown_s or self.last_s - (self.first_s or 0.0)

    @property
    def level_db(self) -> float:
        """RMS of the loudest channel, in decibels of full scale."""
        return 10 * float(np.log10(self.energy / max(1, self.samples) + 1e-20))


def _survey(container: av.container.InputContainer, streams: Sequence[av.stream.Stream]) -> list[_Track]:
    tracks = [_Track() for _ in streams]
    places = {stream.index: at for at, stream in enumerate(streams)}
    try:
        for packet in packets(container, list(streams)):
            if packet.size:
                _note(tracks[places[packet.stream.index]], packet)
    except av.FFmpegError:
        pass  # a file cut off or damaged: what came before must do; whoever reads the chosen track reports the damage
    return tracks


def _note(track: _Track, packet: av.Packet) -> None:
    base = packet.time_base
    at = packet.pts if packet.pts is not None else packet.dts
    time_s = track.shown_s if at is None else float(at * base)
    track.first_s = time_s if track.first_s is None else track.first_s
    track.last_s = max(track.last_s, time_s)
    track.packets += 1
    track.shown_s += max(0.0, float((packet.duration or 0) * base))
    if packet.stream.type == "video":
        if packet.is_keyframe and track.packets % track.thinned == 0:
            track.keys.append(time_s)
            if len(track.keys) == 2 * KEYS:
                track.keys, track.thinned = track.keys[::2], 2 * track.thinned
        return
    second = int(max(0.0, time_s - track.first_s))
    if packet.stream.codec_context is None or encrypted(packet) or (second >= SAMPLED_S and second % EVERY_S):
        return
    found = decoded(packet)
    for frame in found if not isinstance(found, str) else ():
        track.heard = track.heard or frame.samples > 0
        wave = scaled(frame)
        track.swing = max(track.swing, swing(wave))
        track.energy += float(wave.var(axis=1, dtype=np.float64).max(initial=0.0)) * frame.samples if wave.size else 0.0
        track.samples += frame.samples


def named(of_row: int | str | None, of_settings: int | str) -> int | str:
    """Return the wanted track: the manifest's cell takes precedence over the setting."""
    return of_settings if of_row is None else of_row
