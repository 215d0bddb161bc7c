"""Time on a device: CUDA events, or the clock on a CPU; arms in turn, medians."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import torch

Work = Callable[[], object]
GB = 1e9
LEAST, MOST = 3, 50  # rounds


@dataclass
class Place:
    """Where rows are measured.

    Attributes:
        tiny: shrunken sizes, to show that all runs. budget_s: seconds that the rounds of one arm take together, after LEAST of them.
        ceilings: kind of matrix product -> FLOP/s measured here.
    """

    device: torch.device
    tiny: bool
    budget_s: float
    ceilings: dict[str, float] = field(default_factory=dict)

    def seconds(self, work: Work) -> float:
        """Median time of the work, once it is warm."""
        return self.in_turn({"": work})[""]

    def in_turn(self, works: Mapping[str, Work]) -> dict[str, float]:
        """Median time of each arm; they run in turn, in rotating order, once they are warm."""
        for work in works.values():
            self._once(work)  # kernels are chosen, and memory is taken
        rounds = 1
        if not self.tiny:
            slowest = max(self._once(work) for work in works.values())
            rounds = min(max(int(self.budget_s / slowest), LEAST), MOST)
        names, found = list(works), {name: [] for name in works}
        for turn in range(rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                found[name].append(self._once(works[name]))
        return {name: median(times) for name, times in found.items()}

    def _once(self, work: Work) -> float:
        if self.device.type != "cuda":
            begun = time.perf_counter()
            work()
            return time.perf_counter() - begun
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000

    @contextmanager
    def peak(self, figures: dict[str, float]) -> Iterator[None]:
        """Put what is held at most on the GPU inside, weights included, into the figures; on a CPU nothing."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        yield
        if self.device.type == "cuda":
            figures["peak GB"] = torch.cuda.max_memory_allocated() / GB

    def rate(self, flop: float, seconds: float, kind: str) -> dict[str, float]:
        """TFLOP/s, and their share of the matrix product of that kind, where it was measured."""
        share = {"of matmul": flop / seconds / self.ceilings[kind]} if kind in self.ceilings else {}
        return {"TFLOP/s": flop / seconds / 1e12, **share}
