"""Several items at a time: they overlap, nothing depends on how many, and whatever stops the job stops it in order."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from affpipe.core.errors import AbsentError, MediaError, StoreError
from affpipe.core.stage import Context
from affpipe.jobs import apply as jobs
from affpipe.plan.plan import Plan
from affpipe.store import streams
from affpipe.store.index import Entry, write_index
from affpipe.store.item_streams import Job, Worker
from affpipe.system.job_record import JobRecord
from affpipe.system.threads import StoppedError, each

LONG_S = 20.0  # no test waits so long, unless it fails


def times(rows: int) -> dict[str, np.ndarray]:
    start_s = np.arange(rows) / 25
    return {"start_s": start_s, "end_s": start_s + 0.04, "valid": np.ones(rows, bool)}


class Stage:
    """Two pieces of rows an item, with values by its identity, and between them what is wanted; counts items under way."""

    def __init__(self, amid=lambda job: None):
        self.amid, self.under_way, self.most, self.begun, self._lock = amid, 0, 0, [], threading.Lock()

    def __call__(self, context: Context) -> Worker:
        return self.work

    def work(self, job: Job) -> None:
        with self._lock:
            self.begun.append(job.item.id)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            values = np.random.default_rng(int(job.item.identity, 16)).random((6, 2)).astype(np.float32)
            with job.writing(job.header(25)) as out:
                out.append(values=values[:3], **times(3))
                self.amid(job)
                out.append(values=values[3:], **{name: rows + 0.12 if name != "valid" else rows for name, rows in times(3).items()})
        finally:
            with self._lock:
                self.under_way -= 1


def apply(plan: Plan, stage: Stage, threads: int, record: JobRecord | None = None) -> dict[str, Entry]:
    return jobs.apply(plan, "frames", plan.items("frames"), {}, stage, lambda *_: None, record, threads=threads)


def content(plan: Plan) -> dict[str, list]:
    """Stream -> its data, but for the time when it was made."""
    out = {}
    for path in sorted(plan.folder("frames").glob("*.h5")):
        with h5py.File(path) as file:
            header = {name: value for name, value in streams.attributes(path).items() if name != "created"}
            out[path.name] = [header, *(file[name][:].tolist() for name in file)]
    return out


def left_over(plan: Plan) -> list[Path]:
    return list(plan.folder("frames").glob(".*"))


@pytest.fixture
def plan(small_plan) -> Plan:
    return small_plan("abcdefgh")


@pytest.mark.parametrize("threads", [2, 3])
def test_so_many_are_under_way_at_a_time_and_no_more(plan, threads):
    together = threading.Barrier(threads)
    stage = Stage(lambda job: together.wait(LONG_S) if job.item.id in "abcdef" else None)
    made = apply(plan, stage, threads)  # a barrier that nobody else comes to breaks
    assert {entry.status for entry in made.values()} == {"done"}
    assert stage.most == threads


def test_one_thread_is_this_one(plan):
    seen = set()
    apply(plan, Stage(lambda job: seen.add(threading.current_thread())), 1)
    assert seen == {threading.current_thread()}


@pytest.mark.parametrize("threads", [2, 5, 20])
def test_nothing_depends_on_how_many(small_plan, threads):
    def amid(job: Job) -> None:
        time.sleep({"a": 0.1, "d": 0.05}.get(job.item.id, 0))  # the first is not the first to be through
        match job.item.id:
            case "b":
                raise MediaError("b.mp4: damaged")
            case "c":
                raise AbsentError("c.mp4: nothing")

    found = []
    for count in (1, threads):
        plan, record = small_plan("abcdefgh"), JobRecord("apply_frames")
        made = apply(plan, Stage(amid), count, record)
        write_index(plan.folder("frames") / "index.json", made)
        index = (plan.folder("frames") / "index.json").read_bytes()
        counts = (record.done, record.total, record.made, record.there, record.absent, record.failed, record.rows, record.faults)
        found.append((list(made.items()), index, counts, content(plan)))
    assert found[0] == found[1]
    assert found[0][2] == (8, 8, 6, 0, 1, 1, 36, {"b": "b.mp4: damaged"})
    assert len(found[0][3]) == 6


def test_work_is_counted_by_the_clock_and_not_twice(plan):
    record = JobRecord("apply_frames")
    begun = time.monotonic()
    apply(plan, Stage(lambda job: time.sleep(0.1)), 4, record)
    assert 0.2 <= record.working_s <= time.monotonic() - begun  # eight of 0.1 s, four at a time


def test_progress_counts_up(plan):
    seen = []
    jobs.apply(plan, "frames", plan.items("frames"), {}, Stage(), lambda *said: seen.append(said), threads=3)
    assert seen == sorted(seen)
    assert seen[-1] == ("frames", 8, 8)


def test_what_is_there_is_not_made_again(plan):
    apply(plan, Stage(), 1)
    plan.stream("frames", plan.items("frames")[5]).unlink()
    again = Stage()
    apply(plan, again, 4)
    assert again.begun == ["f"]


@pytest.mark.parametrize("error", [StoreError("x.h5: want a whole stream, got half"), MemoryError()])
def test_what_stops_the_job_begins_nothing_more_and_drops_what_is_under_way(plan, error):
    """a fails while b and d are being written and c is through: only then d could begin."""
    fourth = threading.Event()

    def amid(job: Job) -> None:
        match job.item.id:
            case "a":
                fourth.wait(LONG_S)
                raise error
            case "d":
                fourth.set()
        assert job.item.id == "c" or job.stop.wait(LONG_S)

    stage = Stage(amid)
    with pytest.raises(type(error)) as caught:
        apply(plan, stage, 3)
    assert set(stage.begun) == set("abcd")
    assert [name[0] for name in content(plan)] == ["c"]
    assert left_over(plan) == []
    assert (getattr(caught.value, "__notes__", []) == ["frames: a"]) is isinstance(error, MemoryError)
    again = Stage()
    apply(plan, again, 3)
    assert "c" not in again.begun


def test_an_interrupt_stops_in_order(plan):
    def progress(name: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    def amid(job: Job) -> None:
        if job.item.id not in "ab":
            job.stop.wait(LONG_S)

    stage = Stage(amid)
    with pytest.raises(KeyboardInterrupt):
        jobs.apply(plan, "frames", plan.items("frames"), {}, stage, progress, threads=3)
    assert set(stage.begun) <= set("abcde")
    assert {name[0] for name in content(plan)} == {"a", "b"}
    assert left_over(plan) == []


def test_an_error_of_what_gives_the_items_stops_too():
    stop = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        raise StoreError("damaged")

    def work(item: int) -> None:
        assert stop.wait(LONG_S)
        raise StoppedError

    with pytest.raises(StoreError):
        list(each(work, items(), 2, stop))
