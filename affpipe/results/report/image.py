"""Picture of one stream's predictions, for someone who has a video and does not want a table."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from affpipe.core.axis import NEAREST, NONE
from affpipe.core.tasks.task import Task, Tasks
from affpipe.results.frames import FramePredictions
from affpipe.results.report import palette, series
from affpipe.system import disk

WIDTH, HEAD, DPI = 11.0, 0.5, 120  # inches; HEAD is for the title
CURVE, STRIP, BANDS, UNIT = 2.5, 0.45, 2.0, 2.75 / 12  # inches of a dimension, of the classes, of their probabilities, of a unit
LEGEND, COLUMNS = 0.22, 6  # inches of a line of the legend, and entries on it
SOURCE = 0.4  # inches of the row with the source of frames, if there is no panel of a dimension
MARKS = {NEAREST: ("filled from the nearest frame", "#e3a51a"), NONE: ("without the lead modality", "#6b7280")}
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", palette.PREDICTION])


def trajectories(path: Path, title: str, tasks: Tasks, times_s: np.ndarray, found: FramePredictions) -> None:
    """Draw the image, see `affpipe.results.report.trajectories`.

    Long streams are drawn as means (classes: the most frequent) of equal groups of frames.
    """
    heights = [height for task in tasks.values() for height in HEIGHTS[task.kind](task)]
    curves_alone = all(task.kind == "dimensions" for task in tasks.values())
    apart = not any(task.kind == "dimensions" for task in tasks.values())  # the sources of frames have a row of their own
    heights += [SOURCE] if apart else []
    entries = len(MARKS) + sum(ENTRIES[task.kind](task) for task in tasks.values())
    below = 0.0 if curves_alone else LEGEND * -(-entries // COLUMNS)
    figure = Figure(figsize=(WIDTH, sum(heights) + HEAD + below), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    drawn = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    ends_s = series.shown_until(times_s)
    handles: dict[str, Artist] = {}
    several = sum(task.kind == "classes" for task in tasks.values()) > 1  # tasks whose classes may have the same names
    left, curves = list(drawn), []
    for task in tasks.values():
        panels = [left.pop(0) for _ in HEIGHTS[task.kind](task)]
        curves += panels if task.kind == "dimensions" else []
        own = DRAW[task.kind](panels, task, times_s, ends_s, found)
        if task.kind == "classes" and several:
            own = {f"{task.title}: {name}": shown for name, shown in own.items()}
            _bare(panels[0], task.title)
        handles |= own
    for panel in curves or left:
        handles |= _marks(panel, found.source, times_s, ends_s, 0.22 if curves else 1.0)
    for panel in left:
        _bare(panel, "source")
    last = drawn[-1]
    last.set_xlim(times_s[0], ends_s[-1])
    ticks = series.time_ticks(float(times_s[0]), float(ends_s[-1]))
    last.set_xticks([t for t, _ in ticks], [label for _, label in ticks])
    figure.align_ylabels(drawn)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", parse_math=False)  # a file's name is no formula
    if handles:
        place = (
            {"loc": "outside lower left", "ncols": COLUMNS, "fontsize": 9} if below else {"loc": "outside upper right", "ncols": len(MARKS)}
        )
        figure.legend(handles.values(), handles.keys(), frameon=False, **place)
    with warnings.catch_warnings(), disk.atomic(path) as part:
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks is drawn as boxes
        figure.savefig(part, format="png")


def _curves(panels: list[Axes], task: Task, times_s: np.ndarray, ends_s: np.ndarray, found: FramePredictions) -> dict[str, Artist]:
    t, mean = series.thin(times_s, found.values[task.name], found.valid)
    for panel, (name, colour), (low, high), y in zip(panels, palette.curves(task).items(), task.ranges.values(), mean.T, strict=True):
        margin = 0.01 * (high - low)
        panel.axhline((low + high) / 2, color="#9ca3af", linewidth=0.8)
        panel.plot(t, y, color=colour, linewidth=1.4, solid_capstyle="round")
        panel.set(ylabel=name, ylim=(low - margin, high + margin))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    return {}


def _classes(panels: list[Axes], task: Task, times_s: np.ndarray, ends_s: np.ndarray, found: FramePredictions) -> dict[str, Artist]:
    """Draw the class of each frame, and the probabilities of all as stacked bands, the first class at the bottom."""
    strip, bands = panels
    spans = series.modes(found.values[task.name][:, 0], found.valid, times_s, ends_s)
    names, colours = task.outputs, palette.classes(task)
    for number, edges in spans.items():
        strip.broken_barh([(a, b - a) for a, b in edges], (0, 1), facecolor=colours[names[number]], linewidth=0)
    _bare(strip, "class")
    edges_s, chances = _groups(times_s, ends_s, found.chances[task.name], found.valid)
    top = np.cumsum(chances, axis=1)
    for i, name in enumerate(names):
        low = top[:, i - 1] if i else np.zeros(len(top))
        bands.stairs(top[:, i], edges_s, baseline=low, fill=True, color=colours[name], linewidth=0)
    bands.set(ylabel="probability", ylim=(0, 1))
    bands.spines[["top", "right"]].set_visible(False)
    return {name: Patch(facecolor=colour) for name, colour in colours.items()}


def _units(panels: list[Axes], task: Task, times_s: np.ndarray, ends_s: np.ndarray, found: FramePredictions) -> dict[str, Artist]:
    """Draw one row per unit: its probability as a shade, and a line below it where it is present."""
    (panel,), names = panels, task.columns
    edges_s, chances = _groups(times_s, ends_s, found.chances[task.name], found.valid)
    rows = np.arange(len(names) + 1) - 0.5
    panel.pcolormesh(edges_s, rows, np.ma.masked_invalid(chances.T), cmap=SHADES, vmin=0, vmax=1)
    for i, values in enumerate(found.values[task.name].T):
        for share, spans in series.marks(found.valid & (values > 0), times_s, ends_s).items():
            panel.broken_barh([(a, b - a) for a, b in spans], (i + 0.26, 0.2), facecolor=palette.INK, alpha=share, linewidth=0)
    panel.set(ylabel=task.title, ylim=(len(names) - 0.5, -0.5))
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    shades = {f"unit: probability {p:g}": Patch(facecolor=SHADES(p), edgecolor="#9ca3af", linewidth=0.5) for p in (0, 0.5, 1.0)}
    return {**shades, "unit present": Patch(facecolor=palette.INK)}


def _groups(times_s: np.ndarray, ends_s: np.ndarray, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return edges (P + 1,) of equal groups of frames, and the means (P, O) in them, NaN where a group holds no valid frame."""
    _, mean = series.thin(times_s, values, valid)
    first = np.arange(0, len(times_s), -(-len(times_s) // series.POINTS))
    return np.append(times_s[first], ends_s[-1]), mean


def _bare(panel: Axes, name: str) -> None:
    """Turn a panel into a row with a name and neither scale nor frame."""
    panel.set_ylim(0, 1)
    panel.set_yticks([])
    panel.set_ylabel(name, rotation=0, ha="right", va="center")
    panel.spines[["top", "right", "left"]].set_visible(False)


def _marks(panel: Axes, source: np.ndarray, times_s: np.ndarray, ends_s: np.ndarray, strength: float) -> dict[str, Artist]:
    """Mark frames that were not observed; return an entry for the legend for each kind that occurs."""
    handles: dict[str, Artist] = {}
    pixel_s = (ends_s[-1] - times_s[0]) / (WIDTH * DPI)
    for code, (name, colour) in MARKS.items():
        for share, spans in sorted(series.marks(source == code, times_s, ends_s).items(), reverse=True):
            bars = [(a, max(b - a, pixel_s)) for a, b in spans]
            whole = panel.get_xaxis_transform()  # from the bottom of the panel to its top, whatever the range of its values
            shown = panel.broken_barh(bars, (0, 1), transform=whole, facecolor=colour, alpha=strength * share, linewidth=0)
            handles.setdefault(name, shown)
    return handles


# By kind of task: the heights of its panels, the number of entries in its legend, and the function that draws it.
HEIGHTS = {
    "dimensions": lambda task: [CURVE] * len(task.columns),
    "classes": lambda task: [STRIP, BANDS],
    "units": lambda task: [max(UNIT * len(task.columns), STRIP)],
}
ENTRIES = {"dimensions": lambda task: 0, "classes": lambda task: len(task.outputs), "units": lambda task: 4}
DRAW = {"dimensions": _curves, "classes": _classes, "units": _units}
