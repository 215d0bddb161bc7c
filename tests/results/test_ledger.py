"""The failure ledger: a row for each first cause, nothing left out, nothing twice."""

import pytest
from small_run import EVIL, Run

from affpipe.results import ledger
from affpipe.results.ledger import Failure
from affpipe.store.index import Entry
from affpipe.system.job_record import JobRecord

DAMAGED = "t+1.mp4: want a readable video, got text; copy it again"


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return Run(tmp_path)


def test_an_absent_modality_is_one_row_and_the_stream_is_predicted_without(run):
    assert ledger.of_run(run.plan, run.entries) == [Failure("p1", "audio", "absent", EVIL, "", "wavlm, voice", "yes")]


def test_a_damaged_video_is_one_row_however_many_stages_it_fails(run):
    for name in run.plan.names:
        if name != "labels":
            run.entries[name]["t+1"] = Entry("failed", reason=DAMAGED)
    (row,) = [f for f in ledger.of_run(run.plan, run.entries) if f.stream_id == "t+1"]
    assert (row.stage, row.status, row.predicted) == ("frames", "failed", "no")
    assert (row.reason, row.remedy) == ("t+1.mp4: want a readable video, got text", "copy it again")
    assert row.without.split(", ") == [name for name in run.plan.names if name not in ("frames", "labels")]


def test_a_fusion_that_misses_all_its_members_has_their_causes(run):
    for name, why in {"face": "no face", "voice": "no voice"}.items():
        run.entries[name]["v1"] = Entry("absent", reason=why)
    run.entries["fused"]["v1"] = Entry("absent", reason="no face; no voice")
    rows = [f for f in ledger.of_run(run.plan, run.entries) if f.stream_id == "v1"]
    assert [(f.stage, f.reason, f.without, f.predicted) for f in rows] == [
        ("face", "no face", "fused", "no"),
        ("voice", "no voice", "fused", "no"),
    ]


def test_lost_labels_are_a_row_of_a_stream_that_is_predicted(run):
    run.entries["labels"]["v1"] = Entry("failed", reason="v1.txt: line 5: want a number, got x; mend the line")
    (row,) = [f for f in ledger.of_run(run.plan, run.entries) if f.stream_id == "v1"]
    assert (row.stage, row.without, row.predicted) == ("labels", "", "yes")


def test_the_file_reads_back_as_it_was_written(run):
    failures = ledger.of_run(run.plan, run.entries)
    ledger.write(run.plan, failures)
    assert ledger.read(run.plan) == failures


def test_faults_of_jobs_that_stopped_are_found_in_their_records(run):
    (shard,) = [s for s in run.plan.shards if any(i.id == "t+1" for i in run.plan.items("frames", s))]
    record = JobRecord("apply_frames", shard, run.plan.key("frames"), state="failed", faults={"t+1": DAMAGED})
    record.write(run.plan.record("frames", shard))
    assert ledger.of_stopped(run.plan) == [Failure("t+1", "frames", "failed", *ledger.split(DAMAGED), "", "no")]
    record.state = "done"
    record.write(run.plan.record("frames", shard))
    assert ledger.of_stopped(run.plan) == []


def test_every_stream_is_predicted_or_in_the_ledger(run):
    ids = {row.stream_id for row in run.plan.rows}
    lost = Failure("v1", "face", "failed", "memory", "", "fused", "no")
    ledger.check_complete(run.plan, ids, [])
    ledger.check_complete(run.plan, ids - {"v1"}, [lost])
    with pytest.raises(RuntimeError, match=r"v1: .* in neither"):
        ledger.check_complete(run.plan, ids - {"v1"}, [])
    with pytest.raises(RuntimeError, match=r"v1: .* in both"):
        ledger.check_complete(run.plan, ids, [lost])
