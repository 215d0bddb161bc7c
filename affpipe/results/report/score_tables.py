"""What the page shows of the scores of one task: the table of systems, and of the published model its classes or units and figures."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from affpipe.core.tasks.decoding import UNFITTED
from affpipe.core.tasks.metrics import KEYS
from affpipe.core.tasks.task import EXPRESSIONS, TASKS, Task
from affpipe.plan.plan import Plan
from affpipe.results import caveats, evaluate
from affpipe.results.frames import outputs
from affpipe.results.report import figures
from affpipe.results.report.one_stream import validated
from affpipe.results.report.views import Entries, done

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]  # system -> task -> what `evaluate.score` gave, and `basis`
HEADS = {"ccc_valence": "CCC V", "ccc_arousal": "CCC A", "ccc": "mean", "accuracy": "accuracy"}
CONFUSION = "Rows are the truth, columns the prediction. Counts of frames, and their share of the row, which the shade shows too."
F1 = {"expr": "F1", "au": "mean F1"}


@dataclass(frozen=True)
class Row:
    """A row of the table of systems: cells of `evaluate.table`; for a baseline the rest is None.

    coverage: see `caveats.coverage`. frames: labelled ones that it predicts. less: its measure less that of the published model on the
    streams that both have, with its interval; None where that was not measured.
    """

    cells: tuple[str, ...]
    coverage: tuple[str, str] | None = None
    frames: int | None = None
    less: Mapping[str, float | None] | None = None


@dataclass(frozen=True)
class Output:
    """A class or unit: its F1 with its interval, share of frames in truth and prediction, and a unit's threshold."""

    name: str
    f1: float
    interval: tuple[float, float] | None
    truth: float
    prediction: float
    threshold: float | None


@dataclass(frozen=True)
class Figure:
    """A drawing and what it shows."""

    caption: str
    drawing: Markup


@dataclass(frozen=True, eq=False)
class Part:
    """One task.

    Attributes:
        rows: the systems under `head`, then the baselines; none where nothing was scored.
        caveats: what is to be said of the rows.
        columns: key and heading of the figures of a video. chosen: models whose units have thresholds found on labels, not one half.
        published: figures of the published model, None where it has none; then the rest is empty too.
        outputs: its classes or units, none for va. shares: how often what is in truth and prediction. confusion: of expr alone.
    """

    task: Task
    head: tuple[str, ...]
    rows: list[Row]
    caveats: list[str]
    columns: dict[str, str]
    chosen: list[str]
    published: Mapping[str, Any] | None = None
    outputs: tuple[Output, ...] = ()
    shares: Figure | None = None
    confusion: Figure | None = None


def parts(plan: Plan, entries: Entries, found: Scores) -> list[Part]:
    """A part for each task of the run."""
    return [_part(plan, entries, name, {system: own[name] for system, own in found.items() if name in own}) for name in plan.settings.tasks]


def _part(plan: Plan, entries: Entries, name: str, found: Mapping[str, Mapping[str, Any]]) -> Part:
    scores = {system: figures for system, figures in found.items() if TASKS[name].measure in figures}
    models, published = plan.settings.models, scores.get(plan.settings.publish)
    columns = {key: HEADS.get(key) or F1[name] for key in KEYS[name] if key in ("f1", *HEADS)}
    fitted = [model for model in models if name == "au" and models[model].decode.au_thresholds == "validation"]
    part = Part(TASKS[name], evaluate.TABLE_HEAD[name], _rows(name, scores), caveats.sentences(found), columns, fitted)
    if not published:
        return part
    shares = {of: _shares(name, published["distributions"][of], published["frames"]) for of in ("truth", "prediction")}
    outputs = _outputs(plan, entries, name, published, shares) if name != "va" else ()
    confusion = Figure(CONFUSION, figures.confusion(EXPRESSIONS, published["confusion"])) if name == "expr" else None
    return replace(part, published=published, outputs=outputs, shares=_distribution(name, shares), confusion=confusion)


def _rows(name: str, scores: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    if not scores:
        return []
    table = [tuple("–" if cell == "-" else cell for cell in row) for row in evaluate.table(name, scores)]
    own = [(caveats.coverage(s["basis"]), s["frames"], s.get("less_published")) for s in scores.values()]
    systems = [Row(cells, *rest) for cells, rest in zip(table, own, strict=False)]
    return systems + [Row(cells) for cells in table[len(systems) :]]


def _shares(name: str, distribution: Mapping[str, Any], frames: int) -> Mapping[str, Any]:
    """Share of frames of each class or unit; histograms of va stay what they are."""
    return {key: count / frames for key, count in distribution.items()} if name == "expr" else distribution


def _outputs(plan: Plan, entries: Entries, name: str, published: Mapping[str, Any], shares: Mapping[str, Any]) -> tuple[Output, ...]:
    own = thresholds(plan, entries) if name == "au" else None
    out = []
    for i, output in enumerate(TASKS[name].outputs):
        key = f"f1_{output}"
        of = (shares["truth"][output], shares["prediction"][output])
        out.append(Output(output, published[key], published["intervals"][key], *of, None if own is None else float(own[i])))
    return tuple(out)


def _distribution(name: str, shares: Mapping[str, Any]) -> Figure:
    if name == "va":
        return Figure("Values at all valid frames: truth in bars, prediction as a line.", figures.histograms(**shares, low=-1, high=1))
    what = {"expr": "frames of each class", "au": "frames in which a unit is present"}[name]
    return Figure(f"{what.capitalize()}: truth above in grey, prediction below in blue.", figures.pairs(what, **shares))


def thresholds(plan: Plan, entries: Entries) -> np.ndarray:
    """(12,) thresholds by which the published model's units were decided on validation streams."""
    name, cross = plan.settings.publish, plan.settings.cross_validation
    if plan.settings.models[name].decode.au_thresholds == "half":
        return np.full(len(TASKS["au"].outputs), UNFITTED)
    own = [item for item in plan.items(name) if "au" in validated(plan, item) and done(plan, entries, name, item)]
    item = min(own, key=lambda i: plan.fold(name, i) is not None)  # one that trains another task is predicted by a fold's fit
    with plan.streams(item).open(name) as stream:
        return outputs(stream, plan.settings.tasks, cross.use if cross else "whole")[1]
