"""Is a run the same a second time? The demo from nothing, again from nothing, and once more with the machine's file cache emptied.

`python -m benchmarks.repeat` works in the folder of `make demo`, with its data and weights; each arm has a store and results of its own
in `benchmarks/out/repeat`. Streams are compared dataset by dataset, models and predictions byte by byte. `--slurm` adds an arm through the
profile of that name, on whatever cluster this machine belongs to, with a GPU asked for by the networks.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import soundfile

OUT = Path("benchmarks/out/repeat")
DROP = Path("/proc/sys/vm/drop_caches")
NETWORKS = ("apply_qwen3vl", "apply_wavlm", "fit_face", "fit_behaviour", "fit_voice", "fit_fused")
SLURM = ("--workflow-profile", "workflow/profiles/slurm", "--set-resources", *(f"{rule}:gpu=1" for rule in NETWORKS))


def run(arm: str) -> tuple[dict[str, str], float]:
    """Run the demo from nothing; file -> digest, and seconds."""
    folder = OUT / arm
    shutil.rmtree(folder, ignore_errors=True)
    if arm == "cold":
        os.sync()
        DROP.write_text("3")
    where = SLURM if arm == "slurm" else ("--cores", "2")
    settings = ("--config", f"cache={folder}/cache", f"results={folder}/results")
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "snakemake", "--quiet", "all", *where, *settings], check=True)
    return digests(folder), time.monotonic() - begun


def digests(folder: Path) -> dict[str, str]:
    """Streams, models and predictions below a folder: name -> digest of what they hold, not of when it was made."""
    out = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".h5":
            found = hashlib.sha256()
            with h5py.File(path, "r") as file:
                for dataset in sorted(file):
                    found.update(f"{dataset} {file[dataset].dtype} {file[dataset].shape}".encode() + file[dataset][:].tobytes())
            out[name] = found.hexdigest()
        elif path.suffix == ".flac":
            out[name] = hashlib.sha256(soundfile.read(path, dtype="int16")[0].tobytes()).hexdigest()
        elif path.suffix == ".safetensors" or "predictions" in path.parts or "official" in path.parts:
            out[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def main() -> None:
    """Run the arms, print and keep how many files differ from the first."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--slurm", action="store_true")
    arms = ["first", "second", *(["cold"] if os.access(DROP, os.W_OK) else []), *(["slurm"] if options.parse_args().slurm else [])]
    found = {arm: run(arm) for arm in arms}
    first, _ = found["first"]
    table = {}
    for arm, (files, seconds) in found.items():
        differ = sorted(name for name in first.keys() | files.keys() if first.get(name) != files.get(name))
        table[arm] = {"seconds": round(seconds), "files": len(files), "differ": len(differ)}
        print(f"{arm:<8} {seconds:6.0f} s   {len(files)} files, {len(differ)} differ from the first run {differ[:3] or ''}")
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "repeat.json").write_text(json.dumps({**machine, "arms": table}, indent=1) + "\n", encoding="utf-8")
    sys.exit(int(any(row["differ"] for row in table.values())))


if __name__ == "__main__":
    main()
