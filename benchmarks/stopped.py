"""Fits killed at random moments: do they end where an undisturbed one does, to the last bit?

`python -m benchmarks.stopped [--kills 20] [--seed 0] [--model behaviour]` fits a model of tests/helpers/learnable.py (dropout, averaged
weights, a rate that falls) in a process of its own, which is killed (SIGKILL) at a random moment of the fit; then the cache is moved, and
the fit goes on in another process, until it is through; then from nothing again, until there were enough kills. Compared with a fit that
nothing disturbed: the model's file, the record, and all datasets of the predictions of all streams.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py

from affpipe.data import manifest
from affpipe.plan import config
from affpipe.plan.plan import Plan
from affpipe.store import streams
from affpipe.system import disk

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

OUT = Path("benchmarks/out/stopped")
EPOCHS = 40
TRAINING = {"epochs": EPOCHS, "stop_patience": EPOCHS, "learning_rate": 1e-2, "plateau_patience": 2, "ema_decay": 0.8, "batch_size": 2}
BEGUN, EPOCH = "begun", "epoch"  # lines of a process whose fit begins, and whose first epoch is done
LONGEST = 0.3  # of the time that the epochs of a whole fit take: from such a line to the kill, at most


def prepare(folder: Path, model: str) -> None:
    """A workspace whose streams carry the labels, and its settings as a file."""
    from learnable import MODELS, make_plan

    own = MODELS[model] | {"dropout": 0.3, "training": TRAINING}
    plan = make_plan(folder, models=MODELS | {model: own})
    (folder / "settings.json").write_text(plan.settings.model_dump_json())


def planned(folder: Path, cache: Path) -> Plan:
    settings = json.loads((folder / "settings.json").read_text()) | {"cache": str(cache)}
    return Plan(config.parse(settings), manifest.read(folder / "manifest.csv", folder))


def work(folder: Path, cache: Path, model: str) -> None:
    """What a process does: fit, then predict every stream that the model can."""
    from learnable import entries

    from affpipe.jobs.fitting import fit
    from affpipe.models.workers import stage

    plan = planned(folder, cache)
    print(BEGUN, flush=True)
    record = fit(plan, model, entries(plan), progress=lambda *_: print(EPOCH, flush=True))
    disk.write_text(Path(plan.fitted(model)), json.dumps(record, indent=1, sort_keys=True) + "\n")
    apply = stage(plan.context(model))
    for item in plan.items(model):
        if entries(plan)[model][item.id].status == "done":
            apply(plan.job(model, item))


def start(folder: Path, cache: Path, model: str, until: str) -> subprocess.Popen:
    """A process that has written such a line, or is through."""
    command = [sys.executable, "-m", "benchmarks.stopped", "--model", model, "--work", str(folder), str(cache)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while (line := process.stdout.readline().strip()) and line != until:
        pass
    return process


def values(folder: Path, cache: Path, model: str) -> dict[str, str]:
    """What there is in the end -> its digest: file of the model, record, datasets of the predictions."""
    home = planned(folder, cache).folder(model)
    out = {name: hashlib.sha256((home / name).read_bytes()).hexdigest() for name in (streams.MODEL, streams.FIT)}
    for path in sorted(home.glob("*.h5")):
        with h5py.File(path, "r") as file:
            out |= {f"{path.name}/{name}": hashlib.sha256(file[name][:].tobytes()).hexdigest() for name in sorted(file)}
    return out


def fresh(clean: Path, name: str) -> Path:
    """A copy of the cache in which nothing is fitted yet."""
    return Path(shutil.copytree(clean / "cache", clean.with_name(name)))


def epochs_done(cache: Path) -> int:
    """States of epochs that lie there: 0 before the first."""
    return sum(1 for _ in cache.rglob("last.ckpt"))


def main() -> None:
    """Disturb, hold against the undisturbed, print and keep the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--model", default="behaviour")
    options.add_argument("--work", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.work:
        work(*chosen.work, chosen.model)
        return
    draw, begun = random.Random(chosen.seed), time.monotonic()
    kills = runs = wrong = within = 0
    with tempfile.TemporaryDirectory() as place:
        clean = Path(place) / "clean"
        clean.mkdir()
        prepare(clean, chosen.model)
        cache = fresh(clean, "whole")
        process, at = start(clean, cache, chosen.model, EPOCH), time.monotonic()
        if process.wait():
            sys.exit("the undisturbed fit failed")
        whole_s, want = time.monotonic() - at, values(clean, cache, chosen.model)
        while kills < chosen.kills:
            runs += 1
            cache = fresh(clean, f"run{runs}")
            while True:
                process = start(clean, cache, chosen.model, draw.choice((BEGUN, EPOCH)))
                try:
                    process.wait(draw.uniform(0, LONGEST * whole_s) if kills < chosen.kills else None)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
                    within += epochs_done(cache)
                    cache = cache.rename(Path(place) / f"run{runs}-moved{kills}")
                    continue
                finally:
                    process.stdout.close()
                break
            found = values(clean, cache, chosen.model)
            unlike = sorted(name for name in want.keys() | found.keys() if want.get(name) != found.get(name))
            wrong += len(unlike)
            print(f"fit {runs}: {kills} kills so far; of {len(want)} values unlike: {', '.join(unlike) or 'none'}", flush=True)
    table = {"kills": kills, "of these with an epoch to go on from": within, "fits": runs, "values a fit": len(want), "unlike": wrong}
    for name, count in table.items():
        print(f"{name:<40} {count}")
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    machine = {"machine": cpu[1] if cpu else platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    OUT.mkdir(parents=True, exist_ok=True)
    seconds = {
        "seconds": round(time.monotonic() - begun),
        "seconds_of_epochs": round(whole_s, 1),
        "seed": chosen.seed,
        "model": chosen.model,
    }
    (OUT / "stopped.json").write_text(json.dumps({**machine, **seconds, **table}, indent=1) + "\n")
    sys.exit(int(bool(wrong)))


if __name__ == "__main__":
    main()
