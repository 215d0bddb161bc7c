"""Alignment of rows of any rate to the frames, and pooling of frames to rows.

Both go by the times that each row covers, never by counting. See `axis` for the words.
"""

import numpy as np

from affpipe.core.axis import NEAREST, NONE, OBSERVED, FrameAxis, frames_in


def align(
    values: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bring rows of any rate to the frame axis: each frame gets the mean of the valid rows that cover its timestamp.

    Args:
        values: (R, ...) rows. valid: (R,) bool. start_s, end_s: (R,) interval of each row.
        times_s: (T,) sorted timestamps.

    Returns:
        (T, ...) float32, zero where no valid row covers the frame, and (T,) bool, True where one does.
    """
    rows = np.flatnonzero(valid)
    frame, at = _pairs(*frames_in(times_s, start_s[rows], end_s[rows]))
    return _weighted(values, valid, len(times_s), frame, rows[at], np.ones(len(frame)))


def interpolate(
    values: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, axis: FrameAxis, *, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bring rows of overlapping windows to the frame axis: interpolate linearly within each window, then take the mean over windows.

    A window gives values to the frames between the start of its first valid row and the end of its last one. A frame's place is the middle
    of the time for which it is shown. Its value lies on the line between the middles of the two rows around that place. Before the first
    and after the last middle that row's value is held. At a constant rate this is how Team RAS's public code stretches four seconds over
    the frames of a window. That code squeezes all four seconds into a last window that is shorter; here each row keeps its time.

    Args: as in `align`. rows: number of rows of each window. `values` holds one window after another, (W rows, ...) in all.

    Returns: as `align`.
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
    """Return the frames [first, stop) of each of N rows, one row after another, and the row to which each frame belongs."""
    length = np.maximum(stop - first, 0)
    row = np.repeat(np.arange(len(length)), length)
    return first[row] + np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length), row


def _weighted(
    values: np.ndarray, valid: np.ndarray, frames: int, frame: np.ndarray, row: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean of rows for each frame, from entries (frame, row, weight), as `align` returns it."""
    from scipy import sparse  # imported here, as most jobs and all planning import this module for its axis alone

    cover = sparse.csr_matrix((weight, (frame, row)), shape=(frames, len(values)))
    count = np.asarray(cover.sum(axis=1)).ravel()
    width = int(np.prod(values.shape[1:]))  # reshape(R, -1) cannot find the width where R is 0
    flat = np.where(valid[:, None], values.reshape(len(values), width).astype(np.float64), 0.0)
    out = (cover @ flat) / np.where(count > 0, count, 1)[:, None]
    return out.reshape(frames, *values.shape[1:]).astype(np.float32), count > 0


def pool(values: np.ndarray, valid: np.ndarray, first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pool frames to rows, the inverse of `align`: each row gets the mean of the valid frames among [first, stop), see `frames_in`.

    Args:
        values: (T, D) per frame. valid: (T,) bool. first, stop: (R,) int64.

    Returns:
        (R, D) float32, zero where a row holds no valid frame, and (R,) bool, True where it holds one.
    """
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(np.where(valid[:, None], values, 0.0), axis=0, dtype=np.float64)])
    count = np.concatenate([[0], np.cumsum(valid)])
    stop = np.maximum(stop, first)
    n = count[stop] - count[first]
    return ((total[stop] - total[first]) / np.maximum(n, 1)[:, None]).astype(np.float32), n > 0


def nearest(valid: np.ndarray) -> np.ndarray:
    """Return (T,) int64: the index of the nearest valid row for each row, the earlier one on a tie; -1 everywhere if none is valid."""
    index = np.flatnonzero(valid)
    if len(index) == 0:
        return np.full(len(valid), -1, np.int64)
    here = np.arange(len(valid))
    after = np.searchsorted(index, here)
    before = index[np.maximum(after - 1, 0)]
    after = index[np.minimum(after, len(index) - 1)]
    return np.where(np.abs(here - before) <= np.abs(after - here), before, after)


def sources(valid: np.ndarray) -> np.ndarray:
    """Return (T,) uint8, the source of each row after filling with `nearest`: OBSERVED, NEAREST, or NONE if no row is valid."""
    return np.where(valid, OBSERVED, NEAREST if valid.any() else NONE).astype(np.uint8)
