"""The tracks of a video, and measures of doubt about a rule's choice among them.

The ambiguity of a stream is the largest of these measures, each in [0, 1] and zero for one clean track. U are the frames in which the rule
sees its subject, T the frames of the video. Another track counts only if it is plausible, that is long and large enough for the rule.

    rival    (rule largest) mean over U of r^2, r = area of the largest other face beside the subject / its own area, at most 1
    side     (rules left, right) twice the share of U with another face beyond the subject on the very side that the rule names, at most 1
    same     share of U in which another stream of the video has the very same face
    away     twice the share of T without the subject while another face is in view, at most 1
    unseen   (1 - U / T)^2
    joined   twice the share of U in pieces that do not continue the longest one in place, each weighed by 1 - IoU at the worst joint
             on the way from it, at most 1

`rival` and `away` leave out faces that other streams of the video take. A video without any face has nothing to choose: ambiguity 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from affpipe.faces.subject import MIN_AREA, MIN_FRAMES, Choice
from affpipe.faces.track import iou

AMBIGUOUS = 0.25  # from here on a stream needs a look: a rival of half the area all the time, or an eighth of the frames in doubt
WORTH_SAYING = 0.05
CLEAR = "clear"  # word for a stream without doubts
NAMED = 4  # tracks that a reason names


@dataclass(frozen=True, eq=False)
class Faces:
    """All faces found in a video.

    Attributes:
        frame, track: (N,) int64. box: (N, 4) xyxy in pixels. score: (N,) in [0, 1].
        frames: T. width: width of the frame in pixels.
    """

    frame: np.ndarray
    track: np.ndarray
    box: np.ndarray
    score: np.ndarray
    frames: int
    width: int

    @property
    def area(self) -> np.ndarray:
        """(N,) float64 areas of the boxes."""
        return np.prod(self.box[:, 2:].astype(np.float64) - self.box[:, :2], axis=1)

    @property
    def x(self) -> np.ndarray:
        """(N,) float64 centres."""
        return (self.box[:, 0].astype(np.float64) + self.box[:, 2]) / 2


@dataclass(frozen=True, eq=False)
class Track:
    """One track: `rows` (n,) are its faces in order of time; `side` is the root of the mean area in pixels."""

    id: int
    rows: np.ndarray
    area: float
    score: float
    plausible: bool

    @property
    def side(self) -> float:
        return self.area**0.5


def tracks(faces: Faces) -> list[Track]:
    """Return tracks by rising id. Plausible are those that `faces.subject.choose` does not drop as short or small."""
    area, order = faces.area, np.lexsort((faces.frame, faces.track))
    groups = np.split(order, np.flatnonzero(np.diff(faces.track[order])) + 1) if len(order) else []
    mean = [float(area[rows].mean()) for rows in groups]
    long = [len(rows) >= min(MIN_FRAMES, faces.frames) for rows in groups]
    main = max((i for i in range(len(groups)) if long[i]), key=lambda i: mean[i] * len(groups[i]), default=None)
    return [
        Track(int(faces.track[rows[0]]), rows, mean[i], float(faces.score[rows].mean()), long[i] and mean[i] >= MIN_AREA * mean[main])
        for i, rows in enumerate(groups)
    ]


@dataclass(frozen=True)
class Doubt:
    """A reason to look: a measure in [0, 1] and its words (ASCII)."""

    value: float
    why: str


def doubts(faces: Faces, found: list[Track], rule: str, choice: Choice, others: Mapping[str, np.ndarray]) -> list[Doubt]:
    """Return the measures of a choice that are not zero, largest first.

    Args:
        found: result of `tracks`. choice: the rule's choice.
        others: for each other stream of the video, (T,) int64 rows of `faces` that it takes, -1 for none.
    """
    if not found:
        return []
    plausible = {t.id for t in found if t.plausible}
    seen = choice.row >= 0
    if not seen.any():
        none = f"rule {rule} takes none of the {len(plausible)} plausible tracks"
        return [Doubt(1.0, none if plausible else f"all tracks, {len(found)}, are too short or small for the rule")]
    taken = {int(t) for row in others.values() for t in np.unique(faces.track[row[row >= 0]])}
    other = plausible - set(choice.tracks)
    free = np.isin(faces.track, list(other - taken))
    found_doubts = [
        _rival(faces, choice.row, free) if rule == "largest" else _side(faces, choice.row, np.isin(faces.track, list(other)), rule),
        *(_same(choice.row, row, stream) for stream, row in others.items()),
        _away(faces, seen, free),
        _unseen(seen),
        _joined(faces, choice),
    ]
    return sorted((d for d in found_doubts if d.value > 0), key=lambda d: -d.value)


def ambiguity(found: list[Doubt]) -> float:
    """Return the ambiguity, in [0, 1]."""
    return max((d.value for d in found), default=0.0)


def why(found: list[Doubt]) -> str:
    """Return the doubts in words, the largest first; CLEAR if none is worth saying."""
    return "; ".join(d.why for d in found if d.value >= WORTH_SAYING) or CLEAR


def _rival(faces: Faces, row: np.ndarray, free: np.ndarray) -> Doubt:
    seen, area = row >= 0, faces.area
    largest = np.zeros(faces.frames)
    np.maximum.at(largest, faces.frame[free], area[free])
    ratio = np.minimum(largest[seen] / area[row[seen]], 1)
    beside = ratio > 0
    size = float(ratio[beside].mean()) if beside.any() else 0.0
    which = _names(faces, free & seen[faces.frame])
    return Doubt(
        float((ratio**2).mean()),
        f"a face of {_percent(size)} of its area is beside it in {_percent(beside.mean())} of its frames ({which})",
    )


def _side(faces: Faces, row: np.ndarray, other: np.ndarray, rule: str) -> Doubt:
    x, own = faces.x, row[faces.frame]
    beyond = x < x[own] if rule == "left" else x > x[own]
    wrong = other & (own >= 0) & beyond
    share = len(np.unique(faces.frame[wrong])) / int((row >= 0).sum())
    return Doubt(min(1.0, 2 * share), f"another face is further {rule} in {_percent(share)} of its frames ({_names(faces, wrong)})")


def _same(row: np.ndarray, other: np.ndarray, stream: str) -> Doubt:
    share = float((row == other)[row >= 0].mean())
    return Doubt(share, f"it is the same face as stream {stream} in {_percent(share)} of its frames")


def _away(faces: Faces, seen: np.ndarray, free: np.ndarray) -> Doubt:
    alone = free & ~seen[faces.frame]
    share = len(np.unique(faces.frame[alone])) / faces.frames
    return Doubt(min(1.0, 2 * share), f"someone else is in view without it in {_percent(share)} of the video ({_names(faces, alone)})")


def _unseen(seen: np.ndarray) -> Doubt:
    share = float(1 - seen.mean())
    return Doubt(share**2, f"it is not seen in {_percent(share)} of the video")


def _joined(faces: Faces, choice: Choice) -> Doubt:
    rows = choice.row[choice.row >= 0]
    pieces = sorted((rows[faces.track[rows] == t] for t in set(faces.track[rows].tolist())), key=lambda piece: faces.frame[piece[0]])
    gap = [1 - float(iou(faces.box[a[-1:]], faces.box[b[:1]])[0, 0]) for a, b in pairwise(pieces)]
    longest = max(range(len(pieces)), key=lambda i: len(pieces[i]))
    worst = [max(gap[min(i, longest) : max(i, longest)], default=0.0) for i in range(len(pieces))]
    share = sum(len(piece) * doubt for piece, doubt in zip(pieces, worst, strict=True)) / len(rows)
    return Doubt(min(1.0, 2 * share), f"it is joined of {len(pieces)} pieces that may not be one person")


def _names(faces: Faces, which: np.ndarray) -> str:
    """Name the tracks of the flagged faces, those of most faces first."""
    ids, count = np.unique(faces.track[which], return_counts=True)
    ids = ids[np.argsort(-count, kind="stable")].tolist()
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"track{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids[:NAMED]))}{more}"


def _percent(share: float) -> str:
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"
