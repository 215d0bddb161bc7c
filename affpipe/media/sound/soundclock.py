"""Times of frames of sound: the timestamp if it is plausible, else the end of the frame before.

A frame's deviation is its timestamp minus the running count of samples. Within TOLERANCE_S it is rounding. Beyond, the frames that follow
decide between three cases:
- Stray timestamps: some that follow within LOOK_S deviate no more than the stretch's first ones (jitter). The sound goes on.
- A gap, an overlap or drift: all that follow deviate further to the same side than any of those. A new stretch begins, at its own time.
- A clock that starts again (joined files): all that follow lie over JUMP_S further back. The sound is joined where the video's clock is
  joined, or at the end of the frame before if the video's clock goes on.
A timestamp that only repeats the one before it (bursts) counts as none. The samples within a stretch are never torn apart.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from statistics import median

import av

JUMP_S = 0.25  # timestamps that stay further back than this belong to a new clock; less is an overlap
TOLERANCE_S = 0.015  # a lost packet of speech (20 ms) is a gap
LOOK_S, LOOK_FRAMES = 2.0, 16  # how far to look ahead: at least so many seconds and so many frames
AGREE = 32  # number of jumping timestamps whose median gives the time, and of first ones that show how far a stretch's jump
Joins = Callable[[], list[tuple[float, float]]]  # joins of the video, in order: (first timestamp of the new clock, time of that frame)


@dataclass
class Told:
    """Record of a clock.

    Attributes:
        frames: number of frames of sound.
        stray: number of frames whose timestamps were ignored.
        joins: how often the clock started again.
    """

    frames: int = 0
    stray: int = 0
    joins: int = 0


@dataclass
class _Ahead:
    """A frame to come: its timestamp in seconds (None without one) and its length."""

    frame: av.AudioFrame
    own_s: float | None
    length_s: float


Timed = tuple[av.AudioFrame, float, bool]  # a frame, its time in seconds, and whether it continues the one before


def timed(frames: Iterable[av.AudioFrame], told: Told, *, start_s: float, joins: Joins = list) -> Iterator[Timed]:
    """Yield each frame that has samples with its time. It never holds more frames than LOOK_S and LOOK_FRAMES ask for.

    Args:
        start_s: time of a first frame without a timestamp.
        joins: called once, at the first clock that starts again.
    """
    source = iter(frames)
    ahead: deque[_Ahead] = deque()
    held_s = 0.0
    usual: list[float] = []  # deviations of the stretch's first frames; by its last ones even drift would look usual
    shift_s, expected_s, found, last = 0.0, None, None, None
    while True:
        while held_s < LOOK_S or len(ahead) < LOOK_FRAMES:
            frame = next(source, None)
            if frame is None:
                break
            if frame.samples:
                again, last = frame.pts == last, frame.pts
                own_s = None if again or frame.pts is None else float(frame.pts * frame.time_base)
                told.stray += again and frame.pts is not None
                ahead.append(_Ahead(frame, own_s, frame.samples / frame.sample_rate))
                held_s += ahead[-1].length_s
        if not ahead:
            return
        now = ahead[0]
        continues = True
        if expected_s is None:
            expected_s, continues = _begin(ahead, start_s), False
        elif now.own_s is not None and abs(now.own_s + shift_s - expected_s) > TOLERANCE_S:
            apart = _deviations(ahead, expected_s - shift_s)
            if max(apart) < -JUMP_S:
                found = joins() if found is None else found
                joined_s = _joined(found, told.joins, now.own_s, expected_s)
                told.joins += 1
                shift_s, expected_s, continues = joined_s - now.own_s, joined_s, False
            elif min(apart) > max(TOLERANCE_S, *usual, 0.0) or max(apart) < min(-TOLERANCE_S, *usual, 0.0):
                expected_s += median(apart[:AGREE]) if _rough(apart) else apart[0]
                continues = False
            else:
                told.stray += 1
        if not continues:
            usual = []
        elif now.own_s is not None and len(usual) < AGREE:
            usual.append(now.own_s + shift_s - expected_s)
        told.frames += 1
        yield now.frame, expected_s, continues
        expected_s += now.length_s
        held_s -= ahead.popleft().length_s


def _deviations(ahead: Iterable[_Ahead], expected_s: float) -> list[float]:
    """Return the deviations of the first frame, which has a timestamp, and of those after it, up to one whose clock starts again."""
    out: list[float] = []
    for each in ahead:
        if each.own_s is not None:
            apart = each.own_s - expected_s
            if out and apart < -JUMP_S <= out[0]:
                break
            out.append(apart)
        expected_s += each.length_s
    return out


def _rough(apart: list[float]) -> bool:
    """Return whether timestamps jump up and down, so that no single one can be trusted."""
    steps = [b - a for a, b in pairwise(apart)]
    few = min(sum(step > TOLERANCE_S / 2 for step in steps), sum(step < -TOLERANCE_S / 2 for step in steps))
    return len(steps) >= LOOK_FRAMES // 2 and few > len(steps) / 8


def _begin(ahead: deque[_Ahead], start_s: float) -> float:
    """Return the time of the first frame: its timestamp, or the median where timestamps jump about."""
    if ahead[0].own_s is None:
        return start_s
    apart = _deviations(ahead, ahead[0].own_s)
    off = median(apart[:AGREE])
    return ahead[0].own_s + (off if _rough(apart) and abs(off) > TOLERANCE_S else 0.0)


def _joined(found: list[tuple[float, float]], number: int, own_s: float, expected_s: float) -> float:
    """Return the time of a timestamp after `number` earlier restarts of the clock: as far from the video's as the file says."""
    for joined_s, time_s in islice(found, number, number + 1):
        at = own_s - joined_s + time_s
        if abs(at - expected_s) < JUMP_S:
            return at
    return expected_s
