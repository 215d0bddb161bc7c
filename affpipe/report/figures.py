"""Figures of the report: how models were fitted, and what happens along one stream."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from affpipe.report.series import nice_ticks, time_ticks
from affpipe.report.svg import Box, Drawing, Scale, scale
from affpipe.report.views import Gate, View

HUES = ("#0063a5", "#d98200", "#00805c", "#a8488a", "#5b6b7f", "#8a6d1d")  # a modality each, apart for the colour-blind too
WIDTH, LEFT, RIGHT = 1120.0, 92.0, 26.0  # of a stream's figure
PANEL, STRIP, GAP = 112.0, 13.0, 18.0


def expert_colours(experts: Sequence[str]) -> list[str]:
    """A hue for each query modality, paler from context to context."""
    queries = list(dict.fromkeys(e.split("<-")[0] for e in experts))
    seen: dict[str, int] = {}
    out = []
    for expert in experts:
        query = expert.split("<-")[0]
        pale = min(0.5 * seen.get(query, 0), 0.8)
        seen[query] = seen.get(query, 0) + 1
        hue = HUES[queries.index(query) % len(HUES)]
        rgb = (round(int(hue[i : i + 2], 16) * (1 - pale) + 255 * pale) for i in (1, 3, 5))
        out.append("#" + "".join(f"{c:02x}" for c in rgb))
    return out


def learning(record: Mapping[str, Any]) -> Markup:
    """Training loss and validation CCC by epoch, the best epoch marked."""
    curves, best = record["curves"], record["best"]
    epochs = np.array([c["epoch"] + 1 for c in curves], np.float64)
    drawing = Drawing(560, 190, f"learning curves of {record['model']}")
    panels = {"training_loss": ("training loss", Box(44, 22, 222, 130)), "validation_score": ("validation score", Box(326, 22, 222, 130))}
    for field, (title, box) in panels.items():
        values = np.array([c[field] for c in curves], np.float64)
        at_x = scale(0.5, max(epochs[-1], 2) + 0.5, box.left, box.right)
        low, high = _range(values)
        at_y = scale(low, high, box.bottom, box.top)
        drawing.add("text", title, x=box.left, y=14, kind="name")
        drawing.levels(nice_ticks(low, high, 4), at_y, box.left, box.right)
        ticks = [t for t in nice_ticks(1, max(epochs[-1], 2), 5) if t == round(t)]
        drawing.grid([(t, f"{t:.0f}") for t in ticks], at_x, box.top, box.bottom, box.bottom + 16)
        x = float(at_x(best["epoch"] + 1))
        drawing.add("line", x1=x, x2=x, y1=box.top, y2=box.bottom, kind="best")
        drawing.curve(at_x(epochs), at_y(values), kind="line prediction" if field == "validation_score" else "line truth")
        drawing.add("circle", cx=x, cy=float(at_y(best[field])), r=4, kind="dot", tip=f"best epoch {best['epoch'] + 1}: {best[field]:.4f}")
    drawing.add("text", "epoch", x=155, y=186, kind="tick", text_anchor="middle")
    drawing.add("text", "epoch", x=437, y=186, kind="tick", text_anchor="middle")
    return drawing.markup()


def stream(view: View) -> Markup:
    """Truth and prediction, gate weights and marks of one stream on one time axis."""
    panels = 2 + (view.gate is not None)
    bottom = 8 + panels * (PANEL + GAP) + len(view.strips) * (STRIP + 6)
    drawing = Drawing(WIDTH, bottom + 24, f"truth and prediction of {view.id} over time")
    at_x = scale(view.start_s, view.end_s, LEFT, WIDTH - RIGHT)
    drawing.grid(time_ticks(view.start_s, view.end_s), at_x, 8, bottom, bottom + 16)
    y = 8.0
    for i, name in enumerate(("valence", "arousal")):
        _trajectory(drawing, Box(LEFT, y, WIDTH - LEFT - RIGHT, PANEL), view, i, name, at_x)
        y += PANEL + GAP
    if view.gate is not None:
        _gate(drawing, Box(LEFT, y, WIDTH - LEFT - RIGHT, PANEL), view.gate, at_x)
        y += PANEL + GAP
    for name, marks in view.strips.items():
        drawing.add("text", name, x=LEFT - 8, y=y + 10.5, kind="strip", text_anchor="end")
        drawing.add("rect", x=LEFT, y=y, width=WIDTH - LEFT - RIGHT, height=STRIP, kind="track")
        for kind, shares in marks.items():
            for share, spans in shares.items():
                drawing.spans(at_x(spans), y, STRIP, kind=f"mark {kind}", fill_opacity=f"{share:g}")
        y += STRIP + 6
    return drawing.markup()


def _trajectory(drawing: Drawing, box: Box, view: View, column: int, name: str, at_x: Scale) -> None:
    both = np.concatenate([view.truth[:, column], view.prediction[:, column]])
    low, high = _range(both, least=0.8, step=0.2)
    at_y = scale(low, high, box.bottom, box.top)
    drawing.levels(nice_ticks(low, high, 5), at_y, box.left, box.right)
    for share, spans in view.strips.get("no face", {}).get("faceless", {}).items():
        drawing.spans(at_x(spans), box.top, box.height, kind="away", fill_opacity=f"{share:g}")
    drawing.curve(at_x(view.times_s), at_y(view.truth[:, column]), kind="line truth")
    drawing.curve(at_x(view.times_s), at_y(view.prediction[:, column]), kind=f"line {name}")
    _side_title(drawing, box, name)


def _gate(drawing: Drawing, box: Box, gate: Gate, at_x: Scale) -> None:
    at_y = scale(0, 1, box.bottom, box.top)
    drawing.levels([0, 0.5, 1], at_y, box.left, box.right)
    edges = np.cumsum(np.concatenate([np.zeros((len(gate.weights), 1)), gate.weights], axis=1), axis=1)
    colours = expert_colours(gate.experts)
    for i, (expert, colour) in enumerate(zip(gate.experts, colours, strict=True)):
        low, high = at_y(edges[:, i]), at_y(edges[:, i + 1])
        drawing.band(at_x(gate.times_s), low, high, kind="band", fill=colour, tip=f"{expert}: mean weight {gate.mean[i]:.3f}")
    _side_title(drawing, box, "gate")


def _side_title(drawing: Drawing, box: Box, text: str) -> None:
    middle = box.top + box.height / 2
    drawing.add("text", text, x=14, y=middle, kind="name", text_anchor="middle", transform=f"rotate(-90 14 {middle:.1f})")


def _range(values: np.ndarray, *, least: float = 0.0, step: float = 0.0) -> tuple[float, float]:
    """Range to draw finite values in: at least `least` wide, ends on multiples of `step`."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    if step:
        low, high = step * np.floor(low / step + 1e-9), step * np.ceil(high / step - 1e-9)
    else:
        low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    least = least or 1e-3
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    return low, high
