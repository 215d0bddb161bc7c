"""Tracks: boxes of consecutive frames joined by overlap.

Online and deterministic. There is no motion or appearance model: a cut to another person in the same place continues the track, and a
face that jumps by more than its own size starts a new one; curation puts such pieces together.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from affpipe.errors import InputError


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of (N, 4) and (M, 4) boxes xyxy as (N, M) float64; zero where both are empty."""
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]  # (N, 1, 4), (1, M, 4)
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inner = np.prod(np.maximum(side, 0), axis=-1)
    union = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1) - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


@dataclass
class _Track:
    id: int
    box: np.ndarray  # (4,), the latest
    frame: int  # where it was seen last


class Tracker:
    """Give boxes the id of the track they continue; ids count from 0 in order of appearance.

    Args:
        min_iou: least overlap with the track's latest box.
        max_gap_frames: a track survives that many frames without a box.
    """

    def __init__(self, *, min_iou: float = 0.3, max_gap_frames: int = 10):
        if not 0 < min_iou <= 1 or max_gap_frames < 0:
            raise InputError(f"Tracker: want 0 < min_iou <= 1 and max_gap_frames >= 0, got {min_iou}, {max_gap_frames}")
        self.min_iou, self.max_gap_frames = min_iou, max_gap_frames
        self._alive: list[_Track] = []
        self._count = 0
        self._frame = -1

    def update(self, frame_index: int, boxes: np.ndarray) -> np.ndarray:
        """Ids (N,) int64 of the (N, 4) boxes of a frame; frames come in rising order, those without a face may be left out.

        The pairing of tracks and boxes has the largest total overlap.
        """
        if frame_index <= self._frame:
            raise InputError(f"Tracker: want frames in rising order, got {frame_index} after {self._frame}")
        boxes = np.asarray(boxes).reshape(-1, 4)
        self._frame = frame_index
        self._alive = [t for t in self._alive if frame_index - t.frame <= self.max_gap_frames + 1]
        ids = np.full(len(boxes), -1, np.int64)

        if self._alive and len(boxes):
            overlap = iou(np.stack([t.box for t in self._alive]), boxes)  # (tracks, N)
            overlap[overlap < self.min_iou] = 0
            for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[row, column] > 0:
                    track = self._alive[row]
                    track.box, track.frame, ids[column] = boxes[column], frame_index, track.id

        for n in np.flatnonzero(ids < 0):
            ids[n] = self._count
            self._alive.append(_Track(self._count, boxes[n], frame_index))
            self._count += 1
        return ids
