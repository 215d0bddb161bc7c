"""The basis of a run's figures: the labelled streams and frames behind them, what was chosen on which streams, and the seed.

A labelled frame is of one of four kinds:

- *asked*: an observed row of the system covers it.
- *nearest*: that row was filled from a neighbour, or none covers the frame and the nearest one stands in.
- *without_lead*: a fusion had nothing of its lead modality and rests on the others.
- *none*: the stream has no prediction.

For late fusion a frame has the worst kind that it has for any system with a weight in it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from affpipe.core.axis import NEAREST, NONE, OBSERVED
from affpipe.core.item import Item
from affpipe.plan.plan import Plan
from affpipe.results.caveats import FRAMES, HELD_OUT, OTHER_HALF, REPORTED
from affpipe.results.ledger import Failure

SOURCES = {"asked": OBSERVED, "nearest": NEAREST, "without_lead": NONE}  # codes of a frame that has a prediction
UNCOVERED = "no row of it covers a frame"  # reason for a stream that lacks nothing, and yet has no prediction


def count(known: np.ndarray, source: np.ndarray) -> Counter[str]:
    """Count the labelled frames of a predicted stream by kind: known (T,) bool, source (T,) uint8 as in `FramePredictions`."""
    return Counter({kind: int((source[known] == code).sum()) for kind, code in SOURCES.items()})


def of(
    plan: Plan,
    system: str,
    task: str,
    labelled: Mapping[str, int | None],
    counted: Mapping[str, Counter[str]],
    failures: Sequence[Failure],
) -> dict[str, Any]:
    """Return the basis of one system's figures, in JSON types.

    Args:
        system: a model, or any other name for late fusion.
        labelled: stream -> number of labelled frames, for each stream that validates the task; None if its labels could not be read.
        counted: stream -> `count`, for those that the system predicted.
        failures: the ledger of the run.

    Returns:
        streams: number of scored streams. streams_labelled: number of labelled ones.
        frames_labelled: number of labelled frames of all streams whose labels could be read.
        asked, nearest, without_lead, none: share of these frames that is of the kind; None if there are no such frames.
        dropped: labelled stream that is not scored -> first reason.
        epoch_chosen_on: the streams by whose score the epochs of all fits behind the prediction were chosen.
        thresholds_chosen_on, fold_chosen_on, weights_chosen_on: likewise for the thresholds of units, the fold whose fit predicts a target,
            and the weights of late fusion; each only if there are such.
        seed: the seed.
    """
    members = () if system in plan.settings.models else late_members(plan)
    frames, total = sum(counted.values(), Counter()), sum(n or 0 for n in labelled.values())
    frames["none"] = total - frames.total()
    reasons = _reasons(failures, members or (system,))
    mute = _reasons(failures, ("labels",))
    missing = [id for id in labelled if id not in counted]
    return {
        "streams": len(counted),
        "streams_labelled": len(labelled),
        "frames_labelled": total,
        **{kind: frames[kind] / total if total else None for kind in FRAMES},
        "dropped": {id: (mute if labelled[id] is None else reasons).get(id, UNCOVERED) for id in missing},
        **_chosen(plan, members or (system,), task, [item for item in plan.items("labels") if item.id in labelled]),
        **({"weights_chosen_on": OTHER_HALF} if members else {}),
        "seed": plan.settings.seed if members else plan.seed(system),
    }


def late_members(plan: Plan) -> tuple[str, ...]:
    """Return the models that late fusion weighs, sorted."""
    late = plan.settings.late_fusion
    return tuple(sorted((late.members if late else ()) or plan.settings.models))


def _reasons(failures: Sequence[Failure], stages: Iterable[str]) -> dict[str, str]:
    """Return stream -> the first reason why one of the stages has nothing of it."""
    out: dict[str, str] = {}
    for stage in stages:
        for failure in failures:
            if stage in (failure.stage, *failure.without.split(", ")):
                out.setdefault(failure.stream_id, failure.reason)
    return out


def _chosen(plan: Plan, models: Sequence[str], task: str, items: Sequence[Item]) -> dict[str, str]:
    """Return where choices behind the predictions of these streams were made; those of several models are joined."""
    own = {_by_own_fits(plan, model, item) for model in models for item in items}
    read = {_by_whole_fit(plan, member, item) for model in models for member in plan.settings.models[model].members for item in items}
    out = {"epoch_chosen_on": _told(own | read)}
    cross = plan.settings.cross_validation
    if any(plan.settings.models[model].chooses_thresholds(plan.tasks[task]) for model in models):
        out["thresholds_chosen_on"] = _told(own)
    if cross and cross.use == "per_target":
        out["fold_chosen_on"] = REPORTED
    return out


def _by_own_fits(plan: Plan, model: str, item: Item) -> str:
    """Return which streams chose epoch and thresholds of the fits by which a model predicts a stream."""
    cross = plan.settings.cross_validation
    return _held_out(plan) if cross and cross.use != "whole" else _by_whole_fit(plan, model, item)


def _by_whole_fit(plan: Plan, model: str, item: Item) -> str:
    """Return which streams chose epoch and thresholds of the fit by which a stream is embedded.

    That fit is the one on all training streams, or for one of these the fit without its fold. Fits without a fold are validated on it in
    cross-validation alone; with cross-fit they are validated, as all others, on partition validation.
    """
    return _held_out(plan) if plan.settings.cross_validation and plan.fold(model, item) is not None else REPORTED


def _held_out(plan: Plan) -> str:
    """Return the word for the held-out folds; without a validation partition they are the reported streams."""
    return HELD_OUT if plan.scored == "validation" else REPORTED


def _told(places: Iterable[str]) -> str:
    return " and ".join(sorted(places))
