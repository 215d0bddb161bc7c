"""The frame axis, and everything that crosses rates: segments, windows, alignment.

All times are seconds on the container's clock, float64. An interval is half open: [start_s, end_s). A row of a stream covers an interval;
a frame belongs to a row when the frame's timestamp lies in that interval. Indices are 0-based; files for people number frames from 1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

import numpy as np

from affpipe.errors import InputError

# A longer axis comes of a damaged timestamp, and would ask for gigabytes of silence and of empty windows.
LONGEST_S = 24 * 3600.0
FASTEST = 100_000  # frames a second; the slowest axis shows its last frame for all of LONGEST_S
RATE = re.compile(r"[1-9][0-9]{0,17}(/[1-9][0-9]{0,17})?", re.ASCII)
OBSERVED, NEAREST, NONE = 2, 1, 0
SOURCE_NAMES = {OBSERVED: "observed", NEAREST: "nearest", NONE: "none"}


@dataclass(frozen=True, eq=False)
class FrameAxis:
    """Frames of a video in decode order.

    Attributes:
        times_s: (T,) float64, strictly increasing: the container's timestamps.
        fps: nominal frame rate, exact (30000/1001, not 29.97). Never used to compute a time.
    """

    times_s: np.ndarray
    fps: Fraction

    def __post_init__(self) -> None:
        t = self.times_s
        if t.ndim != 1 or len(t) == 0 or t.dtype != np.float64:
            raise InputError(f"FrameAxis: want float64 (T,) with T >= 1, got {t.dtype} {t.shape}")
        if not np.isfinite(t).all() or (np.diff(t) <= 0).any():
            raise InputError("FrameAxis: want finite, strictly increasing times")
        if not 0 < self.fps <= FASTEST:
            raise InputError(f"FrameAxis: want fps above 0 and at most {FASTEST}, got {float(self.fps):g}")
        if not (self.end_s - self.start_s <= LONGEST_S and abs(self.start_s) < 1e10):
            raise InputError(f"FrameAxis: want at most {LONGEST_S / 3600:.0f} h, got frames from {self.start_s:g} to {self.end_s:g} s")

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def start_s(self) -> float:
        """Time of the first frame: zero of the audio track that belongs to this axis."""
        return float(self.times_s[0])

    @property
    def end_s(self) -> float:
        """End of the last frame, which is shown for one nominal frame."""
        return float(self.times_s[-1] + 1 / self.fps)

    @cached_property
    def ends_s(self) -> np.ndarray:
        """(T,) float64: a frame is shown until the next one starts."""
        return np.append(self.times_s[1:], self.end_s)


def rate(text: str) -> Fraction:
    """The frame rate that a file tells, "25" or "30000/1001"; ValueError for anything else: `Fraction` takes seconds for "1e10000000"."""
    if not (isinstance(text, str) and RATE.fullmatch(text)):
        raise ValueError(f"the frame rate {str(text)[:40]!r}")
    return Fraction(text)


def segments(start_s: float, end_s: float, *, length_s: float, hop_s: float) -> np.ndarray:
    """Cut [start_s, end_s) into (S, 2) segments of length_s every hop_s, the last one clipped at end_s.

    The first segment that reaches the end is the last, so every instant is covered and no segment lies within another; a clip
    shorter than length_s gives one short segment.
    """
    if not (end_s > start_s and 0 < hop_s <= length_s):
        raise InputError(f"segments: want end > start and 0 < hop <= length, got [{start_s}, {end_s}), {length_s}, {hop_s}")
    count = 1 + max(0, int(np.ceil((end_s - start_s - length_s) / hop_s - 1e-9)))
    starts = start_s + hop_s * np.arange(count)
    return np.stack([starts, np.minimum(starts + length_s, end_s)], axis=1)


def frames_in(times_s: np.ndarray, start_s: np.ndarray, end_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-last frame index of each interval [start_s, end_s); times_s must be sorted."""
    return np.searchsorted(times_s, start_s, side="left"), np.searchsorted(times_s, end_s, side="left")


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


def align(
    values: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bring rows of any rate to the frame axis: each frame gets the mean of the valid rows that cover its timestamp.

    Args:
        values: (R, ...) rows; valid: (R,) bool; start_s, end_s: (R,) the interval of each row.
        times_s: (T,) sorted timestamps.

    Returns:
        (T, ...) float32, zero where no valid row covers the frame, and (T,) bool: True where one does.
    """
    rows = np.flatnonzero(valid)
    frame, at = _pairs(*frames_in(times_s, start_s[rows], end_s[rows]))
    return _weighted(values, valid, len(times_s), frame, rows[at], np.ones(len(frame)))


def interpolate(
    values: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, axis: FrameAxis, *, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bring the rows of overlapping windows to the frame axis: linearly within each window, then the mean over windows.

    A frame between the start of a window's first valid row and the end of its last one looks, with the middle of the time that it is shown,
    between the middles of these rows; before the first and behind the last middle that row is held. At a constant rate this is how Team
    RAS's public code stretches four seconds over the frames of a window; it squeezes all four into a last window that is shorter, where
    here each keeps its time.

    Args: as `align`; rows: of each window, one window after another, (W rows, ...) in all. Returns as `align`.
    """
    middle_s, shown_s = (start_s + end_s) / 2, (axis.times_s + axis.ends_s) / 2
    frame, low, high, share = [], [], [], []
    for window in np.arange(len(values)).reshape(-1, rows):
        own = window[valid[window]]
        if len(own):
            here = slice(*(int(edge) for edge in frames_in(axis.times_s, start_s[own[0]], end_s[own[-1]])))
            after = np.searchsorted(middle_s[own], shown_s[here])
            low_, high_ = own[np.maximum(after - 1, 0)], own[np.minimum(after, len(own) - 1)]
            gap_s = middle_s[high_] - middle_s[low_]
            frame.append(np.arange(here.start, here.stop))
            low.append(low_)
            high.append(high_)
            share.append(np.divide(shown_s[here] - middle_s[low_], gap_s, out=np.zeros(len(low_)), where=gap_s > 0))
    if not frame:
        return _weighted(values, valid, len(axis), *(np.zeros(0, np.int64),) * 2, np.zeros(0))
    part = np.concatenate(share)
    return _weighted(values, valid, len(axis), np.tile(np.concatenate(frame), 2), np.concatenate([*low, *high]), np.append(1 - part, part))


def _pairs(first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frames [first, stop) of each of N rows, one row after another, and which row each belongs to."""
    length = np.maximum(stop - first, 0)
    row = np.repeat(np.arange(len(length)), length)
    return first[row] + np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length), row


def _weighted(
    values: np.ndarray, valid: np.ndarray, frames: int, frame: np.ndarray, row: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean of rows for each frame, of entries (frame, row, weight); see `align` for what it returns."""
    from scipy import sparse  # here: most jobs and all planning import this module for its axis alone

    cover = sparse.csr_matrix((weight, (frame, row)), shape=(frames, len(values)))
    count = np.asarray(cover.sum(axis=1)).ravel()
    width = int(np.prod(values.shape[1:]))  # reshape(R, -1) cannot tell it where R is 0
    flat = np.where(valid[:, None], values.reshape(len(values), width).astype(np.float64), 0.0)
    out = (cover @ flat) / np.where(count > 0, count, 1)[:, None]
    return out.reshape(frames, *values.shape[1:]).astype(np.float32), count > 0


def pool(values: np.ndarray, valid: np.ndarray, first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The way back from frames to rows: each row gets the mean of the valid frames among [first, stop), see `frames_in`.

    Args:
        values: (T, D) per frame; valid: (T,) bool. first, stop: (R,) int64.

    Returns:
        (R, D) float32, zero where a row holds no valid frame, and (R,) bool: True where it holds one.
    """
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(np.where(valid[:, None], values, 0.0), axis=0, dtype=np.float64)])
    count = np.concatenate([[0], np.cumsum(valid)])
    stop = np.maximum(stop, first)
    n = count[stop] - count[first]
    return ((total[stop] - total[first]) / np.maximum(n, 1)[:, None]).astype(np.float32), n > 0


def nearest(valid: np.ndarray) -> np.ndarray:
    """(T,) int64: for each row the index of the nearest valid row, the earlier one on a tie; -1 everywhere if none is valid."""
    index = np.flatnonzero(valid)
    if len(index) == 0:
        return np.full(len(valid), -1, np.int64)
    here = np.arange(len(valid))
    after = np.searchsorted(index, here)
    before = index[np.maximum(after - 1, 0)]
    after = index[np.minimum(after, len(index) - 1)]
    return np.where(np.abs(here - before) <= np.abs(after - here), before, after)


def sources(valid: np.ndarray) -> np.ndarray:
    """(T,) uint8 source of each row after filling with `nearest`: OBSERVED, NEAREST, or NONE if the stream has nothing."""
    return np.where(valid, OBSERVED, NEAREST if valid.any() else NONE).astype(np.uint8)
