"""Applying a fitted model: its embeddings and predictions as streams, and predictions brought to frames."""

from dataclasses import dataclass

import numpy as np

from affpipe import frames, sequences
from affpipe import predictor as models
from affpipe.device import pick
from affpipe.errors import AbsentError
from affpipe.frames import NEAREST, NONE, FrameAxis
from affpipe.jobs import Context, Job, Worker
from affpipe.plan import Item, Plan
from affpipe.store import Stream


def stage(context: Context) -> Worker:
    """A model's stream: values (N, H) float16 embeddings, with `prediction` (N, 2) float32, `source` (N,) uint8, of a fusion `gate`.

    The gate is (N, E) float32; attribute extra.experts names its columns.
    """
    plan, settings = context.plan, context.settings
    device = pick(plan.settings.device)
    predictor, record = models.load(models.model_path(plan.folder(context.name)), plan.key(context.name), settings, device)

    def work(job: Job) -> None:
        sequence = sequences.read(job, settings)
        if not sequence.usable.any():
            raise AbsentError(f"{job.item.id}: want something to predict from, got no usable row of {', '.join(predictor.dims)}")
        rows = models.run(predictor, sequence, device)
        flat = {"prediction": rows.prediction.reshape(-1, rows.prediction.shape[-1])}
        flat["source"] = np.repeat(sequence.source, sequence.start_s.shape[1])
        if rows.gate is not None:
            flat["gate"] = rows.gate
        header = job.header(sequence.axis.fps, random=tuple(record["random"]), experts=predictor.experts)
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


def to_frames(stream: Stream, axis: FrameAxis) -> FramePredictions:
    """A model's stream on the frame axis: covering rows are averaged, values clipped to [-1, 1], uncovered frames take the nearest frame's.

    Source: Team RAS, sec. 3.2 (expansion of segments).
    """
    times = stream.start_s, stream.end_s, axis.times_s
    values, covered = frames.align(stream.rows("prediction"), stream.valid, *times)
    source = sequences.frame_sources(stream.rows("source"), stream.valid, *times)
    if covered.any():
        values = values[frames.nearest(covered)]
        source = np.where(~covered & (source == NONE), NEAREST, source).astype(np.uint8)
    return FramePredictions(np.clip(values.astype(np.float64), -1, 1), np.full(len(axis), covered.any()), source)


def frames_of(plan: Plan, model: str, item: Item) -> tuple[FrameAxis, FramePredictions]:
    """Frame axis of a stream, and a model's predictions on it."""
    job = Job(plan, model, item)
    axis = job.axis()
    with job.open(model) as stream:
        return axis, to_frames(stream, axis)
