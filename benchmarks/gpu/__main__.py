"""Networks of real size on a GPU: `python -m benchmarks.gpu [--tiny] [--json PATH] [groups]`.

Weights are random, nothing is downloaded. torch and transformers are enough: a row that needs another package says so. Every row is
measured by itself; the exit status is 1 if one failed for another reason than something that this machine lacks. `--tiny` shrinks
everything and takes the CPU where there is no GPU: it shows that the rows run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import rows
from benchmarks.gpu.clock import Place

PACKAGES = ("torch", "transformers", "torchvision", "numpy", "av", "ultralytics", "mamba-ssm")


GROUPS: dict[str, str] = {  # name -> title; a module each, imported when its turn comes
    "ceilings": "What the machine can do",
    "qwen": "Qwen3-VL-4B, bfloat16, segments of 16 frames",
    "speech": "WavLM-Large, windows of 4 s",
    "face": "EfficientNet-B1 and YOLOv8n",
    "training": "Steps of training, batches of 8 windows",
    "visual": "Films to embeddings of faces",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition(":")[0])
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; all if none is given; shares of a ceiling want `ceilings` too")
    parser.add_argument("--tiny", action="store_true", help="small sizes, one round; on a CPU if there is no GPU")
    parser.add_argument("--film", type=Path, help="a video to decode, in place of one that is made")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no row is begun")
    parser.add_argument("--json", type=Path, help="where all figures go too")
    parsed = parser.parse_args()
    if unknown := set(parsed.groups) - set(GROUPS):
        parser.error(f"want groups of {', '.join(GROUPS)}, got {', '.join(sorted(unknown))}")
    if not parsed.tiny and not torch.cuda.is_available():
        parser.error("want a CUDA device, got none; --tiny shows on a CPU that the rows run")
    until = time.monotonic() + 60 * parsed.minutes
    at = Place(torch.device("cuda" if torch.cuda.is_available() else "cpu"), tiny=parsed.tiny, budget_s=1.0)
    about, found = machine(at), []
    for group in parsed.groups or GROUPS:
        begun = time.monotonic()
        for row in rows.measured(GROUPS[group], cases(group, at, parsed.film), until):
            found.append(replace(row, goal=None) if parsed.tiny else row)
            print(f"{group}: {row.what}: {row.reason or 'measured'}", file=sys.stderr, flush=True)
        print(f"{group}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        if parsed.json:  # after every group, lest a time limit takes all
            whole = {"machine": about, "rows": [{**asdict(row), "reached": row.reached} for row in found]}
            parsed.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"\n{rows.markdown(found)}")
    return int(any(row.failed for row in found))


def cases(group: str, at: Place, film: Path | None) -> Iterator[rows.Case]:
    """Those of a group; what its module lacks is raised with the first."""
    module = import_module(f"benchmarks.gpu.{group}")
    yield from module.cases(at, film) if group == "visual" else module.cases(at)


def machine(at: Place) -> dict[str, Any]:
    """What the figures hold for."""
    cuda = at.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "driver": _driver() if cuda else "none",
        "cores": len(os.sched_getaffinity(0)),
        "date": time.strftime("%Y-%m-%d"),
        "sizes": "tiny" if at.tiny else "real",
        "Python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    sys.exit(main())
