"""The workflow through the profile for SLURM, on a node of its own: the values of a local run, limits as declared, faults said and mended.

There is no GPU behind the node's devices, so settings leave `device` at cpu, and rules are made to ask for one by --set-resources.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import cluster
from small_workspace import Workspace, rows

from affpipe.data.demo.clips import PAL, SQUARE, Clip
from affpipe.jobs import resources
from affpipe.jobs.start import plan_of
from affpipe.plan.plan import Plan

CLIPS = Clip("one", "train", 4, PAL, SQUARE), Clip("four", "validation", 4, PAL, SQUARE)  # with two shards, one each
RECIPE = """
name: small
shards: 1
features: {mesh: null, wavlm: null}
models: {face: null, behaviour: {training: {epochs: 2}}, voice: null, fused: null}
publish: behaviour
"""
GPU_RULES = "apply_qwen3vl:gpu=1", "fit_behaviour:gpu=0", "fit_behaviour:gres=gpu:1"  # the second as a site with --gres has it
PATIENCE_S = 600  # for one run; the machine may be busy


@pytest.fixture(scope="module", autouse=True)
def node() -> Iterator[str]:
    with cluster() as name:
        yield name


class OnSlurm(Workspace):
    """A copy of a workspace, whose workflow runs on the cluster."""

    def __init__(self, folder: Path):
        self.folder = folder

    def start(self, *options: str, rules: tuple[str, ...] = GPU_RULES) -> subprocess.Popen:
        """Start a run. First status check after 5 s in place of 40: jobs are short; squeue: there is no accounting."""
        profile = "--workflow-profile", "workflow/profiles/slurm", "--slurm-status-command", "squeue"
        quick = "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10", "--set-resources", *rules
        command = sys.executable, "-m", "snakemake", *profile, *quick, "--configfile", "config.yaml", "small.yaml", *options
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def snakemake(self, *options: str, fails: bool = False, rules: tuple[str, ...] = GPU_RULES) -> str:
        return end(self.start(*options, rules=rules), fails=fails)

    @property
    def plan(self) -> Plan:
        return plan_of([Path("config.yaml"), Path("small.yaml")])

    def records(self) -> dict[str, dict]:
        """What jobs say of themselves, rule -> record."""
        found = [json.loads(path.read_text()) for path in self.folder.glob("logs/small/*/*.json")]
        return {record["job"]: record for record in found}


def predictions(workspace: Workspace) -> dict[str, list[dict[str, str]]]:
    return {path.stem: rows(path) for path in workspace.folder.glob("results/small/predictions/*.csv")}


def end(run: subprocess.Popen, *, fails: bool = False) -> str:
    """What a run has said, at its end."""
    try:
        said, _ = run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
    assert (run.returncode != 0) is fails, said
    return said


def jobs() -> dict[str, list[dict[str, str]]]:
    """All jobs of the cluster in the order of their submission, rule -> what SLURM says of each."""
    found: dict[str, list[dict[str, str]]] = {}
    for line in subprocess.check_output(["scontrol", "--oneliner", "show", "job"], text=True).splitlines():
        told = dict(part.split("=", 1) for part in line.split() if "=" in part)
        rule = re.sub(r"^rule_|_wildcards_.*", "", told.get("Comment", ""))
        found.setdefault(rule, []).append(told)
    return {rule: sorted(told, key=lambda job: int(job["JobId"])) for rule, told in found.items()}


def wait_for(found: Callable[[], object], run: subprocess.Popen) -> object:
    """What `found()` gives once it gives something, while a run goes on; the run is stopped if that fails."""
    over = time.monotonic() + PATIENCE_S
    while not (it := found()):
        if run.poll() is not None or time.monotonic() > over:
            run.kill()
            pytest.fail(f"waited in vain; the run said: {run.communicate()[0]}")
        time.sleep(0.1)
    return it


def asked(job: dict[str, str]) -> tuple[int, int, int]:
    """GPUs, megabytes and minutes that a job was submitted with."""
    hours, minutes, seconds = (int(n) for n in job["TimeLimit"].split(":"))
    gpus = re.findall(r"gres:gpu:(\d+)", job.get("TresPerJob", job.get("TresPerNode", "")))
    assert seconds == 0
    return sum(map(int, gpus)), int(job["MinMemoryNode"].removesuffix("M")), 60 * hours + minutes


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Workspace, OnSlurm]:
    """The data set twice: for a run of this machine, and for one through SLURM."""
    here = Workspace(tmp_path_factory.mktemp("local"), CLIPS, RECIPE)
    return here, OnSlurm(Path(shutil.copytree(here.folder, here.folder.with_name("cluster"))))


@pytest.fixture(scope="module")
def run(folders) -> tuple[OnSlurm, str]:
    """The workspace after a run through SLURM, and what that said. The job of qwen3vl is cancelled while it works, once.

    The local run goes on beside it: a run through SLURM is mostly waiting.
    """
    here, there = folders
    going = there.start()
    with ThreadPoolExecutor() as pool:
        local = pool.submit(here.snakemake)
        record = wait_for(lambda: there.records().get("apply_qwen3vl"), going)
        subprocess.run(["scancel", record["slurm_job"]], check=True)
        said = end(going)
        local.result()
    return there, said


@pytest.fixture
def there(run, monkeypatch) -> OnSlurm:
    """The workspace, and this process in its folder."""
    monkeypatch.chdir(run[0].folder)
    return run[0]


def test_values_are_those_of_a_local_run(folders, there):
    expected = predictions(folders[0])
    assert set(expected) == {"one", "four"}
    assert predictions(there) == expected


def test_every_job_but_the_local_ones_went_to_the_node(there, node):
    plan, records = there.plan, there.records()
    assert set(records) == {f"apply_{name}" for name in plan.names} | {"fit_behaviour"}
    assert {record["host"] for record in records.values()} == {os.uname().nodename}
    for rule, record in records.items():
        last = jobs()[rule][-1]
        assert (record["slurm_job"], last["NodeList"], last["JobState"]) == (last["JobId"], node, "COMPLETED")
    assert "publish" not in jobs()


def test_a_job_sees_the_gpu_that_it_asked_for_and_no_other_job_sees_one(there):
    seen = {rule: record["gpu"] for rule, record in there.records().items() if record["gpu"] is not None}
    assert set(seen) == {"apply_qwen3vl", "fit_behaviour"}  # by gpu, by gres
    assert set(seen.values()) <= {"0", "1"}


def test_memory_minutes_and_gpus_are_asked_for_as_declared_and_more_with_each_try(there):
    plan, found = there.plan, jobs()
    needs = {f"apply_{name}": resources.of_apply(plan, name) for name in plan.names}
    needs["fit_behaviour"] = resources.of_fit(plan, "behaviour")
    assert set(found) == set(needs)
    gpus = {"apply_qwen3vl": 1, "fit_behaviour": 1}
    for rule, tries in found.items():
        wants = [needs[rule].again(attempt) for attempt in range(1, len(tries) + 1)]
        assert [asked(job) for job in tries] == [(gpus.get(rule, 0), need.mem_mb, need.minutes) for need in wants], rule
    assert {rule: len(tries) for rule, tries in found.items() if len(tries) > 1} == {"apply_qwen3vl": 2}
    assert asked(found["apply_qwen3vl"][1]) == (1, 36000, 1080)


def test_a_job_that_was_cancelled_is_said_to_be_and_tried_again(run):
    first, second = jobs()["apply_qwen3vl"]
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert f"SLURM-job '{first['JobId']}' failed, SLURM status is: 'CANCELLED'" in run[1]


def test_what_slurm_says_around_each_job_is_kept(there):
    for rule, tries in jobs().items():
        kept = {path.stem for path in there.folder.glob(f"logs/slurm/rule_{rule}/**/*.log")}
        assert kept == {job["JobId"] for job in tries}


def test_jobs_at_once_have_a_gpu_each(tmp_path):
    """Two jobs that wait for each other hold a device each; choosing one among them leaves what SLURM gave."""
    choose = "import os; from affpipe.system import device; device.choose(); print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
    both = f"touch {tmp_path}/$SLURM_JOB_ID; while [ $(ls {tmp_path} | wc -l) -lt 2 ]; do sleep 0.1; done"
    submit = (
        "sbatch",
        "--parsable",
        "--wait",
        "--mem=100",
        "--gpus=1",
        "--ntasks-per-gpu=1",
        "--wrap",
        f'{both}; {sys.executable} -c "{choose}"',
    )
    logs = tmp_path.with_name("logs of jobs at once")
    logs.mkdir()
    running = [subprocess.Popen([*submit[:-2], f"--output={logs}/%j", *submit[-2:]]) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    assert sorted(path.read_text() for path in logs.iterdir()) == ["0\n", "1\n"]


def test_a_shard_each_goes_as_an_array(there):
    """Streams do not hang on the number of shards: the jobs find them, and write indexes."""
    streams = {path: path.stat().st_mtime_ns for path in there.folder.glob("cache/frames/*/*.h5")}
    there.snakemake("--config", "shards=2", "--until", "apply_frames", "--slurm-array-jobs", "all")
    last = jobs()["apply_frames"][-2:]
    assert {job["ArrayTaskId"] for job in last} == {"1", "2"}
    assert len({job["ArrayJobId"] for job in last}) == 1
    assert len(list(there.folder.glob("cache/frames/*/shards/fit00?-*.json"))) == 3
    assert streams == {path: path.stat().st_mtime_ns for path in streams}


def test_after_a_cancelled_job_and_one_past_its_time_the_next_run_finishes_with_the_same_values(there):
    """Without retries each of the faults ends a run. The second job is held still, so that its minute runs out."""
    before = predictions(there)
    for name in ("qwen3vl", "behaviour"):
        shutil.rmtree(there.folder / "cache" / name)
    for rule in ("apply_qwen3vl", "fit_behaviour"):
        (record,) = (there.folder / "logs/small" / rule).glob("*.json")
        record.unlink()
    no_more = "--retries", "0"
    going = there.start(*no_more)
    cancelled = wait_for(lambda: there.records().get("apply_qwen3vl"), going)["slurm_job"]
    subprocess.run(["scancel", cancelled], check=True)
    assert f"SLURM-job '{cancelled}' failed, SLURM status is: 'CANCELLED'" in end(going, fails=True)
    going = there.start(*no_more, rules=(*GPU_RULES, "fit_behaviour:runtime=1"))
    os.kill(wait_for(lambda: there.records().get("fit_behaviour"), going)["pid"], signal.SIGSTOP)
    said = end(going, fails=True)
    late = jobs()["fit_behaviour"][-1]
    assert late["JobState"] == "TIMEOUT"
    assert f"SLURM-job '{late['JobId']}' failed, SLURM status is: 'TIMEOUT'" in said
    there.snakemake()
    assert predictions(there) == before
    assert list(there.folder.glob("cache/qwen3vl/*/one.*"))


def test_a_gpu_that_is_not_there_stops_a_job_at_its_start_with_its_reason(there):
    """Nothing falls back to the CPU. The reason, and the files that say more, are on the terminal of the run."""
    before = len(jobs()["apply_qwen3vl"])
    options = "--config", "device=cuda", "--forcerun", "apply_qwen3vl", "--until", "apply_qwen3vl", "--retries", "0"
    options += ("--set-threads", "apply_qwen3vl=1")  # it asks for four cores otherwise, which the node may not have
    said = there.snakemake(*options, rules=("apply_frames:gpu=0",), fails=True)
    tries = jobs()["apply_qwen3vl"][before:]
    assert [asked(job) for job in tries] == [(1, 24000, 720)]
    assert "affpipe: device: want a CUDA device as set, got none on this node; run on a GPU node or set device: cpu" in said
    (log,) = Path("logs/small/apply_qwen3vl").glob("*.log")
    assert f"log: {log} (check log file(s) for error details)" in said
    assert all(f"logs/slurm/rule_apply_qwen3vl/{log.stem.replace('-', '_')}/{job['JobId']}.log" in said for job in tries)
    record = there.records()["apply_qwen3vl"]
    assert (record["state"], record["done"], record["gpu"]) == ("failed", 0, "0")
