"""Rows of the benchmark: each is measured by itself, and says why where it was not."""

import gc
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch

OWN = ("affpipe", "benchmarks")


class LackingError(Exception):
    """What a row needs and this machine does not have."""


@dataclass(frozen=True)
class Case:
    """A row to be measured.

    Attributes:
        what: the work, with its sizes. measure: gives figure -> value; the name of a figure has its unit, "of ..." is a share of something.
        goal: the figure that it is about, and what it should reach.
    """

    what: str
    measure: Callable[[], dict[str, float]]
    goal: tuple[str, float] | None = None


@dataclass(frozen=True)
class Row:
    """What became of a case: figures, or the reason for none; `failed` where it is no lack of this machine."""

    group: str
    what: str
    figures: dict[str, float] = field(default_factory=dict)
    goal: tuple[str, float] | None = None
    reason: str = ""
    failed: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None where there is none, or no figure."""
        if self.goal is None or self.goal[0] not in self.figures:
            return None
        return self.figures[self.goal[0]] >= self.goal[1]


def measured(group: str, cases: Iterable[Case], until: float) -> Iterator[Row]:
    """Rows of the cases in order. What is raised on the way to a case ends the group with a row of its own.

    Args:
        until: `time.monotonic()` after which nothing is begun.
    """
    pending = iter(cases)
    while True:
        case = None
        try:
            _free()  # here, since after a fault of the GPU it fails too
            case = next(pending, None)
            if case is None:
                return
            if time.monotonic() > until:
                raise TimeoutError("not begun: no time left; see --minutes")
            row = Row(group, case.what, case.measure(), case.goal)
        except Exception as error:
            reason, failed = _why(error)
            row = Row(group, case.what if case else "all", {}, case.goal if case else None, reason, failed)
        yield row
        if case is None:
            return


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _why(error: BaseException) -> tuple[str, bool]:
    """In words, and whether it is a fault rather than something that this machine lacks."""
    if isinstance(error, LackingError):
        return f"needs {error}", False
    cause: BaseException | None = error
    while isinstance(cause, ImportError):  # transformers wraps the one that names the package
        package = (cause.name or "").partition(".")[0]
        if isinstance(cause, ModuleNotFoundError) and package and package not in OWN:
            return f"needs {package}", False
        cause = cause.__cause__
    return traceback.format_exception_only(error)[-1].strip().splitlines()[0][:200], True


def markdown(rows: Iterable[Row]) -> str:
    """A table a group; its columns are the figures of its rows."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return "\n\n".join(f"### {group}\n\n{_table(own)}" for group, own in groups.items())


def _table(rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    head = ["what", *names, "goal", "not measured because"]
    lines = [head, ["---"] * len(head), *([row.what, *(_cell(row, n) for n in names), _goal(row), row.reason] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in lines)


def _cell(row: Row, name: str) -> str:
    return number(name, row.figures[name]) if name in row.figures else ""


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    name, least = row.goal
    return f"{name} ≥ {number(name, least)}{' **missed**' if row.reached is False else ''}"


def number(name: str, value: float) -> str:
    """Three digits; shares in per cent."""
    if name.startswith("of "):
        return f"{100 * value:.0f} %"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
