"""A picture of one stream's predictions, for someone who has a video and no wish for a table."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from affpipe import store
from affpipe.frames import NEAREST, NONE
from affpipe.predict import FramePredictions
from affpipe.report import series

INCHES, DPI = (11.0, 5.5), 120
COLOURS = {"valence": "#0063a5", "arousal": "#c24a00"}
MARKS = {NEAREST: ("filled from the nearest frame", "#e3a51a"), NONE: ("nothing observed", "#6b7280")}


def trajectories(path: Path, title: str, times_s: np.ndarray, found: FramePredictions) -> None:
    """See `affpipe.report.trajectories`. Long streams are drawn as means of equal groups of frames."""
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 1, sharex=True)
    t, mean = series.thin(times_s, found.values["va"], found.valid)
    ends_s = series.shown_until(times_s)
    for panel, (name, colour), y in zip(panels, COLOURS.items(), mean.T, strict=True):
        handles = _marks(panel, found.source, times_s, ends_s)
        panel.axhline(0, color="#9ca3af", linewidth=0.8)
        panel.plot(t, y, color=colour, linewidth=1.4, solid_capstyle="round")
        panel.set(ylabel=name, ylim=(-1.02, 1.02), xlim=(times_s[0], ends_s[-1]))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    ticks = series.time_ticks(float(times_s[0]), float(ends_s[-1]))
    panels[1].set_xticks([t for t, _ in ticks], [label for _, label in ticks])
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", parse_math=False)  # a file's name is no formula
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=len(handles), frameon=False)
    with warnings.catch_warnings(), store.atomic(path) as part:
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks is drawn as boxes
        figure.savefig(part, format="png")


def _marks(panel: Axes, source: np.ndarray, times_s: np.ndarray, ends_s: np.ndarray) -> dict[str, PolyCollection]:
    """Mark frames that were not observed; return an entry for the legend for each kind there is."""
    handles: dict[str, PolyCollection] = {}
    pixel_s = (ends_s[-1] - times_s[0]) / (INCHES[0] * DPI)
    for code, (name, colour) in MARKS.items():
        for share, spans in sorted(series.marks(source == code, times_s, ends_s).items(), reverse=True):
            bars = [(a, max(b - a, pixel_s)) for a, b in spans]
            shown = panel.broken_barh(bars, (-1.1, 2.2), facecolor=colour, alpha=0.22 * share, linewidth=0)
            handles.setdefault(name, shown)
    return handles
