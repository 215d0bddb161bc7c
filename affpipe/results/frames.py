"""Predictions brought to frames: a model's stream as the labels of every frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from affpipe.core.axis import NEAREST, NONE, FrameAxis
from affpipe.core.item import Item
from affpipe.core.tasks import decoding, smoothing
from affpipe.core.tasks.decoding import UNFITTED
from affpipe.core.tasks.task import ACTION_UNITS, slices
from affpipe.models import inputs
from affpipe.models.table import ModelSettings
from affpipe.plan.plan import Plan
from affpipe.store.streams import Stream


@dataclass(frozen=True, eq=False)
class FramePredictions:
    """Predictions of one stream per frame.

    Attributes:
        values: task -> (T, K) float64 by the task's columns: numbers in [-1, 1], a class number, a 0 or 1 a unit.
        chances: task -> (T, O) probabilities of classes (sum 1) or units; none for va.
        valid: (T,) bool, False where a stream has nothing to predict from.
        source: (T,) uint8: how the stream's lead modality was had at that frame (observed, nearest, none).
    """

    values: dict[str, np.ndarray]
    chances: dict[str, np.ndarray]
    valid: np.ndarray
    source: np.ndarray


def to_frames(stream: Stream, axis: FrameAxis, tasks: Sequence[str], settings: ModelSettings, use: str = "whole") -> FramePredictions:
    """A model's stream on the frame axis: outputs of covering rows are averaged or interpolated, uncovered frames take the nearest's.

    Then they are decoded, see `decoding`. Source: Team RAS, sec. 3.2 (expansion of segments).

    Args:
        use: whose outputs a stream outside of training has, see `CrossValidation`.
    """
    raw, thresholds = outputs(stream, tasks, use)
    times = stream.start_s, stream.end_s
    raw, covered = inputs.spread(raw, stream.valid, *times, axis, settings)
    source = inputs.frame_sources(stream.rows("source"), stream.valid, *times, axis.times_s)
    if covered.any():
        source = np.where(~covered & (source == NONE), NEAREST, source).astype(np.uint8)
    valid = np.full(len(axis), covered.any())
    values, chances = {}, {}
    for task, at in slices(tasks).items():
        values[task], chances[task] = _decode(task, raw[:, at], valid, settings, thresholds)
    return FramePredictions(values, {task: p for task, p in chances.items() if p is not None}, valid, source)


def outputs(stream: Stream, tasks: Sequence[str], use: str) -> tuple[np.ndarray, np.ndarray]:
    """Raw outputs (N, O) of a model's stream, and thresholds (12,) for its units: one half each unless a fit has found others."""
    extra = stream.attributes["extra"]
    whole = np.array(extra["thresholds"] or [UNFITTED] * len(ACTION_UNITS))
    if use == "whole" or "folds" not in stream.names:
        return stream.rows("prediction"), whole
    each = stream.rows("folds")
    fitted_ = np.array(extra["fold_thresholds"]) if "au" in tasks else whole[None]
    if use == "ensemble":
        return each.mean(axis=1), fitted_.mean(axis=0)
    best = np.array(extra["fold_scores"]).argmax(axis=0)  # (O,)
    raw = np.take_along_axis(each, best[None, None], axis=1)[:, 0]
    units = np.arange(len(ACTION_UNITS))
    return raw, fitted_[best[slices(tasks)["au"]], units] if "au" in tasks else whole


def _decode(
    task: str, raw: np.ndarray, valid: np.ndarray, settings: ModelSettings, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels (T, K) float64 of a task's raw outputs, and their probabilities if it has any."""
    smooth, decode = settings.smooth, settings.decode
    if task == "va":
        return decoding.va(raw, valid, filter=smooth.filter, frames=(smooth.valence_frames, smooth.arousal_frames)), None
    if task == "expr":
        classes = decoding.expression(raw, valid, filter=decode.expression_filter, frames=decode.expression_frames)
        return classes[:, None].astype(np.float64), decoding.softmax(raw)
    chances = decoding.sigmoid(raw)
    if decode.au_frames > 1:
        chances = smoothing.smooth(chances, valid, filter="mean", frames=[decode.au_frames] * chances.shape[1])
    half = np.full(len(ACTION_UNITS), UNFITTED)
    return decoding.action_units(chances, half if decode.au_thresholds == "half" else thresholds).astype(np.float64), chances


def frames_of(plan: Plan, model: str, item: Item) -> tuple[FrameAxis, FramePredictions]:
    """Frame axis of a stream, and a model's predictions on it."""
    streams = plan.streams(item)
    axis, cross = streams.axis(), plan.settings.cross_validation
    with streams.open(model) as stream:
        return axis, to_frames(stream, axis, plan.settings.tasks, plan.settings.models[model], cross.use if cross else "whole")
