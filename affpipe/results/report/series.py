"""Long series reduced for drawing, and marked stretches of time."""

import numpy as np

MINUS = "\u2212"
POINTS = 1000  # points of one curve: more than a page has pixels


def thin(times_s: np.ndarray, values: np.ndarray, valid: np.ndarray, limit: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a series to at most `limit` points: equal groups of frames, each at its mean time with the mean of its valid values.

    Args:
        times_s: (T,). values: (T, ...). valid: (T,) bool.

    Returns:
        (P,) and (P, ...) float64 with P <= limit; NaN where a group holds no valid frame.
    """
    size = -(-len(times_s) // limit)
    first = np.arange(0, len(times_s), max(size, 1))
    kept = np.where(valid.reshape(-1, *[1] * (values.ndim - 1)), values, 0).astype(np.float64)
    count = np.add.reduceat(valid.astype(np.int64), first).reshape(-1, *[1] * (values.ndim - 1))
    frames = np.diff(np.append(first, len(times_s)))
    mean = np.where(count > 0, np.add.reduceat(kept, first, axis=0) / np.maximum(count, 1), np.nan)
    return np.add.reduceat(times_s, first) / frames, mean


def runs(flags: np.ndarray, start_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
    """Return (N, 2) stretches of the flagged rows; stretches that touch or overlap are joined.

    Args:
        flags: (R,) bool. start_s, end_s: (R,) intervals of the rows, sorted, overlapping or not.
    """
    starts, ends = start_s[flags], end_s[flags]
    if len(starts) == 0:
        return np.zeros((0, 2))
    reach = np.maximum.accumulate(ends)
    new = np.append(True, starts[1:] > reach[:-1] + 1e-9)
    return np.stack([starts[new], reach[np.append(np.flatnonzero(new)[1:] - 1, len(reach) - 1)]], axis=1)


def marks(flags: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, limit: int = POINTS) -> dict[float, np.ndarray]:
    """Return share of flagged rows -> (N, 2) stretches to mark: the exact runs, under 1.0, while they are few enough to tell apart.

    Else it returns equal groups of rows, at most `limit` in all, under the share of their rows that is flagged, rounded up to quarters.
    Joining near runs instead would show a mouth that opens every second as one that never closes.
    """
    exact = runs(flags, start_s, end_s)
    if len(exact) <= limit // 4:
        return {1.0: exact} if len(exact) else {}
    first = np.arange(0, len(flags), -(-len(flags) // limit))
    share = np.add.reduceat(flags.astype(np.int64), first) / np.diff(np.append(first, len(flags)))
    begin, end = start_s[first], np.append(start_s[first[1:]], end_s[-1])
    level = np.ceil(4 * share) / 4
    return {float(k): runs(level == k, begin, end) for k in np.unique(level) if k > 0}


def modes(classes: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, limit: int = POINTS) -> dict[int, np.ndarray]:
    """Return class -> (N, 2) stretches in which most valid rows have it: of single rows, or of equal groups of rows, at most `limit`.

    Args:
        classes: (T,) whole numbers. valid: (T,) bool. A group without a valid row has no class; on a tie the lowest class counts.
    """
    kinds = np.unique(classes[valid])
    if not len(kinds):
        return {}
    first = np.arange(0, len(classes), -(-len(classes) // limit))
    count = np.stack([np.add.reduceat((valid & (classes == kind)).astype(np.int64), first) for kind in kinds], axis=1)
    begin, end = start_s[first], np.append(start_s[first[1:]], end_s[-1])
    most = np.where(count.any(axis=1), count.argmax(axis=1), -1)
    return {int(kind): runs(most == i, begin, end) for i, kind in enumerate(kinds) if (most == i).any()}


def shown_until(times_s: np.ndarray) -> np.ndarray:
    """Return the (T,) end of each frame: the next one's time; the last frame lasts for the median duration of all."""
    last = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
    return np.append(times_s[1:], times_s[-1] + last)


def value_range(values: np.ndarray, *, least: float = 0.0, step: float = 0.0) -> tuple[float, float]:
    """Return the range in which to draw finite values: at least `least` wide, with ends on multiples of `step`."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    if step:
        low, high = step * np.floor(low / step + 1e-9), step * np.ceil(high / step - 1e-9)
    else:
        low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    least = least or 1e-3
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    return low, high


def nice_ticks(low: float, high: float, count: int) -> np.ndarray:
    """Return about `count` round numbers in [low, high]."""
    raw = (high - low) / count
    step = 10.0 ** np.floor(np.log10(raw))
    step *= next(m for m in (1, 2, 5, 10) if m * step >= raw * (1 - 1e-9))
    first = np.ceil(low / step - 1e-9)
    return step * np.arange(first, np.floor(high / step + 1e-9) + 1) + 0.0  # so that zero is never -0


def time_ticks(low_s: float, high_s: float, count: int = 10) -> list[tuple[float, str]]:
    """Return round times in [low, high] with their labels: seconds, or minutes and hours for a long stretch."""
    raw = (high_s - low_s) / count
    step = next((s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600) if s >= raw), None)
    if raw < 0.5:
        return [(float(t), f"{t:g} s".replace("-", MINUS)) for t in np.round(nice_ticks(low_s, high_s, count), 6)]
    step = step or 3600 * int(np.ceil(raw / 3600))
    return [(float(t), _clock(int(t), high_s)) for t in step * np.arange(np.ceil(low_s / step), np.floor(high_s / step) + 1)]


def _clock(t: int, high_s: float) -> str:
    sign, t = MINUS if t < 0 else "", abs(t)
    if high_s < 120:
        return f"{sign}{t} s"
    return sign + (f"{t // 60}:{t % 60:02d}" if high_s < 3600 else f"{t // 3600}:{t // 60 % 60:02d}:{t % 60:02d}")
