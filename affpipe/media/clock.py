"""When the frames of a video are shown, from the stamps that came with them: as the file says, or mended where it contradicts itself.

A decoder gives frames in the order in which they are shown. With each come two stamps: pts, when the file says that it is shown, and dts,
when the packet that set it free was to be decoded. In a sound file pts rise, and they are the times, to the bit. Else:

- a clock that starts anew (joined files) goes on one frame after the last time of the old one;
- of the stamps that are left, the longest rising series is kept; of one stamp given to several frames in a row, one frame keeps it;
- the frames between kept ones lie as their dts do where those rise throughout, else evenly; before the first and after the last one the
  clock goes on;
- where more than MANY of the stamps do not fit into the series and dts do rise, dts are the sounder clock and the times of all frames.

AVI has no pts: those of FFmpeg are guessed. It numbers its packets, in the order of decoding; so the numbers of those that gave a frame
are, sorted, the times.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np

JUMP_S = 1.0  # a stamp that lies further back than this may be a new clock; less is jitter
NEAR = 8  # frames on both sides that must agree on it: a single wrong stamp is no new clock
MANY = 0.25


@dataclass
class Stamps:
    """What a file says of the times of its frames, in ticks of its clock; None where it says nothing.

    Attributes:
        numbers: of each frame's own packet, where the container has no pts and numbers its packets (AVI), else empty.
    """

    tick: Fraction
    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    numbers: list[int | None] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether pts are the times: every frame has one, and they rise."""
        return not self.numbers and None not in self.pts and all(a < b for a, b in pairwise(self.pts))


@dataclass(frozen=True)
class Times:
    """times_s (T,) float64, strictly rising. repaired: frames whose time is not their own pts. by_dts: all times are of dts."""

    times_s: np.ndarray
    repaired: int
    by_dts: bool


def times(stamps: Stamps, frame_s: float) -> Times:
    """The times of T >= 1 frames; frame_s: how long a frame is usually shown, for what no stamp tells."""
    pts, dts = (np.array([np.nan if s is None else s for s in own], np.float64) for own in (stamps.pts, stamps.dts))
    frame = frame_s / float(stamps.tick)
    found, by_dts = (pts, False) if stamps.sound else _mended(stamps, pts, dts, frame)
    repaired = int((found != pts).sum())
    return Times(np.array([float(Fraction(ticks) * stamps.tick) for ticks in found.tolist()]), repaired, by_dts and repaired > 0)


def _mended(stamps: Stamps, pts: np.ndarray, dts: np.ndarray, frame: float) -> tuple[np.ndarray, bool]:
    """Times in ticks, and whether all are of dts."""
    if stamps.numbers and None not in stamps.numbers and len(set(stamps.numbers)) == len(pts):
        return np.array(sorted(stamps.numbers), np.float64), True
    order = _order(dts, frame)
    own = _one_clock(pts, JUMP_S / float(stamps.tick), frame)
    kept = _rising(own, order)
    if order is not None and len(kept) < (1 - MANY) * len(own):
        return order, True
    return _between(own, kept, np.arange(len(own)) * frame if order is None else order), False


def _order(dts: np.ndarray, frame: float) -> np.ndarray | None:
    """dts with what is missing filled in (the last frames come without any); None unless they rise and most are there."""
    there = np.flatnonzero(~np.isnan(dts))
    if 2 * len(there) < len(dts) or (np.diff(dts[there]) <= 0).any():
        return None
    return _between(dts, there, np.arange(len(dts)) * frame)


def _between(own: np.ndarray, kept: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """Stamps at `kept` as they are, those between in the proportions of another rising clock, those beyond in its steps."""
    if len(kept) == 0:
        return clock
    out = np.interp(clock, clock[kept], own[kept])
    first, last = kept[0], kept[-1]
    out[:first] = own[first] - (clock[first] - clock[:first])
    out[last:] = own[last] + (clock[last:] - clock[last])
    out[kept] = own[kept]
    return out


def _one_clock(pts: np.ndarray, jump: float, frame: float) -> np.ndarray:
    """Stamps with every clock that starts anew moved to one frame after the last stamp before it."""
    out, there = pts.copy(), np.flatnonzero(~np.isnan(pts))
    for at in np.flatnonzero(np.diff(pts[there]) < -jump) + 1:
        before, after = out[there[max(0, at - NEAR) : at]], out[there[at : at + NEAR]]
        if min(len(before), len(after)) > 1 and before.min() > after.max():
            out[there[at] :] += before.max() + frame - out[there[at]]
    return out


def _rising(own: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Indices of the longest strictly rising series; of two that are as long, the one whose frames come first."""
    there = _once(own, order)
    ends: list[float] = []  # of the best falling series of each length, seen from the last frame
    tails: list[int] = []
    before: dict[int, int | None] = {}
    for i in reversed(there.tolist()):
        place = bisect_left(ends, -own[i])
        before[i] = tails[place - 1] if place else None
        if place == len(ends):
            ends.append(-own[i])
            tails.append(i)
        else:
            ends[place], tails[place] = -own[i], i
    kept, i = [], tails[-1] if tails else None
    while i is not None:
        kept.append(i)
        i = before[i]
    return np.array(kept, np.int64)


def _once(own: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Indices of stamps, one a run of equal ones: the frame that lies as its neighbours do against the other clock, else the first."""
    there = np.flatnonzero(~np.isnan(own))
    runs = np.split(there, np.flatnonzero(np.diff(own[there]) != 0) + 1)
    if order is None or not len(there):
        return np.array([run[0] for run in runs if len(run)], np.int64)
    apart = own - order
    usual = np.nanmedian(apart)
    return np.array([run[np.argmin(np.abs(apart[run] - usual))] for run in runs], np.int64)
