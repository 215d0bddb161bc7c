"""Labels with times, laid on the frames of a video.

Files count seconds from the beginning of the media, as a player does. Their zero is the first frame, whatever time the container gives it
(`FrameAxis.start_s`; 1.4 s in many transport streams). Frames are found by their own timestamps, so any frame rate works, a variable one
too. Files round times to milliseconds, and frames of 29.97 a second lie between those. So times that differ by at most STEP_S count as
equal.
"""

from typing import Literal

import numpy as np

from affpipe.core.axis import frames_in
from affpipe.core.errors import InputError
from affpipe.core.tasks.task import GAP_S
from affpipe.data.annotation_files.intervals import STEP_S, Intervals
from affpipe.data.annotation_files.timed import Timed

NOISE_S = 1e-6  # greatest error of differences of times; far below a frame


def covering(intervals: Intervals, times_s: np.ndarray, *, zero_s: float) -> np.ndarray:
    """Return the interval that each frame is in, (T,) int64, -1 for none.

    A frame is in the interval [start, end) that its timestamp is in; a start or end that it misses by at most STEP_S counts as reached. An
    interval between two frames has none. If two intervals overlap by a rounded time, the frame belongs to the later one.

    Args:
        times_s: (T,) float64, sorted: timestamps of the frames. zero_s: time of the first frame, `FrameAxis.start_s`.
    """
    out = np.full(len(times_s), -1, np.int64)
    for i, (first, past) in enumerate(zip(*frames_in(times_s - zero_s + STEP_S, intervals.start_s, intervals.end_s), strict=True)):
        out[first:past] = i
    return out


def sampled(
    timed: Timed, times_s: np.ndarray, *, zero_s: float, how: Literal["linear", "nearest"] = "linear", gap_s: float = GAP_S
) -> np.ndarray:
    """Return the values at the frames, (T, K) float64, NaN where there is no label.

    A frame between two samples at most gap_s apart gets a value from them. With `linear` it is the value on the line between them, which
    needs both to have a label. With `nearest` it is that of the nearer one (the earlier on a tie), label or not. Any other frame gets the
    value of a sample within STEP_S, or none: no value continues before the first sample, after the last one, or into a gap.

    Args:
        times_s: (T,) float64, sorted: timestamps of the frames. zero_s: time of the first frame, `FrameAxis.start_s`.
        how: linear for degrees, nearest for classes and for 0 or 1.
    """
    if how not in ("linear", "nearest") or not gap_s >= 0:
        raise InputError(f"sampled: want linear or nearest and a gap_s of at least 0, got {how!r} and {gap_s!r}")
    if not len(timed):
        return np.full((len(times_s), len(timed.columns)), np.nan)
    at, samples, values = times_s - zero_s, timed.times_s, timed.values
    before = np.maximum(np.searchsorted(samples, at, side="right") - 1, 0)  # (T,)
    after = np.minimum(before + 1, len(samples) - 1)
    since, until = at - samples[before], samples[after] - at  # (T,), negative outside of the two
    gap = samples[after] - samples[before]
    between = (since >= 0) & (until >= 0) & (gap <= gap_s + NOISE_S)
    earlier = since <= until + NOISE_S
    if how == "linear":
        share = since / np.where(gap > 0, gap, 1)
        found = values[before] + share[:, None] * (values[after] - values[before])
    else:
        found = values[np.where(earlier, before, after)]
    near = np.where(np.abs(since) <= np.abs(until), before, after)
    close = np.abs(at - samples[near]) <= STEP_S
    alone = np.where(close[:, None], values[near], np.nan)
    return np.where(between[:, None] & ~np.isnan(found), found, alone)
