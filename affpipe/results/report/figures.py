"""Figures of fits and of scores: learning curves, confusion, and the distributions of truth and prediction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from affpipe.core.tasks.task import Task
from affpipe.results.report import palette
from affpipe.results.report.series import nice_ticks, value_range
from affpipe.results.report.svg import LETTER, Box, Drawing, scale, tick

CELL_WIDTH, CELL_HEIGHT = 70.0, 38.0  # of the confusion matrix
LARGE = 8  # classes of one that fills the page
FULL = palette.PREDICTION  # the colour of a cell that holds its whole row
ROW = 32.0  # height of a pair of bars


def learning(record: Mapping[str, Any], measure: str) -> Markup:
    """Draw training loss and the validation score (`measure` for people) by epoch, the best epoch marked."""
    curves, best = record["curves"], record["best"]
    epochs = np.array([c["epoch"] + 1 for c in curves], np.float64)
    drawing = Drawing(560, 190, f"learning curves of {record['model']}")
    panels = {
        "training_loss": ("training loss", Box(44, 22, 222, 130)),
        "validation_score": (f"validation {measure}", Box(326, 22, 222, 130)),
    }
    for field, (title, box) in panels.items():
        values = np.array([c[field] for c in curves], np.float64)
        at_x = scale(0.5, max(epochs[-1], 2) + 0.5, box.left, box.right)
        low, high = value_range(values)
        at_y = scale(low, high, box.bottom, box.top)
        drawing.add("text", title, x=box.left, y=14, kind="name")
        drawing.levels(nice_ticks(low, high, 4), at_y, box.left, box.right)
        ticks = [t for t in nice_ticks(1, max(epochs[-1], 2), 5) if t == round(t)]
        drawing.grid([(t, f"{t:.0f}") for t in ticks], at_x, box.top, box.bottom, box.bottom + 16)
        x = float(at_x(best["epoch"] + 1))
        drawing.add("line", x1=x, x2=x, y1=box.top, y2=box.bottom, kind="best")
        drawing.curve(at_x(epochs), at_y(values), kind="line prediction" if field == "validation_score" else "line truth")
        drawing.add("circle", cx=x, cy=float(at_y(best[field])), r=4, kind="dot", tip=f"best epoch {best['epoch'] + 1}: {best[field]:z.4f}")
    drawing.add("text", "epoch", x=155, y=186, kind="tick", text_anchor="middle")
    drawing.add("text", "epoch", x=437, y=186, kind="tick", text_anchor="middle")
    return drawing.markup()


def histograms(task: Task, truth: Mapping[str, Sequence[int]], prediction: Mapping[str, Sequence[int]]) -> Markup:
    """Draw shares of frames in equal bins of the range of each dimension: truth as bars, prediction as a line; one panel per dimension."""
    drawing = Drawing(560, 190 * -(-len(truth) // 2), f"distribution of {' and '.join(truth)}")
    for i, (name, (low, high)) in enumerate(task.ranges.items()):
        box = Box(44 + 282 * (i % 2), 22 + 190 * (i // 2), 222, 130)
        shares = [np.array(of[name], np.float64) / max(sum(of[name]), 1) for of in (truth, prediction)]
        edges = np.linspace(low, high, len(shares[0]) + 1).round(6)
        at_x = scale(low, high, box.left, box.right)
        top = max(100 * float(np.max(shares)), 1.0)
        at_y = scale(0, top, box.bottom, box.top)
        drawing.add("text", name, x=box.left, y=box.top - 8, kind="name")
        drawing.add("text", "% of frames", x=box.right, y=box.top - 8, kind="tick", text_anchor="end")
        drawing.levels(nice_ticks(0, top, 4), at_y, box.left, box.right)
        for a, b, share in zip(edges[:-1], edges[1:], shares[0], strict=True):
            y = float(at_y(100 * share))
            tip = f"{tick(a)} to {tick(b)}: truth {100 * share:.1f} %"
            drawing.add("rect", x=at_x(a) + 0.5, y=y, width=at_x(b) - at_x(a) - 1, height=box.bottom - y, kind="column truth", tip=tip)
        steps = np.repeat(edges, 2)[1:-1]
        drawing.curve(at_x(steps), at_y(100 * np.repeat(shares[1], 2)), kind="line", stroke=palette.curves(task)[name])
        for t in nice_ticks(low, high, 4):
            drawing.add("text", tick(t), x=float(at_x(t)), y=box.bottom + 16, kind="tick", text_anchor="middle")
    return drawing.markup()


def pairs(title: str, truth: Mapping[str, float], prediction: Mapping[str, float]) -> Markup:
    """Draw two bars for each name, truth above prediction: shares in [0, 1], as percent."""
    left, right = max(82.0, 8 + LETTER * max(map(len, truth))), 500.0
    drawing = Drawing(560, 26 + ROW * len(truth), title)
    top = max(*truth.values(), *prediction.values(), 0.01)
    at_x = scale(0, top, left, right)
    drawing.add("text", title, x=0, y=14, kind="name")
    for row, name in enumerate(truth):
        y = 26 + ROW * row
        drawing.add("text", name, x=left - 8, y=y + 17, kind="strip", text_anchor="end")
        for of, share in (("truth", truth[name]), ("prediction", prediction[name])):
            x = float(at_x(share))
            drawing.add(
                "rect", x=left, y=y, width=max(x - left, 0.6), height=12, kind=f"column {of}", tip=f"{name}, {of}: {100 * share:.2f} %"
            )
            drawing.add("text", f"{100 * share:.1f} %", x=x + 6, y=y + 10, kind="tick")
            y += 13
    return drawing.markup()


def confusion(task: Task, counts: Sequence[Sequence[int]]) -> Markup:
    """Draw frames by class of truth (rows) and prediction (columns), with their share of the row; a greater share is darker."""
    left, top, names = 92.0, 44.0, task.outputs
    table = np.array(counts, np.int64)
    drawing = Drawing(left + CELL_WIDTH * (len(names) + 1), top + CELL_HEIGHT * len(names) + 4, f"confusion of {task.title}")
    if len(names) < LARGE:  # no larger than those of many classes
        drawing.root.set("style", f"max-width: {drawing.width:.0f}px; min-width: 0")
    drawing.add("text", "truth", x=0, y=34, kind="tick")
    drawing.add("text", "prediction", x=left, y=12, kind="tick")
    for j, name in enumerate([*names, "frames"]):
        drawing.name(name, CELL_WIDTH, x=left + CELL_WIDTH * (j + 0.5), y=34, kind="strip", text_anchor="middle")
    for i, (name, row) in enumerate(zip(names, table, strict=True)):
        y = top + CELL_HEIGHT * i
        total = int(row.sum())
        drawing.name(name, left, x=left - 8, y=y + CELL_HEIGHT / 2 + 4, kind="strip", text_anchor="end")
        for j, count in enumerate(row.tolist()):
            x, share = left + CELL_WIDTH * j, count / total if total else 0.0
            colour = palette.pale(FULL, 1 - share)
            kind, ink = "cell right" if i == j else "cell", f"on {palette.ink_on(colour)}"
            tip = f"{name} predicted as {names[j]}: {count:,} of {total:,} frames"
            drawing.add("rect", x=x + 1, y=y + 1, width=CELL_WIDTH - 2, height=CELL_HEIGHT - 2, kind=kind, fill=colour, tip=tip)
            drawing.add("text", f"{count:,}", x=x + CELL_WIDTH / 2, y=y + 16, kind=ink, text_anchor="middle")
            text = f"{100 * share:.0f} %" if total else "–"
            drawing.add("text", text, x=x + CELL_WIDTH / 2, y=y + 30, kind=f"{ink} small", text_anchor="middle")
        x = left + CELL_WIDTH * (len(names) + 0.5)
        drawing.add("text", f"{total:,}", x=x, y=y + CELL_HEIGHT / 2 + 4, kind="tick", text_anchor="middle")
    return drawing.markup()
