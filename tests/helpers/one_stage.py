"""A stage made for the purpose, and apply jobs of it."""

from collections.abc import Callable

import numpy as np

from affpipe.core.stage import Context
from affpipe.encoders.table import ENCODERS
from affpipe.jobs import apply as jobs
from affpipe.plan.plan import Plan
from affpipe.store.index import Entry
from affpipe.store.item_streams import Job, Worker


class Stage:
    """A stage that writes three rows, but does for some items what it is told; counts what happens to it."""

    def __init__(self, **faults: Exception):
        self.faults, self.loaded, self.seen = faults, 0, []

    def __call__(self, context: Context) -> Worker:
        self.loaded += 1
        self.context = context
        return self.work

    def work(self, job: Job) -> None:
        self.seen.append(job.item.id)
        if job.item.id in self.faults:
            raise self.faults[job.item.id]
        rows(job)


def rows(job: Job, random: tuple[str, ...] = ()) -> None:
    header, times = job.header(25, random=random), np.arange(3) / 25
    job.write(header, start_s=times, end_s=times + 0.04, valid=np.ones(3, bool), **offered(header.stage))


def offered(stage: str) -> dict[str, np.ndarray]:
    """Three rows of all that a stage, or an encoder, must write."""
    encoder = ENCODERS.get(stage)
    if encoder is None or encoder.rows == "vectors":
        return dict.fromkeys(encoder.offers if encoder else ("values",), np.ones((3, 1), np.float32))
    return {"values": np.ones((3, 1, 1), np.float32), "steps": np.ones(3, np.int32)}


def apply(plan: Plan, name: str, stage: Callable, entries: dict | None = None) -> dict[str, Entry]:
    return jobs.apply(plan, name, plan.items(name), entries or {}, stage, lambda *_: None)
