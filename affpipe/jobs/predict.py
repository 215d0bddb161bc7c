"""Prediction of the user's videos by the stages and models of a finished run, in this process, with the same store."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affpipe import __version__
from affpipe.core.axis import SOURCE_NAMES
from affpipe.core.errors import AffpipeError, InputError, MediaError, PartError, StoreError
from affpipe.core.item import Item
from affpipe.core.progress import Progress
from affpipe.data import annotations
from affpipe.data.manifest import SUBJECTS, Row, check_video_name
from affpipe.jobs import apply, workers
from affpipe.media.identity import fingerprint
from affpipe.models.predictor import model_path
from affpipe.plan.plan import Plan
from affpipe.results import notes, report
from affpipe.results.frames import frames_of
from affpipe.results.notes import Note
from affpipe.results.runs import read_run
from affpipe.store import cache, streams
from affpipe.store.index import Entry
from affpipe.system import disk, outputs
from affpipe.system.files import folded, instead_of_file, on_disk


@dataclass(frozen=True)
class Predicted:
    """Outcome for a video.

    Attributes:
        table: its predictions. without: models without usable input, and why. random: see `store`.
        notes: what a person should know of it, see `affpipe.results.notes`.
    """

    table: Path
    without: dict[str, str]
    random: tuple[str, ...]
    notes: tuple[Note, ...] = ()


def predict(videos: list[Path], run: Path, out: Path, *, subject: str, progress: Progress, done: list[Predicted]) -> None:
    """Write `<out>/<video>.csv`, `.png` and `.json` for each video and add it to `done`.

    MediaError at the end names every video that could not be predicted; the others are written first. StoreError is raised if a file of the
    store is damaged: it is then out of the way, and the same call, or for a model the workflow, makes it again.
    """
    if subject not in SUBJECTS:
        raise InputError(f"predict: want --subject one of {', '.join(SUBJECTS)}, got {subject!r}")
    settings, models = read_run(run)
    disk.mask(settings.umask)
    if settings.faces.source == "images":
        raise InputError(
            f"{run}: want a run that finds faces in videos, got one with faces.source: images; fit one with faces.source: video"
        )
    rows, failed = _rows(videos, subject, out)
    if len({folded(row.stream_id) for row in rows}) < len(rows):
        raise InputError(f"predict: want videos of different names, got {', '.join(map(str, videos))}; give each once, or rename one")
    plan = Plan(settings, rows, model_keys=models)
    for model in settings.models:
        path = model_path(plan.folder(model))
        if not path.is_file():  # nothing is written into a folder that is not the run's cache
            raise InputError(f"{run}: want the cache in which its models were fitted, got no {path}; predict where the run was made")
    entries: dict[str, dict[str, Entry]] = {}
    with cache.mending():
        for name in plan.names if rows else ():
            entries[name] = apply.apply(plan, name, plan.items(name), entries, workers.start, progress)
        for item in plan.items(settings.publish):
            entry = entries[settings.publish][item.id]
            if entry.status == "done":
                without = {model: entries[model][item.id].reason for model in settings.models if entries[model][item.id].status != "done"}
                try:
                    done.append(_write(plan, item, out, without))
                except (StoreError, PartError):  # of the store, of the folder `out` or of code: others would meet it too
                    raise
                except Exception as error:
                    own = isinstance(error, AffpipeError)
                    failed.append(f"{item.row.video}: {error}" if own else apply.blame(plan, "predict", item, error))
            else:
                failed.append(entry.reason if item.row.video.name in entry.reason else f"{item.row.video}: {entry.reason}")
    if failed:
        raise MediaError("; ".join(failed))


def _rows(videos: list[Path], subject: str, out: Path) -> tuple[list[Row], list[str]]:
    """Return rows of the videos that can be tried, and what is wrong with each other one."""
    rows, failed = [], []
    for video in videos:
        try:
            row = _row(video, subject)
            fingerprint(video)
            _files(row.stream_id, out)
            rows.append(row)
        except AffpipeError as error:
            failed.append(str(error))
    return rows, failed


def _files(id: str, out: Path) -> tuple[Path, Path, Path]:
    """Return the paths of a video's table, picture and notes. InputError if something else than a file has such a name."""
    table, picture, about = (outputs.place(out / f"{id}{suffix}") for suffix in (".csv", ".png", ".json"))
    return table, picture, about


def _row(video: Path, subject: str) -> Row:
    video = on_disk(video)
    if got := instead_of_file(video):
        raise MediaError(f"{video}: want a video file, got {got}; check the path")
    check_video_name(video)
    return Row(video.stem, video, subject, "predict")


def _write(plan: Plan, item: Item, out: Path, without: dict[str, str]) -> Predicted:
    axis, found = frames_of(plan, plan.settings.publish, item)
    table, picture, about = _files(item.id, out)
    random = tuple(streams.attributes(plan.stream(plan.settings.publish, item))["random"])
    done = Predicted(table, without, random, tuple(notes.of(plan, item)))
    annotations.write_predictions(table, plan.tasks, axis.times_s, found.values, found.chances, found.source, found.valid)
    disk.write_text(about, json.dumps(_about(plan, item, done, found.source), indent=1, ensure_ascii=False) + "\n")
    report.trajectories(picture, item.id, plan.tasks, axis.times_s, found)
    return done


def _about(plan: Plan, item: Item, done: Predicted, source: np.ndarray) -> dict[str, Any]:
    """Return the content beside a table: what it was made of, and all that a person should know of it."""
    return {
        "affpipe": __version__,
        "run": plan.settings.name,
        "model": plan.settings.publish,
        "model_key": plan.key(plan.settings.publish),
        "video": str(item.row.video),
        "identity": plan.item("frames", item).identity,
        "subject": item.row.subject,
        "frames": len(source),
        "sources": {name: int((source == code).sum()) for code, name in SOURCE_NAMES.items()},
        "notes": {note.kind: note.text for note in done.notes},
        "without": done.without,
        "random_weights": list(done.random),
    }
