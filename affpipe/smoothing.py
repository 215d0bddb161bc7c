"""Smoothing of predictions over frames: a centred moving average or median, its ends held.

Source: Team RAS, public code (moving average with replicate padding, a length each for valence and arousal); the median is that of other
ABAW systems. Ours: a stretch of frames without a value ends a series, so nothing is averaged across it.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from affpipe.errors import InputError

FILTERS: dict[str, Callable[..., np.ndarray]] = {"mean": ndimage.uniform_filter1d, "median": ndimage.median_filter}


def smooth(values: np.ndarray, valid: np.ndarray, *, filter: str, frames: Sequence[int]) -> np.ndarray:
    """Filter each run of valid frames by itself.

    Args:
        values: (T, C), anything where not valid. valid: (T,) bool.
        filter: "mean" or "median". frames: (C,) odd window length of each column; 1 leaves it as it is.

    Returns:
        (T, C) float64; frames that are not valid are as they were. At either end of a run its outermost value is repeated.

    Raises InputError for another filter, an even length, or shapes that do not agree.
    """
    if filter not in FILTERS:
        raise InputError(f"smooth: want a filter of {list(FILTERS)}, got {filter!r}")
    if values.ndim != 2 or valid.shape != values.shape[:1] or valid.dtype != bool or len(frames) != values.shape[1]:
        raise InputError(
            f"smooth: want values (T, C), valid bool (T,) and C lengths, got {values.shape}, {valid.dtype} {valid.shape} and {list(frames)}"
        )
    if any(size < 1 or size % 2 == 0 for size in frames):
        raise InputError(f"smooth: want odd lengths, which have a middle, got {list(frames)}")
    out = values.astype(np.float64)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        for column, size in enumerate(frames):
            if size > 1:
                out[start:stop, column] = FILTERS[filter](out[start:stop, column], size, mode="nearest")
    return out
