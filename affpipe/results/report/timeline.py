"""The figure of one stream: truth and prediction of each task, gate and marks on one time axis."""

import numpy as np
from markupsafe import Markup

from affpipe.core.tasks.task import EXPRESSIONS, TASKS
from affpipe.results.report import palette
from affpipe.results.report.one_stream import Classes, Curves, Gate, Marks, Spans, Units, View
from affpipe.results.report.series import nice_ticks, time_ticks, value_range
from affpipe.results.report.svg import Box, Drawing, Scale, scale

WIDTH, LEFT, RIGHT = 1120.0, 104.0, 26.0
PANEL, STRIP, GAP = 112.0, 13.0, 18.0
CLASS, UNIT = 17.0, 6.0  # heights of a row of classes, and of a unit
LETTER = 6.6  # width of one, about
EXPRESSION_ROWS = {"true expression": "truth", "predicted": "prediction"}


def stream(view: View) -> Markup:
    """Truth and prediction of each task, gate weights and marks of one stream."""
    heights = {
        "va": view.va and 2 * (PANEL + GAP),
        "expr": view.expr and len(EXPRESSION_ROWS) * (CLASS + 4) + GAP - 4,
        "au": view.au and len(TASKS["au"].columns) * (2 * UNIT + 6) + GAP - 6,
        "gate": view.gate and PANEL + GAP,
    }
    bottom = 8 + sum(h for h in heights.values() if h) + len(view.strips) * (STRIP + 6)
    drawing = Drawing(WIDTH, bottom + 24, f"truth and prediction of {view.id} over time")
    at_x = scale(view.start_s, view.end_s, LEFT, WIDTH - RIGHT)
    drawing.grid(time_ticks(view.start_s, view.end_s), at_x, 8, bottom, bottom + 16)
    y = 8.0
    if view.va is not None:
        away = view.strips.get("no face", {}).get("faceless", {})
        for i, name in enumerate(TASKS["va"].columns):
            _trajectory(drawing, _panel(y + i * (PANEL + GAP)), view.va, away, i, at_x, name)
        y += heights["va"]
    if view.expr is not None:
        _classes(drawing, y, view.expr, at_x)
        y += heights["expr"]
    if view.au is not None:
        _units(drawing, y, view.au, at_x)
        y += heights["au"]
    if view.gate is not None:
        _gate(drawing, _panel(y), view.gate, at_x)
        y += heights["gate"]
    for name, marks in view.strips.items():
        _strip(drawing, y, name, marks, at_x)
        y += STRIP + 6
    return drawing.markup()


def _panel(y: float) -> Box:
    return Box(LEFT, y, WIDTH - LEFT - RIGHT, PANEL)


def _trajectory(drawing: Drawing, box: Box, curves: Curves, away: dict[float, np.ndarray], column: int, at_x: Scale, name: str) -> None:
    truth, prediction = curves.truth[:, column], curves.prediction[:, column]
    low, high = value_range(np.concatenate([truth, prediction]), least=0.8, step=0.2)
    at_y = scale(low, high, box.bottom, box.top)
    drawing.levels(nice_ticks(low, high, 5), at_y, box.left, box.right)
    for share, spans in away.items():
        drawing.spans(at_x(spans), box.top, box.height, kind="away", fill_opacity=f"{share:g}")
    drawing.curve(at_x(curves.times_s), at_y(truth), kind="line truth")
    drawing.curve(at_x(curves.times_s), at_y(prediction), kind=f"line {name}")
    _side_title(drawing, box, name)


def _classes(drawing: Drawing, y: float, classes: Classes, at_x: Scale) -> None:
    """A row of truth and one of prediction; a stretch that is long enough bears the name of its class."""
    for title, of in EXPRESSION_ROWS.items():
        drawing.add("text", title, x=LEFT - 8, y=y + 12.5, kind="strip", text_anchor="end")
        drawing.add("rect", x=LEFT, y=y, width=WIDTH - LEFT - RIGHT, height=CLASS, kind="frame")
        spans: Spans = getattr(classes, of)
        for number, edges in sorted(spans.items()):
            _class(drawing, y, EXPRESSIONS[number], at_x(edges), of)
        y += CLASS + 4


def _class(drawing: Drawing, y: float, name: str, edges: np.ndarray, of: str) -> None:
    colour = palette.CLASSES[name]
    drawing.spans(edges, y, CLASS, kind=f"class {of}", fill=colour, tip=name)
    for a, b in edges:
        if b - a > LETTER * len(name) + 8:
            drawing.add("text", name, x=(a + b) / 2, y=y + 12.5, kind=f"on {palette.ink_on(colour)}", text_anchor="middle")


def _units(drawing: Drawing, y: float, units: Units, at_x: Scale) -> None:
    """Two rows a unit: truth above prediction."""
    for unit in TASKS["au"].columns:
        drawing.add("text", unit, x=LEFT - 8, y=y + UNIT + 4, kind="strip", text_anchor="end")
        for of in ("truth", "prediction"):
            marks: Marks = getattr(units, of)
            for kind, shares in (("track", marks["known"]), (f"unit {of}", marks[unit])):
                for share, spans in shares.items():
                    drawing.spans(at_x(spans), y, UNIT, kind=kind, fill_opacity=f"{share:g}", tip=f"{unit}, {of}")
            y += UNIT + 0.5
        y += 5


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
    drawing.add("text", text, x=14, y=middle, kind="name", text_anchor="middle", transform=f"rotate(-90 14 {middle:.1f})")
