"""Work on many files by processes that are killed where one hangs: a file on a dead mount must not stop the rest."""

import math
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

TICK_S = 0.2


@dataclass(frozen=True)
class Late:
    """In place of a result: the file took too long, or with `gone` its process ended without a word."""

    gone: bool = False


def each(work: Callable[[Any], Any], items: Iterable[Any], *, processes: int, limit_s: float, each_s: float) -> Iterator[tuple[Any, Any]]:
    """Yield (item, result) as they come. Items that are not reached within `limit_s` are not yielded.

    Args:
        work: a module's function; what it raises is a bug and ends its process, and so its item counts as gone.
        each_s: longest time for one item, the start of its process not counted; its process is killed then and `Late` is its result.
    """
    waiting, end_s = deque(items), time.monotonic() + limit_s
    pool = [_Worker(work) for _ in range(min(processes, len(waiting)))]
    try:
        while (waiting or any(w.busy for w in pool)) and time.monotonic() < end_s:
            for number, worker in enumerate(pool):
                if not worker.busy and waiting:
                    if worker.give(waiting[0]):
                        waiting.popleft()
                    else:  # it went while it had nothing to do
                        worker.kill()
                        pool[number] = _Worker(work)
            ready = wait([w.pipe for w in pool if w.busy], timeout=TICK_S)
            for number, worker in enumerate(pool):
                if not worker.busy:
                    continue
                if worker.pipe in ready:
                    result = worker.take()
                    if not worker.started and not worker.dead:  # its first word: it has loaded what it needs
                        worker.begin()
                        continue
                    yield worker.item, result
                    worker.busy = False
                elif time.monotonic() - worker.since_s > each_s:
                    yield worker.item, Late()
                    worker.kill()
                if worker.dead and waiting:
                    pool[number] = _Worker(work)
    finally:
        for worker in pool:
            worker.kill()


class _Worker:
    """A process and the pipe to it. spawn: the parent may hold threads, which a fork would break."""

    def __init__(self, work: Callable[[Any], Any]):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.started = self.busy = self.dead = False
        self.item, self.since_s = None, math.inf

    def begin(self) -> None:
        self.started, self.since_s = True, time.monotonic()

    def give(self, item: Any) -> bool:
        """Whether the process took the item."""
        try:
            self.pipe.send(item)
        except OSError:
            return False
        self.item, self.busy = item, True
        self.since_s = time.monotonic() if self.started else math.inf
        return True

    def take(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):  # a decoder can take its process with it
            self.dead = True
            return Late(gone=True)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(TICK_S)  # one that waits for a dead mount does not go even then
        self.pipe.close()
        self.busy, self.dead = False, True


def _serve(work: Callable[[Any], Any], pipe: Connection) -> None:
    pipe.send(None)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(work(item))
