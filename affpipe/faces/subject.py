"""Choice of the annotated subject among the tracks of a video.

A rule decides unless a person has. First, spurious tracks are set aside: those seen in fewer than MIN_FRAMES frames (a detector's false
alarms flicker), and those whose mean box area is below MIN_AREA of the main track's. The main track is the one with the largest summed
area. Then tracks are taken greedily by summed area, each only if it shares no frame with those taken: a person's track may be broken by
gaps or cuts, but is never in two places. So where the main person is away, the rule may take another who is alone in view. Curate such
streams by hand.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from affpipe.core.errors import InputError, SettingsError

MIN_FRAMES = 5
MIN_AREA = 0.1
RULES = ("largest", "left", "right")


@dataclass(frozen=True, eq=False)
class Choice:
    """Subject of a stream.

    Attributes:
        tracks: ids of the tracks taken, in order of priority.
        row: (T,) int64 index into the N detections, -1 where the subject is not seen.
        reason: one line for people.
    """

    tracks: tuple[int, ...]
    row: np.ndarray
    reason: str


def choose(
    frame: np.ndarray, track: np.ndarray, box: np.ndarray, *, rule: Literal["largest", "left", "right"], frames: int, width: int
) -> Choice:
    """Choose the subject's tracks by rule.

    A track is on the left if its mean centre lies left of that of others, in the frames that it shares with them. A track that is always
    alone is compared with the middle between the tracks so placed on either side, or with the middle of the frame if there are none.

    Args:
        frame: (N,) int frame of each detection.
        track: (N,) int id of each detection.
        box: (N, 4) float xyxy.
        frames: T, number of frames of the video.
        width: of the frame in pixels.
    """
    if rule not in RULES:
        raise SettingsError(f"subject: want rule one of {', '.join(RULES)}, got {rule!r}")
    _check(frame, track, box, frames)
    kept, ignored = _plausible(track, box, frames)
    if not kept:
        return Choice((), np.full(frames, -1, np.int64), f"no face ({ignored} short or small tracks ignored)" if ignored else "no face")
    side = kept if rule == "largest" else _on_side(kept, frame, track, (box[:, 0] + box[:, 2]) / 2, rule, width)
    seen: set[int] = set()
    taken = []
    for t in side:
        own = set(frame[track == t].tolist())
        if not own & seen:
            taken.append(t)
            seen |= own
    if not taken:
        return Choice((), np.full(frames, -1, np.int64), f"no face on the {rule}")
    reason = f"rule {rule}: took {len(taken)} of {len(kept) + ignored} tracks" + (f", {ignored} short or small" if ignored else "")
    return Choice(tuple(taken), _rows(frame, track, taken, frames), reason)


def choose_tracks(frame: np.ndarray, track: np.ndarray, *, tracks: tuple[int, ...], frames: int) -> Choice:
    """Take the tracks that a person named. If two of them show in one frame, the one named first counts."""
    known = np.unique(track).tolist()
    unknown = [t for t in tracks if t not in known]
    if unknown:
        raise InputError(f"subject: want tracks among {known}, got {unknown}; mend the curation file")
    return Choice(tuple(tracks), _rows(frame, track, list(tracks), frames), f"curated: tracks {' '.join(map(str, tracks)) or '(none)'}")


def _plausible(track: np.ndarray, box: np.ndarray, frames: int) -> tuple[list[int], int]:
    """Return the ids of the tracks that may be a subject, by falling summed area (ties: smaller id), and the number of the others."""
    area = np.prod(box[:, 2:].astype(np.float64) - box[:, :2], axis=1)
    ids, index, count = np.unique(track, return_inverse=True, return_counts=True)
    total = np.bincount(index, weights=area, minlength=len(ids))
    long = count >= min(MIN_FRAMES, frames)
    if not long.any():
        return [], len(ids)
    mean = total / count
    good = long & (mean >= MIN_AREA * mean[np.argmax(np.where(long, total, -1))])
    order = [i for i in np.lexsort((ids, -total)) if good[i]]
    return ids[order].tolist(), int((~good).sum())


def _on_side(ids: list[int], frame: np.ndarray, track: np.ndarray, x: np.ndarray, rule: str, width: int) -> list[int]:
    """Return those of `ids` that are on the side named by `rule`, in the same order."""
    kept = np.isin(track, ids)
    total = np.bincount(frame[kept], weights=x[kept])  # sum of the centres of a frame's faces
    count = np.bincount(frame[kept])
    mean_x, offset = {}, {}
    for t in ids:
        own = track == t
        mean_x[t] = float(x[own].mean())
        shared = own & (count[np.where(own, frame, 0)] > 1)
        if shared.any():
            f = frame[shared]
            offset[t] = float((x[shared] - (total[f] - x[shared]) / (count[f] - 1)).mean())
    left, right = ([mean_x[t] for t in offset if (offset[t] < 0) == s] for s in (True, False))
    middle = (np.mean(left) + np.mean(right)) / 2 if left and right else width / 2
    return [t for t in ids if (offset.get(t, mean_x[t] - middle) < 0) == (rule == "left")]


def _rows(frame: np.ndarray, track: np.ndarray, taken: list[int], frames: int) -> np.ndarray:
    row = np.full(frames, -1, np.int64)
    for t in reversed(taken):
        own = np.flatnonzero(track == t)
        row[frame[own]] = own
    return row


def _check(frame: np.ndarray, track: np.ndarray, box: np.ndarray, frames: int) -> None:
    n = len(frame)
    if frame.shape != (n,) or track.shape != (n,) or box.shape != (n, 4):
        raise InputError(f"subject: want frame (N,), track (N,), box (N, 4), got {frame.shape}, {track.shape}, {box.shape}")
    if n and not (frame.min() >= 0 and frame.max() < frames):
        raise InputError(f"subject: want frames in [0, {frames}), got {frame.min()} to {frame.max()}")
