"""Application of a fitted model: its embeddings and predictions as streams."""

from functools import cache, partial
from typing import Any

import numpy as np
import torch

from affpipe.core.errors import AbsentError, StoreError, WeightsError
from affpipe.core.stage import Context
from affpipe.models import encoder_layers, inputs
from affpipe.models.predictor import Predictor, Rows, load, read_record, run
from affpipe.models.table import ModelSettings, takes
from affpipe.store.item_streams import Job, Worker
from affpipe.system.device import pick


def fitted(context: Context, fold: int | None, *, device: torch.device) -> tuple[Predictor, dict[str, Any]]:
    """Load a fit of a model, ready to predict, and its record."""
    path, key = context.fits.path(fold), context.fits.key
    try:
        backbone = encoder_layers.again(context, read_record(path, key).get("backbone"))
    except StoreError as error:
        raise StoreError(f"{path}: {error}", damaged=error.damaged or path) from None
    return load(path, key, context.settings, device, backbone, context.name)


def stage(context: Context) -> Worker:
    """Return the worker of a model's stream.

    It writes values (N, H) float16 embeddings, with `prediction` (N, O) float32, `source` (N,) uint8, and `gate` of a fusion that has one.
    `prediction` holds raw outputs, those of the run's tasks one after another: values, logits of classes, logits of units. The gate is (N,
    E) float32; attribute extra.experts names its columns. With cross-fit or cross-validation a training stream is predicted by the fit that
    left out its fold; extra.fold says which. With cross-validation any other stream has two more entries beside the prediction of the fit
    on all: the predictions of the F folds, `folds` (N, F, O), and extra.fold_scores (F, O), the score of each fold for the target on the
    validation streams.
    """
    settings, fits = context.settings, context.fits
    device = pick(context.device)
    at = cache(partial(fitted, context, device=device))

    def work(job: Job) -> None:
        fold = fits.fold(job.item)
        predictor, record = at(fold)
        if fold is not None and job.item.id in record["train"]:  # the fold depends on video names, which are in no key
            path = fits.path(fold)
            got = f"one that learned from {job.item.id}, as its folds were others"
            raise StoreError(
                f"{path}: want the fit without fold {fold}, got {got}; run the workflow again, which fits it anew", damaged=path
            )
        sequence = inputs.read(job, settings)
        if not sequence.usable.any():
            raise AbsentError(f"{job.item.id}: {nothing_usable(job, settings, sequence)}")
        rows = run(predictor, sequence, device)
        embedding = _finite(job, rows)
        flat = {"prediction": _flat(rows.prediction), "source": np.repeat(sequence.source, sequence.start_s.shape[1])}
        if rows.gate is not None:
            flat["gate"] = rows.gate
        extra = {"experts": predictor.experts, "fold": record["fold"], "thresholds": record["thresholds"]}
        if fold is None and fits.beside:
            each = [at(k) for k in range(fits.beside)]
            flat["folds"] = np.stack([_flat(run(p, sequence, device).prediction) for p, _ in each], axis=1)
            extra |= {"fold_scores": [r["by_output"] for _, r in each], "fold_thresholds": [r["thresholds"] for _, r in each]}
        header = job.header(sequence.axis.fps, random=tuple(record["random"]), **extra)
        times = {"start_s": sequence.start_s.ravel(), "end_s": sequence.end_s.ravel()}
        job.write(header, values=_flat(embedding), valid=sequence.usable.ravel(), **times, **flat)

    return work


def nothing_usable(job: Job, settings: ModelSettings, sequence: inputs.Sequence, *, fitting: bool = False) -> str:
    """Tell why a model has no usable row of a stream: its inputs, or windows that `speech_only` leaves out; fitting: True in training."""
    if takes(settings) == "windows" and settings.by_mouth(fitting):
        with job.open("speech") as windows:
            columns = windows.attributes["columns"]
            kept = windows.rows()[:, columns.index("retained")] > 0
        if len(kept) and not kept.any():
            who = "the mouth and the voice say" if "voice" in columns else "the mouth says"
            return (
                f"want windows in which {who} speech, got none of {len(kept)} retained; "
                "lower speech.min_open_ratio, or set speech_only: never"
            )
    names = [name for name in sequence.inputs if name != "steps"]
    return f"want something to predict from, got no usable row of {', '.join(names)}"


def _finite(job: Job, rows: Rows) -> np.ndarray:
    """Return embeddings as float16; WeightsError, naming the stream, for NaN, infinity or overflow, which no sound fit gives."""
    with np.errstate(over="ignore"):
        half = rows.embedding.astype(np.float16)
    for what, values in (("predictions", rows.prediction), ("embeddings within 65504", half), ("gate weights", rows.gate)):
        if values is not None and not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
            got = f"{bad} of {len(values)} rows without"
            raise WeightsError(f"{job.name}: {job.item.id}: want finite {what}, got {got}; fit the model again, or look at its input")
    return half


def _flat(rows: np.ndarray) -> np.ndarray:
    """Reshape (R, C, D) to (R C, D)."""
    return rows.reshape(-1, rows.shape[-1])
