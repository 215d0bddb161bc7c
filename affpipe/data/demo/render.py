"""Rendering of the demo set: videos, annotations and test templates of every task, hidden test truth and manifest, laid out like Aff-Wild2.

`truth/` is not in the manifest: it serves to score predictions of the test partition honestly. Row i of a label file is frame i + 1. Labels
follow from the driving signals at the frame's timestamp; without a face in the picture they are the task's invalid mark.
"""

import json
import multiprocessing
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np

from affpipe.core.errors import SettingsError
from affpipe.data.demo.clips import CLIPS, TASKS, Clip, manifest_text, template
from affpipe.data.demo.film import Sound, write_film
from affpipe.data.demo.labels import label_text
from affpipe.data.demo.own_labels import FOLDER, MANIFEST, own_manifest, write_own
from affpipe.data.demo.scene import Stage
from affpipe.data.demo.signals import Drive, drive, frame_ticks
from affpipe.data.demo.synthetic_voice import speak
from affpipe.system import jsonfile

VERSION = 4  # bump when any file of the set changes
MARK = "demo.json"
PARTS = ("videos", "annotations", "truth", FOLDER, "data_manifest.csv", MANIFEST)


def render(
    out: Path, *, seed: int = 7, jobs: int = 2, progress: Callable[[int, int], None] | None = None, clips: Sequence[Clip] = CLIPS
) -> None:
    """Make the set in folder `out`; a complete one of the same seed and version stays as it is.

    The set is made aside and moved in whole. In the folder of an earlier demo only the parts of a demo are replaced.

    Args:
        jobs: processes that draw at the same time.
        progress: called with (clips done, clips in all) after each clip.

    Raises:
        SettingsError: `out` holds something that is no demo, or jobs < 1.
    """
    if jobs < 1:
        raise SettingsError(f"demo render: want jobs >= 1, got {jobs}")
    out = Path(out)
    if _complete(out, seed, clips):
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        _make(aside, seed, jobs, progress, clips)
        _move(aside, out)
    finally:
        shutil.rmtree(aside)


def render_clip(folder: Path, clip: Clip, seed: int) -> None:
    """Write one clip's video and label files below `folder`."""
    rng, people = _people(clip, seed)
    ticks, tick = frame_ticks(clip, rng)
    times_s = ticks * float(tick)
    width, height = clip.size
    stages = [Stage((width // len(people), height), person, clip, rng) for person in people]
    frames = (np.hstack([stage.frame(t) for stage in stages]) for t in times_s)
    sound = Sound(speak(people[0], clip.audio_start_s, clip.duration_s, rng), clip.audio_start_s) if clip.audio else None
    video = folder / clip.video
    video.parent.mkdir(parents=True, exist_ok=True)
    write_film(video, frames, ticks, tick, fps=clip.fps, size=clip.size, sound=sound)
    for stream, person in zip(clip.streams, people, strict=True):
        for task in TASKS:
            labels = folder / stream.labels(task)
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(label_text(task, clip, person, times_s))
        write_own(folder, stream, person, times_s)


def drives(clip: Clip, seed: int = 7) -> list[Drive]:
    """Return the driving curves of a clip's people, left to right; the first one has the voice."""
    return _people(clip, seed)[1]


def _people(clip: Clip, seed: int) -> tuple[np.random.Generator, list[Drive]]:
    """Return the clip's generator, after the curves were drawn from it, and the curves."""
    rng = np.random.default_rng([seed, zlib.crc32(clip.name.encode())])
    return rng, [drive(clip, rng) for _ in clip.streams]


def _template_text(task: str, folder: Path, clips: Sequence[Clip]) -> str:
    """Return rows `stream/00001.jpg,` for every frame of the test partition, to be filled in."""
    rows = [f"image_location,{TASKS[task].header}"]
    for stream in (s for clip in clips if clip.partition == "test" for s in clip.streams):
        count = len((folder / stream.labels(task)).read_text().splitlines()) - 1
        rows += [f"{stream.stream_id}/{frame:05d}.jpg," for frame in range(1, count + 1)]
    return "\n".join(rows) + "\n"


def _make(folder: Path, seed: int, jobs: int, progress: Callable[[int, int], None] | None, clips: Sequence[Clip]) -> None:
    """Render the whole set into an empty folder."""
    # spawn: the parent may hold threads (mediapipe, torch) that a fork would break
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(clips)), mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        renders = [pool.submit(render_clip, folder, clip, seed) for clip in clips]
        try:
            for done, rendered in enumerate(as_completed(renders), start=1):
                rendered.result()
                if progress is not None:
                    progress(done, len(clips))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # and wait: what is still being drawn would be written into the folder that is removed
            raise
    for task in TASKS:
        blank = folder / template(task)
        blank.parent.mkdir(parents=True, exist_ok=True)
        blank.write_text(_template_text(task, folder, clips))
    (folder / "data_manifest.csv").write_text(manifest_text(clips))
    (folder / MANIFEST).write_text(own_manifest(clips))
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / MARK).write_text(json.dumps({"seed": seed, "version": VERSION, "files": sizes}, indent=1) + "\n")


def _move(aside: Path, out: Path) -> None:
    """Move the set into place; the mark of a complete set comes last."""
    out.mkdir(exist_ok=True)
    (out / MARK).write_text(json.dumps({"files": {}}) + "\n")  # from here on the folder is a demo, but not a whole one
    for part in PARTS:
        target = out / part
        if target.is_dir():
            shutil.rmtree(target)
        if (aside / part).exists():
            (aside / part).replace(target)
    (aside / MARK).replace(out / MARK)


def _complete(out: Path, seed: int, clips: Sequence[Clip]) -> bool:
    """Tell whether `out` holds the wanted set; if not, it may be made there.

    Raises SettingsError if something else is there.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / MARK).is_file():
        raise SettingsError(f"demo render: want a new or empty folder or an earlier demo, got {out}; give another folder")
    try:
        mark = jsonfile.read(out / MARK)
        files, same = mark["files"], (mark.get("seed"), mark.get("version")) == (seed, VERSION)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise SettingsError(f"demo render: {out / MARK} is damaged; give another folder or remove this one") from None
    wanted = {clip.video for clip in clips} <= set(files)
    return same and wanted and all((out / name).is_file() and (out / name).stat().st_size == size for name, size in files.items())
