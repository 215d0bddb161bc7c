"""How long a plan of 600 streams takes, and how often a stage would load its networks: `python -m benchmarks.planning`.

The settings are those of config.yaml with the default number of shards; videos are 20 MB each.
A plan (`snakemake -n`) is timed for an empty store and for one that holds everything, whose indexes are written here. Prints rows of the
table in README.md.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from affpipe.jobs import start
from affpipe.plan.config import load
from affpipe.store.index import Entry, write_index
from affpipe.system import disk

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from fakes.workspace import Workspace

PARTITIONS = {"train": 0.6, "validation": 0.1, "test": 0.25, "predict": 0.05}
VIDEO_BYTES = 20_000_000
DEFAULT_SHARDS = "shards: null"  # the default in place of that of the recipe
FILES = ("config.yaml", "base.yaml", "recipe.yaml")  # settings of a workspace


def videos(count: int) -> dict[str, str]:
    """Video -> partition."""
    out, start = {}, 0.0
    for partition, share in PARTITIONS.items():
        first, last = round(start * count), round((start + share) * count)
        out |= dict.fromkeys((f"video{i:04d}" for i in range(first, last)), partition)
        start += share
    return out


def prepare(folder: Path, streams: int) -> Workspace:
    """A workspace of so many videos of 20 MB, nearly all of them zeros that take no space."""
    workspace = Workspace(folder, videos(streams), recipe=DEFAULT_SHARDS)
    for video in (workspace.folder / "data").glob("*.mp4"):
        os.truncate(video, VIDEO_BYTES)
    return workspace


def finish_here() -> None:
    """Write all that a plan of this folder looks for: indexes, files that say that a model is fitted, and that the run is published."""
    whole = start.plan_from(load([Path(name) for name in FILES]))
    for name in whole.names:
        for shard in whole.shards:
            if items := whole.items(name, shard):
                entries = {item.id: Entry("done", whole.stream(name, item).name, 1) for item in items}
                write_index(Path(whole.index(name, shard)), entries)
    for model in whole.settings.models:
        for fold in whole.fits(model):
            disk.write_text(Path(whole.fitted(model, fold)), "{}\n")
    disk.write_text(Path(whole.published()), "{}\n")


@dataclass(frozen=True)
class Planned:
    """What a plan is and costs: rule -> jobs; seconds by the clock and of a CPU; the most memory of a process so far, in MB."""

    jobs: Mapping[str, int]
    wall_s: float
    cpu_s: float
    memory_mb: float

    @property
    def loads(self) -> int:
        """Jobs of the stage that has most, each of which loads its networks if there is anything to make."""
        return max((count for rule, count in self.jobs.items() if rule.startswith("apply_")), default=0)


def plan(workspace: Workspace) -> Planned:
    """Plan once."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = workspace.planned("--quiet", "rules")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Planned(jobs, time.monotonic() - begun, cpu_s, after.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--streams", type=int, default=600)
    parser.add_argument("--repeat", type=int, default=3, help="the quickest counts")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(Path(folder) / "planning", parsed.streams)
        os.chdir(workspace.folder)
        for store_is in ("empty", "finished"):
            if store_is == "finished":
                finish_here()
            found = [plan(workspace) for _ in range(parsed.repeat)]
            wall_s, cpu_s, memory_mb = min(p.wall_s for p in found), min(p.cpu_s for p in found), max(p.memory_mb for p in found)
            print(f"| {store_is} | {sum(found[0].jobs.values())} | {found[0].loads} | {wall_s:.1f} | {cpu_s:.1f} | {memory_mb:.0f} |")


if __name__ == "__main__":
    main()
