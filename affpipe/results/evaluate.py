"""Scores: predictions against truth, pooled over frames and within each video, with intervals, beside those of constant predictions.

One task at a time. `score` gives the figures of one system. Tables take the figures of several, system -> figures. `to_json` and `to_csv`
take those of a run, system -> task -> figures; there figures have their `basis`, see `affpipe.results.caveats`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from affpipe.core.errors import InputError, ManifestError
from affpipe.core.tasks import metrics
from affpipe.core.tasks.metrics import Video
from affpipe.core.tasks.table import TASKS
from affpipe.core.tasks.task import Task, Tasks
from affpipe.data import annotations
from affpipe.results import bootstrap, caveats
from affpipe.system.files import left_by_mac, on_disk
from affpipe.system.sheets import table_text

TOLERANCE = 50  # frames by which label files and videos of Aff-Wild2 differ in length, either way
LEVEL = 0.95  # of intervals


def folders(task: Task, truth: Path, predicted: Path, *, beyond: dict[str, int] | None = None) -> dict[str, Video]:
    """Read pairs of official text files of the same name; every truth file must have its prediction.

    Args:
        beyond: gets id -> annotated rows beyond the end of the prediction, which do not count; for videos that have some.
    """
    for folder in (truth, predicted):
        if not folder.is_dir():
            raise InputError(f"{folder}: want a folder of official text files, got none; check the path")
    names = sorted(path.name for path in truth.glob("*.txt") if not left_by_mac(path.name))
    if not names:
        raise InputError(f"{truth}: want official text files (*.txt), got none; check the path")
    missing = [name for name in names if not on_disk(predicted / name).is_file()]
    if missing:
        raise InputError(
            f"{predicted}: want a prediction for each of {len(names)} truth files, got none for {', '.join(missing[:3])}; predict them"
        )
    out = {}
    for name in names:
        out[Path(name).stem], more = pair(task, truth / name, on_disk(predicted / name))
        if more and beyond is not None:
            beyond[Path(name).stem] = more
    return out


def pair(task: Task, truth: Path, predicted: Path) -> tuple[Video, int]:
    """Read truth and prediction of one stream, as far as both go, and count the annotated rows beyond.

    Frames valid in the truth must have a value. Label files and videos of Aff-Wild2 differ in length by a few frames. So up to TOLERANCE
    rows with a value may lie beyond the other file's end.
    """
    (values, valid), (prediction, given) = annotations.read_labels(task, truth), annotations.read_labels(task, predicted)
    n = min(len(values), len(prediction))
    hole = valid[:n] & ~given[:n]
    if hole.any():
        raise ManifestError(
            f"{predicted}: line {int(np.argmax(hole)) + 2}: want a value where {truth} has one, got {task.invalid:g}; predict every frame"
        )
    beyond = int(valid[n:].sum())
    if beyond > TOLERANCE:
        raise ManifestError(
            f"{predicted}: want a row a frame, got {len(prediction)} rows where {truth} annotates {beyond} more; predict every frame"
        )
    if int(given[n:].sum()) > TOLERANCE:
        raise ManifestError(
            f"{predicted}: want at most {TOLERANCE} rows more than {truth} has, got {len(prediction)} for {len(values)}; "
            "look whether both are of one video, or fetch the annotation again"
        )
    return (values[:n], prediction[:n], valid[:n]), beyond


def score(
    task: Task,
    videos: Mapping[str, Video],
    *,
    majority: np.ndarray | None = None,
    source: Mapping[str, str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all figures of one system, in JSON types.

    Args:
        majority: for classes and units the most frequent values of the training labels, `metrics.majority_row`.
        source, draws, seed: for the intervals, see `bootstrap.interval`.

    Returns the pooled figures by `task.figures` and
        intervals: each figure's 95 % interval over videos, [low, high], or None; see `bootstrap.interval`.
        within_video, within_intervals: mean over videos of each figure, and its interval.
        constant: pooled figures of each video's own mean (dimensions) or most frequent value as its prediction, and their `within_video`.
        majority: the same of `majority`, if given.
        videos: id -> figures and `frames`.
        left_out: ids of videos with fewer than two valid frames: they count in the pooled figures alone.
        frames: number of valid ones.
        distributions: of truth and prediction over valid frames, see `Task.distribution`; and `Task.details`, as `confusion` of classes.
    """
    if not any(valid.any() for *_, valid in videos.values()):
        raise InputError("evaluate: want at least one valid frame in the truth, got none; check the annotations")
    within = metrics.within_video(task, videos)
    truth, prediction = (np.concatenate(x) for x in zip(*(metrics.valid_frames(task, *video) for video in videos.items()), strict=True))
    figures = {
        **metrics.pooled(task, videos),
        "intervals": _intervals(task, videos, "pooled", source, draws, seed),
        "within_video": within.scores,
        "within_intervals": _intervals(task, videos, "within_video", source, draws, seed),
        "constant": _baseline(task, metrics.constant_baseline(task, videos)),
        "videos": within.table,
        "left_out": list(within.left_out),
        "frames": len(truth),
        "distributions": {"truth": task.distribution(truth), "prediction": task.distribution(prediction)},
        **task.details(truth, prediction),
    }
    if majority is not None:
        figures["majority"] = _baseline(task, metrics.majority_baseline(task, videos, majority))
    return figures


def compare(
    task: Task,
    a: Mapping[str, Video],
    b: Mapping[str, Video],
    *,
    source: Mapping[str, str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return figures of systems a and b on the same videos, and a less b with its 95 % interval; see `bootstrap.difference`.

    Returns:
        pooled, within_video: figure -> {a, b, difference, low, high}; low and high are None without an interval.
        videos: number of videos with valid frames.
    """
    out: dict[str, Any] = {"videos": sum(bool(valid.any()) for *_, valid in a.values())}
    each = {
        "pooled": [metrics.pooled(task, x) for x in (a, b)],
        "within_video": [metrics.within_video(task, x).scores for x in (a, b)],
    }
    for of, (own, other) in each.items():
        found = bootstrap.difference(task, a, b, seed=seed, of=of, draws=draws, level=LEVEL, source=source)
        out[of] = {
            key: {"a": own[key], "b": other[key], "difference": own[key] - other[key], "low": d.low, "high": d.high}
            for key, d in found.items()
        }
    return out


def _intervals(
    task: Task, videos: Mapping[str, Video], of: bootstrap.Of, source: Mapping[str, str] | None, draws: int, seed: int
) -> dict[str, list[float] | None]:
    found = bootstrap.interval(task, videos, seed=seed, of=of, draws=draws, level=LEVEL, source=source)
    return {key: None if limits is None else list(limits) for key, limits in found.items()}


def _baseline(task: Task, videos: Mapping[str, Video]) -> dict[str, Any]:
    return {**metrics.pooled(task, videos), "within_video": metrics.within_video(task, videos).scores}


# ---- tables and files -------------------------------------------------------------------------------------------------------------------


def scored(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the systems and tasks of a run that have figures; the others have a basis alone."""
    own = {system: {task: f for task, f in tasks.items() if "within_video" in f} for system, tasks in found.items()}
    return {system: tasks for system, tasks in own.items() if tasks}


def table(task: Task, scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return rows of text under `task.table_head`: one per system, and then the baselines of the first one."""
    if not scores:
        raise InputError("evaluate: want at least one scored system, got none; a run scores the models that predicted a validation stream")
    first = next(iter(scores.values()))
    baselines = {row: first[key] for key, row in task.baselines.items() if key in first}
    return [(name, *_cells(task, figures)) for name, figures in [*scores.items(), *baselines.items()]]


def _cells(task: Task, figures: Mapping[str, Any]) -> list[str]:
    pooled, within = ({key: _text(of[key]) for key in task.figures} for of in (figures, figures["within_video"]))
    limits = figures.get("intervals", {}).get(task.measure)
    interval = "-" if limits is None else f"{limits[0]:z.3f} to {limits[1]:z.3f}"
    return task.table_cells(pooled, interval, within)


def _text(value: float | None) -> str:
    """Format a value with three decimals; "-" if it does not exist: NaN, or None if the figures were read from JSON."""
    return "-" if value is None or np.isnan(value) else f"{value:z.3f}"


def per_video_csv(task: Task, scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return CSV `system,video,frames` and the task's figures, one row per system and video; a figure that does not exist is empty."""
    rows = [
        [system, video, own["frames"], *(_cell(own[key]) for key in task.figures)]
        for system, figures in scores.items()
        for video, own in figures["videos"].items()
    ]
    return table_text(["system", "video", "frames", *task.figures], rows)


def to_csv(scores: Mapping[str, Mapping[str, Mapping[str, Any]]], all_tasks: Tasks = TASKS) -> str:
    """Return CSV `system,task,figure,value,low,high` and `caveats.COLUMNS` in full precision; low and high are the 95 % interval, if any.

    Figures are named as in `score`, by a path: `f1`, `within_video.f1`, `constant.f1`, `constant.within_video.f1`, `majority.f1` ... The
    basis of a figure stands beside it if it is known. Baselines have none, as they read no prediction.
    """
    rows = []
    for system, tasks in scores.items():
        for task, figures in tasks.items():
            parts = {"": (figures, figures["intervals"]), "within_video.": (figures["within_video"], figures["within_intervals"])}
            own = dict.fromkeys(parts, figures.get("basis"))
            for name in all_tasks[task].baselines.keys() & figures.keys():
                parts |= {f"{name}.": (figures[name], {}), f"{name}.within_video.": (figures[name]["within_video"], {})}
            for path, (values, intervals) in sorted(parts.items()):
                basis = caveats.cells(own.get(path))
                for key in all_tasks[task].figures:
                    low, high = intervals.get(key) or (None, None)
                    rows.append([system, task, path + key, *map(_cell, (values[key], low, high)), *basis])
    return table_text(["system", "task", "figure", "value", "low", "high", *caveats.COLUMNS], rows)


def _cell(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else repr(float(value))


def to_json(scores: Mapping[str, Any]) -> str:
    """Return JSON with full precision; a figure that does not exist (no video has two valid frames, a class never occurs) is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(v) for key, v in value.items()}
        return None if isinstance(value, float) and np.isnan(value) else value

    return json.dumps(plain(scores), indent=1, sort_keys=True, allow_nan=False) + "\n"
