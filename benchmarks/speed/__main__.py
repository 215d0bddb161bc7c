"""Every stage beside its reference: `python -m benchmarks.speed [--quick] [names]`, or `make bench`.

Each benchmark runs in a process of its own. `--quick` takes small inputs and one round: it only shows that the arms run and agree. The
table goes to the terminal, rows with all costs to benchmarks/out/speed.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.speed import table

OUT = Path("benchmarks/out/speed.json")
NAMES = (
    *("decode", "segments", "combined", "crops", "efficientnet", "path"),
    *("windows", "stitching", "evaluation", "mamba", "wavlm"),
    *("memory", "startup", "planning"),
)
THREADS = 2
PACKAGES = ("av", "torch", "transformers", "mediapipe", "h5py", "numpy")


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    versions = {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {"cpu": model, "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d"), "versions": versions}


def one(name: str, *, quick: bool) -> None:
    """Run one benchmark in this process and print its rows as JSON, the last line of the output."""
    rows = import_module(f"benchmarks.speed.{name}").rows(quick=quick)
    print(json.dumps([row.plain() for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; all if none is given")
    parser.add_argument("--quick", action="store_true", help="small inputs, one round")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if unknown := set(parsed.names) - set(NAMES):
        parser.error(f"want names of {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
    if parsed.here:
        one(parsed.names[0], quick=parsed.quick)
        return
    found: list[dict[str, Any]] = []
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    for name in parsed.names or NAMES:
        command = [sys.executable, "-m", "benchmarks.speed", name, "--here", *(["--quick"] if parsed.quick else [])]
        begun = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
        rows = json.loads(done.stdout.splitlines()[-1])
        found += [{"benchmark": name, **row} for row in rows]
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    about = machine()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"machine": about, "quick": parsed.quick, "rows": found}, indent=1) + "\n")
    print(table.markdown(found))
    print(f"{about['cpu']}, {about['cores']} cores, {about['date']}; " + ", ".join(f"{n} {v}" for n, v in about["versions"].items()))


if __name__ == "__main__":
    main()
