"""A store that was damaged behind the workflow's back: the job that meets it makes way, and what is sound is let be."""

import os
from pathlib import Path

import numpy as np
import pytest

from affpipe.core.errors import StoreError
from affpipe.core.stage import Context
from affpipe.jobs import apply
from affpipe.plan.plan import Plan
from affpipe.store import cache, streams
from affpipe.store.index import Entry, write_index
from affpipe.store.item_streams import Job, Worker
from affpipe.system import disk

NAMES = ("a", "b", "c")


@pytest.fixture
def plan(small_plan) -> Plan:
    """Frames of three videos in the store, in one shard, with their index."""
    plan = small_plan(NAMES, shards=1)
    write_index(index(plan), apply.apply(plan, "frames", plan.items("frames"), {}, stage, lambda *_: None))
    return plan


def stage(context: Context) -> Worker:
    def work(job: Job) -> None:
        times = np.arange(300) / 25
        job.write(job.header(25), values=np.ones((300, 1), np.float32), start_s=times, end_s=times + 0.04, valid=np.ones(300, bool))

    return work


def index(plan: Plan) -> Path:
    return Path(plan.index("frames", "rest000"))


def frames_of(plan: Plan, id: str) -> Path:
    (item,) = [i for i in plan.items("frames") if i.id == id]
    return plan.stream("frames", item)


def read(plan: Plan) -> dict[str, Entry]:
    with cache.mending():
        entries = apply.read_entries(plan, ["frames"], ["rest000"])["frames"]
        for item in plan.items("audio"):
            with plan.streams(item).open("frames") as stream:
                stream.rows()
    return entries


def test_a_sound_store_is_let_be(plan):
    before = {path: path.stat().st_mtime_ns for path in plan.cache.rglob("*")}
    assert set(read(plan)) == set(NAMES)
    assert [cache.mend(path) for path in (frames_of(plan, "a"), plan.cache / "frames/0123456789ab/none.h5")] == [[], []]
    assert before == {path: path.stat().st_mtime_ns for path in plan.cache.rglob("*")}


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "another", "empty"])
def test_a_damaged_stream_goes_with_its_index_and_the_others_stay(plan, damage):
    path = frames_of(plan, "b")
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        at = data.index(np.ones(8, np.float32).tobytes())
        data[at + 2] ^= 4
    whole = {"cut": data[:5000], "flipped": data, "another": frames_of(plan, "c").read_bytes(), "empty": b"", "gone": b""}[damage]
    path.write_bytes(whole)
    if damage == "gone":
        path.unlink()
    with pytest.raises(StoreError, match=r"b\.[0-9a-f]{8}\.h5: want"):
        read(plan)
    assert not path.exists()
    assert not index(plan).exists()
    assert frames_of(plan, "a").exists()
    assert frames_of(plan, "c").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 5}', "{}"])
def test_a_damaged_index_is_dropped_and_the_streams_stay(plan, text):
    index(plan).write_text(text)
    with pytest.raises(StoreError, match=r"rest000-\w+\.json: want"):
        read(plan)
    assert not index(plan).exists()
    assert all(frames_of(plan, name).exists() for name in NAMES)


def test_what_makes_way_is_said_also_where_the_log_is_quiet(plan, caplog):
    caplog.set_level("ERROR", logger="affpipe")
    frames_of(plan, "b").write_bytes(b"")
    with pytest.raises(StoreError):
        read(plan)
    assert f"{frames_of(plan, 'b')}: deleted" in caplog.text
    assert f"{index(plan)}: dropped" in caplog.text


def test_a_disk_that_does_not_read_costs_nothing(plan, monkeypatch):
    def stale(*_: object) -> None:
        raise OSError(116, "Stale file handle")

    before = sorted(plan.cache.rglob("*"))
    monkeypatch.setattr("affpipe.store.streams.h5py.File", stale)
    with pytest.raises(StoreError, match="got Stale file handle; make it readable, remove it, or check the disk"):
        read(plan)
    assert sorted(plan.cache.rglob("*")) == before


def test_a_damaged_model_goes_with_the_record_of_its_fit(tmp_path):
    for name in (streams.MODEL, streams.FIT, "other.txt"):
        (tmp_path / name).write_text("x")
    cache.mend(tmp_path / streams.MODEL)
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_faults_that_were_skipped_are_forgotten_and_nothing_else(plan):
    faulty = index(plan).with_name("rest001-0123456789ab.json")
    write_index(faulty, {"x": Entry("failed", reason="no"), "y": Entry("done", "y.h5", 3)})
    assert cache.retry([index(plan), faulty, faulty.with_name("none.json")]) == [faulty]
    assert index(plan).exists()
    assert not faulty.exists()


def test_half_written_files_of_dead_processes_are_swept(tmp_path):
    with disk.atomic(tmp_path / "x.h5") as living:
        living.write_text("x")
        dead = living.with_name(living.name.replace(f"-{os.getpid()}-", "-999999999-"))
        elsewhere = living.with_name(".y.h5.elsewhere-1-01234567.part")
        for path in (dead, elsewhere):
            path.write_text("x")
        disk.sweep(tmp_path)
        assert (living.exists(), dead.exists(), elsewhere.exists()) == (True, False, True)
        deep = tmp_path / "a/b" / dead.name
        deep.parent.mkdir(parents=True)
        deep.write_text("x")
        disk.sweep(tmp_path)
        assert deep.exists()
        disk.sweep(tmp_path, below=True)
        assert (living.exists(), deep.exists()) == (True, False)
