"""Scores of one task on the page: the table of systems, and the published model's classes or units and figures."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from affpipe.core.tasks.task import Task, slices
from affpipe.core.tasks.thresholds import UNFITTED
from affpipe.plan.plan import Plan
from affpipe.results import caveats, evaluate
from affpipe.results.frames import outputs
from affpipe.results.report import figures
from affpipe.results.report.one_stream import validated
from affpipe.results.report.views import Entries, done

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]  # system -> task -> the result of `evaluate.score`, and `basis`
CONFUSION = "Rows are the truth, columns the prediction. Counts of frames, and their share of the row, which the shade shows too."


@dataclass(frozen=True)
class Row:
    """A row of the table of systems. For a baseline all but `cells` is None.

    Attributes:
        cells: cells of `evaluate.table`.
        coverage: see `caveats.coverage`. frames: number of labelled frames that it predicts.
        less: its measure less that of the published model on the streams that both have, with its interval; None if that was not measured.
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
    """A drawing and its caption."""

    caption: str
    drawing: Markup


@dataclass(frozen=True, eq=False)
class Part:
    """One task.

    Attributes:
        rows: the systems under `head`, then the baselines; empty if nothing was scored.
        caveats: sentences on the rows.
        columns: key and heading of the figures of a video.
        chosen: models whose units have thresholds found on labels, not 0.5.
        published: figures of the published model; None if it has none; then the rest is empty too.
        outputs: its classes or units, none for dimensions.
        shares: distributions of truth and prediction. confusion: of classes alone.
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
    """Return a part for each task of the run."""
    own = {name: {system: scores[name] for system, scores in found.items() if name in scores} for name in plan.tasks}
    return [_part(plan, entries, task, own[name]) for name, task in plan.tasks.items()]


def _part(plan: Plan, entries: Entries, task: Task, found: Mapping[str, Mapping[str, Any]]) -> Part:
    scores = {system: figures for system, figures in found.items() if task.measure in figures}
    published = scores.get(plan.settings.publish)
    fitted = [name for name, model in plan.settings.models.items() if model.chooses_thresholds(task)]
    part = Part(task, task.table_head, _rows(task, scores), caveats.sentences(found), task.video_columns, fitted)
    if not published:
        return part
    shares = {of: task.shares(published["distributions"][of], published["frames"]) for of in ("truth", "prediction")}
    drawn = replace(part, published=published, shares=_distribution(task, shares))
    if task.kind == "dimensions":
        return drawn
    confusion = Figure(CONFUSION, figures.confusion(task, published["confusion"])) if "confusion" in published else None
    return replace(drawn, outputs=_outputs(plan, entries, task, published, shares), confusion=confusion)


def _rows(task: Task, scores: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    if not scores:
        return []
    table = [tuple("–" if cell == "-" else cell for cell in row) for row in evaluate.table(task, scores)]
    own = [(caveats.coverage(s["basis"]), s["frames"], s.get("less_published")) for s in scores.values()]
    systems = [Row(cells, *rest) for cells, rest in zip(table, own, strict=False)]
    return systems + [Row(cells) for cells in table[len(systems) :]]


def _outputs(plan: Plan, entries: Entries, task: Task, published: Mapping[str, Any], shares: Mapping[str, Any]) -> tuple[Output, ...]:
    own = thresholds(plan, entries, task).tolist() if task.thresholded else [None] * len(task.outputs)
    out = []
    for output, threshold in zip(task.outputs, own, strict=True):
        key = f"f1_{output}"
        of = (shares["truth"][output], shares["prediction"][output])
        out.append(Output(output, published[key], published["intervals"][key], *of, threshold))
    return tuple(out)


def _distribution(task: Task, shares: Mapping[str, Any]) -> Figure:
    if task.kind == "dimensions":
        return Figure("Values at all valid frames: truth in bars, prediction as a line.", figures.histograms(task, **shares))
    what = {"classes": "frames of each class", "units": "frames in which a unit is present"}[task.kind]
    return Figure(f"{what.capitalize()}: truth above in grey, prediction below in blue.", figures.pairs(what, **shares))


def thresholds(plan: Plan, entries: Entries, task: Task) -> np.ndarray:
    """Return the thresholds (U,) by which the published model's units were decided on the scored streams."""
    name, cross = plan.settings.publish, plan.settings.cross_validation
    if not plan.settings.models[name].chooses_thresholds(task):
        return np.full(len(task.outputs), UNFITTED)
    own = [item for item in plan.items(name) if task.name in validated(plan, item) and done(plan, entries, name, item)]
    item = min(own, key=lambda i: plan.fold(name, i) is not None)  # one that trains another task is predicted by a fold's fit
    with plan.streams(item).open(name) as stream:
        return outputs(stream, plan.tasks, cross.use if cross else "whole")[1][slices(plan.tasks, "thresholded")[task.name]]
