"""The concordance correlation coefficient, from sequences and from sums over frames.

CCC (Lin, 1989) = 2 cov / (var_t + var_p + (mean_t - mean_p)²), with population moments (divided by n) throughout; a mixture of n and n - 1
is no CCC. Everything is float64.
"""

import numpy as np

from affpipe.core.errors import InputError

FLAT = 1e-14  # a denominator of a CCC below this, per frame: truth and prediction are one constant


def ccc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the CCC of two (n,) sequences, in [-1, 1], symmetric.

    It is 1.0 for identical sequences, constant ones too. It is 0.0 if one of them is constant and they differ (the covariance is zero).
    Raises InputError for different shapes, no entry, or a value that is not finite.
    """
    truth, prediction = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    if truth.ndim != 1 or truth.shape != prediction.shape or len(truth) == 0:
        raise InputError(f"ccc: want two sequences (n,) with n >= 1, got {truth.shape} and {prediction.shape}; are any frames valid?")
    if not (np.isfinite(truth).all() and np.isfinite(prediction).all()):
        raise InputError("ccc: want finite values, got NaN or infinity; mark such frames invalid or fill them")
    if np.array_equal(truth, prediction):
        return 1.0
    if np.ptp(truth) == 0 or np.ptp(prediction) == 0:
        return 0.0  # exactly: the mean of a constant sequence may be off by a rounding error
    mean_t, mean_p = truth.mean(), prediction.mean()
    t, p = truth - mean_t, prediction - mean_p
    return float(2 * (t @ p) / (t @ t + p @ p + len(t) * (mean_t - mean_p) ** 2))


def moments(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return the six sums over (n,) sequences of 1, t, p, t², p², t p."""
    return np.array([len(truth), truth.sum(), prediction.sum(), truth @ truth, prediction @ prediction, truth @ prediction])


def ccc_of_moments(moments: np.ndarray) -> np.ndarray:
    """Return the CCC (...) of `moments` (..., 6), whose t and p have one common value near the mean subtracted.

    Constants follow the rules of `ccc`, up to rounding. The CCC is NaN if no frame was summed.
    """
    n, t, p, tt, pp, tp = np.moveaxis(moments, -1, 0)
    some = n > 0
    cross = t * p / np.where(some, n, 1)
    spread = tt + pp - 2 * cross  # = n (var_t + var_p + (mean_t - mean_p)²)
    flat = spread <= FLAT * n
    value = np.where(flat, 1.0, 2 * (tp - cross) / np.where(flat, 1, spread))
    return np.where(some, value, np.nan)


def concordances(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the CCC (B, K) and its derivatives (B, K, 6 K) from the moments of K columns (B, 6 K).

    Derivatives are 0 if all is one constant.
    """
    moments = sums.reshape(len(sums), -1, 6)
    columns = moments.shape[1]
    value = ccc_of_moments(moments)
    n, t, p, tt, pp, _ = np.moveaxis(moments, -1, 0)
    spread = tt + pp - 2 * t * p / n
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > FLAT * n)
    cross = 2 * (value - 1)  # derivative by t p / n
    parts = np.stack([-cross * t * p / n**2, cross * p / n, cross * t / n, -value, -value, np.full_like(value, 2)], axis=-1)
    slope = np.zeros((len(sums), columns, columns, 6))
    at = np.arange(columns)
    slope[:, at, at] = parts * scale[..., None]
    return value, slope.reshape(len(sums), columns, 6 * columns)
