"""Tracks: boxes of consecutive frames joined by overlap and appearance.

The tracker is online, deterministic, and without a network. A box continues a track if it looks like the track and overlaps its latest box,
either where that was or moved on at the track's last speed. The pairing has the largest sum of overlap and likeness. So a cut to another
person in the same place begins a new track, and two people who cross keep their own. A box that is left over joins a track if the face can
have moved there and looks very much alike: a face that comes back elsewhere.

From DeepSORT (Wojke et al., 2017) come the appearance, a gate on it and a second pairing; constant speed and a speed limit replace its
Kalman filter. Nothing is taken from ByteTrack (Zhang et al., 2022), which pairs first certain and then doubtful boxes: the detectors here
have one threshold, and the gap bridges a missed face.
"""

from dataclasses import dataclass

import numpy as np

from affpipe.core.errors import InputError
from affpipe.faces.appearance import LENGTH, likeness

KEEP = 0.9  # share of a track's mean look kept at each box, so that what covers a face for a few frames hardly changes it
SPEED = 1.0  # box sides per frame: no face moves faster
GROWTH = 2.0  # largest ratio by which a side grows or shrinks while a face is away


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of (N, 4) and (M, 4) boxes xyxy as (N, M) float64; zero where both are empty."""
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]  # (N, 1, 4), (1, M, 4)
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inner = np.prod(np.maximum(side, 0), axis=-1)
    union = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1) - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


@dataclass
class _Track:
    id: int
    box: np.ndarray  # (4,), the latest
    look: np.ndarray  # (LENGTH,), the latest
    mean: np.ndarray  # (LENGTH,), mean of the past
    step: np.ndarray  # (2,), movement of the centre per frame
    frame: int  # last frame in which it was seen

    def take(self, box: np.ndarray, look: np.ndarray, frame: int) -> None:
        """Continue the track with a box."""
        step = (_centre(box) - _centre(self.box)) / (frame - self.frame)
        self.step = (self.step + step) / 2
        self.mean = KEEP * self.mean + (1 - KEEP) * look
        self.box, self.look, self.frame = box, look, frame


class Tracker:
    """Tracker that gives each box the id of its track. Ids count from 0 in order of appearance, within a frame from the left.

    Args:
        min_iou: least overlap with the track's latest box.
        min_similarity: least likeness to the track's latest or mean look; 0 lets overlap alone decide.
        max_gap_frames: number of frames without a box that a track survives.
    """

    def __init__(self, *, min_iou: float = 0.3, min_similarity: float = 0.5, max_gap_frames: int = 5):
        if not (0 < min_iou <= 1 and 0 <= min_similarity <= 1 and max_gap_frames >= 0):
            raise InputError(
                "Tracker: want 0 < min_iou <= 1, 0 <= min_similarity <= 1 and max_gap_frames >= 0, "
                f"got {min_iou}, {min_similarity}, {max_gap_frames}"
            )
        self.min_iou, self.min_similarity, self.max_gap_frames = min_iou, min_similarity, max_gap_frames
        self._alive: list[_Track] = []
        self._count = 0
        self._frame = -1

    def update(self, frame_index: int, boxes: np.ndarray, looks: np.ndarray) -> np.ndarray:
        """Return the ids (N,) int64 of the (N, 4) boxes of a frame with their looks (N, LENGTH), in any order.

        Frames must come in rising order; those without a face may be left out.
        """
        if frame_index <= self._frame:
            raise InputError(f"Tracker: want frames in rising order, got {frame_index} after {self._frame}")
        boxes, looks = np.asarray(boxes).reshape(-1, 4), np.asarray(looks).reshape(-1, LENGTH)
        if len(boxes) != len(looks):
            raise InputError(f"Tracker: want a look for each box, got {len(looks)} for {len(boxes)}")
        self._frame = frame_index
        self._alive = [t for t in self._alive if frame_index - t.frame <= self.max_gap_frames + 1]
        ids = np.full(len(boxes), -1, np.int64)
        if self._alive and len(boxes):
            self._pair(ids, frame_index, boxes, looks)
        for n in sorted(np.flatnonzero(ids < 0), key=lambda n: boxes[n].tolist()):
            ids[n] = self._count
            self._alive.append(_Track(self._count, boxes[n], looks[n], looks[n], np.zeros(2), frame_index))
            self._count += 1
        return ids

    def _pair(self, ids: np.ndarray, frame_index: int, boxes: np.ndarray, looks: np.ndarray) -> None:
        """Fill in the ids of the boxes that continue a track, and add the boxes to it."""
        from scipy.optimize import linear_sum_assignment  # here, as most stages of faces import this module only for `Tally`

        tracks = list(self._alive)
        latest = np.stack([t.box for t in tracks])
        gap = np.array([frame_index - t.frame for t in tracks])
        moved = latest + np.tile(np.stack([t.step for t in tracks]) * gap[:, None], 2)
        overlap = np.maximum(iou(latest, boxes), iou(moved, boxes))  # (tracks, N)
        like = np.maximum(likeness(np.stack([t.look for t in tracks]), looks), likeness(np.stack([t.mean for t in tracks]), looks))
        there = (overlap >= self.min_iou) & (like >= self.min_similarity)
        # Elsewhere overlap proves nothing, so the likeness must be higher: half-way between the least allowed and identical.
        back = _reachable(latest, boxes, gap) & (like >= (1 + self.min_similarity) / 2)
        for allowed in (there, back):
            worth = np.where(allowed, overlap + like, 0)
            for row, column in zip(*linear_sum_assignment(-worth), strict=True):
                if allowed[row, column]:
                    ids[column] = tracks[row].id
                    tracks[row].take(boxes[column], looks[column], frame_index)
                    back[row] = back[:, column] = False


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[..., :2] + box[..., 2:]) / 2


def _reachable(latest: np.ndarray, boxes: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Return (tracks, N) bool, whether a face of the box `latest` can be at each of `boxes` after `gap` (tracks,) frames."""
    size, new = latest[:, 2:] - latest[:, :2], boxes[:, 2:] - boxes[:, :2]
    ratio = new[None] / np.maximum(size[:, None], 1e-9)  # (tracks, N, 2)
    distance = np.linalg.norm(_centre(boxes)[None] - _centre(latest)[:, None], axis=-1)
    alike = (np.maximum(ratio, 1 / np.maximum(ratio, 1e-9)) <= GROWTH).all(axis=-1)
    return alike & (distance <= SPEED * size.max(axis=1)[:, None] * gap[:, None])


class Tally:
    """Running summary of tracks while their boxes go by."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[int, int, int, np.ndarray]] = {}  # frames, first, last, sums of (area, score, box)

    def add(self, track: int, frame: int, box: np.ndarray, score: float) -> None:
        """Count a box (4,) xyxy of a track. The frames of a track must rise."""
        left, top, right, bottom = box.astype(float)
        count, first, _, sums = self._sums.get(track, (0, frame, frame, np.zeros(6)))
        new = np.array([(right - left) * (bottom - top), score, left, top, right, bottom])
        self._sums[int(track)] = count + 1, int(first), int(frame), sums + new

    def tracks(self) -> list[dict]:
        """Summarize each track, by number, as plain JSON.

        Fields: track, frames, first, last, mean_area (square pixels), mean_score, mean_box (xyxy).
        """
        out = []
        for track, (count, first, last, sums) in sorted(self._sums.items()):
            area, score, *box = (sums / count).tolist()
            means = {"mean_area": round(area, 1), "mean_score": round(score, 4), "mean_box": [round(x, 2) for x in box]}
            out.append({"track": track, "frames": count, "first": first, "last": last, **means})
        return out
