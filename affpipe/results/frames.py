"""Predictions on frames: a model's stream as the labels of every frame."""

from dataclasses import dataclass, field

import numpy as np

from affpipe.core.axis import NEAREST, NONE, FrameAxis
from affpipe.core.item import Item
from affpipe.core.tasks.task import Tasks, slices, width
from affpipe.core.tasks.thresholds import UNFITTED
from affpipe.models import inputs
from affpipe.models.table import ModelSettings
from affpipe.plan.plan import Plan
from affpipe.store.streams import Stream


@dataclass(frozen=True, eq=False)
class FramePredictions:
    """Predictions of one stream per frame.

    Attributes:
        values: task -> (T, K) float64 by the task's columns: numbers, a class number, a 0 or 1 per unit.
        chances: task -> (T, O) probabilities of classes (sum 1) or units; none for dimensions.
        valid: (T,) bool, False where a stream has nothing to predict from.
        thresholds: task -> (O,) by which its units were decided; None: 0.5 each, or no units.
        source: (T,) uint8: how the stream's lead modality was obtained at that frame (observed, nearest, none).
    """

    values: dict[str, np.ndarray]
    chances: dict[str, np.ndarray]
    valid: np.ndarray
    source: np.ndarray
    thresholds: dict[str, np.ndarray | None] = field(default_factory=dict)


def to_frames(stream: Stream, axis: FrameAxis, tasks: Tasks, settings: ModelSettings, use: str = "whole") -> FramePredictions:
    """Bring a model's stream to the frame axis: average or interpolate the outputs of covering rows, and decode, see `Task.decode`.

    Uncovered frames take the value of the nearest covered one. Source: Team RAS, sec. 3.2 (expansion of segments).

    Args:
        use: the fits whose outputs a stream outside of training has, see `CrossValidation`.
    """
    raw, thresholds = outputs(stream, tasks, use)
    times = stream.start_s, stream.end_s
    raw, covered = inputs.spread(raw, stream.valid, *times, axis, settings)
    source = inputs.frame_sources(stream.rows("source"), stream.valid, *times, axis.times_s)
    if covered.any():
        source = np.where(~covered & (source == NONE), NEAREST, source).astype(np.uint8)
    valid = np.full(len(axis), covered.any())
    units = slices(tasks, "thresholded")
    how = {name: settings.decoding(task, thresholds[units[name]]) for name, task in tasks.items()}
    found = {name: tasks[name].decode(raw[:, at], valid, how[name]) for name, at in slices(tasks).items()}
    values, chances = {name: own for name, (own, _) in found.items()}, {name: p for name, (_, p) in found.items() if p is not None}
    return FramePredictions(values, chances, valid, source, {name: own.thresholds for name, own in how.items()})


def outputs(stream: Stream, tasks: Tasks, use: str) -> tuple[np.ndarray, np.ndarray]:
    """Return raw outputs (N, O) of a model's stream, and thresholds of the units of all tasks: 0.5 each unless a fit has found others."""
    extra = stream.attributes["extra"]
    whole = np.array(extra["thresholds"] or [UNFITTED] * width(tasks, "thresholded"))
    if use == "whole" or "folds" not in stream.names:
        return stream.rows("prediction"), whole
    each = stream.rows("folds")
    fitted_ = np.array(extra["fold_thresholds"]) if len(whole) else np.zeros((each.shape[1], 0))
    if use == "ensemble":
        return each.mean(axis=1), fitted_.mean(axis=0)
    best = np.array(extra["fold_scores"]).argmax(axis=0)  # (O,)
    raw = np.take_along_axis(each, best[None, None], axis=1)[:, 0]
    of_units = np.concatenate([best[at] for name, at in slices(tasks).items() if tasks[name].thresholded] or [np.zeros(0, np.int64)])
    return raw, fitted_[of_units, np.arange(len(whole))]


def frames_of(plan: Plan, model: str, item: Item) -> tuple[FrameAxis, FramePredictions]:
    """Return the frame axis of a stream, and a model's predictions on it."""
    streams = plan.streams(item)
    axis, cross = streams.axis(), plan.settings.cross_validation
    with streams.open(model) as stream:
        return axis, to_frames(stream, axis, plan.tasks, plan.settings.models[model], cross.use if cross else "whole")
