"""Cross-validation on the page: every fit on the fold held out of it and on the validation streams."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

from affpipe.core.tasks.task import Tasks, slices
from affpipe.plan.plan import Plan
from affpipe.results.report.one_stream import validated
from affpipe.results.report.views import fit_record

Pair = tuple[float | None, float | None]  # on the held-out fold, on the validation streams


@dataclass(frozen=True)
class Fit:
    """One fit.

    Attributes:
        fold: its fold; None for the fit on all training streams.
        train: number of training streams. held: number of held-out streams; None for the fit on all.
        epoch: the best one of `epochs`, from 1.
        scores: task -> scores on the held-out fold and on the validation streams.
    """

    fold: int | None
    train: int
    held: int | None
    epoch: int
    epochs: int
    scores: Mapping[str, Pair]


@dataclass(frozen=True)
class Model:
    """The fits of a model.

    Attributes:
        mean, spread: task -> value over the folds; the spread is the standard deviation (n - 1), None for fewer than two.
    """

    name: str
    fits: list[Fit]
    mean: Mapping[str, Pair]
    spread: Mapping[str, Pair]


@dataclass(frozen=True)
class Folds:
    """Fits of all models.

    Attributes:
        models: each with its fits.
        targets: target -> model -> fold and score there, if each target takes its best fold, else empty.
        mixed: validation streams of one task that are training streams of another, and so predicted by the fit without their fold.
    """

    models: list[Model]
    targets: Mapping[str, Mapping[str, tuple[int, float]]]
    mixed: list[str]


def table(plan: Plan) -> Folds | None:
    """Return every model's fits; None without cross-validation."""
    cross = plan.settings.cross_validation
    if cross is None:
        return None
    records = {model: {fold: fit_record(plan, model, fold) for fold in plan.fits(model)} for model in plan.settings.models}
    tasks = plan.tasks
    models = [_model(name, own, tasks) for name, own in records.items()]
    targets = _targets(records, tasks) if cross.use == "per_target" else {}
    publish = plan.settings.publish
    both = (item for item in plan.items(publish) if plan.fold(publish, item) is not None and validated(plan, item))
    mixed = [item.id for item in both] if plan.scored == "validation" else []
    return Folds(models, targets, mixed)


def _model(name: str, records: Mapping[int | None, Mapping[str, Any]], tasks: Tasks) -> Model:
    fits = [_fit(fold, record, tasks) for fold, record in sorted(records.items(), key=lambda own: (own[0] is None, own[0]))]
    folds = [fit for fit in fits if fit.fold is not None]
    columns = {
        task: [[s for s in column if s is not None] for column in zip(*(f.scores[task] for f in folds), strict=True)] for task in tasks
    }
    means = {task: tuple(mean(known) if known else None for known in pair) for task, pair in columns.items()}
    spreads = {task: tuple(stdev(known) if len(known) > 1 else None for known in pair) for task, pair in columns.items()}
    return Model(name, fits, means, spreads)


def _fit(fold: int | None, record: Mapping[str, Any], tasks: Tasks) -> Fit:
    """Return one fit. The fit on all training streams has no held-out fold: it was validated with the validation streams."""
    held = record["scores"] if fold is not None else {}
    scores = {task: (held.get(task), record["validation_scores"].get(task)) for task in tasks}
    size = len(record["validation"]) if fold is not None else None
    return Fit(fold, len(record["train"]), size, record["best"]["epoch"] + 1, len(record["curves"]), scores)


def _targets(records: Mapping[str, Mapping[int | None, Mapping[str, Any]]], tasks: Tasks) -> dict[str, dict[str, tuple[int, float]]]:
    """Return the best fold of each target, as `frames.outputs` chooses it; the classes of expressions go together."""
    out: dict[str, dict[str, tuple[int, float]]] = {}
    for model, own in records.items():
        scores = np.array([record["by_output"] for fold, record in own.items() if fold is not None])  # (F, O)
        for task, at in slices(tasks).items():
            for name, column in zip(tasks[task].targets, scores[:, at].T, strict=False):
                out.setdefault(name, {})[model] = (int(column.argmax()), float(column.max()))
    return out
