"""The figure of one stream: truth and prediction of each task, gate and marks on one time axis."""

import numpy as np
from markupsafe import Markup

from affpipe.core.tasks.task import Task, Tasks
from affpipe.results.report import palette
from affpipe.results.report.one_stream import Classes, Curves, Gate, Marks, Spans, Units, View
from affpipe.results.report.series import nice_ticks, time_ticks, value_range
from affpipe.results.report.svg import LETTER, Box, Drawing, Scale, scale

WIDTH, LEFT, RIGHT = 1120.0, 104.0, 26.0
PANEL, STRIP, GAP = 112.0, 13.0, 18.0
CLASS, UNIT = 17.0, 6.0  # heights of a row of classes, and of a unit
ROWS = {"truth": "true {}", "prediction": "predicted"}  # rows of classes, and their titles


def stream(view: View, tasks: Tasks) -> Markup:
    """Draw truth and prediction of each task, gate weights and marks of one stream."""
    heights = [HEIGHTS[tasks[name].kind](tasks[name]) for name in view.tasks]
    bottom = 8 + sum(heights) + (PANEL + GAP if view.gate else 0) + len(view.strips) * (STRIP + 6)
    drawing = Drawing(WIDTH, bottom + 24, f"truth and prediction of {view.id} over time")
    at_x = scale(view.start_s, view.end_s, LEFT, WIDTH - RIGHT)
    drawing.grid(time_ticks(view.start_s, view.end_s), at_x, 8, bottom, bottom + 16)
    y = 8.0
    away = view.strips.get("no face", {}).get("faceless", {})
    for (name, own), height in zip(view.tasks.items(), heights, strict=True):
        DRAW[tasks[name].kind](drawing, y, tasks[name], own, away, at_x)
        y += height
    if view.gate is not None:
        _gate(drawing, _panel(y), view.gate, at_x)
        y += PANEL + GAP
    for name, marks in view.strips.items():
        _strip(drawing, y, name, marks, at_x)
        y += STRIP + 6
    return drawing.markup()


def _panel(y: float) -> Box:
    return Box(LEFT, y, WIDTH - LEFT - RIGHT, PANEL)


def _curves(drawing: Drawing, y: float, task: Task, curves: Curves, away: Marks, at_x: Scale) -> None:
    """Draw one panel per dimension, with the stretches in which the subject is not seen."""
    for i, (name, colour) in enumerate(palette.curves(task).items()):
        _trajectory(drawing, _panel(y + i * (PANEL + GAP)), task, curves, away, i, at_x, name, colour)


def _trajectory(
    drawing: Drawing, box: Box, task: Task, curves: Curves, away: Marks, column: int, at_x: Scale, name: str, colour: str
) -> None:
    truth, prediction = curves.truth[:, column], curves.prediction[:, column]
    limits = task.ranges[name]
    span = (limits[1] - limits[0]) / 2
    low, high = value_range(np.concatenate([truth, prediction]), least=0.8 * span, step=0.2 * span)
    at_y = scale(low, high, box.bottom, box.top)
    drawing.levels(nice_ticks(low, high, 5), at_y, box.left, box.right)
    for share, spans in away.items():
        drawing.spans(at_x(spans), box.top, box.height, kind="away", fill_opacity=f"{share:g}")
    drawing.curve(at_x(curves.times_s), at_y(truth), kind="line truth")
    drawing.curve(at_x(curves.times_s), at_y(prediction), kind="line", stroke=colour)
    _side_title(drawing, box, name)


def _classes(drawing: Drawing, y: float, task: Task, classes: Classes, away: Marks, at_x: Scale) -> None:
    """Draw a row of truth and one of prediction; a stretch that is long enough shows the name of its class."""
    for of, title in ROWS.items():
        drawing.name(title.format(task.columns[0]), LEFT, x=LEFT - 8, y=y + 12.5, kind="strip", text_anchor="end")
        drawing.add("rect", x=LEFT, y=y, width=WIDTH - LEFT - RIGHT, height=CLASS, kind="frame")
        spans: Spans = getattr(classes, of)
        for number, edges in sorted(spans.items()):
            name = task.outputs[number]
            _class(drawing, y, name, palette.classes(task)[name], at_x(edges), of)
        y += CLASS + 4


def _class(drawing: Drawing, y: float, name: str, colour: str, edges: np.ndarray, of: str) -> None:
    drawing.spans(edges, y, CLASS, kind=f"class {of}", fill=colour, tip=name)
    for a, b in edges:
        if b - a > LETTER * len(name) + 8:
            drawing.add("text", name, x=(a + b) / 2, y=y + 12.5, kind=f"on {palette.ink_on(colour)}", text_anchor="middle")


def _units(drawing: Drawing, y: float, task: Task, units: Units, away: Marks, at_x: Scale) -> None:
    """Draw two rows per unit: truth above prediction."""
    for unit in task.columns:
        drawing.name(unit, LEFT, x=LEFT - 8, y=y + UNIT + 4, kind="strip", text_anchor="end")
        for of in ("truth", "prediction"):
            marks: Marks = getattr(units, of)
            for kind, shares in (("track", marks["known"]), (f"unit {of}", marks[unit])):
                for share, spans in shares.items():
                    drawing.spans(at_x(spans), y, UNIT, kind=kind, fill_opacity=f"{share:g}", tip=f"{unit}, {of}")
            y += UNIT + 0.5
        y += 5


# By kind of task: its height, and the function that draws it.
HEIGHTS = {
    "dimensions": lambda task: len(task.columns) * (PANEL + GAP),
    "classes": lambda task: len(ROWS) * (CLASS + 4) + GAP - 4,
    "units": lambda task: len(task.columns) * (2 * UNIT + 6) + GAP - 6,
}
DRAW = {"dimensions": _curves, "classes": _classes, "units": _units}


def _gate(drawing: Drawing, box: Box, gate: Gate, at_x: Scale) -> None:
    at_y = scale(0, 1, box.bottom, box.top)
    drawing.levels([0, 0.5, 1], at_y, box.left, box.right)
    edges = np.cumsum(np.concatenate([np.zeros((len(gate.weights), 1)), gate.weights], axis=1), axis=1)
    colours = palette.expert_colours(gate.experts)
    for i, (expert, colour) in enumerate(zip(gate.experts, colours, strict=True)):
        low, high = at_y(edges[:, i]), at_y(edges[:, i + 1])
        drawing.band(at_x(gate.times_s), low, high, kind="band", fill=colour, tip=f"{expert}: mean weight {gate.mean[i]:.3f}")
    _side_title(drawing, box, "gate")


def _strip(drawing: Drawing, y: float, name: str, marks: Marks, at_x: Scale) -> None:
    drawing.add("text", name, x=LEFT - 8, y=y + 10.5, kind="strip", text_anchor="end")
    drawing.add("rect", x=LEFT, y=y, width=WIDTH - LEFT - RIGHT, height=STRIP, kind="track")
    for kind, shares in marks.items():
        for share, spans in shares.items():
            drawing.spans(at_x(spans), y, STRIP, kind=f"mark {kind}", fill_opacity=f"{share:g}")


def _side_title(drawing: Drawing, box: Box, text: str) -> None:
    middle = box.top + box.height / 2
    drawing.name(text, box.height, x=14, y=middle, kind="name", text_anchor="middle", transform=f"rotate(-90 14 {middle:.1f})")
