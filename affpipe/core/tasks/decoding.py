"""From what a model gives for a frame to the frame's label: values, a class, action units.

Source: Team RAS, public code (valence and arousal: smoothing, then clipping); Yu et al., "Solution to the 10th ABAW Expression Recognition
Challenge", sec. 3.6 (expression: logits averaged over windows, the greatest, then a median over frames; its "frame-level predictions" are
read as class numbers). Ours: thresholds of action units.
They belong fitted on labelled frames of the validation partition, and never on frames that are reported as unseen.
Shapes: T frames of a stream, N labelled rows; the last axis is a task's outputs, as in `tasks`.
"""

import numpy as np

from affpipe.core.errors import InputError
from affpipe.core.tasks import smoothing
from affpipe.core.tasks.task import AU, EXPR, VA, Task

UNFITTED = 0.5  # threshold of a unit without a positive label


def va(raw: np.ndarray, valid: np.ndarray, *, filter: str, frames: tuple[int, int]) -> np.ndarray:
    """Valence and arousal: smoothed, then clipped to [-1, 1].

    Args:
        raw: (T, 2), anything where not valid. valid: (T,) bool.
        filter: "none", or one of `smoothing.smooth`; frames: its odd lengths for valence and arousal.

    Returns (T, 2) float64; frames that are not valid are clipped alone. Raises InputError as `smoothing.smooth` does.
    """
    _check("va", raw, valid, VA)
    values = raw.astype(np.float64)
    if filter != "none":
        values = smoothing.smooth(values, valid, filter=filter, frames=frames)
    return np.clip(values, -1, 1)


def expression(logits: np.ndarray, valid: np.ndarray, *, filter: str, frames: int) -> np.ndarray:
    """The class of the greatest logit (of equal ones the lowest class), filtered over frames.

    Args:
        logits: (T, 8), averaged over windows already; anything where not valid. valid: (T,) bool.
        filter: "none", or one of `smoothing.smooth_classes`, which says what is odd about a median; frames: its odd length, 11 in the
            paper.

    Returns (T,) int64 class numbers, -1 (`tasks.EXPR.invalid`) where not valid.
    Raises InputError where a valid frame holds NaN, and as `smoothing.smooth_classes` does.
    """
    _check("expression", logits, valid, EXPR)
    if np.isnan(logits[valid]).any():
        raise InputError("expression: want numbers at valid frames, got NaN; mark such frames invalid")
    classes = np.where(valid, logits.argmax(axis=1), EXPR.invalid).astype(np.int64)
    return classes if filter == "none" else smoothing.smooth_classes(classes, valid, filter=filter, frames=frames)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(T, 8) logits -> (T, 8) probabilities that sum to 1, float32 or wider; of logits of any size."""
    from scipy import special

    _check("softmax", logits, None, EXPR)
    return special.softmax(logits.astype(np.result_type(logits, np.float32)), axis=1)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """(T, 12) logits -> (T, 12) probabilities, float32 or wider; of logits of any size."""
    from scipy import special

    _check("sigmoid", logits, None, AU)
    return special.expit(logits.astype(np.result_type(logits, np.float32)))


def action_units(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(T, 12) probabilities -> (T, 12) int64: 1 where at least the unit's threshold (12,), else 0, as where there is NaN."""
    _check("action_units", probabilities, None, AU)
    if thresholds.shape != (len(AU.outputs),):
        raise InputError(f"action_units: want thresholds ({len(AU.outputs)},), got {thresholds.shape}")
    return (probabilities >= thresholds).astype(np.int64)


def best_thresholds(probabilities: np.ndarray, truth: np.ndarray, valid: np.ndarray, *, grid: np.ndarray | None = None) -> np.ndarray:
    """For each action unit the threshold of the greatest F1 over labelled rows; the caller sees to it that these are validation's.

    Args:
        probabilities: (N, 12) in [0, 1] and truth: (N, 12) in [0, 1], positive from 0.5 on; anything where not valid. valid: (N,) bool.
        grid: (G,) thresholds to choose from; None: all that can be best, midway between neighbouring probabilities (or between 0 and the
            lowest), so that no threshold at all has a greater F1.

    Returns (12,) float64 for `action_units`: of equal F1 the threshold nearest 0.5, of two as near the lower; 0.5 for a unit without a
    positive label. Keep them float64: rounded, a threshold may cross a probability.
    Raises InputError for other shapes, an empty grid, or a valid row outside [0, 1].
    """
    _check("best_thresholds", probabilities, valid, AU)
    _check("best_thresholds", truth, valid, AU)
    if grid is not None and (grid.ndim != 1 or len(grid) == 0):
        raise InputError(f"best_thresholds: want a grid (G,) with G >= 1, got {grid.shape}")
    out = np.full(len(AU.outputs), UNFITTED)
    for unit, name in enumerate(AU.outputs):
        p, t = probabilities[valid, unit], truth[valid, unit]
        for what, values in (("probabilities", p), ("truth", t)):
            if not ((values >= 0) & (values <= 1)).all():  # NaN fails too
                raise InputError(f"best_thresholds: want {what} of {name} in [0, 1] at valid rows; give no logits, mark other rows invalid")
        positive = t >= 0.5
        if positive.any():
            out[unit] = _best_threshold(p.astype(np.float64), positive, grid)
    return out


def _best_threshold(probabilities: np.ndarray, positive: np.ndarray, grid: np.ndarray | None) -> float:
    """(N,) float64, (N,) bool with at least one True.

    F1 = 2 TP / (predicted + labelled positives), and sorted probabilities tell how many lie at or above a threshold. These are quotients
    of counts: equal ones are equal as float64 too.
    """
    ranked, hits = np.sort(probabilities), np.sort(probabilities[positive])
    thresholds = _below(hits, ranked) if grid is None else np.sort(grid.astype(np.float64))
    predicted, true = (len(values) - np.searchsorted(values, thresholds) for values in (ranked, hits))
    f1 = 2 * true / (predicted + len(hits))
    best = thresholds[f1 == f1.max()]
    return float(best[np.abs(best - UNFITTED).argmin()])


def _below(hits: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """Sorted probabilities of the positives, and of all -> thresholds that part each value of the former from all below it.

    Others cannot be best: to let in a value that no positive has adds false alarms alone.
    """
    upper = hits[np.concatenate([[True], hits[1:] != hits[:-1]])]
    first = np.searchsorted(ranked, upper)
    lower = np.where(first > 0, ranked[first - 1], 0.0)
    middle = (lower + upper) / 2
    return np.where(middle > lower, middle, upper)  # where no float64 lies between the two, the middle is rounded to either


def _check(who: str, values: np.ndarray, valid: np.ndarray | None, task: Task) -> None:
    width = len(task.outputs)
    if values.ndim != 2 or values.shape[1] != width:
        raise InputError(f"{who}: want (T, {width}), got {values.shape}")
    if valid is not None and (valid.shape != values.shape[:1] or valid.dtype != bool):
        raise InputError(f"{who}: want valid bool (T,) for {values.shape}, got {valid.dtype} {valid.shape}")
