"""Arms of a comparison, run in turn: CPU time, time by the clock and memory of each, and whether they give the same.

An arm is a function without arguments that does the whole work once and returns what the arms are compared by. Every arm runs once
unmeasured (imports, allocations, the page cache: all inputs are read warm), and its output is compared; then all run in turn, in rotating
order, for some rounds. The figures are medians.
"""

import gc
import os
import re
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

Arm = Callable[[], Any]
MB = 2**20
GLIBC_BYTES = 2**25  # of freed memory that glibc keeps of itself, at most: for arms without `affpipe.system.memory.keep`


class DisagreeError(Exception):
    """Two arms gave different outputs: their times mean nothing."""


@dataclass(frozen=True)
class Cost:
    """What one unit of work costs: milliseconds of all cores and by the clock, and MB of memory at most, above what was held before."""

    cpu_ms: float
    wall_ms: float
    peak_mb: float


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        what: the work, with its sizes. unit: what the costs are of.
        costs: arm -> what it costs; usually "reference", "ours" and "floor".
        figure: name of the number that the goal is about. value: that number. goal: what was hoped for, None where nothing was.
        at_most: the value should not exceed the goal; otherwise it should reach it.
        outputs: how far the arms agree, in words.
    """

    what: str
    unit: str
    costs: Mapping[str, Cost]
    figure: str
    value: float
    goal: float | None
    outputs: str
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "reached": self.reached}


def take_turns(
    arms: Mapping[str, Arm], *, units: int, rounds: int, compare: Callable[[dict[str, Any]], str]
) -> tuple[dict[str, Cost], str]:
    """Run arms in turn; return the cost of a unit in each, and in what words `compare` says that their outputs agree.

    Args:
        units: of work that an arm does in one run.
        compare: gets arm -> output; raises DisagreeError where outputs are not the same.
    """
    outputs = compare({name: arm() for name, arm in arms.items()})
    found: dict[str, list[Cost]] = {name: [] for name in arms}
    names = list(arms)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(measure(arms[name], units=units))
    return {name: _middle(costs) for name, costs in found.items()}, outputs


def measure(arm: Arm, *, units: int = 1) -> Cost:
    """Cost of a unit when an arm runs once, children included."""
    gc.collect()
    held = _forget_peak()
    cpu, wall = _cpu_s(), time.monotonic()
    arm()
    cpu, wall = _cpu_s() - cpu, time.monotonic() - wall
    return Cost(1000 * cpu / units, 1000 * wall / units, max(0, _memory("VmHWM") - held) / MB)


def ratio(costs: Mapping[str, Cost], slow: str = "reference", fast: str = "ours") -> float:
    """How many times the CPU time of one arm another one has."""
    return costs[slow].cpu_ms / costs[fast].cpu_ms


def _middle(costs: list[Cost]) -> Cost:
    return Cost(*(median(getattr(cost, name) for cost in costs) for name in ("cpu_ms", "wall_ms", "peak_mb")))


def _cpu_s() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _forget_peak() -> int:
    """Let the peak of this process's memory begin anew; return what it holds, in bytes. Of children nothing is known."""
    Path(f"/proc/{os.getpid()}/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
