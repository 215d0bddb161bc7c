"""Rows of the benchmarks as a table in Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

HEAD = ("what", "CPU ms a unit: arms", "wall ms", "peak MB", "figure", "measured", "goal", "outputs")


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """One line a row."""
    lines = [HEAD, ("---",) * len(HEAD), *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    costs = row["costs"]
    goal = "" if row["goal"] is None else f"{'≤' if row['at_most'] else '≥'} {row['goal']:g}{'' if row['reached'] else ' **missed**'}"
    return (
        f"{row['what']}, a {row['unit']}",
        ", ".join(f"{name} {number(cost['cpu_ms'])}" for name, cost in costs.items()),
        ", ".join(number(cost["wall_ms"]) for cost in costs.values()),
        ", ".join(f"{cost['peak_mb']:.0f}" for cost in costs.values()),
        row["figure"],
        number(row["value"]),
        goal,
        row["outputs"],
    )


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
