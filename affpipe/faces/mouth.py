"""Mouth opening of the subject, and the windows in which the subject may be the one who is heard.

Source: Team RAS, sec. 3.3, and its public code (SMIL-SPCRAS/CVPRW-26), which takes a frame as open where the inner-lip area, averaged over
the last 30 rows, exceeds the stream's mean. `compat="ras2026"` is that rule, to the frame. Our own default differs in three ways:

- It asks that the lip area varies, not that it is large: lips parted at rest and a still smile are no speech. On two GRID clips with a
  quiet background the spread marks all frames in which there is sound; the trailing mean marks 52 and 69 % of them.
- The window of frames is centred, so an open stretch does not lag half a second behind the speech.
- The threshold is the stream's mean spread kept within fixed limits: a mouth that never moves is never open, one that always moves is
  always open.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from affpipe.core.axis import FrameAxis, runs
from affpipe.core.errors import InputError, SettingsError

# FaceMesh points in their order round the ring.
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
SLACK_S = 1e-9  # for rounding in sums of timestamps: a second of open mouth in four is enough
STILL, LIVELY = 0.0015, 0.004  # limits of the threshold; the area's spread is below .0005 at rest, about .004 to .008 in speech


@dataclass(frozen=True, eq=False)
class WindowTable:
    """Content of W windows.

    Attributes:
        open_s: (W,) float64 seconds with an open mouth.
        coverage: (W,) float64 part of the window in which the mouth was seen, in [0, 1].
        retained: (W,) bool, open long enough and seen well enough.
    """

    open_s: np.ndarray
    coverage: np.ndarray
    retained: np.ndarray


def inner_lip_area(landmarks: np.ndarray) -> np.ndarray:
    """Compute the area within the inner lips as part of the area of the face oval, from (T, 478, 3) float landmarks to (T,) float32.

    It is measured in the image plane. So moving, scaling or turning the picture does not change it, and turning the head changes both areas
    alike. Closed lips give about 0.0002, speech up to 0.03. A row with NaN gives NaN.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (478, 3):
        raise InputError(f"mouth: want landmarks (T, 478, 3), got {landmarks.shape}")
    face = _polygon_area(landmarks[:, FACE_OVAL])
    lips = _polygon_area(landmarks[:, INNER_LIPS])
    return np.divide(lips, face, out=np.full(len(lips), np.nan), where=face > 0).astype(np.float32)


def _polygon_area(ring: np.ndarray) -> np.ndarray:
    """Compute the shoelace area (T,) float64 of (T, P, 3) points; z is ignored."""
    x, y = ring[..., 0].astype(np.float64), ring[..., 1].astype(np.float64)
    x, y = x - x[:, :1], y - y[:, :1]  # far from the origin the products lose precision
    return np.abs((x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)) / 2


def opening(area: np.ndarray, present: np.ndarray, *, smooth_frames: int = 30, compat: Literal["none", "ras2026"] = "none") -> np.ndarray:
    """Return (T,) bool, the frames in which the mouth is open, before `smooth`.

    Args:
        area: (T,) from `inner_lip_area`.
        present: (T,) bool, where the area is known. Other frames are closed.
        smooth_frames: number of frames taken together: centred and by frame number, or for "ras2026" the last ones by row.
    """
    if area.shape != present.shape or area.ndim != 1 or present.dtype != np.bool_:
        raise InputError(f"mouth: want area (T,) and present (T,) bool, got {area.shape} and {present.dtype} {present.shape}")
    if not np.isfinite(area[present]).all():
        raise InputError("mouth: want a finite area wherever present is True")
    if smooth_frames < 2:
        raise InputError(f"mouth: want smooth_frames >= 2, got {smooth_frames}")
    out = np.zeros(len(area), bool)
    if not present.any():
        return out
    if compat == "ras2026":
        out[present] = _above_mean(area[present].astype(np.float64), smooth_frames)
    elif compat == "none":
        spread = _spread(np.where(present, area, 0.0), present, smooth_frames)
        out[present] = spread[present] > np.clip(spread[present].mean(), STILL, LIVELY)
    else:
        raise SettingsError(f"mouth: want compat none or ras2026, got {compat!r}")
    return out


def _above_mean(area: np.ndarray, rows: int) -> np.ndarray:
    """Mark rows whose mean over themselves and the rows - 1 before exceeds the mean of all. Rows with a shorter past are not marked."""
    out = np.zeros(len(area), bool)
    if len(area) >= rows:
        out[rows - 1 :] = np.lib.stride_tricks.sliding_window_view(area, rows).mean(axis=1) > area.mean()
    return out


def _spread(area: np.ndarray, present: np.ndarray, frames: int) -> np.ndarray:
    """Compute the standard deviation (T,) of the present areas among the `frames` frames round each; zero where none is present."""
    first = np.arange(len(area)) - frames // 2
    stop = np.clip(first + frames, 0, len(area))
    first = np.clip(first, 0, len(area))
    centred = np.where(present, area - area[present].mean(), 0.0)
    count, one, two = (np.concatenate([[0.0], np.cumsum(v)]) for v in (present, centred, centred**2))
    n = np.maximum(count[stop] - count[first], 1)
    mean = (one[stop] - one[first]) / n
    return np.sqrt(np.maximum((two[stop] - two[first]) / n - mean**2, 0))


def smooth(open_: np.ndarray, fps: float, *, gap_s: float = 0.15, burst_s: float = 0.20) -> np.ndarray:
    """Fill gaps of up to round(gap_s * fps) frames between open runs, then remove runs of up to round(burst_s * fps) frames.

    Both lengths are at least one frame; round is Python's (half to even). `open_` (T,) bool is not changed.
    """
    out = open_.copy()
    gap, burst = (max(1, round(float(s * fps))) for s in (gap_s, burst_s))
    found = runs(out)
    for (_, start), (end, _) in pairwise(found):
        if end - start <= gap:
            out[start:end] = True
    for start, end in runs(out):
        if end - start <= burst:
            out[start:end] = False
    return out


def windows(
    open_: np.ndarray, present: np.ndarray, axis: FrameAxis, spans: np.ndarray, *, min_open_ratio: float = 0.25, min_coverage: float = 0.80
) -> WindowTable:
    """Judge windows, spans (W, 2) float64 [start_s, end_s), by the real duration of their frames.

    A window is retained if the mouth is open for min_open_ratio and seen for min_coverage of its length. A frame across a border counts in
    part.
    """
    if open_.shape != present.shape or open_.shape != (len(axis),):
        raise InputError(f"mouth: want open_ and present ({len(axis)},) as the frame axis, got {open_.shape} and {present.shape}")
    if (spans[:, 1] <= spans[:, 0]).any():
        raise InputError("mouth: want end_s > start_s in every window")
    knots = np.append(axis.times_s, axis.end_s)
    length = spans[:, 1] - spans[:, 0]
    open_s, coverage = _seconds(open_, knots, spans), np.minimum(_seconds(present, knots, spans) / length, 1.0)
    return WindowTable(open_s, coverage, (open_s >= min_open_ratio * length - SLACK_S) & (coverage >= min_coverage - SLACK_S))


def _seconds(flags: np.ndarray, knots: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Sum the seconds (W,) of each window in which a flag (T,) is True; flag t holds from knots[t] to knots[t + 1], (T + 1,)."""
    total = np.concatenate([[0.0], np.cumsum(np.where(flags, np.diff(knots), 0.0))])
    return np.interp(spans[:, 1], knots, total) - np.interp(spans[:, 0], knots, total)


def voice_ratio(voiced: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return the part (W,) float64 of each window in which there is a voice, in [0, 1].

    Args:
        voiced: (R,) bool of successive steps.
        start_s, end_s: (R,) times of the steps; each begins where the one before ends.
        spans: (W, 2) float64 [start_s, end_s).
    """
    return np.clip(_seconds(voiced, np.append(start_s, end_s[-1:]), spans) / (spans[:, 1] - spans[:, 0]), 0.0, 1.0)


def with_voice(retained: np.ndarray, ratio: np.ndarray, *, min_voice_ratio: float, combine: Literal["both", "either"]) -> np.ndarray:
    """Return the windows (W,) bool to keep: retained by the mouth and with enough voice; for "either" one of the two is enough.

    The paper calls the mouth alone not fully reliable (sec. 3.3); a voice alone may be that of someone out of the picture.
    """
    heard = ratio >= min_voice_ratio - SLACK_S
    return retained & heard if combine == "both" else retained | heard


def frame_windows(
    open_: np.ndarray, present: np.ndarray, fps: np.ndarray, start: np.ndarray, end: np.ndarray, *, min_open_s: float | None = None,
    min_open_ratio: float | None = None, min_coverage: float = 0.80,
) -> WindowTable:  # fmt: skip
    """Judge windows [start, end) of frame indices, (W,) int each, at constant rates fps (W,). Frames beyond the arrays are absent.

    Give either min_open_s or min_open_ratio (of the window's length).
    """
    if (min_open_s is None) == (min_open_ratio is None):
        raise InputError("mouth: want one of min_open_s and min_open_ratio")
    if (start < 0).any() or (end <= start).any():
        raise InputError("mouth: want 0 <= start < end in every window")

    def count(flags: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0], np.cumsum(flags)])
        return total[np.minimum(end, len(flags))] - total[np.minimum(start, len(flags))]

    frames = count(open_)
    open_s, coverage = frames / fps, count(present) / (end - start)
    enough = open_s >= min_open_s if min_open_s is not None else frames >= min_open_ratio * (end - start)
    return WindowTable(open_s, coverage, enough & (coverage >= min_coverage))
