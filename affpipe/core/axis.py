"""The frame axis: the time at which each frame of a video is shown, the segments laid over it, and the frames of an interval.

All times are seconds on the container's clock, float64. An interval is half open: [start_s, end_s). A row of a stream covers an interval. A
frame belongs to a row if the frame's timestamp lies in that interval. Indices are 0-based; files for people number frames from 1.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from affpipe.core.errors import InputError

# A longer axis comes from a damaged timestamp, and would need gigabytes of silence and of empty windows.
LONGEST_S = 24 * 3600.0
FASTEST = 100_000  # frames a second; the slowest axis shows its last frame for all of LONGEST_S
RATE = re.compile(r"[1-9][0-9]{0,17}(/[1-9][0-9]{0,17})?", re.ASCII)
OBSERVED, NEAREST, NONE = 2, 1, 0
SOURCE_NAMES = {OBSERVED: "observed", NEAREST: "nearest", NONE: "none"}


@dataclass(frozen=True, eq=False)
class FrameAxis:
    """Frames of a video in decode order.

    Attributes:
        times_s: (T,) float64, strictly increasing: the container's timestamps.
        fps: nominal frame rate, exact (30000/1001, not 29.97). Never used to compute a time.
    """

    times_s: np.ndarray
    fps: Fraction

    def __post_init__(self) -> None:
        t = self.times_s
        if t.ndim != 1 or len(t) == 0 or t.dtype != np.float64:
            raise InputError(f"FrameAxis: want float64 (T,) with T >= 1, got {t.dtype} {t.shape}")
        if not np.isfinite(t).all() or (np.diff(t) <= 0).any():
            raise InputError("FrameAxis: want finite, strictly increasing times")
        if not 0 < self.fps <= FASTEST:
            raise InputError(f"FrameAxis: want fps above 0 and at most {FASTEST}, got {float(self.fps):g}")
        if not (self.end_s - self.start_s <= LONGEST_S and abs(self.start_s) < 1e10):
            raise InputError(f"FrameAxis: want at most {LONGEST_S / 3600:.0f} h, got frames from {self.start_s:g} to {self.end_s:g} s")

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def start_s(self) -> float:
        """Time of the first frame: zero of the audio track that belongs to this axis."""
        return float(self.times_s[0])

    @property
    def end_s(self) -> float:
        """End of the last frame, which is shown for one nominal frame."""
        return float(self.times_s[-1] + 1 / self.fps)

    @cached_property
    def ends_s(self) -> np.ndarray:
        """(T,) float64: a frame is shown until the next one starts."""
        return np.append(self.times_s[1:], self.end_s)


def rate(text: str) -> Fraction:
    """Parse the frame rate of a file, "25" or "30000/1001"; ValueError for anything else, as `Fraction` takes seconds for "1e10000000"."""
    if not (isinstance(text, str) and RATE.fullmatch(text)):
        raise ValueError(f"the frame rate {str(text)[:40]!r}")
    return Fraction(text)


def segments(start_s: float, end_s: float, *, length_s: float, hop_s: float) -> np.ndarray:
    """Cut [start_s, end_s) into (S, 2) segments of length_s every hop_s, the last one clipped at end_s.

    The first segment that reaches the end is the last. So every instant is covered and no segment lies within another. A clip shorter than
    length_s gives one short segment.
    """
    if not (end_s > start_s and 0 < hop_s <= length_s):
        raise InputError(f"segments: want end > start and 0 < hop <= length, got [{start_s}, {end_s}), {length_s}, {hop_s}")
    count = 1 + max(0, int(np.ceil((end_s - start_s - length_s) / hop_s - 1e-9)))
    starts = start_s + hop_s * np.arange(count)
    return np.stack([starts, np.minimum(starts + length_s, end_s)], axis=1)


def frames_in(times_s: np.ndarray, start_s: np.ndarray, end_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and past-the-last frame index of each interval [start_s, end_s); times_s must be sorted."""
    return np.searchsorted(times_s, start_s, side="left"), np.searchsorted(times_s, end_s, side="left")


def runs(flags: np.ndarray) -> np.ndarray:
    """Return (R, 2) int64: the first and past-the-last index of each run of True in (T,) bool."""
    return np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)
