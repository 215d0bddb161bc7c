"""Pooling of labels to another rate: the frames of an interval become one label, as the task's kind pools them.

Frames without a label never count.
"""

import numpy as np

from affpipe.core.axis import frames_in
from affpipe.core.tasks.task import Task


def to_rows(
    task: Task, values: np.ndarray, valid: np.ndarray, times_s: np.ndarray, start_s: np.ndarray, end_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pool labels over rows that cover intervals of time.

    Args:
        values: (T, K) per frame. valid: (T,) bool. times_s: (T,) sorted.
        start_s, end_s: (R,) intervals.

    Returns:
        (R, K) float32, zero where an interval holds no valid frame, and (R,) bool, True where it holds one.
    """
    return task.pool(values, valid, *frames_in(times_s, start_s, end_s))


def second_bins(
    start_s: np.ndarray, end_s: np.ndarray, fps: float, *, bins: int, bin_s: float, frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames [first, stop), each (W, bins), of the equal bins of windows, by counting as Team RAS's public code does.

    A window is the frames from start · fps to end · fps, both rounded (a half up). Its bins are cut at its first frame + round(i · bin_s ·
    fps) and clipped to its end. At a variable rate a bin then lies elsewhere than its time says.

    Args:
        start_s, end_s: (W,) seconds from the first frame. fps: nominal rate. frames: number of frames of the video.
    """
    begin, end = (np.floor(np.asarray(t) * fps + 0.5).astype(np.int64)[:, None] for t in (start_s, end_s))
    edges = np.minimum(begin + np.round(np.arange(bins + 1) * bin_s * fps).astype(np.int64), np.minimum(end, frames))
    return edges[:, :-1], edges[:, 1:]
