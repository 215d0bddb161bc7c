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

from affpipe import config, run
from affpipe.plan import Plan
from benchmarks.speed import inputs
from benchmarks.speed.arms import MB, Cost, DisagreeError, Row

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
FEATURES = {
    "mesh": {"encoder": "mesh"},
    "grada": {"encoder": "grada", "weights": "grada-tiny", "side": 64},
    "qwen3vl": {"encoder": "qwen3vl", "weights": "qwen3vl-tiny", "max_pixels": 9216},
    "wavlm": {"encoder": "wavlm", "weights": "wavlm-tiny"},
    "logmel": {"encoder": "logmel"},
}
SETTINGS = {
    "shards": 1,
    "vad": {"model": "silero"},
    "features": FEATURES,
    "models": {"voice": {"kind": "chunk_asp", "reads": "wavlm"}},
    "publish": "voice",
}


def rows(*, quick: bool) -> list[Row]:
    """A row a stage."""
    arms = {"2 s": 2, "4 s": 4} if quick else {"1 minute": 60, "10 minutes": 600}
    short, long = arms
    out = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        subprocess.run([sys.executable, "-m", "affpipe", "weights", "tiny", str(weights)], check=True, stdout=subprocess.DEVNULL)
        plans = {arm: _workspace(Path(folder) / str(seconds), seconds, weights) for arm, seconds in arms.items()}
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


def _workspace(folder: Path, seconds: int, weights: Path) -> Plan:
    """A folder with manifest and settings of a film and of the shortest one."""
    folder.mkdir()
    films = {"train": inputs.film(seconds, inputs.SMALL, fps=FPS), "validation": inputs.film(1, inputs.SMALL, fps=FPS)}
    lines = [f"{partition},{film.resolve()},{partition},labels.txt" for partition, film in films.items()]
    (folder / "data_manifest.csv").write_text("\n".join(["stream_id,video,partition,va", *lines]) + "\n")
    (folder / "labels.txt").write_text("valence,arousal\n0,0\n")
    places = {name: str(folder / name) for name in ("cache", "results")}
    settings = config.parse(
        SETTINGS | places | {"manifest": str(folder / "data_manifest.csv"), "data_root": str(folder), "weights": str(weights)}
    )
    (folder / "settings.json").write_text(settings.model_dump_json())
    return run.plan_from(settings)


def _apply(plan: Plan, stage: str) -> tuple[Cost, int]:
    """What the process of a stage cost, and how many rows it made."""
    folder, (index,) = Path(plan.settings.manifest).parent, plan.indexes(stage)
    command = [sys.executable, "-c", TELL, "job", "apply", "--settings", str(folder / "settings.json"), "--index", index]
    begun = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": os.getcwd()}, capture_output=True, text=True)
    wall_ms, used = 1000 * (time.monotonic() - begun), resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise DisagreeError(f"{stage}: {done.stderr}")
    count = sum(entry["rows"] for entry in json.loads(Path(index).read_text()).values())
    cpu_ms = 1000 * (used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime)
    return Cost(cpu_ms, wall_ms, int(done.stdout.split()[-1]) * 1024 / MB), count
