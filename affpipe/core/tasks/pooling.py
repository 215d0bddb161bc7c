"""Labels at another rate: what the frames of an interval say together.

Valence and arousal are averaged; an action unit becomes the share of frames in which it is present; an expression is the class of most
frames, of equally frequent ones the first in number. Frames without a label never count.
"""

import numpy as np

from affpipe.core.align import pool
from affpipe.core.axis import frames_in
from affpipe.core.tasks.task import EXPRESSIONS


def to_rows(
    task: str, values: np.ndarray, valid: np.ndarray, times_s: np.ndarray, start_s: np.ndarray, end_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of rows that cover intervals of time.

    Args:
        values: (T, K) per frame; valid: (T,) bool; times_s: (T,) sorted.
        start_s, end_s: (R,) intervals.

    Returns:
        (R, K) float32, zero where an interval holds no valid frame, and (R,) bool: True where it holds one.
    """
    return between(task, values, valid, *frames_in(times_s, start_s, end_s))


def between(task: str, values: np.ndarray, valid: np.ndarray, first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `to_rows`, of rows that cover the frames [first, stop) (R,)."""
    if task != "expr":
        return pool(values, valid, first, stop)
    classes = np.where(valid, values[:, 0], 0).astype(np.int64)
    share, known = pool(np.eye(len(EXPRESSIONS))[classes], valid, first, stop)
    return share.argmax(axis=1).astype(np.float32)[:, None], known


def second_bins(
    start_s: np.ndarray, end_s: np.ndarray, fps: float, *, bins: int, bin_s: float, frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Frames [first, stop), each (W, bins), of the equal bins of windows, by the rule of Team RAS's public code: counted, not timed.

    A window is the frames from start · fps to end · fps, both rounded (a half up); its bins are cut at its first frame +
    round(i · bin_s · fps) and clipped to its end. On a variable rate a bin then lies elsewhere than its time says.

    Args:
        start_s, end_s: (W,) seconds from the first frame. fps: nominal rate. frames: of the video.
    """
    begin, end = (np.floor(np.asarray(t) * fps + 0.5).astype(np.int64)[:, None] for t in (start_s, end_s))
    edges = np.minimum(begin + np.round(np.arange(bins + 1) * bin_s * fps).astype(np.int64), np.minimum(end, frames))
    return edges[:, :-1], edges[:, 1:]
