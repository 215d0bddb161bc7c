"""Thresholds of units with the greatest F1 on labelled rows.

Shapes: N labelled rows, U units.
"""

import numpy as np

from affpipe.core.errors import InputError
from affpipe.core.tasks.task import check_shape

UNFITTED = 0.5  # threshold of a unit without a positive label


def best_thresholds(probabilities: np.ndarray, truth: np.ndarray, valid: np.ndarray, *, grid: np.ndarray | None = None) -> np.ndarray:
    """Return for each unit the threshold of the greatest F1 over labelled rows. The caller must give rows of the validation partition.

    Args:
        probabilities: (N, U) in [0, 1]. truth: (N, U) in [0, 1], positive from 0.5 on. Both hold anything where not valid.
        valid: (N,) bool.
        grid: (G,) thresholds to choose from; None: all that can be best, midway between neighbouring probabilities (or between 0 and the
            lowest), so that no threshold at all has a greater F1.

    Returns:
        (U,) float64. On a tie it is the threshold nearest 0.5, and the lower of two as near. It is 0.5 for a unit without a positive label.
        Keep them float64: rounded, a threshold may cross a probability.

    Raises InputError for other shapes, an empty grid, or a valid row outside [0, 1].
    """
    units = probabilities.shape[-1]
    for values in (probabilities, truth):
        check_shape("best_thresholds", values, valid, units)
    if grid is not None and (grid.ndim != 1 or len(grid) == 0):
        raise InputError(f"best_thresholds: want a grid (G,) with G >= 1, got {grid.shape}")
    out = np.full(units, UNFITTED)
    for unit in range(units):
        p, t = probabilities[valid, unit], truth[valid, unit]
        for what, values in (("probabilities", p), ("truth", t)):
            if not ((values >= 0) & (values <= 1)).all():  # NaN fails too
                raise InputError(
                    f"best_thresholds: want {what} of unit {unit} in [0, 1] at valid rows; give no logits, mark other rows invalid"
                )
        positive = t >= 0.5
        if positive.any():
            out[unit] = _best_threshold(p.astype(np.float64), positive, grid)
    return out


def _best_threshold(probabilities: np.ndarray, positive: np.ndarray, grid: np.ndarray | None) -> float:
    """Return the best threshold for (N,) float64 probabilities and (N,) bool with at least one True.

    F1 = 2 TP / (predicted + labelled positives). Sorted probabilities tell how many lie at or above a threshold. These are quotients of
    counts: equal ones are equal as float64 too.
    """
    ranked, hits = np.sort(probabilities), np.sort(probabilities[positive])
    thresholds = _below(hits, ranked) if grid is None else np.sort(grid.astype(np.float64))
    predicted, true = (len(values) - np.searchsorted(values, thresholds) for values in (ranked, hits))
    f1 = 2 * true / (predicted + len(hits))
    best = thresholds[f1 == f1.max()]
    return float(best[np.abs(best - UNFITTED).argmin()])


def _below(hits: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """Return thresholds that separate each probability of the positives, sorted, from all probabilities below it, sorted.

    Others cannot be best: to let in a value that no positive has only adds false alarms.
    """
    upper = hits[np.concatenate([[True], hits[1:] != hits[:-1]])]
    first = np.searchsorted(ranked, upper)
    lower = np.where(first > 0, ranked[first - 1], 0.0)
    middle = (lower + upper) / 2
    return np.where(middle > lower, middle, upper)  # if no float64 lies between the two, the middle is rounded to either


def present(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return (T, U) float64: 1 where a probability (T, U) is at least the unit's threshold (U,), else 0; also 0 for NaN."""
    check_shape("present", probabilities, None, len(thresholds))
    return (probabilities >= thresholds).astype(np.float64)
