"""Colours with one meaning in several figures. Those of the page's own parts are in its style sheet."""

from collections.abc import Sequence

from affpipe.core.tasks.table import EXPR
from affpipe.core.tasks.task import Task

HUES = ("#0063a5", "#d98200", "#00805c", "#a8488a", "#5b6b7f", "#8a6d1d")  # one per modality, distinct for the colour-blind too
# Eight colours that every kind of dichromat can tell apart: moved by hill climbing until the nearest two differed most.
APART = ("#d5dade", "#d04300", "#0d885f", "#b03d9c", "#f3cb4d", "#0736dd", "#43c7ff", "#1f2933")
CLASSES = dict(zip(EXPR.outputs, APART, strict=True))
INK, PREDICTION = "#1f2933", "#0063a5"
CURVES = ("#0063a5", "#c24a00", "#00805c", "#a8488a", "#8a6d1d", "#b3123c")  # one per dimension: valence, arousal, then others


def classes(task: Task) -> dict[str, str]:
    """Return class -> colour; beyond eight classes the colours repeat, paler from round to round."""
    rounds = ((i // len(APART), name) for i, name in enumerate(task.outputs))
    return {name: pale(APART[i % len(APART)], min(0.4 * turn, 0.8)) for i, (turn, name) in enumerate(rounds)}


def curves(task: Task) -> dict[str, str]:
    """Return dimension -> colour."""
    return {name: CURVES[i % len(CURVES)] for i, name in enumerate(task.columns)}


def expert_colours(experts: Sequence[str]) -> list[str]:
    """Return a hue for each query modality, paler from context to context."""
    queries = list(dict.fromkeys(e.split("<-")[0] for e in experts))
    seen: dict[str, int] = {}
    out = []
    for expert in experts:
        query = expert.split("<-")[0]
        share = min(0.5 * seen.get(query, 0), 0.8)
        seen[query] = seen.get(query, 0) + 1
        out.append(pale(HUES[queries.index(query) % len(HUES)], share))
    return out


def pale(colour: str, share: float) -> str:
    """Mix a colour with a share of white in [0, 1]."""
    rgb = (round(channel * (1 - share) + 255 * share) for channel in channels(colour))
    return "#" + "".join(f"{c:02x}" for c in rgb)


def channels(colour: str) -> tuple[int, ...]:
    """Return red, green and blue of #rrggbb, in [0, 255]."""
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def ink_on(colour: str) -> str:
    """Return which letters are readable on a colour: "dark" ones of INK or "light" ones of white, by the greater contrast after WCAG 2."""
    own = luminance(colour) + 0.05
    return "light" if 1.05 / own > own / (luminance(INK) + 0.05) else "dark"


def luminance(colour: str) -> float:
    """Return the relative luminance in [0, 1] (WCAG 2)."""
    linear = (c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels(colour))
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
