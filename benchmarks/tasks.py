"""Do expressions and action units learn? recipes/expr-demo.yaml and recipes/au-demo.yaml over a few seeds, scored on the test clips.

`python -m benchmarks.tasks` works in the folder of `make demo`, with its data, weights and store: only models are fitted. The truth of
the test clips is read by no part of the workflow. Beside each figure: the most frequent label of training at every frame, and each test
clip's own most frequent one, which no system can know.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from affpipe.core.tasks import metrics
from affpipe.core.tasks.table import TASKS
from affpipe.data import annotations, manifest
from affpipe.results import evaluate

DATA, OUT, SEEDS = Path("demo"), Path("benchmarks/out/tasks"), (42, 1)


def majority(task: str) -> np.ndarray:
    """(K,) the most frequent label of the training clips."""
    rows = [row for row in manifest.read(Path("data_manifest.csv"), DATA) if row.labelled([task], "train")]
    return metrics.majority_row(
        sum(metrics.label_counts(TASKS[task], *annotations.read_labels(TASKS[task], row.labels[task])) for row in rows)
    )


def run(task: str, seed: int) -> dict[str, float]:
    """Fit all models of the recipe; the published one's figures on the test clips."""
    name = f"{task}-demo-{seed}"
    recipe = ["--configfile", "config.yaml", f"recipes/{task}-demo.yaml", "--config", f"name={name}", f"seed={seed}"]
    subprocess.run([sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", *recipe], check=True)
    videos = evaluate.folders(TASKS[task], DATA / "truth" / task, Path("results") / name / "official" / task)
    found, measure = evaluate.score(TASKS[task], videos, majority=majority(task)), TASKS[task].measure
    out = {"system": found[measure], "majority in training": found["majority"][measure], "majority per video": found["constant"][measure]}
    if task == "au":  # the most frequent value of every unit is its absence, whose F1 is 0: this constant is the better one
        present = metrics.majority_baseline(TASKS[task], videos, np.ones(len(TASKS[task].columns)))
        out["every unit present"] = metrics.pooled(TASKS[task], present)[measure]
    if task == "expr":
        out |= {"accuracy": found["accuracy"], "accuracy of the majority": found["majority"]["accuracy"]}
    return out | {f"f1_{unit}": found[f"f1_{unit}"] for unit in TASKS[task].outputs}


def main() -> None:
    """Both tasks in turn for every seed; print and keep their figures."""
    found: dict[str, list[dict[str, float]]] = {"expr": [], "au": []}
    for seed in SEEDS:
        for task, runs in found.items():
            runs.append(run(task, seed))
    for task, runs in found.items():
        print(f"{TASKS[task].title}, {TASKS[task].measure} on the test clips; seeds {', '.join(map(str, SEEDS))}")
        for key in runs[0]:
            each = [figures[key] for figures in runs]
            print(
                f"  {key:<26} {np.nanmean(each) if not np.isnan(each).all() else float('nan'):6.3f}   {', '.join(f'{x:.3f}' for x in each)}"
            )
    OUT.mkdir(parents=True, exist_ok=True)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), "seeds": SEEDS}
    (OUT / "tasks.json").write_text(json.dumps({**machine, "figures": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
