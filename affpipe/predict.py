"""Applying a fitted model: its embeddings and predictions as streams, and predictions brought to frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affpipe import decoding, frames, sequences, smoothing
from affpipe.decoding import UNFITTED
from affpipe.device import pick
from affpipe.errors import AbsentError, StoreError, WeightsError
from affpipe.frames import NEAREST, NONE, FrameAxis
from affpipe.jobs import Context, Job, Worker
from affpipe.plan import Item, Plan
from affpipe.settings import ChunkModel, ModelSettings
from affpipe.store import Stream
from affpipe.tasks import ACTION_UNITS, slices

if TYPE_CHECKING:  # publishing reads predictions, and needs no networks
    import torch

    from affpipe import predictor as models
    from affpipe.predictor import Predictor


def fitted(plan: Plan, name: str, fold: int | None, *, device: "torch.device") -> "tuple[Predictor, dict[str, Any]]":
    """A fit of a model, ready to predict, and its record."""
    from affpipe import backbone as backbones
    from affpipe import predictor as models

    path, key = models.model_path(Path(plan.fitted(name, fold)).parent), plan.key(name)
    try:
        backbone = backbones.again(plan, name, models.read_record(path, key).get("backbone"))
    except StoreError as error:
        raise StoreError(f"{path}: {error}", damaged=error.damaged or path) from None
    return models.load(path, key, plan.settings.models[name], device, backbone)


def stage(context: Context) -> Worker:
    """A model's stream: values (N, H) float16 embeddings, with `prediction` (N, O) float32, `source` (N,) uint8, and `gate` of a fusion
    that has one.

    `prediction` holds raw outputs, those of the run's tasks one after another: values, logits of classes, logits of units. The gate is
    (N, E) float32; attribute extra.experts names its columns. With cross-fit or cross-validation a training stream is predicted by the
    fit that left out its fold; extra.fold says which. With cross-validation any other stream has beside the prediction of the fit on all
    those of the F folds, `folds` (N, F, O), and extra.fold_scores (F, O), how good each was for the target on the validation streams.
    """
    from affpipe import predictor as models

    plan, name, settings = context.plan, context.name, context.settings
    device = pick(plan.settings.device)

    at = cache(partial(fitted, plan, name, device=device))

    def work(job: Job) -> None:
        fold = plan.fold(name, job.item)
        predictor, record = at(fold)
        if fold is not None and job.item.id in record["train"]:  # names of videos, which folds hang on, are in no key
            path = models.model_path(Path(plan.fitted(name, fold)).parent)
            got = f"one that learned from {job.item.id}, as its folds were others"
            raise StoreError(
                f"{path}: want the fit without fold {fold}, got {got}; run the workflow again, which fits it anew", damaged=path
            )
        sequence = sequences.read(job, settings)
        if not sequence.usable.any():
            raise AbsentError(f"{job.item.id}: {nothing_usable(job, settings, sequence)}")
        rows = models.run(predictor, sequence, device)
        embedding = _finite(job, rows)
        flat = {"prediction": _flat(rows.prediction), "source": np.repeat(sequence.source, sequence.start_s.shape[1])}
        if rows.gate is not None:
            flat["gate"] = rows.gate
        extra = {"experts": predictor.experts, "fold": record["fold"], "thresholds": record["thresholds"]}
        if fold is None and plan.settings.cross_validation:
            each = [at(k) for k in range(plan.folds(name))]
            flat["folds"] = np.stack([_flat(models.run(p, sequence, device).prediction) for p, _ in each], axis=1)
            extra |= {"fold_scores": [r["by_output"] for _, r in each], "fold_thresholds": [r["thresholds"] for _, r in each]}
        header = job.header(sequence.axis.fps, random=tuple(record["random"]), **extra)
        times = {"start_s": sequence.start_s.ravel(), "end_s": sequence.end_s.ravel()}
        job.write(header, values=_flat(embedding), valid=sequence.usable.ravel(), **times, **flat)

    return work


def nothing_usable(job: Job, settings: ModelSettings, sequence: sequences.Sequence, *, fitting: bool = False) -> str:
    """Why a model has no row of a stream to go on: what it reads, or windows that `speech_only` leaves out; fitting: in training."""
    if isinstance(settings, ChunkModel) and sequences.by_mouth(settings, fitting):
        with job.open("speech") as windows:
            kept = windows.rows()[:, windows.attributes["columns"].index("retained")] > 0
        if len(kept) and not kept.any():
            vad = job.plan.settings.vad.model != "none"
            return (
                f"want windows in which the mouth {'and the voice say' if vad else 'says'} speech, got none of {len(kept)} retained; "
                "lower speech.min_open_ratio, or set speech_only: never"
            )
    names = [name for name in sequence.inputs if name != "steps"]
    return f"want something to predict from, got no usable row of {', '.join(names)}"


def _finite(job: Job, rows: "models.Rows") -> np.ndarray:
    """Embeddings as float16; WeightsError, naming the stream, where a number is none or does not fit: no sound fit gives one."""
    with np.errstate(over="ignore"):
        half = rows.embedding.astype(np.float16)
    for what, values in (("predictions", rows.prediction), ("embeddings within 65504", half)):
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
            got = f"{bad} of {len(values)} rows without"
            raise WeightsError(f"{job.name}: {job.item.id}: want finite {what}, got {got}; fit the model again, or look at its input")
    return half


def _flat(rows: np.ndarray) -> np.ndarray:
    """(R, C, D) -> (R C, D)."""
    return rows.reshape(-1, rows.shape[-1])


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
        use: whose outputs a stream outside of training has, see `settings.CrossValidation`.
    """
    raw, thresholds = outputs(stream, tasks, use)
    times = stream.start_s, stream.end_s
    raw, covered = spread(raw, stream.valid, *times, axis, settings)
    source = sequences.frame_sources(stream.rows("source"), stream.valid, *times, axis.times_s)
    if covered.any():
        source = np.where(~covered & (source == NONE), NEAREST, source).astype(np.uint8)
    valid = np.full(len(axis), covered.any())
    values, chances = {}, {}
    for task, at in slices(tasks).items():
        values[task], chances[task] = _decode(task, raw[:, at], valid, settings, thresholds)
    return FramePredictions(values, {task: p for task, p in chances.items() if p is not None}, valid, source)


def spread(
    raw: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, axis: FrameAxis, settings: ModelSettings
) -> tuple[np.ndarray, np.ndarray]:
    """A model's raw outputs (N, O) at its own rate as (T, O) on the frames, and (T,) bool which of them a row covers.

    The others have what the nearest of them has; where no row covers any frame all are zero.
    """
    raw, covered = sequences.on_frames(raw, valid, start_s, end_s, axis, settings)
    return (raw[frames.nearest(covered)] if covered.any() else raw), covered


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
    job = Job(plan, model, item)
    axis, cross = job.axis(), plan.settings.cross_validation
    with job.open(model) as stream:
        return axis, to_frames(stream, axis, plan.settings.tasks, plan.settings.models[model], cross.use if cross else "whole")
