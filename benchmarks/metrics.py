"""How long the measures take on a million frames.

`python -m benchmarks.metrics` prints seconds for one scoring of a million random frames of each task, the checks of values included, and
for the intervals of 100 videos of 10,000 frames, and writes benchmarks/out/metrics.json.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from affpipe.core.tasks import metrics
from affpipe.core.tasks.metrics import Video
from affpipe.core.tasks.table import TASKS
from affpipe.results import bootstrap

OUT = Path("benchmarks/out")
FRAMES, VIDEOS, REPEATS = 1_000_000, 100, 3


def video(task: str, frames: int) -> Video:
    """Random labels of a task, about half of them predicted right; all frames valid."""
    rng = np.random.default_rng(0)
    shape = (frames, len(TASKS[task].columns))
    draw = {"va": lambda: rng.uniform(-1, 1, shape), "expr": lambda: rng.integers(8, size=shape), "au": lambda: rng.integers(2, size=shape)}
    truth, other = draw[task]().astype(np.float64), draw[task]().astype(np.float64)
    return truth, np.where(rng.random((frames, 1)) < 0.5, truth, other), np.ones(frames, bool)


def seconds(call: Callable[[], object]) -> float:
    """The shortest of REPEATS."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    """Time, print and keep."""
    found = {}
    for task in TASKS:
        truth, prediction, valid = video(task, FRAMES)
        parts = zip(np.split(truth, VIDEOS), np.split(prediction, VIDEOS), np.split(valid, VIDEOS), strict=True)
        videos = {str(i): part for i, part in enumerate(parts)}
        found[task] = {
            "scores": seconds(lambda t=TASKS[task], v=(truth, prediction, valid): metrics.scores(t, *v)),
            "pooled": seconds(lambda t=TASKS[task], v=videos: metrics.pooled(t, v)),
            "within_video": seconds(lambda t=TASKS[task], v=videos: metrics.within_video(t, v)),
            "interval": seconds(lambda t=TASKS[task], v=videos: bootstrap.interval(t, v, seed=0)),
        }
        print(f"{task:<5}" + "  ".join(f"{what} {value:.3f} s" for what, value in found[task].items()))
    OUT.mkdir(parents=True, exist_ok=True)
    about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    (OUT / "metrics.json").write_text(json.dumps(about | {"frames": FRAMES, "seconds": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
