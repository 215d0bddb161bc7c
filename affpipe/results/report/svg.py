"""A drawing as inline SVG. Elements are built as a tree, so every text is escaped; colours and fonts are the page's."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup

from affpipe.core.axis import runs

Scale = Callable[[np.ndarray | float], np.ndarray | float]
LETTER = 6.6  # pixels of one, about


def scale(low: float, high: float, first: float, last: float) -> Scale:
    """Return the linear map that takes [low, high] to pixels [first, last]."""
    return lambda v: first + (np.asarray(v, np.float64) - low) * ((last - first) / (high - low))


class Drawing:
    """An SVG under construction. Keyword `kind` is the class that the style sheet knows; other underscores become hyphens."""

    def __init__(self, width: float, height: float, label: str):
        self.width, self.height = width, height
        self.root = ET.Element("svg", {"viewBox": f"0 0 {number(width)} {number(height)}", "role": "img", "aria-label": label})

    def add(self, tag: str, text: str | None = None, *, kind: str = "", tip: str = "", **attributes: object) -> ET.Element:
        """Append an element."""
        plain = {name.replace("_", "-"): value if isinstance(value, str) else number(value) for name, value in attributes.items()}
        element = ET.SubElement(self.root, tag, plain | ({"class": kind} if kind else {}))
        if tip:
            ET.SubElement(element, "title").text = tip
        if text is not None:
            element.text = text
        return element

    def name(self, text: str, width: float, **attributes: object) -> None:
        """Add a name within so many pixels. One that is longer is cut, and whole where the mouse rests on it."""
        letters = int(width / LETTER)
        long = len(text) > letters
        self.add("text", f"{text[: letters - 1]}\u2026" if long else text, tip=text if long else "", **attributes)

    def curve(self, x: np.ndarray, y: np.ndarray, **attributes: object) -> None:
        """Draw a line through (x, y) that is broken where y is NaN."""
        parts = (_points(x[a:b], y[a:b]) for a, b in runs(np.isfinite(y)))
        path = "".join(f"M{p}" if " " in p else f"M{p}h0" for p in parts)  # a lone point shows by its round cap
        if path:
            self.add("path", d=path, fill="none", **attributes)

    def band(self, x: np.ndarray, low: np.ndarray, high: np.ndarray, **attributes: object) -> None:
        """Draw the area between two lines, broken where `high` is NaN."""
        parts = [f"M{_points(x[a:b], high[a:b])} {_points(x[a:b][::-1], low[a:b][::-1])}Z" for a, b in runs(np.isfinite(high))]
        if parts:
            self.add("path", d="".join(parts), **attributes)

    def spans(self, edges: np.ndarray, top: float, height: float, *, least: float = 0.8, **attributes: object) -> None:
        """Draw bars from edges[:, 0] to edges[:, 1] (pixels), none narrower than `least`."""
        bars = (f"M{number(a)},{number(top)}h{number(max(b - a, least))}v{number(height)}H{number(a)}Z" for a, b in edges)
        path = "".join(bars)
        if path:
            self.add("path", d=path, **attributes)

    def grid(self, ticks: Iterable[tuple[float, str]], at: Scale, top: float, bottom: float, label_y: float) -> None:
        """Draw vertical lines with labels below."""
        for value, label in ticks:
            x = float(at(value))
            self.add("line", x1=x, x2=x, y1=top, y2=bottom, kind="grid")
            self.add("text", label, x=x, y=label_y, kind="tick", text_anchor="middle")

    def levels(self, values: Iterable[float], at: Scale, left: float, right: float) -> None:
        """Draw horizontal lines with labels on the left."""
        for value in values:
            y = float(at(value))
            self.add("line", x1=left, x2=right, y1=y, y2=y, kind="zero" if abs(value) < 1e-9 else "grid")
            self.add("text", tick(value), x=left - 6, y=y + 4, kind="tick", text_anchor="end")

    def markup(self) -> Markup:
        """Return the drawing, safe to put into a page."""
        return Markup(ET.tostring(self.root, encoding="unicode"))


def tick(value: float) -> str:
    """Write a value on an axis, with all of its digits."""
    return f"{value + 0:.10g}".replace("-", "\u2212")


def number(value: object) -> str:
    """Format a coordinate with at most one decimal."""
    return f"{float(value):.1f}".removesuffix(".0")


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{number(a)},{number(b)}" for a, b in zip(x, y, strict=True))


@dataclass(frozen=True)
class Box:
    """Place of a panel on a drawing."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height
