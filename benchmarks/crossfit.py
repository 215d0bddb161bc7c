"""Does cross-fit help a fusion? recipes/ras-demo.yaml with and without it, over a few seeds, scored on the test clips.

`python -m benchmarks.crossfit` works in the folder of `make demo`, with its data, weights and store: only models are fitted. The truth of
the test clips is read by no part of the workflow. Within-video CCC, mean over the clips.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from affpipe.core.tasks.table import VA
from affpipe.plan import config
from affpipe.results import evaluate

DATA, OUT = Path("demo"), Path("benchmarks/out/crossfit")
RECIPE = [Path("config.yaml"), Path("recipes/ras-demo.yaml")]
SEEDS, FOLDS = (42, 1, 2), 5


def run(seed: int, folds: int) -> dict[str, float]:
    """Fit all models of the recipe; fusion -> its score."""
    name = f"crossfit-{seed}-{folds}"
    settings = ["--config", f"name={name}", f"seed={seed}", f"cross_fit={folds}"]
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--configfile", *map(str, RECIPE), *settings]
    subprocess.run(command, check=True)
    truth = sorted((DATA / "truth/va").glob("*.txt"))
    out, recipe = {}, config.load(RECIPE)
    for model in (m for m, s in recipe.models.items() if s.members):
        folder = Path("results") / name / ("official/va" if model == recipe.publish else f"models/{model}/va")
        videos = {path.stem: evaluate.pair(VA, path, folder / path.name)[0] for path in truth}
        out[model] = evaluate.score(VA, videos)["within_video"]["ccc"]
    return out


def main() -> None:
    """Run both arms in turn for every seed, print and keep their scores."""
    scores = {folds: [] for folds in (0, FOLDS)}
    for seed in SEEDS:
        for folds, found in scores.items():
            found.append(run(seed, folds))
    for model in scores[0][0]:
        off, on = ([score[model] for score in scores[folds]] for folds in (0, FOLDS))
        each = "  ".join(f"{a:.3f} -> {b:.3f}" for a, b in zip(off, on, strict=True))
        print(f"{model:<30} {np.mean(off):.3f} -> {np.mean(on):.3f}   seeds {', '.join(map(str, SEEDS))}: {each}")
    OUT.mkdir(parents=True, exist_ok=True)
    found = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), "seeds": SEEDS, "scores": scores}
    (OUT / "crossfit.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
