"""Do the 95 % intervals of `affpipe.results.bootstrap` hold the truth 95 times of 100? Simulated sets of videos whose truth is known.

`python -m benchmarks.bootstrap`, about three minutes on one core. For each task 76,000 videos are simulated: their figure is the truth, and
1,000 sets of 76 (and of 20) of them are scored. A video has a length of its own (from 23 to 360 rows of correlated signal), a level of its
own, which makes up two thirds of the variance of labels, and a signal that moves slowly about it. Two systems predict a part of both, with
errors of which some stay through a video and some move. There are rare classes and units (2 to 3 % of the rows).
"""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.signal import lfilter
from scipy.stats import norm

from affpipe.core.tasks.table import TASKS
from affpipe.results import bootstrap
from affpipe.results.bootstrap import Sums

OUT = Path("benchmarks/out")
SETS, SIZES, DRAWS, LEVEL = 1000, (76, 20), 1000, 0.95
LENGTHS = np.round(np.exp(np.log(90) + 0.8 * norm.ppf((np.arange(12) + 0.5) / 12))).astype(int)  # rows: log-normal
KEPT = 0.9  # of the signal, from one row to the next
BATCH = 1000  # videos
SYSTEMS = (0.75, 0.85)  # how much of a label's cause they see
LEVELS, SIGNALS = np.array([0.35, 0.22]), np.array([0.24, 0.18])  # spread of valence and arousal between and within videos
CLASSES = np.array([1.3, -0.6, -1.1, -1.2, 0.5, 0.3, -0.5, 1.0])  # how readily a class is the greatest: 33 % down to 2 % of the rows
UNITS = norm.ppf([0.12, 0.06, 0.16, 0.26, 0.39, 0.34, 0.24, 0.03, 0.03, 0.03, 0.62, 0.08])  # how often a unit is active

Simulated = tuple[np.ndarray, list[np.ndarray]]  # truth (V, L, K), prediction of each system (V, L, K)


def signal(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """(V, L, K) standard normal, correlated along L (an autoregression that has forgotten its start)."""
    noise = rng.standard_normal(shape)
    noise[:, 1:] *= np.sqrt(1 - KEPT**2)
    return lfilter([1], [1, -KEPT], noise, axis=1)


def mixed(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """(V, L, K) of unit spread, two thirds of its variance from video to video."""
    return np.sqrt(2 / 3) * rng.standard_normal((shape[0], 1, shape[2])) + np.sqrt(1 / 3) * signal(rng, shape)


def va(rng: np.random.Generator, videos: int, length: int) -> Simulated:
    """Levels and signals of two values; some videos are livelier than others. Predictions are drawn towards the middle."""
    shape = (videos, length, 2)
    level = LEVELS * rng.standard_normal((videos, 1, 2))
    moving = SIGNALS * np.exp(0.4 * rng.standard_normal((videos, 1, 1))) * signal(rng, shape)
    guesses = [
        0.2 + 0.55 * level + (part - 0.2) * moving + 0.2 * rng.standard_normal((videos, 1, 2)) + 0.15 * signal(rng, shape)
        for part in SYSTEMS
    ]
    return np.clip(0.15 + level + moving, -1, 1), [np.clip(guess, -1, 1) for guess in guesses]


def expr(rng: np.random.Generator, videos: int, length: int) -> Simulated:
    """The greatest of eight values a row."""
    causes = _causes(rng, (videos, length, len(CLASSES)))
    truth, *guesses = (np.argmax(CLASSES + 1.5 * cause, axis=2)[:, :, None] for cause in causes)
    return truth, guesses


def au(rng: np.random.Generator, videos: int, length: int) -> Simulated:
    """Twelve values above their thresholds."""
    truth, *guesses = (cause + UNITS > 0 for cause in _causes(rng, (videos, length, len(UNITS))))
    return truth, guesses


def _causes(rng: np.random.Generator, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """What makes a label, and what each system makes of it: a part, and an error of the same kind that fills it up."""
    cause = mixed(rng, shape)
    return [cause, *(part * cause + np.sqrt(1 - part**2) * mixed(rng, shape) for part in SYSTEMS)]


def population(task: str, simulate: Callable[..., Simulated], videos: int, seed: int) -> list[Sums]:
    """Pooled sums of each system over so many videos of mixed lengths, in random order, for the challenge's figure."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(LENGTHS), size=videos)
    rows: list[list[np.ndarray]] = [[] for _ in SYSTEMS]
    for i, length in enumerate(LENGTHS):
        count = int((chosen == i).sum())
        for start in range(0, count, BATCH):
            truth, guesses = simulate(rng, min(BATCH, count - start), int(length))
            for own, guess in zip(rows, guesses, strict=True):
                own += [TASKS[task].sums(t, p) for t, p in zip(truth, guess, strict=True)]
    order = rng.permutation(videos)
    return [bootstrap.pooled(TASKS[task], np.array(own)[order], (TASKS[task].measure,)) for own in rows]


def part(sums: Sums, start: int, stop: int) -> Sums:
    """The sums of some videos."""
    return Sums(sums.rows[start:stop], sums.keys, sums.at, sums.range, sums.z)


def percentile(sums: Sums, seed: int) -> tuple[float, float]:
    """The usual interval, for comparison: the middle 95 % of the resampled figures."""
    counts = bootstrap.resamples(np.random.default_rng(seed), len(sums.rows), DRAWS)
    low, high = np.quantile(sums.at(counts @ sums.rows)[0][:, 0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def measured(sums: Sums, size: int, interval: Callable[[Sums, int], tuple[float, float]]) -> dict[str, float]:
    """How the intervals of SETS sets of `size` videos lie about the figure of all videos."""
    truth = float(sums.at(sums.rows.sum(axis=0, keepdims=True))[0][0, 0])
    limits = np.array([interval(part(sums, k * size, (k + 1) * size), k) for k in range(SETS)])
    above, below = (limits[:, 0] > truth).mean(), (limits[:, 1] < truth).mean()
    return {
        "truth": truth,
        "covered": float(1 - above - below),
        "above": float(above),
        "below": float(below),
        "width": float(np.diff(limits).mean()),
    }


def ours(sums: Sums, seed: int) -> tuple[float, float]:
    """The interval of the package."""
    return bootstrap.intervals_of(sums, seed=seed, draws=DRAWS, level=LEVEL)[sums.keys[0]]


def main() -> None:
    """Simulate, count, print and keep the figures."""
    begin, rows = time.perf_counter(), []
    for task, simulate in {"va": va, "expr": expr, "au": au}.items():
        a, b = population(task, simulate, SETS * max(SIZES), seed=0)
        figures = {"pooled": a, "within video": bootstrap.within(TASKS[task], a.rows, a.keys), "difference": bootstrap.paired(b, a)}
        for size in SIZES:
            for name, sums in figures.items():
                rows.append({"task": task, "figure": name, "videos": size, "method": "ours"} | measured(sums, size, ours))
            rows.append({"task": task, "figure": "pooled", "videos": size, "method": "percentile"} | measured(a, size, percentile))
    print(
        f"{'task':<5} {'figure':<13} {'videos':>6} {'method':<11} {'truth':>6} {'covered':>8} {'too high':>9} {'too low':>8} {'width':>6}"
    )
    for row in rows:
        print(
            f"{row['task']:<5} {row['figure']:<13} {row['videos']:>6} {row['method']:<11} {row['truth']:6.3f} {row['covered']:8.3f} "
            f"{row['above']:9.3f} {row['below']:8.3f} {row['width']:6.3f}"
        )
    seconds = time.perf_counter() - begin
    print(f"{SETS} sets, {DRAWS} draws, {seconds:.0f} s")
    OUT.mkdir(parents=True, exist_ok=True)
    found = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    found |= {"sets": SETS, "draws": DRAWS, "level": LEVEL, "seconds": seconds, "coverage": rows}
    (OUT / "bootstrap.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
