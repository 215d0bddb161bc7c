"""Times of a video's frames from their stamps: taken from the file, or repaired where the file contradicts itself.

A decoder gives frames in the order in which they are shown. Each comes with two stamps: pts, the time at which the file says the frame is
shown, and dts, the time at which the packet that released it was to be decoded. In a sound file the pts rise, and they are the times, to
the bit. Otherwise:

- A clock that starts again (joined files) goes on one frame after the last time of the old one.
- Of the remaining stamps the longest rising series is kept. If several frames in a row have the same stamp, one of them keeps it.
- Frames between kept ones are placed in proportion to their dts if all dts rise, else evenly. Before the first kept frame and after the
  last one the clock runs on.
- If more than MANY of the stamps do not fit into the series and the dts rise, dts are the sounder clock. They become the times of all
  frames.

AVI has no pts, so FFmpeg guesses them. AVI numbers its packets in the order of decoding. So the numbers of those packets that gave a frame,
sorted, are the times.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np

JUMP_S = 1.0  # a stamp further back than this may start a new clock; less is jitter
NEAR = 8  # frames on both sides that must agree on a new clock: a single wrong stamp is none
MANY = 0.25


@dataclass
class Stamps:
    """Stamps of a video's frames in ticks of the file's clock; None for a frame without one.

    Attributes:
        numbers: number of each frame's own packet, if the container has no pts and numbers its packets (AVI); else empty.
    """

    tick: Fraction
    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    numbers: list[int | None] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """True if every frame has a pts and they rise: then pts are the times."""
        return not self.numbers and None not in self.pts and all(a < b for a, b in pairwise(self.pts))


@dataclass(frozen=True)
class Times:
    """Times of a video's frames.

    Attributes:
        times_s: (T,) float64, strictly rising.
        repaired: number of frames whose time is not their own pts.
        by_dts: whether all times come from dts.
    """

    times_s: np.ndarray
    repaired: int
    by_dts: bool


def times(stamps: Stamps, frame_s: float) -> Times:
    """Compute the times of T >= 1 frames.

    Args:
        frame_s: usual duration of a frame, used where no stamp gives a time.
    """
    pts, dts = (np.array([np.nan if s is None else s for s in own], np.float64) for own in (stamps.pts, stamps.dts))
    frame = frame_s / float(stamps.tick)
    found, by_dts = (pts, False) if stamps.sound else _mended(stamps, pts, dts, frame)
    repaired = int((found != pts).sum())
    return Times(np.array([float(Fraction(ticks) * stamps.tick) for ticks in found.tolist()]), repaired, by_dts and repaired > 0)


def _mended(stamps: Stamps, pts: np.ndarray, dts: np.ndarray, frame: float) -> tuple[np.ndarray, bool]:
    """Return times in ticks, and whether all come from dts."""
    if stamps.numbers and None not in stamps.numbers and len(set(stamps.numbers)) == len(pts):
        return np.array(sorted(stamps.numbers), np.float64), True
    order = _order(dts, frame)
    own = _one_clock(pts, JUMP_S / float(stamps.tick), frame)
    kept = _rising(own, order)
    if order is not None and len(kept) < (1 - MANY) * len(own):
        return order, True
    return _between(own, kept, np.arange(len(own)) * frame if order is None else order), False


def _order(dts: np.ndarray, frame: float) -> np.ndarray | None:
    """Return dts with gaps filled in (the last frames come without dts); None unless they rise and at least half are there."""
    there = np.flatnonzero(~np.isnan(dts))
    if 2 * len(there) < len(dts) or (np.diff(dts[there]) <= 0).any():
        return None
    return _between(dts, there, np.arange(len(dts)) * frame)


def _between(own: np.ndarray, kept: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """Interpolate stamps: keep those at `kept`; place those between in proportion to another rising clock, those beyond by its steps."""
    if len(kept) == 0:
        return clock
    out = np.interp(clock, clock[kept], own[kept])
    first, last = kept[0], kept[-1]
    out[:first] = own[first] - (clock[first] - clock[:first])
    out[last:] = own[last] + (clock[last:] - clock[last])
    out[kept] = own[kept]
    return out


def _one_clock(pts: np.ndarray, jump: float, frame: float) -> np.ndarray:
    """Join clocks: move every clock that starts again to one frame after the last stamp before it."""
    out, there = pts.copy(), np.flatnonzero(~np.isnan(pts))
    for at in np.flatnonzero(np.diff(pts[there]) < -jump) + 1:
        before, after = out[there[max(0, at - NEAR) : at]], out[there[at : at + NEAR]]
        if min(len(before), len(after)) > 1 and before.min() > after.max():
            out[there[at] :] += before.max() + frame - out[there[at]]
    return out


def _rising(own: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Return the indices of the longest strictly rising series; of two equally long ones, the one whose frames come first."""
    there = _once(own, order)
    ends: list[float] = []  # end of the best falling series of each length, seen from the last frame
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
    """Return the indices of one stamp per run of equal ones: the frame that best fits the other clock, or the first without one."""
    there = np.flatnonzero(~np.isnan(own))
    runs = np.split(there, np.flatnonzero(np.diff(own[there]) != 0) + 1)
    if order is None or not len(there):
        return np.array([run[0] for run in runs if len(run)], np.int64)
    apart = own - order
    usual = np.nanmedian(apart)
    return np.array([run[np.argmin(np.abs(apart[run] - usual))] for run in runs], np.int64)
