"""How long a job takes before it works, and one that has nothing to do: `python -m benchmarks.start [stages]`.

A film of two seconds and another to validate with are rendered into a temporary folder, tiny weights made there, and every stage of it
applied, a model fitted and its run published, one job after another as the workflow starts them. Before each of them the same job is
started several times, a fresh process each time, and ended where its first item begins (of a fit: the first step; of publishing: the first
model); after it once more from end to end, where it finds all its streams made. Prints rows of the table in README.md: medians, by the
clock and of CPU time with that of the processes that the job has started.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from statistics import median
from typing import NamedTuple

from affpipe.jobs import start
from affpipe.plan import config
from affpipe.plan.plan import Plan
from benchmarks.speed import inputs
from benchmarks.speed.workspace import FEATURES, tiny_weights

REPEAT = 5
GOAL_S, MADE_GOAL_S = 2.0, 0.35
FPS, SECONDS = 10, 2
ONCE = {"epochs": 1}
SETTINGS = {
    "shards": 1,
    "vad": {"model": "silero"},
    "speech": {"min_open_ratio": 0.0, "min_coverage": 0.0, "min_voice_ratio": 0.0},
    "features": FEATURES,
    "models": {
        "voice": {"kind": "chunk_asp", "reads": "wavlm", "speech_only": "training", "training": ONCE},
        "spectrum": {"kind": "chunk_asp", "reads": "logmel", "training": ONCE},
        **{f"of_{name}": {"kind": "mamba", "reads": name, "training": ONCE} for name in ("mesh", "grada", "qwen3vl")},
    },
    "publish": "voice",
}
MEASURED = ("frames", "frames made", "audio", "vad", "faces", "faces made", "subject", "landmarks", "mouth", "speech", *FEATURES, "labels")
MEASURED += ("fit of voice", "voice", "voice made", "publish")
FIRST = {  # command -> module and name of what begins with the first item
    "apply": ("affpipe.jobs.apply", "_make"),
    "fit": ("affpipe.models.fit", "Fit.training_step"),
    "publish": ("affpipe.results.publish", "_write_model"),
}
# A job that ends with the moment at which its first item begins, and the CPU seconds until then, as its last line.
UNTIL = """
import importlib, operator, os, resource, sys, time
module, name = sys.argv.pop(1), sys.argv.pop(1)
def begin(*_, **__):
    now = time.monotonic()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(now, sum(u.ru_utime + u.ru_stime for u in used), flush=True)
    os._exit(0)
holder, _, own = name.rpartition(".")
found = importlib.import_module(module)
setattr(operator.attrgetter(holder)(found) if holder else found, own, begin)
from affpipe.cli.main import main
main()
"""


class Cost(NamedTuple):
    """Seconds by the clock and of CPU."""

    wall_s: float
    cpu_s: float


class Work(NamedTuple):
    """A job of the workflow: what it is called here, and its command."""

    name: str
    command: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.command[1]


def workspace(folder: Path) -> tuple[Plan, Path]:
    """A plan of two small films with labels for all their frames, and its frozen settings, in a folder with tiny weights of its own."""
    tiny_weights(folder / "weights")
    films = {"train": inputs.film(SECONDS, inputs.SMALL, fps=FPS), "validation": inputs.film(SECONDS + 1, inputs.SMALL, fps=FPS)}
    lines = [f"{partition},{film.resolve()},{partition},labels.txt" for partition, film in films.items()]
    (folder / "data_manifest.csv").write_text("\n".join(["stream_id,video,partition,va", *lines]) + "\n")
    rows = [f"{i % 7 / 10},{i % 5 / 10}" for i in range(FPS * SECONDS)]
    (folder / "labels.txt").write_text("\n".join(["valence,arousal", *rows]) + "\n")
    places = {"manifest": "data_manifest.csv", "data_root": "", "cache": "cache", "results": "results", "weights": "weights"}
    settings = config.parse(SETTINGS | {name: str(folder / place) for name, place in places.items()})
    return start.plan_from(settings), start.freeze(settings)


def works(plan: Plan, settings: Path) -> list[Work]:
    """All jobs of the plan in an order in which they can run."""
    common = ("--settings", str(settings))
    out = []
    for name in plan.names:
        if name in plan.settings.models:
            out.append(Work(f"fit of {name}", ("job", "fit", name, *common, "--out", plan.fitted(name, None))))
        out += [
            Work(name, ("job", "apply", *common, "--index", plan.index(name, shard))) for shard in plan.shards if plan.items(name, shard)
        ]
    return [*out, Work("publish", ("job", "publish", *common, "--out", plan.published()))]


def until_first(work: Work) -> Cost:
    """Start the job and end it where its first item begins."""
    begun = time.monotonic()
    done = _python("-c", UNTIL, *FIRST[work.kind], *work.command)
    now, cpu_s = map(float, done.split()[-2:])
    return Cost(now - begun, cpu_s)


def whole(work: Work) -> Cost:
    """Start the job and wait for its end."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    _python("-m", "affpipe", *work.command)
    wall_s, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _python(*arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[-6:])}: {done.stderr}")
    return done.stdout


def middle(measure: Callable[[Work], Cost], work: Work, repeat: int) -> Cost:
    """Medians of several runs."""
    found = [measure(work) for _ in range(repeat)]
    return Cost(median(cost.wall_s for cost in found), median(cost.cpu_s for cost in found))


def row(what: str, cost: Cost, goal_s: float) -> str:
    """A line of the table."""
    return f"| {what} | {cost.wall_s:.2f} | {cost.cpu_s:.2f} | ≤ {goal_s:g}{' **missed**' if cost.wall_s > goal_s else ''} |"


def measure(folder: Path, wanted: Sequence[str], repeat: int) -> None:
    """Run all jobs in a folder, and print a row of each that is wanted."""
    plan, settings = workspace(folder)
    print("| job | seconds | CPU seconds | goal |\n| --- | --- | --- | --- |")
    for work in works(plan, settings):
        if work.name in (wanted or MEASURED):
            print(row(f"{work.name}, until its first item begins", middle(until_first, work, repeat), GOAL_S), flush=True)
        whole(work)
        if f"{work.name} made" in (wanted or MEASURED):
            print(row(f"{work.name}, whose streams are all made", middle(whole, work, repeat), MADE_GOAL_S), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("stages", nargs="*", help='as the rows name them, or with " made" behind: of jobs that find their streams made')
    parser.add_argument("--repeat", type=int, default=REPEAT)
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, which stays")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chdir(parsed.keep or folder):
        measure(Path.cwd(), parsed.stages, parsed.repeat)


if __name__ == "__main__":
    main()
