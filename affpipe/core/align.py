"""Rows of any rate on the frames, and frames pooled to rows: by the times that each covers, never by counting. See `axis` for the words."""

import numpy as np

from affpipe.core.axis import NEAREST, NONE, OBSERVED, FrameAxis, frames_in


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
