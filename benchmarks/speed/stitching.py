"""Predictions of overlapping windows (L = 400, every 150) averaged back to frames: 600 streams of 5,000 frames, two numbers each.

reference: dicts of sums and counts keyed by frame, filled row by row, then divided. ours: `axis.merge`, as `predictor.run` calls it.
"""

from typing import Any

import numpy as np

from affpipe.models.windows import merge, split
from benchmarks.speed.arms import DisagreeError, Row, ratio, take_turns

LENGTH, STRIDE, FRAMES = 400, 150, 5000
GOAL = 100.0
TOLERANCE = 1e-6


def rows(*, quick: bool) -> list[Row]:
    streams, rounds = (4, 1) if quick else (600, 1)
    starts = split(FRAMES, length=LENGTH, stride=STRIDE).tolist()
    rng = np.random.default_rng(0)
    windows = [list(rng.uniform(-1, 1, (len(starts), LENGTH, 2)).astype(np.float32)) for _ in range(streams)]

    def reference() -> list[np.ndarray]:
        return [_by_frame(own, starts) for own in windows]

    def ours() -> list[np.ndarray]:
        return [merge(own, starts, FRAMES).astype(np.float32) for own in windows]

    costs, outputs = take_turns({"reference": reference, "ours": ours}, units=1, rounds=rounds, compare=_compare)
    what = f"windows of {LENGTH} every {STRIDE} back to {streams * FRAMES / 1e6:g} M frames"
    return [Row(what, "run", costs, "reference : ours", ratio(costs), GOAL, outputs)]


def _by_frame(windows: list[np.ndarray], starts: list[int]) -> np.ndarray:
    """One stream in the reference's way."""
    total: dict[int, np.ndarray] = {}
    count: dict[int, int] = {}
    for window, start in zip(windows, starts, strict=True):
        for i, row in enumerate(window):
            frame = start + i
            if frame in total:
                total[frame] = total[frame] + row
                count[frame] += 1
            else:
                total[frame], count[frame] = row, 1
    return np.stack([total[frame] / count[frame] for frame in range(len(total))])


def _compare(outputs: dict[str, Any]) -> str:
    want, got = (np.stack(outputs[name]) for name in ("reference", "ours"))
    worst = float(np.abs(want - got).max())
    if worst > TOLERANCE:
        raise DisagreeError(f"stitching: differs by {worst:.1e}, want {TOLERANCE:g}")
    return f"within {worst:.0e}: the reference adds in float32"
