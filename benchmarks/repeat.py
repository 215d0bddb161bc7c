"""Is a run the same a second time? The demo from nothing, again from nothing, and once more with the machine's file cache emptied.

`python -m benchmarks.repeat` works in the folder of `make demo`, with its data and weights; each arm has a store and results of its own
in `benchmarks/out/repeat`. Compared are streams, dataset by dataset, with what they say of themselves, models, tensor by tensor, and
predictions, byte by byte. Arms may be named: `first`, `second`, `cold`, and `slurm`, which goes through the profile of that name, on
whatever cluster this machine belongs to, with a GPU asked for by the networks (`python tests/workflow/slurm/cluster.py` makes one of a
node). What earlier calls left of other arms is compared too.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.contents import Parts, parts

OUT = Path("benchmarks/out/repeat")
DROP = Path("/proc/sys/vm/drop_caches")
NETWORKS = ("apply_qwen3vl", "apply_wavlm", "fit_face", "fit_behaviour", "fit_voice", "fit_fused")
SLURM = ("--workflow-profile", "workflow/profiles/slurm", "--slurm-status-command", "squeue")
SLURM += ("--slurm-init-seconds-before-status-checks", "5", "--set-resources", *(f"{rule}:gpu=1" for rule in NETWORKS))
ARMS = ("first", "second", "cold", "slurm")


def run(arm: str) -> None:
    """Run the demo from nothing, and note the seconds."""
    folder = OUT / arm
    shutil.rmtree(folder, ignore_errors=True)
    if arm == "cold":
        os.sync()
        DROP.write_text("3")
    where = SLURM if arm == "slurm" else ("--cores", "2")
    settings = ("--config", f"cache={folder}/cache", f"results={folder}/results")
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "snakemake", "--quiet", "all", *where, *settings], check=True)
    (folder / "seconds").write_text(f"{time.monotonic() - begun:.0f}")


def digests(folder: Path) -> dict[str, Parts]:
    """Streams, models and predictions below a folder: name -> digests of what they hold, not of when it was made."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    kept = (p for p in files if p.suffix in (".h5", ".flac", ".safetensors") or "predictions" in p.parts or "official" in p.parts)
    return {str(path.relative_to(folder)): parts(path) for path in kept}


def main() -> None:
    """Run the arms, print and keep how many files differ."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("arms", nargs="*", choices=ARMS, default=ARMS[:3])
    for arm in options.parse_args().arms:
        run(arm)
    done = {arm: OUT / arm / "seconds" for arm in ARMS if (OUT / arm / "seconds").exists()}
    found = {arm: digests(OUT / arm) for arm in done}
    base, first = next(iter(found.items()))
    table = {}
    for arm, files in found.items():
        differ = sorted(name for name in first.keys() | files.keys() if first.get(name) != files.get(name))
        table[arm] = {"seconds": int(done[arm].read_text()), "files": len(files), "differ": len(differ)}
        print(f"{arm:<8} {table[arm]['seconds']:6} s   {len(files)} files, {len(differ)} unlike {base} {differ[:3] or ''}")
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "repeat.json").write_text(json.dumps({**machine, "arms": table}, indent=1) + "\n", encoding="utf-8")
    sys.exit(int(any(row["differ"] for row in table.values())))


if __name__ == "__main__":
    main()
