"""Several items at a time, each by one thread from beginning to end.

There are no queues: a thread that waits for the network decodes nothing meanwhile, so memory is that of as many items as there are threads,
however unequal decoder and network are in speed. While one waits, others decode; libraries for both let go of Python's lock as they work.
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
    """An item was given up because the job stops; it never leaves the job."""


def each(
    work: Callable[[Item], Outcome], items: Iterator[Item], threads: int, stop: threading.Event
) -> Iterator[tuple[Item, Outcome, float]]:
    """Yield (item, outcome, seconds) as items are through; one more begins whenever one has ended.

    Seconds are those of the clock since the outcome before, or since the beginning where nothing was under way: their sum is the time in
    which there was work. An error of an item, or in `items`, is raised as soon as it is known. Then, and when the iterator is closed, no
    item begins any more, `stop` is set, and what is under way is waited for.

    Args:
        work: with one thread it is done by this one, which an interrupt strikes directly.
        stop: work should look at it now and then, and end with StoppedError.
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
    """Give numerical libraries this many threads; sums depend on it, so it is set and not left to the machine."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
