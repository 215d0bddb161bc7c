"""Smoothing of predictions over frames: a centred moving average, median or majority, with its ends held.

Sources: Team RAS, public code (moving average with replicate padding, one length each for valence and arousal). The median, also of class
numbers, is that of other ABAW systems (Yu et al., "Solution to the 10th ABAW Expression Recognition Challenge", sec. 3.6). Ours: the
majority; and a stretch of frames without a value ends a series, so nothing is averaged across it.
"""

from collections.abc import Sequence

import numpy as np

from affpipe.core.axis import runs
from affpipe.core.errors import InputError

FILTERS = {"mean": "uniform_filter1d", "median": "median_filter"}  # names in scipy.ndimage, which most jobs need not import
CLASS_FILTERS = ("median", "mode")


def smooth(values: np.ndarray, valid: np.ndarray, *, filter: str, frames: Sequence[int]) -> np.ndarray:
    """Filter each run of valid frames by itself.

    Args:
        values: (T, C), anything where not valid. valid: (T,) bool.
        filter: "mean" or "median". frames: (C,) odd window length of each column; 1 leaves it as it is.

    Returns:
        (T, C) float64; frames that are not valid stay as they were. At either end of a run its outermost value is repeated.

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
    from scipy import ndimage

    out = values.astype(np.float64)
    for start, stop in runs(valid):
        for column, size in enumerate(frames):
            if size > 1:
                out[start:stop, column] = getattr(ndimage, FILTERS[filter])(out[start:stop, column], size, mode="nearest")
    return out


def smooth_classes(classes: np.ndarray, valid: np.ndarray, *, filter: str, frames: int) -> np.ndarray:
    """Filter class numbers, each run of valid frames by itself.

    Args:
        classes: (T,) integers, >= 0 where valid. valid: (T,) bool. frames: odd window length; 1 leaves them as they are.
        filter: "mode" is the class that most frames of the window have; on a tie the frame's own, if it is among them, else the lowest.
            "median" is the middle one of their numbers. Numbers are names: if a window holds three classes or more, the median may be one
            that few frames have, merely because its number lies between the others (Anger, 1, between Neutral, 0, and Disgust, 2). Of two
            classes the median is the mode.

    Returns:
        (T,) int64; frames that are not valid stay as they were. At either end of a run its outermost class is repeated.

    Raises InputError for another filter, an even length, a negative class, or shapes that do not agree.
    """
    if filter not in CLASS_FILTERS:
        raise InputError(f"smooth_classes: want a filter of {list(CLASS_FILTERS)}, got {filter!r}")
    if classes.ndim != 1 or classes.dtype.kind not in "iu" or valid.shape != classes.shape or valid.dtype != bool:
        raise InputError(
            f"smooth_classes: want integers (T,) and valid bool (T,), got {classes.dtype} {classes.shape} and {valid.dtype} {valid.shape}"
        )
    if frames < 1 or frames % 2 == 0:
        raise InputError(f"smooth_classes: want an odd length, which has a middle, got {frames}")
    if (classes[valid] < 0).any():
        raise InputError(f"smooth_classes: want classes >= 0 where valid, got {classes[valid].min()}; mark such frames invalid")
    if filter == "median":
        return smooth(classes[:, None], valid, filter="median", frames=(frames,))[:, 0].astype(np.int64)
    return _mode(classes.astype(np.int64), valid, frames)


def _mode(classes: np.ndarray, valid: np.ndarray, size: int) -> np.ndarray:
    """Return the (T,) mode of (T,) classes.

    Running sums count each class over all runs at once, so neither long windows nor many runs cost more.
    """
    out, at = classes.copy(), np.flatnonzero(valid)
    if len(at) == 0:
        return out
    found = runs(valid)
    start, stop = np.repeat(found, found[:, 1] - found[:, 0], axis=0).T  # (n,) each: the run that a valid frame is in
    left, right = at - size // 2, at + size // 2 + 1
    first, last = np.maximum(left, start), np.minimum(right, stop)
    counts = np.empty((classes[at].max() + 1, len(at)), np.int64)
    for name, count in enumerate(counts):
        before = np.concatenate([[0], np.cumsum(classes == name)])
        held = (first - left) * (classes[start] == name) + (right - last) * (classes[stop - 1] == name)
        count[:] = before[last] - before[first] + held
    own = counts[classes[at], np.arange(len(at))]
    out[at] = np.where(own == counts.max(axis=0), classes[at], counts.argmax(axis=0))
    return out
