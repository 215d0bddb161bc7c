"""Applying a fitted model: its embeddings and predictions as streams, and predictions brought to frames."""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affpipe import backbone as backbones
from affpipe import frames, sequences, smoothing
from affpipe import predictor as models
from affpipe.device import pick
from affpipe.errors import AbsentError
from affpipe.frames import NEAREST, NONE, FrameAxis
from affpipe.jobs import Context, Job, Worker
from affpipe.plan import Item, Plan
from affpipe.predictor import Predictor
from affpipe.settings import Smooth
from affpipe.store import Stream


def fitted(plan: Plan, name: str, fold: int | None, *, device: torch.device) -> tuple[Predictor, dict[str, Any]]:
    """A fit of a model, ready to predict, and its record."""
    path, key = models.model_path(Path(plan.fitted(name, fold)).parent), plan.key(name)
    backbone = backbones.again(plan, name, models.read_record(path, key)["backbone"])
    return models.load(path, key, plan.settings.models[name], device, backbone)


def stage(context: Context) -> Worker:
    """A model's stream: values (N, H) float16 embeddings, with `prediction` (N, 2) float32, `source` (N,) uint8, of a fusion `gate`.

    The gate is (N, E) float32; attribute extra.experts names its columns. With cross-fit a training stream is predicted by the fit that
    left out its fold; attribute extra.fold says which.
    """
    plan, name, settings = context.plan, context.name, context.settings
    device = pick(plan.settings.device)

    at = cache(partial(fitted, plan, name, device=device))

    def work(job: Job) -> None:
        predictor, record = at(plan.fold(name, job.item))
        sequence = sequences.read(job, settings)
        if not sequence.usable.any():
            raise AbsentError(f"{job.item.id}: want something to predict from, got no usable row of {', '.join(predictor.dims)}")
        rows = models.run(predictor, sequence, device)
        flat = {"prediction": rows.prediction.reshape(-1, rows.prediction.shape[-1])}
        flat["source"] = np.repeat(sequence.source, sequence.start_s.shape[1])
        if rows.gate is not None:
            flat["gate"] = rows.gate
        header = job.header(sequence.axis.fps, random=tuple(record["random"]), experts=predictor.experts, fold=record["fold"])
        values = rows.embedding.reshape(-1, rows.embedding.shape[-1]).astype(np.float16)
        times = {"start_s": sequence.start_s.ravel(), "end_s": sequence.end_s.ravel()}
        job.write(header, values=values, valid=sequence.usable.ravel(), **times, **flat)

    return work


@dataclass(frozen=True, eq=False)
class FramePredictions:
    """Predictions of one stream per frame.

    Attributes:
        values: (T, 2) float64 valence and arousal in [-1, 1]. valid: (T,) bool, False where a stream has nothing to predict from.
        source: (T,) uint8: how the stream's lead modality was had at that frame (observed, nearest, none).
    """

    values: np.ndarray
    valid: np.ndarray
    source: np.ndarray


def to_frames(stream: Stream, axis: FrameAxis, smooth: Smooth | None = None) -> FramePredictions:
    """A model's stream on the frame axis: covering rows are averaged, uncovered frames take the nearest frame's, then values are smoothed
    and clipped to [-1, 1].

    Source: Team RAS, sec. 3.2 (expansion of segments); the public code for smoothing and its order.
    """
    times = stream.start_s, stream.end_s, axis.times_s
    values, covered = frames.align(stream.rows("prediction"), stream.valid, *times)
    source = sequences.frame_sources(stream.rows("source"), stream.valid, *times)
    if covered.any():
        values = values[frames.nearest(covered)]
        source = np.where(~covered & (source == NONE), NEAREST, source).astype(np.uint8)
    values, valid = values.astype(np.float64), np.full(len(axis), covered.any())
    if smooth is not None and smooth.filter != "none":
        values = smoothing.smooth(values, valid, filter=smooth.filter, frames=(smooth.valence_frames, smooth.arousal_frames))
    return FramePredictions(np.clip(values, -1, 1), valid, source)


def frames_of(plan: Plan, model: str, item: Item) -> tuple[FrameAxis, FramePredictions]:
    """Frame axis of a stream, and a model's predictions on it."""
    job = Job(plan, model, item)
    axis = job.axis()
    with job.open(model) as stream:
        return axis, to_frames(stream, axis, plan.settings.models[model].smooth)
