"""Kills at random moments: is anything finished computed again, anything wrong, anything left over?

`python -m benchmarks.kills [--kills 50] [--seed 0]` runs the real workflow with the fake encoders of tests/helpers/fakes, whose values are
functions of everything they read. A worker is killed, or told to stop as a cluster does at a time limit, or Snakemake itself is killed;
then the workflow is started again, until it is through; then it begins anew, until there were enough kills. What is then in the store and
published is held against a run that nothing disturbed.
"""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from fakes.workspace import Workspace

OUT = Path("benchmarks/out/kills")
KINDS = ("worker killed", "worker at its time limit", "workflow killed")
DELAY_S = 0.1  # of every item, so that moments within items are many
AGAIN = "--rerun-incomplete"  # after a kill Snakemake wants to be told


def jobs(workspace: Workspace) -> list[int]:
    """Processes of jobs that run in a workspace."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if command[1:4] == [b"-m", b"affpipe", b"job"] and (folder / "cwd").readlink() == workspace.folder:
                found.append(int(folder.name))
        except (OSError, IndexError):  # gone meanwhile
            continue
    return found


def disturb(workspace: Workspace, process: subprocess.Popen, kind: str, draw: random.Random, longest_s: float) -> bool:
    """Wait a random time and strike; False if the workflow was through before."""
    until = time.monotonic() + draw.uniform(0.5, longest_s)
    while time.monotonic() < until:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    if kind == "workflow killed":
        process.kill()
        return True
    while process.poll() is None:
        if running := jobs(workspace):
            os.kill(draw.choice(running), signal.SIGKILL if kind == "worker killed" else signal.SIGTERM)
            return True
        time.sleep(0.002)
    return False


def settle(workspace: Workspace, process: subprocess.Popen) -> None:
    """Wait for the workflow and for jobs that it left behind, and unlock the folder."""
    process.wait()
    while jobs(workspace):
        time.sleep(0.05)
    workspace.run(*workspace.workflow("--unlock"))


def made_twice(workspace: Workspace) -> int:
    """Streams that were finished and then computed again."""
    path = workspace.events / "made"
    return sum(count - 1 for count in Counter(path.read_text().splitlines()).values())


def main() -> None:
    """Disturb, hold against the undisturbed, print and keep the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    draw, kills, begun = random.Random(chosen.seed), Counter(), time.monotonic()
    again = wrong = left = runs = 0
    with tempfile.TemporaryDirectory() as folder:
        sound = Workspace(Path(folder) / "sound", cores=2)
        clean = sound.copy(Path(folder) / "clean")
        start = time.monotonic()
        sound.snakemake()
        whole_s, want = time.monotonic() - start, sound.values()
        while kills.total() < chosen.kills:
            runs += 1
            workspace = clean.copy(Path(folder) / f"run{runs}")
            workspace.cores = 2
            workspace.amid(delay_s={"*": DELAY_S})
            while kills.total() < chosen.kills:
                process, kind = workspace.start(*workspace.workflow(AGAIN)), draw.choice(KINDS)
                struck = disturb(workspace, process, kind, draw, longest_s=whole_s / 3)
                settle(workspace, process)
                if not struck:
                    break
                kills[kind] += 1
            workspace.snakemake(AGAIN)
            found = workspace.values()
            wrong += sum(found.get(name) != digest for name, digest in want.items()) + len(found.keys() - want.keys())
            again += made_twice(workspace)
            left += len(workspace.left_over())
            print(f"run {runs}: {kills.total()} kills so far; {again} computed again, {wrong} wrong, {left} left over", flush=True)
    table = {
        **{kind: kills[kind] for kind in KINDS},
        "runs": runs,
        "finished and computed again": again,
        "wrong values": wrong,
        "left over": left,
    }
    for name, count in table.items():
        print(f"{name:<30} {count}")
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), "seed": chosen.seed}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "kills.json").write_text(json.dumps({**machine, "seconds": round(time.monotonic() - begun), **table}, indent=1) + "\n")
    sys.exit(int(bool(again or wrong or left)))


if __name__ == "__main__":
    main()
