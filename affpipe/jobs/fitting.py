"""Fitting: the examples of a model's partitions, and a fit of them."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from affpipe.core.errors import ManifestError
from affpipe.core.item import Item
from affpipe.core.progress import Progress
from affpipe.jobs.apply import inherited
from affpipe.models.table import takes
from affpipe.plan.plan import Plan
from affpipe.store.index import Entry

if TYPE_CHECKING:
    from affpipe.models.targets import Labelled

Entries = Mapping[str, Mapping[str, Entry]]
log = logging.getLogger("affpipe")


def fit(plan: Plan, name: str, entries: Entries, fold: int | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Fit model `name` on the streams of partitions train and validation; return its record.

    Nothing is done if the model is in the store already. A fit that was stopped continues from its last epoch.

    Args:
        entries: for each stage that the model learns from, the outcome of its items.
        fold: training streams to leave out; the embedding is then mapped into the space of the fit on all, which must exist. With
            cross-validation this fit is validated with them.
        progress: called after every epoch.
    """
    from affpipe.models.fit import FitRequest, found
    from affpipe.models.fit import fit as fitted

    context = plan.context(name)
    if record := found(context, fold):
        return record
    held_out = fold is not None and plan.settings.cross_validation is not None
    train = examples(plan, name, entries, "train", lambda item: fold is None or plan.fold(name, item) != fold)
    if fold is None or held_out:  # what it predicts is published
        _check_learns(plan, name, train, fold)
    outside = examples(plan, name, entries, "validation") if plan.scored == "validation" else []
    validation = outside or train  # without a validation partition the fit on all streams has nothing else to be chosen by
    if held_out:
        validation = examples(plan, name, entries, "train", lambda item: plan.fold(name, item) == fold)
    whole = fold is not None and plan.fused(name)
    made_of = {"spec": plan.spec(name), "code": plan.code(name), "inputs": plan.inputs(name), "seed": plan.seed(name)}
    streams = {"train": train, "validation": validation, "outside": outside}
    return fitted(FitRequest(context, fold, **made_of, packages=plan.packages(name), **streams, whole=whole), progress)


def _check_learns(plan: Plan, name: str, train: "list[Labelled]", fold: int | None) -> None:
    """Raise ManifestError for a task of which no training frame has a label: its outputs would stay as they were drawn."""
    for i, task in enumerate(plan.tasks):
        if not any(stream.known[..., i].any() for stream in train):
            left = "" if fold is None else f" outside of fold {fold}"
            remedy = "look at its label files" if fold is None else "label more videos, or set cross_validation.folds otherwise"
            raise ManifestError(f"{name}: want a label of {task} on a frame that it can learn from, got none in training{left}; {remedy}")


def examples(
    plan: Plan, name: str, entries: Entries, partition: str, wanted: Callable[[Item], bool] = lambda item: True
) -> "list[Labelled]":
    """Return the inputs of the streams of a partition with their labels; streams without input are left out and named in the log."""
    from affpipe.models import inputs, targets
    from affpipe.models.workers import nothing_usable

    out, settings = [], plan.settings.models[name]
    for item in plan.items(name):
        if not (item.row.labelled(plan.tasks, partition) and wanted(item)):
            continue
        reason = inherited(plan, name, item, entries, plan.learns(name) if partition == "train" else (*plan.reads(name), "labels"))
        if reason is not None:
            log.warning("%s: %s: left out of %s: %s", name, item.id, partition, reason.reason)
            continue
        job = plan.job(name, item)
        sequence = inputs.read(job, settings, fitting=partition == "train")
        target, known = targets.row_labels(job, sequence, settings, partition)
        of_frames = targets.known_frames(job, partition) if settings.training.score == "frames" else None
        usable = sequence.usable.any()
        if takes(settings) == "windows":  # rows are independent, and large
            rows = known.any(axis=(1, 2))
            sequence, target, known = sequence.only(rows), target[rows], known[rows]
        if len(sequence):
            out.append(targets.Labelled(sequence, target, known, of_frames))
        else:
            what = "no label on what there is" if usable else nothing_usable(job, settings, sequence, fitting=partition == "train")
            log.warning("%s: %s: left out of %s: %s", name, item.id, partition, what)
    if not any(stream.known.any() for stream in out):
        raise ManifestError(
            f"{name}: want labelled frames in partition {partition}, got none that the model can use; the log says of each stream why"
        )
    return out
