"""How a run stands: counts add up to the plan, killed jobs are seen, time left follows from what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_run import Run
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.data import manifest
from affpipe.jobs import status
from affpipe.jobs.status import Stage, Status
from affpipe.results import ledger
from affpipe.store.index import Entry
from affpipe.system import disk
from affpipe.system.job_record import JobRecord

HEAVY = ("torch", "transformers", "mediapipe", "cv2", "av", "lightning", "scipy", "matplotlib")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made(tmp_path, monkeypatch) -> Run:
    """A finished run whose results are published, in the working directory."""
    monkeypatch.chdir(tmp_path)
    run = Run(tmp_path, streams={"v1": "train", "v2": "validation", "p1": "predict"}, shards=1)
    for item in run.plan.items("audio"):
        if run.entries["audio"][item.id].status == "done":
            path = run.plan.stream("audio", item)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"sound")
    run.index()
    disk.write_text(Path(run.plan.published()), "{}")
    return run


def stage(found: Status, name: str) -> Stage:
    return next(s for s in found.stages if s.name == name)


def drop(run: Run, name: str, *, index: bool = True, streams: tuple[str, ...] = ()) -> None:
    """Take indexes of a stage away, or streams."""
    for path in run.plan.indexes(name) if index else ():
        Path(path).unlink()
    for item in run.plan.items(name):
        if item.id in streams:
            run.plan.stream(name, item).unlink()


def record(run: Run, name: str, **fields) -> Path:
    """A record of the job of a stage over the training and validation streams."""
    path = run.plan.record(name, "fit000")
    JobRecord(f"apply_{name}", "fit000", run.plan.key(name), **fields).write(path)
    return path


def gone() -> int:
    """Number of a process that is not there any more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def check_sums(run: Run, found: Status) -> None:
    """Parts of every stage add up to the items of the plan."""
    assert [s.name for s in found.stages if s.unit == "streams"] == run.plan.names
    for s in found.stages:
        want = len(run.plan.items(s.name)) if s.unit == "streams" else len(run.plan.fits(s.name.removeprefix("fit ")))
        assert s.total == want == s.done + s.absent + s.failed + s.missing
        assert min(s.done, s.absent, s.failed, s.missing) >= 0


def test_a_finished_run_is_finished(made):
    found = status.of(made.plan)
    check_sums(made, found)
    assert (found.percent, found.left_s, found.unknown, found.faulty, found.exit_status) == (100, 0, [], set(), 0)
    assert [s.name for s in found.stages][-6:] == ["fit face", "face", "fit voice", "voice", "fit fused", "fused"]
    assert (stage(found, "audio").done, stage(found, "audio").absent) == (2, 1)  # p1 has no sound


def test_all_streams_without_results_are_not_a_finished_run(made):
    Path(made.plan.published()).unlink()
    assert (status.of(made.plan).percent, status.of(made.plan).exit_status) == (100, 1)


@pytest.mark.parametrize("streams", [(), ("v1",), ("v1", "v2", "p1")])
def test_streams_of_a_shard_without_an_index_count_as_the_store_has_them(made, streams):
    drop(made, "mesh", streams=streams)
    found = status.of(made.plan)
    check_sums(made, found)
    assert (stage(found, "mesh").done, stage(found, "mesh").missing) == (3 - len(streams), len(streams))
    assert (stage(found, "mesh").open, found.exit_status) == (2, 1)  # Snakemake makes the indexes, at least


def test_a_stream_that_an_index_names_and_nobody_finds_is_missing(made):
    drop(made, "mesh", index=False, streams=("v1",))
    assert stage(status.of(made.plan), "mesh").missing == 1


def test_time_left_is_what_is_missing_times_what_one_took(made):
    drop(made, "mesh", streams=("v1", "p1"))
    record(made, "mesh", state="running", total=2, done=1, made=1, working_s=7.0)
    found = stage(status.of(made.plan), "mesh")
    assert (found.running, found.seconds_each, found.left_s) == (1, 7.0, 14.0)
    assert found.stopped == {}


def test_time_left_is_shared_by_the_jobs_that_run():
    found = Stage("mesh", "streams", 10, done=4, running=3)
    status._time(found, 5.0)
    assert found.left_s == 10.0
    status._time(found, None)
    assert found.left_s == 10.0  # as it was: nothing was measured since


def test_nothing_measured_is_unknown_and_not_zero(made):
    drop(made, "mesh", streams=("v1",))
    found = status.of(made.plan)
    assert stage(found, "mesh").left_s is None
    assert found.unknown == ["mesh"]
    assert found.plain()["stages"][found.stages.index(stage(found, "mesh"))]["left_s"] is None


def test_a_job_that_was_killed_is_shown_as_killed(made):
    drop(made, "mesh", streams=("v1", "v2"))
    path = record(made, "mesh", state="running", total=2, done=1, pid=gone(), host=JobRecord("x").host)
    found = stage(status.of(made.plan), "mesh")
    (text,) = found.stopped.values()
    assert text == f"killed: gone without a word from {JobRecord('x').host}, after 1 of 2 streams"
    assert list(found.stopped) == [str(path.with_suffix(".log"))]
    assert found.running == 0


def test_a_job_that_failed_says_why_and_its_faults_are_counted(made):
    drop(made, "mesh", streams=("v1",))
    faults = {"v1": ("mesh", "mesh: want x, got y; do z")}
    record(made, "mesh", state="failed", total=2, done=2, failed=1, faults=faults, reason="mesh: want x")
    found = status.of(made.plan)
    check_sums(made, found)
    assert (stage(found, "mesh").failed, stage(found, "mesh").missing) == (1, 0)
    assert list(stage(found, "mesh").stopped.values()) == ["failed: mesh: want x"]
    assert found.exit_status == 1


def test_a_record_of_another_key_is_of_another_run(made):
    drop(made, "mesh", streams=("v1",))
    path = record(made, "mesh", state="failed", faults={"v1": ("mesh", "no")}, reason="no", working_s=3, made=1)
    path.write_text(path.read_text().replace(made.plan.key("mesh"), "0" * 12))
    found = stage(status.of(made.plan), "mesh")
    assert (found.failed, found.stopped, found.seconds_each) == (0, {}, None)


def test_an_index_that_was_dropped_leaves_nothing_of_a_finished_job(made):
    drop(made, "mesh", streams=("v1",))
    record(made, "mesh", state="done", total=2, done=2, absent=1, faults={"v2": ("mesh", "no")})
    found = stage(status.of(made.plan), "mesh")
    assert (found.done, found.absent, found.failed, found.missing) == (2, 0, 0, 1)


def test_skipped_faults_are_an_exit_status_of_their_own(made):
    made.entries["mesh"]["v1"] = Entry("failed", reason="mesh: want x, got y; do z")
    made.index()
    found = status.of(made.plan)
    check_sums(made, found)
    assert (found.faulty, found.exit_status, found.failures) == ({"v1"}, 3, None)
    disk.write_text(ledger.path(made.plan), "stream_id\n")
    assert status.of(made.plan).failures == str(ledger.path(made.plan))


def test_a_stream_that_many_stages_lack_is_one_at_fault(made, monkeypatch, tmp_path):
    """As the ledger has it: what passes a fault on has none of its own."""
    for name in ("subject", "landmarks", "mesh", "face"):
        for id in ("v1", "p1"):
            made.entries[name][id] = Entry("failed", reason="subject: want x, got y; do z")
    made.index()
    found = status.of(made.plan)
    check_sums(made, found)
    assert sum(s.failed for s in found.stages) == 8
    assert found.faulty == {failure.stream_id for failure in ledger.of_run(made.plan, made.entries)} - {"v2"} == {"v1", "p1"}
    assert found.plain()["streams_at_fault"] == 2


def test_a_fit_that_runs_tells_its_epochs(made):
    Path(made.plan.fitted("fused")).unlink()
    path = made.plan.record_of_fit("fused")
    running = JobRecord("fit_fused", key=made.plan.key("fused"), unit="epochs", total=20, done=5)
    running.started -= 100
    running.write(path)
    found = stage(status.of(made.plan), "fit fused")
    assert (found.running, found.epochs, found.done, found.missing) == (1, (5, 20), 0, 1)
    assert found.left_s == pytest.approx(300, abs=3)  # fifteen more at 20 s


def test_the_command_says_the_same_as_a_table_and_as_json(made, tmp_path, monkeypatch):
    rows = "".join(f"{r.stream_id},{r.video.name},{r.partition},{r.labels['va'].name if r.labels else ''}\n" for r in made.plan.rows)
    (tmp_path / "m.csv").write_text(f"stream_id,video,partition,va\n{rows}")
    settings = made.plan.settings.model_dump(mode="json") | {"manifest": "m.csv"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert manifest.read(tmp_path / "m.csv", Path())
    out = CliRunner().invoke(main.app, ["status"], catch_exceptions=False)
    assert out.exit_code == 0
    assert out.output.splitlines()[-1] == "small: 100 % of streams and fits, nothing left"
    drop(made, "mesh", streams=("v1", "v2"))
    record(made, "mesh", state="running", total=2, pid=gone(), made=1, working_s=60)
    out = CliRunner().invoke(main.app, ["status"], catch_exceptions=False)
    assert out.exit_code == 1
    assert "killed: gone without a word" in out.output
    assert "2 min left" in out.output.splitlines()[-1]
    plain = CliRunner().invoke(main.app, ["status", "--json"], catch_exceptions=False)
    assert plain.exit_code == 1
    found = json.loads(plain.output)
    assert (found["run"], found["left_s"], found["published"]) == ("small", 120.0, False)
    assert {s["name"]: s["missing"] for s in found["stages"]}["mesh"] == 2


def test_asking_loads_nothing_heavy():
    code = f"import sys, affpipe.jobs.status, affpipe.cli.check; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
