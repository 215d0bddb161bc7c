"""Windows of a stream's rows: cut with overlap, merged again by the mean. Split then merge is the identity."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from affpipe.core.errors import InputError


def split(n: int, *, length: int, stride: int, tail: Literal["shifted", "truncated"] = "shifted") -> np.ndarray:
    """Starts of windows of `length` rows every `stride` over n rows; a tail window is added so that the last row is covered.

    "shifted" puts the tail window where it ends with the last row, as long as the others (Team RAS, sec. 3.1); "truncated" where its
    stride does, so that it has fewer rows than `length` (the behaviour model of their public code). With n <= length there is one
    window, at 0.
    """
    if n < 1 or not 0 < stride <= length:
        raise InputError(f"split: want n >= 1 and 0 < stride <= length, got n={n}, length={length}, stride={stride}")
    if n <= length:
        return np.zeros(1, np.int64)
    if tail == "truncated":
        return np.arange(0, n - length + stride, stride)
    starts = np.arange(0, n - length + 1, stride)
    return starts if starts[-1] == n - length else np.append(starts, n - length)


def merge(windows: Sequence[np.ndarray], starts: Sequence[int], n: int) -> np.ndarray:
    """Inverse of `split`: average overlapping windows (L, ...), of any lengths, back to (n, ...) float64 rows.

    What lies beyond n is dropped.
    """
    total = np.zeros((n, *windows[0].shape[1:]), np.float64)
    first = np.minimum(starts, n)
    stop = np.minimum(first + [len(window) for window in windows], n)
    for window, a, b in zip(windows, first.tolist(), stop.tolist(), strict=True):
        total[a:b] += window[: b - a]
    count = np.cumsum(np.bincount(first, minlength=n + 1) - np.bincount(stop, minlength=n + 1))[:n]  # windows that cover each row
    if (count == 0).any():
        raise InputError(f"merge: row {int(np.argmin(count))} of {n} is covered by no window")
    total /= count.reshape(-1, *[1] * (total.ndim - 1))
    return total
