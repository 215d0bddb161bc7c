"""Work on many items, each in a process of its own: one that hangs or takes its process with it does not stop the rest."""

import math
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

TICK_S = 0.2


@dataclass(frozen=True)
class Late:
    """In place of a result: the item took too long, or with `gone` its process ended without a word."""

    gone: bool = False


def in_processes(
    work: Callable[[Any], Any], items: Iterable[Any], *, processes: int, limit_s: float = math.inf, each_s: float = math.inf
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, result) as they come. Items that are not reached within `limit_s` are not yielded.

    Processes are forks of a small server, as this one may hold threads, which a fork would break. What the server imports before the first
    fork (`multiprocessing.set_forkserver_preload`) no process imports again.

    Args:
        work: a module's function; what it raises is a bug and ends its process, and so its item counts as gone.
        processes: how many at a time.
        each_s: longest time for one item; its process is killed then and `Late` is its result.
    """
    waiting, end_s = deque(items), time.monotonic() + limit_s
    running: dict[Connection, tuple[Any, BaseProcess, float]] = {}
    try:
        while (waiting or running) and time.monotonic() < end_s:
            while waiting and len(running) < processes:
                pipe, process = _started(work, waiting[0])
                running[pipe] = waiting.popleft(), process, time.monotonic()
            ready = wait(list(running), timeout=TICK_S)
            for pipe, (item, process, since_s) in list(running.items()):
                if pipe in ready or time.monotonic() - since_s > each_s:
                    del running[pipe]
                    result = _taken(pipe) if pipe in ready else Late()
                    _end(pipe, process)
                    yield item, result
    finally:
        for pipe, (_, process, _) in running.items():
            _end(pipe, process)


def _started(work: Callable[[Any], Any], item: Any) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("forkserver")
    pipe, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(work, item, theirs), daemon=True)
    process.start()
    theirs.close()
    return pipe, process


def _serve(work: Callable[[Any], Any], item: Any, pipe: Connection) -> None:
    pipe.send(work(item))


def _taken(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError):  # a decoder can take its process with it
        return Late(gone=True)


def _end(pipe: Connection, process: BaseProcess) -> None:
    process.kill()
    process.join(TICK_S)  # one that waits for a dead mount does not go even then
    pipe.close()
