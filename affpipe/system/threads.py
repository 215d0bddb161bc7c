"""Several items at a time, each handled by one thread from beginning to end.

There are no queues: a thread that waits for the network decodes nothing meanwhile. So memory is that of as many items as there are threads,
however unequal decoder and network are in speed. While one thread waits, others decode; libraries for both release Python's lock as they
work.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Item, Outcome = TypeVar("Item"), TypeVar("Outcome")


class StoppedError(Exception):
    """Signal that an item was given up because the job stops. It never leaves the job."""


def each(
    work: Callable[[Item], Outcome], items: Iterator[Item], threads: int, stop: threading.Event
) -> Iterator[tuple[Item, Outcome, float]]:
    """Yield (item, outcome, seconds) as items finish. One more begins whenever one has ended.

    Seconds are wall time since the outcome before, or since the beginning if nothing was running: their sum is the time in which there was
    work. An error of an item, or in `items`, is raised as soon as it is known. After that, and when the iterator is closed, no item begins
    any more, `stop` is set, and running items are waited for.

    Args:
        work: handles an item. With one thread the caller's thread runs it, so an interrupt reaches it directly.
        stop: `work` should check it now and then, and end with StoppedError.
    """
    if threads == 1:
        for item in items:
            begun = time.monotonic()
            yield item, work(item), time.monotonic() - begun
        return
    running: dict[Future[Outcome], Item] = {}
    since = 0.0
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            for item in islice(items, threads - len(running)):
                since = since if running else time.monotonic()
                running[pool.submit(work, item)] = item
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                before, since = since, time.monotonic()
                yield running.pop(future), future.result(), since - before
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def limit_threads(threads: int) -> None:
    """Give numerical libraries this many threads. Sums depend on the number, so it is set and not left to the machine."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
