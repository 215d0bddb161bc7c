"""Figures of a task over sets of videos, pooled and within videos, and baselines that use no picture.

The challenge's measure is over all valid frames of a split together. Pooled figures reward knowing the level of each video. So
`within_video`, `constant_baseline` and `majority_baseline` stand beside them.
Everything is float64. Shapes: T frames, n valid ones, K label columns of the task.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from affpipe.core.errors import InputError
from affpipe.core.tasks.task import Task

Video = tuple[np.ndarray, np.ndarray, np.ndarray]  # truth (T, K), prediction (T, K), valid (T,) bool


class WithinVideo(NamedTuple):
    """Scores within videos.

    Attributes:
        scores: mean over the videos of `table`, by the task's figures. Each is over the videos that have it; NaN if none has.
        table: video id -> its own scores and `frames`, the number of valid ones.
        left_out: ids of videos with fewer than 2 valid frames.
    """

    scores: dict[str, float]
    table: dict[str, dict[str, float]]
    left_out: tuple[str, ...]


def scores(task: Task, truth: np.ndarray, prediction: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """Return all figures of a task over the valid frames of (T, K) truth and prediction; `task.measure` is the challenge's.

    Frames where valid (T,) is False may hold anything. Raises InputError if no frame is valid, or for a value that is no label.
    """
    kept = valid_frames(task, "scores", (truth, prediction, valid))
    if len(kept[0]) == 0:
        raise InputError(f"scores: want at least one valid frame, got none of {len(valid)}; are any frames valid?")
    return task.scores([kept])


def pooled(task: Task, videos: Mapping[str, Video]) -> dict[str, float]:
    """Return the figures over the valid frames of all videos (id -> truth, prediction, valid) as one sequence."""
    if not any(np.any(valid) for *_, valid in videos.values()):
        raise InputError(f"pooled: want at least one valid frame, got none in {len(videos)} videos")
    return task.scores(valid_frames(task, name, video) for name, video in videos.items())  # not all in memory twice


def within_video(task: Task, videos: Mapping[str, Video]) -> WithinVideo:
    """Return the figures of each video, and their unweighted mean.

    Dimensions: a video of constant truth counts 0 unless it is predicted exactly. Classes and units: F1 is over those that occur in the
    video, so a video of constant truth that is predicted exactly counts 1. `constant_baseline` tells how much that alone is worth.
    """
    table, left_out = {}, []
    for name, video in videos.items():
        kept = valid_frames(task, name, video)
        if len(kept[0]) < 2:
            left_out.append(name)
        else:
            table[name] = task.scores([kept]) | {"frames": len(kept[0])}
    means = {}
    for key in task.figures:
        known = [row[key] for row in table.values() if not np.isnan(row[key])]
        means[key] = float(np.mean(known)) if known else float("nan")
    return WithinVideo(means, table, tuple(left_out))


# ---- baselines: the videos with another prediction, to be scored like any system --------------------------------------------------------


def constant_baseline(task: Task, videos: Mapping[str, Video]) -> dict[str, Video]:
    """Predict every frame of each video by the mean (dimensions) or most frequent value of its own truth; predictions are not read.

    This baseline knows the level of each video and sees no change over time. So a model whose pooled figure is below it may owe all of its
    score to the videos' levels. A video without a valid frame is predicted 0, which nothing reads.
    """
    out = {}
    for name, (truth, _, valid) in videos.items():
        kept, _ = valid_frames(task, name, (truth, truth, valid))
        row = task.constant(kept) if len(kept) else np.zeros(len(task.columns))
        out[name] = (truth, np.broadcast_to(row, (len(truth), len(row))), valid)
    return out


def majority_baseline(task: Task, videos: Mapping[str, Video], row: np.ndarray) -> dict[str, Video]:
    """Predict every frame by one (K,) row, `majority_row` of the training labels; predictions are not read."""
    _check_counted("majority_baseline", task)
    row = np.asarray(row, np.float64)
    if row.shape != (len(task.columns),):
        raise InputError(f"majority_baseline: want a row ({len(task.columns)},) for {task.name}, got {row.shape}; see majority_row")
    return {name: (truth, np.broadcast_to(row, (len(truth), len(row))), valid) for name, (truth, _, valid) in videos.items()}


def label_counts(task: Task, truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Count the valid frames of classes or units by column and value, (K, values) int64. Counts of several videos may be added."""
    _check_counted("label_counts", task)
    return task.counts(valid_frames(task, "label_counts", (truth, truth, valid))[0])


def majority_row(counts: np.ndarray) -> np.ndarray:
    """Return the most frequent value of each column, (K,) float64, of counts (K, values); on a tie the smaller value."""
    if counts.ndim != 2 or not counts.sum(axis=1).all():
        raise InputError(f"majority_row: want counts (K, values) of at least one labelled frame, got {counts.tolist()}; see label_counts")
    return counts.argmax(axis=1).astype(np.float64)


# ---- checks -----------------------------------------------------------------------------------------------------------------------------


def valid_frames(task: Task, name: str, video: Video) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and prediction (n, K) float64 at the valid frames of `name`.

    Raises InputError for other shapes, or a value that is no label.
    """
    truth, prediction, valid = (np.asarray(part) for part in video)
    k = len(task.columns)
    if truth.ndim != 2 or truth.shape[1] != k or prediction.shape != truth.shape or valid.shape != truth.shape[:1] or valid.dtype != bool:
        raise InputError(
            f"{name}: want truth and prediction (T, {k}) and valid bool (T,), "
            f"got {truth.shape}, {prediction.shape} and {valid.dtype} {valid.shape}"
        )
    kept = truth[valid].astype(np.float64), prediction[valid].astype(np.float64)
    for what, values in zip(("truth", "prediction"), kept, strict=True):
        wrong = ~task.measurable(values)
        if wrong.any():
            frame, column = np.argwhere(wrong)[0]
            raise InputError(
                f"{name}: want {task.measured} in the {what} of valid frames, got {values[frame, column]:g} at index "
                f"{np.flatnonzero(valid)[frame]}; mend it or mark the frame invalid"
            )
    return kept


def _check_counted(who: str, task: Task) -> None:
    if "majority" not in task.baselines:
        raise InputError(f"{who}: want a task of classes or units, got {task.name}, of {task.kind}; its constant is constant_baseline")
