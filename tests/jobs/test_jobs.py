"""Apply jobs with a stage made for the purpose: what is skipped, loaded, passed on, lost."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from one_stage import Stage, apply, rows

from affpipe.core.errors import AbsentError, MediaError, PartError, StoreError
from affpipe.core.item import Item
from affpipe.core.stage import Context, UndeclaredError
from affpipe.data.manifest import Row
from affpipe.jobs import apply as jobs
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan
from affpipe.store import streams
from affpipe.store.index import Entry
from affpipe.store.item_streams import Job, Worker, blank
from affpipe.system.job_record import JobRecord

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
NAMES = ("a", "b", "c")


@pytest.fixture
def plan(small_plan) -> Plan:
    return small_plan(NAMES)


def everywhere(plan: Plan, name: str, **other: Entry) -> dict[str, dict[str, Entry]]:
    """Entries of all that `name` reads: done, but for `other` (item -> entry) of its last read stage."""
    done = {n: Entry("done", f"{n}.h5", 3) for n in NAMES}
    found = {read: dict(done) for read in plan.reads(name)}
    found[plan.reads(name)[-1]] |= other
    return found


# ---- made, skipped, made anew -----------------------------------------------------------------------------------------------------------


def test_each_item_is_made_with_the_stage_loaded_once(plan):
    stage = Stage()
    made = apply(plan, "frames", stage)
    assert (stage.loaded, stage.seen) == (1, ["a", "b", "c"])
    for item in plan.items("frames"):
        path = plan.stream("frames", item)
        assert made[item.id] == Entry("done", path.name, 3)
        assert path.exists()


def test_what_is_there_is_not_made_again_and_nothing_is_loaded_for_it(plan):
    first = apply(plan, "frames", Stage())
    again = Stage()
    assert apply(plan, "frames", again) == first
    assert (again.loaded, again.seen) == (0, [])


def test_only_what_is_missing_is_made(plan):
    apply(plan, "frames", Stage())
    plan.stream("frames", plan.items("frames")[1]).unlink()
    again = Stage()
    apply(plan, "frames", again)
    assert again.seen == ["b"]


def test_a_damaged_stream_is_said_and_made_anew(plan, caplog):
    first = apply(plan, "frames", Stage())
    path = plan.stream("frames", plan.items("frames")[2])
    path.write_bytes(path.read_bytes()[:1000])
    again = Stage()
    assert apply(plan, "frames", again) == first
    assert again.seen == ["c"]
    assert f"{path}: want" in caplog.text
    assert "made anew" in caplog.text


def test_a_stream_of_another_identity_is_made_anew(plan):
    """The name holds half of the identity, the file all of it."""
    apply(plan, "frames", Stage())
    a, b = plan.items("frames")[:2]
    plan.stream("frames", a).write_bytes(plan.stream("frames", b).read_bytes())
    again = Stage()
    apply(plan, "frames", again)
    assert again.seen == ["a"]


def test_progress_counts_up_to_all(plan):
    seen = []
    jobs.apply(plan, "frames", plan.items("frames"), {}, Stage(), lambda *said: seen.append(said))
    assert seen == [("frames", i, 3) for i in range(4)]


def test_no_items_are_no_work(plan):
    stage = Stage()
    assert jobs.apply(plan, "frames", [], {}, stage, lambda *_: None) == {}
    assert stage.loaded == 0


# ---- faults -----------------------------------------------------------------------------------------------------------------------------


def test_a_fault_of_one_item_loses_no_other(plan, caplog):
    stage = Stage(a=AbsentError("a.mp4: no sound"), b=MediaError("b.mp4: damaged"))
    made = apply(plan, "frames", stage)
    assert stage.seen == ["a", "b", "c"]
    assert made["a"] == Entry("absent", reason="a.mp4: no sound")
    assert made["b"] == Entry("failed", reason="b.mp4: damaged")
    assert made["c"].status == "done"
    assert "frames: b: failed: b.mp4: damaged" in caplog.text


def test_the_log_counts_what_was_made(plan, caplog):
    caplog.set_level("INFO", logger="affpipe")
    apply(plan, "frames", Stage(a=AbsentError("a.mp4: no sound")))
    assert "frames: 2 made, 0 there already, 1 not to be had, 0 failed" in caplog.text
    caplog.clear()
    apply(plan, "frames", Stage(a=AbsentError("a.mp4: no sound")))
    assert "frames: 0 made, 2 there already, 1 not to be had, 0 failed" in caplog.text


def test_a_fault_of_the_machine_stops_the_job_but_not_what_was_made_before(plan):
    with pytest.raises(MemoryError):
        apply(plan, "frames", Stage(b=MemoryError()))
    again = Stage()
    apply(plan, "frames", again)
    assert again.seen == ["b", "c"]


def test_a_stage_that_does_not_load_stops_the_job(plan):
    def stage(context: Context) -> Worker:
        raise MediaError("no weights")

    with pytest.raises(MediaError, match="no weights"):
        apply(plan, "frames", stage)


def test_a_stage_that_writes_nothing_stops_the_job(plan):
    said = "frames: a: want a stream, got none as the worker returned; write it in affpipe.faces.workers:frames, or raise AbsentError"
    with pytest.raises(PartError) as caught:
        apply(plan, "frames", lambda context: lambda job: None)
    assert str(caught.value) == said


def test_a_damaged_input_stops_the_job_and_is_no_fault_of_the_item(plan):
    def work(job: Job) -> None:
        raise StoreError("x.h5: want a whole stream, got half", damaged=job.path)

    with pytest.raises(StoreError, match="got half"):
        apply(plan, "frames", lambda context: work)


@pytest.mark.parametrize("names", ["a", "ab", "abc", "abcdef"])
@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda job: job.open("faces"), "opens the stream of faces, which it does not declare; declare it in its `reads` or `opens`"),
        (lambda job: job.has("faces"), "opens the stream of faces, which it does not declare; declare it in its `reads` or `opens`"),
        (lambda job: job.context.see("faces"), "sees the settings of faces, which it does not declare; declare it in its `sees`"),
    ],
)
def test_what_a_stage_does_not_declare_is_its_codes_fault_and_no_videos(small_plan, names, ask, what):
    record = JobRecord("apply_audio")
    plan = small_plan(names, on_error="skip")
    frames = {"frames": {name: Entry("done", f"{name}.h5", 3) for name in names}}
    with pytest.raises(PartError) as caught:
        jobs.apply(plan, "audio", plan.items("audio"), frames, lambda context: ask, lambda *_: None, record, threads=min(2, len(names)))
    assert str(caught.value) == f"audio: {what}"
    assert (record.failed, record.done, record.faults) == (0, 0, {})


def test_what_a_stage_does_not_declare_as_it_loads_is_its_codes_fault_too(plan):
    with pytest.raises(PartError, match=r"frames: sees the settings of mouth, which it does not declare; declare it in its "):
        apply(plan, "frames", lambda context: context.see("mouth"))


def test_a_video_replaced_while_it_is_read_gives_nothing_to_the_name_of_the_old_one(plan):
    def work(job: Job) -> None:
        if job.item.id == "b":
            job.video.write_bytes(b"another")
        rows(job)

    made = apply(plan, "frames", lambda context: work)
    assert [entry.status for entry in made.values()] == ["done", "failed", "done"]
    assert "want the files that were there when the run was planned, got others; run again" in made["b"].reason
    assert not plan.stream("frames", plan.items("frames")[1]).exists()


def test_a_worker_that_fails_halfway_leaves_no_file(plan):
    def work(job: Job) -> None:
        with job.writing(job.header(25)) as out:
            out.append(values=np.ones((1, 1)), start_s=[0.0], end_s=[1.0], valid=[True])
            raise MediaError(f"{job.video.name}: damaged at the end")

    made = apply(plan, "frames", lambda context: work)
    assert made["a"] == Entry("failed", reason="a.mp4: damaged at the end")
    assert [path for path in plan.folder("frames").rglob("*") if path.is_file()] == []


# ---- what an item inherits --------------------------------------------------------------------------------------------------------------


def test_an_item_whose_input_is_missing_takes_over_the_reason(plan):
    stage = Stage()
    entries = everywhere(plan, "wavlm", a=Entry("absent", reason="a.mp4: no sound"), b=Entry("failed", reason="b.mp4: damaged"))
    made = apply(plan, "wavlm", stage, entries)
    assert stage.seen == ["c"]
    assert made["a"] == Entry("absent", reason="a.mp4: no sound")
    assert made["b"] == Entry("failed", reason="b.mp4: damaged")


def test_nothing_is_loaded_where_no_item_has_its_input(plan):
    stage = Stage()
    apply(plan, "wavlm", stage, everywhere(plan, "wavlm", **{n: Entry("absent", reason="no sound") for n in NAMES}))
    assert stage.loaded == 0


def test_a_stream_takes_over_the_reason_of_its_video(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"v")
    both = [Row(f"v_{side}", tmp_path / "v.mp4", side, "predict") for side in ("left", "right")]
    plan = Plan(parse(overlay(DEFAULT, {"cache": str(tmp_path / "cache")})), both)
    failed = {"v": Entry("failed", reason="v.mp4: damaged")}
    stage = Stage()
    made = apply(plan, "subject", stage, {"frames": failed, "faces": failed})
    assert made == {f"v_{side}": failed["v"] for side in ("left", "right")}
    assert stage.loaded == 0


def fused(plan: Plan, item: Item, **states: str) -> Entry | None:
    entries = {read: {n: Entry("done") for n in NAMES} for read in plan.reads("fused")}
    for read, status in states.items():
        entries[read][item.id] = Entry(status, reason=f"{read} of {item.id}: {status}")
    return jobs.inherited(plan, "fused", item, entries)


def test_a_fusion_does_without_absent_models_as_long_as_one_is_there(plan):
    item = plan.items("fused")[0]
    assert fused(plan, item) is None
    assert fused(plan, item, voice="absent") is None
    assert fused(plan, item, voice="absent", face="absent") is None
    none = fused(plan, item, voice="absent", face="absent", behaviour="absent")
    assert none.status == "absent"
    assert none.reason == "face of a: absent; behaviour of a: absent; voice of a: absent"


def test_a_fusion_does_not_hide_a_failed_model(plan):
    item = plan.items("fused")[0]
    assert fused(plan, item, voice="failed") == Entry("failed", reason="voice of a: failed")
    assert fused(plan, item, face="absent", voice="failed").status == "failed"


def test_a_fusion_needs_the_frames(plan):
    item = plan.items("fused")[0]
    assert fused(plan, item, frames="absent") == Entry("absent", reason="frames of a: absent")


# ---- job and context --------------------------------------------------------------------------------------------------------------------


def test_a_context_knows_the_settings_of_its_stage(plan):
    s = plan.settings
    assert plan.context("audio").settings is s.audio
    assert plan.context("wavlm").settings is s.features["wavlm"]
    assert plan.context("fused").settings is s.models["fused"]


def test_a_job_opens_only_what_its_key_and_identity_name(plan):
    apply(plan, "frames", Stage())
    a, b = plan.items("frames")[:2]
    job = plan.job("audio", a)
    assert job.has("frames")
    with pytest.raises(UndeclaredError, match="audio: opens the stream of faces, which it does not declare"):
        job.has("faces")
    assert len(job.axis()) == 3
    assert job.axis().fps == 25
    plan.stream("frames", a).write_bytes(plan.stream("frames", b).read_bytes())
    with pytest.raises(StoreError, match=f"want identity {a.identity}, got {b.identity}"):
        job.open("frames")


def test_random_weights_are_carried_to_whatever_reads_them(plan):
    item = plan.items("frames")[0]
    for name, random in (("frames", ()), ("faces", ("tiny-b", "tiny-a"))):
        rows(plan.job(name, item), random)
    above = plan.job("subject", plan.item("subject", item))
    above.axis()
    assert above.random == ()
    with above.open("faces"):
        assert above.random == ("tiny-a", "tiny-b")
    rows(above, ("tiny-c",))
    said = streams.attributes(above.path)
    assert said["random"] == ["tiny-a", "tiny-b", "tiny-c"]
    assert said["inputs"] == {"frames": plan.key("frames"), "faces": plan.key("faces")}
    assert (said["stage"], said["key"], said["id"]) == ("subject", plan.key("subject"), "a")


def test_blank_rows_are_zeros():
    assert blank(2, (3, 4)).shape == (2, 3, 4)
    assert blank(2, (3,)).dtype == np.float32
    assert not blank(2, (3,)).any()
