"""Does the demo measure anything? The same run with its labels as they are, shuffled between training streams, and shifted in time.

`python -m benchmarks.controls` works in the folder of `make demo`, with its data, weights and store, so that nothing is extracted again.
Scored on the test partition, whose truth no part of the workflow reads, by within-video CCC of the published model.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from affpipe.core.tasks.table import VA
from affpipe.data import annotations, manifest
from affpipe.data.manifest import Row
from affpipe.results import evaluate

DATA, OUT = Path("demo"), Path("benchmarks/out/controls")
SHIFT = 25  # frames
SHUFFLES = 5  # one shuffle of eleven short streams can agree with the truth by chance

Labels = dict[str, tuple[np.ndarray, np.ndarray]]  # stream id -> values (T, 2), valid (T,)


def as_they_are(labels: Labels, rows: list[Row]) -> Labels:
    """The labels of the demo."""
    return labels


def shuffled(labels: Labels, rows: list[Row], *, seed: int) -> Labels:
    """Every stream gets the labels of another one of its partition, cut or repeated to its own length.

    Validation labels too: with true ones the choice of the best epoch would tell the models what the training labels hide.
    """
    rng, out = np.random.default_rng(seed), {}
    for partition in ("train", "validation"):
        own = rng.permutation([row.stream_id for row in rows if row.partition == partition])
        for id, other in zip(own, np.roll(own, 1), strict=True):
            index = np.arange(len(labels[id][0])) % len(labels[other][0])
            out[str(id)] = (labels[other][0][index], labels[other][1][index])
    return out


def shifted(labels: Labels, rows: list[Row]) -> Labels:
    """Labels of train and validation come SHIFT frames late; the first SHIFT frames are invalid."""
    return {id: (np.roll(v, SHIFT, axis=0), np.roll(k, SHIFT) & (np.arange(len(k)) >= SHIFT)) for id, (v, k) in labels.items()}


def run(name: str, change: Callable[[Labels, list[Row]], Labels]) -> dict[str, float]:
    """Fit the demo's models on changed labels and score the test partition."""
    rows = manifest.read(Path("data_manifest.csv"), DATA)
    labels = change({row.stream_id: annotations.read_labels(VA, row.labels["va"]) for row in rows if row.labels}, rows)
    folder = (OUT / name).resolve()
    lines = ["stream_id,video,subject,partition,va"]
    for row in rows:
        annotation = folder / f"{row.stream_id}.txt" if row.labels else ""
        if row.labels:
            annotations.write_labels(VA, annotation, *labels[row.stream_id])
        lines.append(f"{row.stream_id},{row.video.relative_to(DATA)},{row.subject},{row.partition},{annotation}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = [f"name=control-{name}", f"manifest={folder / 'manifest.csv'}"]
    subprocess.run([sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--config", *config], check=True)
    truth = sorted((DATA / "truth/va").glob("*.txt"))
    official = Path("results") / f"control-{name}" / "official/va"
    return evaluate.score(VA, {path.stem: evaluate.pair(VA, path, official / path.name)[0] for path in truth})["within_video"]


def main() -> None:
    """Run the arms in turn, print and keep their scores."""
    arms = {"as they are": as_they_are, f"shifted by {SHIFT} frames": shifted}
    arms |= {f"shuffled, seed {seed}": partial(shuffled, seed=seed) for seed in range(SHUFFLES)}
    scores = {name: run(name.replace(" ", "-").replace(",", ""), change) for name, change in arms.items()}
    chance = [score for name, score in scores.items() if name.startswith("shuffled")]
    scores["shuffled, mean"] = {key: float(np.mean([score[key] for score in chance])) for key in chance[0]}
    for name, score in scores.items():
        print(f"{name:<22} valence {score['ccc_valence']:6.3f}  arousal {score['ccc_arousal']:6.3f}  mean {score['ccc']:6.3f}")
    found = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), "within_video": scores}
    (OUT / "controls.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
