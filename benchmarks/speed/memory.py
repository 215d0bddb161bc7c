"""The most memory that a stage takes for ten minutes of video, beside one minute.

Every stage runs as the workflow runs it, `affpipe job apply`, in a process of its own that does one video (and a second of another, for
settings want something to validate with): the peak is of the whole process, with the interpreter, its libraries and the network. Networks
are tiny, so that they do not hide what grows. The milliseconds are of the process too, its start included.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from affpipe.plan.plan import Plan
from affpipe.results import runs
from benchmarks.speed import inputs
from benchmarks.speed.arms import MB, Cost, DisagreeError, Row
from benchmarks.speed.workspace import tiny_weights, workspace

STAGES = ("frames", "audio", "vad", "faces", "subject", "landmarks", "mouth", "speech", "mesh", "grada", "qwen3vl", "wavlm", "logmel")
QUICK = ("frames", "audio")
FPS = 10  # so that the long film takes no longer than a minute or two
# A process that tells its own peak at its end: the one that the system keeps of a child begins with what its parent held.
TELL = """
import atexit, re, runpy
from pathlib import Path
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
runpy.run_module("affpipe", run_name="__main__")
"""


def rows(*, quick: bool) -> list[Row]:
    """A row a stage."""
    arms = {"2 s": 2, "4 s": 4} if quick else {"1 minute": 60, "10 minutes": 600}
    short, long = arms
    out = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        tiny_weights(weights)
        plans = {
            arm: workspace(Path(folder) / str(seconds), inputs.film(seconds, inputs.SMALL, fps=FPS), weights)
            for arm, seconds in arms.items()
        }
        for stage in QUICK if quick else STAGES:
            costs, counts = {}, {}
            for arm, plan in plans.items():
                costs[arm], counts[arm] = _apply(plan, stage)
            if counts[long] <= counts[short]:
                raise DisagreeError(f"{stage}: want more rows of the longer film, got {counts}")
            figure = costs[long].peak_mb / costs[short].peak_mb
            done = ", ".join(f"{count} rows of {arm}" for arm, count in counts.items())
            out.append(Row(f"memory of {stage}", "process", costs, f"{long} : {short}", figure, 1.1, done, at_most=True))
    return out


def _apply(plan: Plan, stage: str) -> tuple[Cost, int]:
    """What the process of a stage cost, and how many rows it made."""
    folder, (index,) = Path(plan.settings.manifest).parent, plan.indexes(stage)
    command = [sys.executable, "-c", TELL, "job", "apply", "--settings", str(runs.frozen_path(plan.settings)), "--index", index]
    begun = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": os.getcwd()}, capture_output=True, text=True)
    wall_ms, used = 1000 * (time.monotonic() - begun), resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise DisagreeError(f"{stage}: {done.stderr}")
    count = sum(entry["rows"] for entry in json.loads(Path(index).read_text()).values())
    cpu_ms = 1000 * (used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime)
    return Cost(cpu_ms, wall_ms, int(done.stdout.split()[-1]) * 1024 / MB), count
