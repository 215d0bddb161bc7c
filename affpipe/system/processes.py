"""Work on many items by processes that are killed where one hangs: a file on a dead mount must not stop the rest."""

import math
import multiprocessing
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

TICK_S = 0.2
BATCH = 32  # items of a process at most: a start takes longer than a look at most files


@dataclass(frozen=True)
class Late:
    """In place of a result: the item took too long, or with `gone` its process ended without a word."""

    gone: bool = False


def share_imports() -> None:
    """Let the server of the processes that follow import what this one has of the package by now, so that none imports it again.

    To be called before the first of them. It takes their starts from a tenth of a second to a hundredth.
    """
    multiprocessing.set_forkserver_preload([name for name in sys.modules if name.partition(".")[0] == "affpipe"])


def in_processes(
    work: Callable[[Any], Any], items: Iterable[Any], *, processes: int, limit_s: float = math.inf, each_s: float = math.inf
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, result) as they come. Items that are not reached within `limit_s` are not yielded.

    Processes are forks of a small server, as this one may hold threads, which a fork would break; see `share_imports`.

    Args:
        work: a module's function; what it raises is a bug and ends its process, and so its item counts as gone.
        processes: how many at a time.
        each_s: longest time for one item; its process is killed then and `Late` is its result.
    """
    waiting, end_s = deque(items), time.monotonic() + limit_s
    running: list[_Batch] = []
    try:
        while (waiting or running) and time.monotonic() < end_s:
            while waiting and len(running) < processes:
                count = max(1, min(BATCH, len(waiting) // (2 * processes)))  # fewer towards the end, so that all end together
                running.append(_Batch(work, [waiting.popleft() for _ in range(count)]))
            wait([batch.pipe for batch in running], timeout=TICK_S)
            for batch in list(running):
                if not (batch.pipe.poll() or batch.late(each_s)):
                    continue
                item, result = batch.items.popleft(), batch.take()
                if isinstance(result, Late) or not batch.items:
                    waiting.extendleft(reversed(batch.items))
                    running.remove(batch)
                    batch.end()
                yield item, result
    finally:
        for batch in running:
            batch.end()


class _Batch:
    """A process, the pipe on which its results come, and the items that it has not given one for, in their order."""

    def __init__(self, work: Callable[[Any], Any], items: list[Any]):
        context = multiprocessing.get_context("forkserver")
        self.items = deque(items)
        self.pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(work, items, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._since_s = time.monotonic()

    def late(self, each_s: float) -> bool:
        """Return whether the first item takes too long."""
        return time.monotonic() - self._since_s > each_s

    def take(self) -> Any:
        """Return the result of the first item, or `Late`."""
        self._since_s = time.monotonic()
        try:
            return self.pipe.recv() if self.pipe.poll() else Late()
        except (EOFError, OSError):  # a decoder can take its process with it
            return Late(gone=True)

    def end(self) -> None:
        self._process.kill()
        self._process.join(TICK_S)  # one that waits for a dead mount does not go even then
        self.pipe.close()


def _serve(work: Callable[[Any], Any], items: list[Any], pipe: Connection) -> None:
    for item in items:
        pipe.send(work(item))
