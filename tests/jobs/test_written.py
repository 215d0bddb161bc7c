"""Rows as a worker writes them: what is no stream that its stage declares stops the job, and names stage, item, dataset and code."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from one_stage import apply, offered, rows

from affpipe.core.errors import PartError
from affpipe.jobs import apply as jobs
from affpipe.plan.plan import Plan
from affpipe.store import cache, streams
from affpipe.store.index import Entry
from affpipe.store.item_streams import Job
from affpipe.system.job_record import JobRecord

NAMES, TIMES = "abc", np.arange(3) / 25
FEATURES = {"grada": {"encoder": "grada"}, "mesh": {"encoder": "mesh"}, "wavlm": {"encoder": "wavlm"}}


@pytest.fixture
def plan(small_plan) -> Plan:
    made = small_plan(NAMES, on_error="skip", features=FEATURES)
    apply(made, "frames", lambda context: rows)
    return made


def done(plan: Plan, name: str) -> dict[str, dict[str, Entry]]:
    return {read: {id: Entry("done", f"{id}.h5", 3) for id in NAMES} for read in plan.reads(name)}


def made(plan: Plan, name: str, columns: tuple[str, ...] = (), **other: Any) -> dict[str, Entry]:
    """Apply a stage that writes sound rows but for `other`; None: without that dataset."""

    def work(job: Job) -> None:
        sound = {"start_s": TIMES, "end_s": TIMES + 0.04, "valid": np.ones(3, bool), **offered(job.header(25).stage)}
        given = {key: data for key, data in {**sound, **other}.items() if data is not None}
        job.write(job.header(25, columns=columns), **given)

    return apply(plan, name, lambda context: work, done(plan, name))


def cell(value: float, dtype: type = np.float32, shape: tuple[int, ...] = (3, 2)) -> np.ndarray:
    data = np.ones(shape, dtype)
    data[1, ..., -1] = value
    return data


FAULTS = {
    "nan": ("mesh", {"values": cell(np.nan)}, "values: want finite numbers in valid rows, got nan or inf in 1 of 3"),
    "inf": ("mesh", {"values": cell(-np.inf, np.float16)}, "values: want finite numbers in valid rows, got nan or inf in 1 of 3"),
    "other nan": ("grada", {"emotion": cell(np.nan)}, "emotion: want finite numbers in valid rows, got nan or inf in 1 of 3"),
    "no time": ("mesh", {"start_s": [0, np.nan, 1]}, "times: want start_s and end_s in seconds, got nan or inf in 1 of 3 rows"),
    "no end": ("mesh", {"end_s": [0, 1, np.inf]}, "times: want start_s and end_s in seconds, got nan or inf in 1 of 3 rows"),
    "backwards": (
        "mesh",
        {"end_s": TIMES - 1},
        "times: want start_s and end_s in seconds, got 3 of 3 valid rows that end before they begin",
    ),
    "reverse": (
        "mesh",
        {"start_s": TIMES[::-1], "end_s": TIMES[::-1] + 0.04},
        "start_s: want rows in the order in which they begin, got one before the row before it",
    ),
    "one axis": ("mesh", {"values": np.ones(3, np.float32)}, "values: want a vector a row, got the shape (3,)"),
    "of a stage": ("subject", {"values": np.ones(3, np.float32)}, "values: want rows of columns, got the shape (3,)"),
    "three axes": ("mesh", {"values": np.ones((3, 2, 2), np.float32)}, "values: want a vector a row, got the shape (3, 2, 2)"),
    "two axes": ("wavlm", {"values": np.ones((3, 2), np.float32)}, "values: want windows of vectors, got the shape (3, 2)"),
    "integers": ("mesh", {"values": np.ones((3, 2), np.int32)}, "values: want floating point numbers, which a model reads, got int32"),
    "text": ("mesh", {"values": np.array([["a"]] * 3)}, "values: want an array of numbers, got <U1"),
    "blobs": ("mesh", {"values": [b"a", b"b", b"c"]}, "values: want an array, or of ragged data bytes a row, got a list"),
    "a list": ("mesh", {"note": [[1.0], [2.0], [3.0]]}, "note: want an array, or of ragged data bytes a row, got a list"),
    "objects": ("mesh", {"note": np.array([None] * 3)}, "note: want an array of numbers, got object"),
    "two valids": ("mesh", {"valid": np.ones((3, 1), bool)}, "valid: want a number a row, got the shape (3, 1)"),
    "a row short": ("mesh", {"note": np.ones(2)}, "note: want as many rows as `valid`, 3, got 2"),
    "not offered": (
        "grada",
        {"va": None},
        "va: want what the stage `offers`, got values, start_s, end_s, valid, emotion alone",
    ),
    "no steps": ("wavlm", {"steps": None}, "steps: want how many vectors of each window are real, got no such dataset"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_rows_that_are_no_stream_are_the_codes_fault_and_no_videos(plan, case):
    name, other, said = FAULTS[case]
    with pytest.raises(PartError) as caught:
        made(plan, name, **other)
    code = plan.context(name).worker
    assert str(caught.value) == f"{name}: a: {said}; mend {code}, and raise the stage's revision"
    assert not plan.folder(name).exists() or not any(path.is_file() for path in plan.folder(name).rglob("*"))


def test_columns_are_as_many_as_values_have(plan):
    with pytest.raises(
        PartError, match=r"^mesh: a: values: want the 3 columns x, y, z, got 1 of them; mend affpipe\.encoders\.mesh\.worker"
    ):
        made(plan, "mesh", ("x", "y", "z"))


@pytest.mark.parametrize("count", [0, 2, 4])
def test_an_encoder_of_frames_has_a_row_for_each(plan, count):
    times = np.arange(count) / 25
    other = {"values": np.ones((count, 1), np.float32), "start_s": times, "end_s": times + 0.04, "valid": np.ones(count, bool)}
    with pytest.raises(PartError, match=f"^mesh: a: rows: want one for each of the 3 frames, as its `axis` is frames, got {count}; mend "):
        made(plan, "mesh", **other)
    rest = {"values": np.ones((count, 1, 1), np.float32), "steps": np.ones(count, np.int32)}
    assert made(plan, "wavlm", **other | rest)["a"].rows == count  # windows are as many as they are


def written(plan: Plan, name: str, *blocks: dict[str, Any]) -> Callable[[], dict[str, Entry]]:
    def work(job: Job) -> None:
        with job.writing(job.header(25)) as out:
            for block in blocks:
                out.append(**block)

    return lambda: apply(plan, name, lambda context: work, done(plan, name))


def block(at: float, dtype: type = np.float32, width: int = 2) -> dict[str, Any]:
    start_s = at + np.arange(1)
    return {"values": np.ones((1, width), dtype), "start_s": start_s, "end_s": start_s + 1, "valid": np.ones(1, bool)}


def test_a_block_follows_the_one_before(plan):
    for second, said in (
        (block(0), "start_s: want rows in the order in which they begin, got one before the row before it"),
        (block(2, np.float64), r"values: want rows as the first ones, float32 \(2,\), got float64 \(2,\)"),
        (block(2, width=3), r"values: want rows as the first ones, float32 \(2,\), got float32 \(3,\)"),
    ):
        with pytest.raises(PartError, match=f"^mesh: a: {said}; mend "):
            written(plan, "mesh", block(1), second)()


def test_no_block_at_all_is_no_stream(plan):
    with pytest.raises(PartError, match=r"^subject: a: rows: want some, or at least a block of none, got no `append` at all; mend "):
        written(plan, "subject")()


def test_times_may_come_as_numbers_of_any_type(plan):
    first, second = block(1), block(2, np.float32)
    first["start_s"], second["valid"] = [1], [1]
    name = plan.stream("subject", plan.items("subject")[0]).name
    assert written(plan, "subject", first, second)()["a"] == Entry("done", name, 2)


def test_what_is_not_valid_may_hold_anything(plan):
    valid = np.array([True, False, True])
    entries = made(plan, "mesh", values=cell(np.nan), end_s=[0.1, -9, 0.1], valid=valid)
    assert entries["a"] == Entry("done", plan.stream("mesh", plan.items("mesh")[0]).name, 3)


def test_rows_of_a_model_may_overlap(plan):
    made(plan, "face", start_s=[0, 0.08, 0.04], end_s=[0.1, 0.2, 0.3])


def test_no_video_is_marked_for_it(plan):
    record = JobRecord("apply_mesh")

    def work(job: Job) -> None:
        job.write(job.header(25), values=cell(np.nan), start_s=TIMES, end_s=TIMES + 1, valid=np.ones(3, bool))

    with pytest.raises(PartError):
        jobs.apply(plan, "mesh", plan.items("mesh"), done(plan, "mesh"), lambda context: work, lambda *_: None, record, threads=2)
    assert (record.failed, record.faults) == (0, {})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"values": cell(np.inf)}, "values: want finite ones of valid rows, got nan or inf in 1 of 3"),
        ({"note": np.array([1, np.nan, 1])}, "note: want finite ones of valid rows, got nan or inf in 1 of 3"),
        ({"start_s": [0, np.nan, 1]}, "times: want finite ones of valid rows, got nan or inf in 1 of 3 rows"),
        ({"end_s": TIMES - 1}, "times: want finite ones of valid rows, got 3 of 3 valid rows that end before they begin"),
    ],
)
def test_verify_finds_such_streams_of_before(plan, other, said):
    item = plan.items("mesh")[0]
    good, bad = plan.stream("mesh", plan.items("mesh")[1]), plan.stream("mesh", item)
    made(plan, "mesh")
    header = streams.Header("mesh", plan.key("mesh"), item.id, item.identity, plan.spec("mesh"), 1, {}, Fraction(25))
    sound = {"values": np.ones((3, 2), np.float32), "start_s": TIMES, "end_s": TIMES + 1, "valid": np.ones(3, bool)}
    streams.write(bad, header, **sound | other)
    ((path, fault),) = cache.verify(plan.cache)
    assert (path, fault) == (bad, f"deleted: {bad}: {said}; {streams.REPAIR}")
    assert good.exists()
