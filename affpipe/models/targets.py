"""Labels at the rate of a model's outputs, and on frames."""

from typing import NamedTuple

import numpy as np

from affpipe.core.tasks import pooling
from affpipe.core.tasks.task import Tasks, slices, width
from affpipe.models.inputs import Sequence
from affpipe.models.table import ModelSettings, takes
from affpipe.store.item_streams import ItemStreams, Job


class Labelled(NamedTuple):
    """A stream to fit or judge with.

    Attributes:
        sequence: its input.
        target: (R, C, K). known: (R, C, tasks).
        of_frames: the same of its frames, (T, K) and (T, tasks), if it is scored on them.
    """

    sequence: Sequence
    target: np.ndarray
    known: np.ndarray
    of_frames: tuple[np.ndarray, np.ndarray] | None = None


def frame_labels(job: ItemStreams, tasks: Tasks) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the labels of the stream of `job`, task -> (T, K) float64 and (T,) bool known, for the `tasks` with an annotation."""
    with job.open("labels") as stream:
        values, known = stream.rows(), stream.rows("known")
    at = slices(tasks, "columns")
    return {task: (values[:, at[task]], known[:, i]) for i, task in enumerate(tasks) if task in job.item.row.labels}


def known_frames(job: Job, partition: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of all frames on the scale of outputs, (T, K) and (T, tasks) bool known.

    They are those of the tasks for which the stream is in `partition`.
    """
    tasks, found = job.context.tasks, frame_labels(job, job.context.tasks)
    first, _ = next(iter(found.values()))
    out, known = np.zeros((len(first), width(tasks, "columns"))), np.zeros((len(first), len(tasks)), bool)
    for task in job.item.row.labelled(tasks, partition):
        values, known[:, list(tasks).index(task)] = found[task]
        out[:, slices(tasks, "columns")[task]] = tasks[task].scaled(values)
    return out, known


def row_labels(job: Job, sequence: Sequence, settings: ModelSettings, partition: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels at the rate of the model's outputs and on their scale, for the tasks for which the stream is in `partition`.

    Returns:
        (R, C, K) float32, the columns of the run's tasks one after another, and (R, C, tasks) bool.
    """
    tasks, shape = job.context.tasks, sequence.start_s.shape
    out, known = np.zeros((*shape, width(tasks, "columns")), np.float32), np.zeros((*shape, len(tasks)), bool)
    at, own, axis = slices(tasks, "columns"), frame_labels(job, tasks), sequence.axis
    start_s, end_s = sequence.start_s.ravel(), sequence.end_s.ravel()
    for task in job.item.row.labelled(tasks, partition):
        values, valid = tasks[task].scaled(own[task][0]), own[task][1]
        if takes(settings) == "windows" and getattr(settings, "compat", "none") == "ras2026":
            pooled, there = tasks[task].pool(values, valid, *_counted(sequence, settings))
        else:
            pooled, there = pooling.to_rows(tasks[task], values, valid, axis.times_s, start_s, end_s)
        out[..., at[task]] = pooled.reshape(*shape, -1)
        known[..., list(tasks).index(task)] = there.reshape(shape) & sequence.usable
    return out, known


def _counted(sequence: Sequence, settings: ModelSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames [first, stop), (R C,) each, whose labels the chunks of audio windows get by the published rule."""
    axis = sequence.axis
    begin_s, end_s = sequence.start_s[:, 0] - axis.start_s, sequence.end_s.max(axis=1) - axis.start_s
    bin_s = float(sequence.start_s[0, 1] - sequence.start_s[0, 0]) if settings.chunks > 1 else float((end_s - begin_s).max())
    bins = pooling.second_bins(begin_s, end_s, float(axis.fps), bins=settings.chunks, bin_s=bin_s, frames=len(axis))
    return tuple(edge.ravel() for edge in bins)
