"""Measurements of an audit: videos by decoding them, annotations by reading them, folders of images by their names."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import AbsentError, ManifestError, MediaError
from affpipe.core.progress import Progress
from affpipe.core.tasks.table import TASKS
from affpipe.core.tasks.task import Task, Tasks
from affpipe.data.importers.listing import IMAGES
from affpipe.data.label_files import read
from affpipe.faces.which import share_with_face
from affpipe.media.probe import probe
from affpipe.media.reader import VideoPass, open_media, packets, unreadable, video_stream, words
from affpipe.media.sound.audio import extract
from affpipe.media.sound.heard import Heard
from affpipe.media.tracks import Wanted, audio_track, video_track
from affpipe.system import faults
from affpipe.system.processes import Late, in_processes, share_imports

Tracks = tuple[Wanted, Wanted]  # of video and of sound
BY_THEMSELVES: Tracks = ("auto", "auto")


@dataclass(frozen=True)
class VideoFacts:
    """Facts of a video; `error` alone if it cannot be used.

    Attributes:
        frames: number of decoded frames, or of packets in a quick look, which headers, edit lists and damage make wrong.
        fps: nominal rate as a fraction ("30000/1001"); the declared one in a quick look.
        width, height: pixels as displayed.
        variable_rate: some interval differs from the usual one.
        faults: what a person should know of the file. treated: what is done to its pictures (in a quick look by the first one).
        told: which of several tracks were taken, and what the sound is like.
    """

    frames: int = 0
    fps: Fraction = Fraction(0)
    width: int = 0
    height: int = 0
    variable_rate: bool = False
    faults: tuple[str, ...] = ()
    treated: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class LabelFacts:
    """Facts of an annotation; `error` alone if the file has a fault.

    timed: whether rows are intervals or samples, and not frames. end_s: time of the last label of those.
    doubt: what is odd about it by itself; "" where nothing is.
    """

    rows: int = 0
    invalid: int = 0
    error: str = ""
    timed: bool = False
    end_s: float = 0.0
    doubt: str = ""

    @property
    def telling(self) -> bool:
        """True if any row has a label."""
        return self.rows > self.invalid


@dataclass(frozen=True)
class ImageFacts:
    """Facts of a folder of images `00001.jpg`.

    Attributes:
        gaps: missing numbers between first and last. unnumbered: number of other images.
    """

    count: int
    first: int = 0
    last: int = 0
    gaps: int = 0
    unnumbered: int = 0


def videos(
    paths: Sequence[Path], *, quick: bool, jobs: int, progress: Progress, tracks: Mapping[Path, Tracks] | None = None
) -> dict[Path, VideoFacts]:
    """Measure each video, in `jobs` processes; tracks: those that a manifest names."""
    wanted = [(path, quick, (tracks or {}).get(path, BY_THEMSELVES)) for path in paths]
    share_imports()
    out: dict[Path, VideoFacts] = {}
    progress("videos", 0, len(paths))
    for done, ((path, *_), found) in enumerate(in_processes(_looked_at, wanted, processes=jobs), 1):
        if isinstance(found, Exception):
            raise found
        gone = f"{path}: want a readable video, got one that ends the process that decodes it; take it out"
        out[path] = VideoFacts(error=gone) if isinstance(found, Late) else found
        progress("videos", done, len(paths))
    return out


def _looked_at(wanted: tuple[Path, bool, Tracks]) -> VideoFacts | Exception:
    try:
        return video(*wanted)
    except Exception as error:  # an error of the machine ends the audit, and is no fact of a video
        return error


def video(path: Path, quick: bool, tracks: Tracks = BY_THEMSELVES) -> VideoFacts:
    """Measure a video, decoded whole with its sound, or from its packets and its first frame."""
    try:
        picture = video_track(path, tracks[0], faces=share_with_face)
        sound = audio_track(path, tracks[1]) if quick or tracks[1] != "auto" else None
        track = picture and picture.index
        if quick:
            return _quick(path, track, tuple(choice.said for choice in (picture, sound) if choice and choice.said))
        found = probe(path, track=track)
        told = (*([picture.said] if picture.said else ()), *_sound(path, found.axis, tracks[1], track))
    except Exception as error:
        return VideoFacts(error=faults.said(str(path), error))
    facts = VideoFacts(len(found.axis), found.fps, found.width, found.height, found.variable_rate)
    return replace(facts, faults=found.faults, treated=found.treated, told=told)


def _sound(path: Path, axis: FrameAxis, track: Wanted, video: int) -> tuple[str, ...]:
    """Return what a person should know of the sound, as the stage `audio` would find it."""
    heard = Heard()
    try:
        for _ in extract(path, axis, track=track, video_track=video, heard=heard):
            pass
    except (AbsentError, MediaError) as error:
        return () if heard.track is None else (str(error).removeprefix(f"{path}: "),)
    return heard.faults


def _quick(path: Path, track: int | None, told: tuple[str, ...]) -> VideoFacts:
    with open_media(path) as container:
        first = VideoPass(container, path, track=track)
        next(iter(first))
        size, treated = first.shown, first.treated()
    with open_media(path) as container:
        stream = video_stream(container, path, track)
        try:
            found = [p for p in packets(container, [stream]) if p.size and not p.is_discard]
        except av.FFmpegError as error:
            raise unreadable(path, words(error)) from None
        shown = sorted(p.pts for p in found if p.pts is not None)
        steps, tick = np.diff(shown) * float(stream.time_base), float(stream.time_base)
        usual = float(np.median(steps)) if len(steps) else 0.0
        varies = bool((np.abs(steps - usual) > max(1.5 * tick, 0.02 * usual)).any())
        rate = (not varies and stream.guessed_rate) or stream.average_rate or Fraction(0)
    return VideoFacts(len(found), rate, *size, varies, treated=treated, told=told)


def labels(files: Iterable[tuple[str, Path]], progress: Progress, tasks: Tasks = TASKS) -> dict[tuple[str, Path], LabelFacts]:
    """Return the facts of annotations by task and file, each read once."""
    wanted, out = sorted(set(files)), {}
    for done, own in enumerate(wanted, 1):
        out[own] = label(tasks[own[0]], own[1])
        progress("annotations", done, len(wanted))
    return out


def label(task: Task, path: Path) -> LabelFacts:
    """Return the facts of an annotation file; one that has no row below its header has a fault."""
    try:
        found = read(task, path)
    except ManifestError as error:
        return LabelFacts(error=str(error))
    if not found.rows and not found.timed:
        return LabelFacts(error=f"{path}: line 2: want a line a frame, got the header alone; fetch the file again or remove it")
    if not found.rows and task.kind != "units":  # no interval of a unit says that it is never there
        return LabelFacts(error=f"{path}: want intervals or values over time, got none; fetch the file again or remove it")
    return LabelFacts(found.rows, found.rows - found.labelled, timed=found.timed, end_s=found.end_s, doubt=found.doubt)


def images(folder: Path) -> ImageFacts:
    """Return the facts of a folder of images."""
    names = [os.path.splitext(name) for name in os.listdir(folder) if name[0] != "."]
    stems = [stem for stem, suffix in names if suffix.lower() in IMAGES]
    numbers = {int(stem) for stem in stems if stem.isdecimal() and stem.isascii()}
    if not numbers:
        return ImageFacts(len(stems), unnumbered=len(stems))
    first, last = min(numbers), max(numbers)
    unnumbered = sum(not (stem.isdecimal() and stem.isascii()) for stem in stems)
    return ImageFacts(len(stems), first, last, last - first + 1 - len(numbers), unnumbered)
