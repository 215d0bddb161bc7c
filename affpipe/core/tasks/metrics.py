"""Measures of the three tasks, pooled and within videos, and baselines that look at no picture. The only copy of every measure.

va: the concordance correlation coefficient. CCC (Lin, 1989) = 2 cov / (var_t + var_p + (mean_t - mean_p)²), with population moments
(divided by n) throughout; a mixture of n and n - 1 is no CCC. expr: macro F1 over the classes; au: mean F1 over the units; F1 = 2 tp /
(2 tp + fp + fn). Each is the challenge's measure, over all valid frames of a split together (va: "Team RAS in 10th ABAW Competition",
sec. 4.2). A class or unit that occurs in neither truth nor prediction has no F1 (NaN) and is left out of the mean; where none occurs at
all, truth and prediction agree everywhere and the mean is 1. On the challenge's sets all occur.
The pooled figures reward knowing each video's level, so `within_video`, `constant_baseline` and `majority_baseline` stand beside them.
Everything is float64. Shapes: T frames; K columns of the task: valence and arousal, one class number 0 ... 7, or twelve units of 0 or 1.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from affpipe.core.errors import InputError
from affpipe.core.tasks.task import ACTION_UNITS, EXPRESSIONS, TASKS

Video = tuple[np.ndarray, np.ndarray, np.ndarray]  # truth (T, K), prediction (T, K), valid (T,) bool

FLAT = 1e-14  # denominators of a CCC below this, by the frame: truth and prediction are one constant
KEYS = {
    "va": ("ccc_valence", "ccc_arousal", "ccc"),
    "expr": ("f1", "accuracy", *(f"f1_{name}" for name in EXPRESSIONS)),
    "au": ("f1", "accuracy", *(f"f1_{name}" for name in ACTION_UNITS)),
}


class WithinVideo(NamedTuple):
    """Scores inside videos.

    Attributes:
        scores: mean over the videos of `table`, by the keys of `scores`; each over the videos that have it, NaN where none has.
        table: video id -> its own scores and `frames`, the number of valid ones.
        left_out: ids of videos with fewer than 2 valid frames.
    """

    scores: dict[str, float]
    table: dict[str, dict[str, float]]
    left_out: tuple[str, ...]


# ---- measures ---------------------------------------------------------------------------------------------------------------------------


def ccc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """CCC of two (n,) sequences, in [-1, 1], symmetric.

    1.0 for identical sequences, constant ones too; 0.0 where one of them is constant and they differ (the covariance is zero).
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


def ccc_of_moments(moments: np.ndarray) -> np.ndarray:
    """CCC (...) from sums over frames (..., 6) of 1, t, p, t², p², t p, with t and p less one common value near the mean.

    The rules of `ccc` for constants, up to rounding; NaN where no frame was summed.
    """
    n, t, p, tt, pp, tp = np.moveaxis(moments, -1, 0)
    some = n > 0
    cross = t * p / np.where(some, n, 1)
    spread = tt + pp - 2 * cross  # = n (var_t + var_p + (mean_t - mean_p)²)
    flat = spread <= FLAT * n
    value = np.where(flat, 1.0, 2 * (tp - cross) / np.where(flat, 1, spread))
    return np.where(some, value, np.nan)


def moments(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """(n,) sequences as the six sums of `ccc_of_moments`."""
    return np.array([len(truth), truth.sum(), prediction.sum(), truth @ truth, prediction @ prediction, truth @ prediction])


def confusion(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """(8, 8) int64 frames by class of truth (rows) and of prediction (columns), from two (n,) sequences of class numbers."""
    classes = len(EXPRESSIONS)
    cells = np.asarray(truth).astype(np.int64) * classes + np.asarray(prediction).astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def unit_counts(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """(12, 4) int64 frames by unit: true positives, false positives, false negatives, true negatives; from (n, 12) of 0 and 1."""
    t, p = np.asarray(truth, bool), np.asarray(prediction, bool)
    hits, truths, guesses = (x.sum(axis=0) for x in (t & p, t, p))
    return np.stack([hits, guesses - hits, truths - hits, len(t) - truths - guesses + hits], axis=1)


def ratios(task: str, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators (..., C + 1) of the F1 of each class or unit and, last, of accuracy; both add over videos.

    Args:
        counts: (..., 8, 8) of `confusion` (expr), or (..., 12, 4) of `unit_counts` (au).
    """
    if task == "expr":
        hits = np.diagonal(counts, axis1=-2, axis2=-1)
        totals, right = counts.sum(axis=-1) + counts.sum(axis=-2), hits.sum(axis=-1)
    else:
        hits = counts[..., 0]
        totals, right = 2 * hits + counts[..., 1] + counts[..., 2], (hits + counts[..., 3]).sum(axis=-1)
    frames = counts.sum(axis=(-2, -1))
    over, under = np.append(2 * hits, right[..., None], axis=-1), np.append(totals, frames[..., None], axis=-1)
    return over.astype(np.float64), under.astype(np.float64)


def _f1_scores(task: str, counts: np.ndarray) -> dict[str, float]:
    over, under = ratios(task, counts)
    each = np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)
    known = each[:-1][under[:-1] > 0]
    return dict(zip(KEYS[task], map(float, (known.mean() if len(known) else 1.0, each[-1], *each[:-1])), strict=True))


def va_scores(truth: np.ndarray, prediction: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """`ccc_valence`, `ccc_arousal` and their mean `ccc`; see `scores`."""
    return scores("va", truth, prediction, valid)


def scores(task: str, truth: np.ndarray, prediction: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """All figures of a task, by KEYS[task], over the valid frames of (T, K) truth and prediction; TASKS[task].measure is the challenge's.

    va: `ccc_valence`, `ccc_arousal` and their mean `ccc`. expr: macro F1 `f1`, `accuracy`, `f1_<class>`. au: mean F1 `f1`, `accuracy` (the
    part of all units at all frames that is right), `f1_<unit>`.
    Frames where valid (T,) is False may hold anything. Raises InputError where no frame is valid, or for a value that is no label.
    """
    truth, prediction = valid_frames(task, "scores", (truth, prediction, valid))
    if len(truth) == 0:
        raise InputError(f"scores: want at least one valid frame, got none of {len(valid)}; are any frames valid?")
    return _scores(task, truth, prediction)


def _scores(task: str, truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Of what `valid_frames` gives, n >= 1."""
    if task != "va":
        return _f1_scores(task, _counts(task, truth, prediction))
    valence, arousal = (ccc(truth[:, i], prediction[:, i]) for i in range(2))
    return {"ccc_valence": valence, "ccc_arousal": arousal, "ccc": (valence + arousal) / 2}


def _counts(task: str, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return confusion(truth[:, 0], prediction[:, 0]) if task == "expr" else unit_counts(truth, prediction)


# ---- sets of videos ---------------------------------------------------------------------------------------------------------------------


def pooled(task: str, videos: Mapping[str, Video]) -> dict[str, float]:
    """Scores over the valid frames of all videos (id -> truth, prediction, valid) as one sequence: the challenge's measure."""
    if not any(np.any(valid) for *_, valid in videos.values()):
        raise InputError(f"pooled: want at least one valid frame, got none in {len(videos)} videos")
    kept = (valid_frames(task, name, video) for name, video in videos.items())
    if task != "va":  # counts add, and the frames of all videos need not be in memory twice
        return _f1_scores(task, np.sum([_counts(task, *own) for own in kept], axis=0))
    truth, prediction = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return _scores(task, truth, prediction)


def within_video(task: str, videos: Mapping[str, Video]) -> WithinVideo:
    """Scores of each video, and their unweighted mean.

    va: a video of constant truth counts 0 unless it is predicted exactly. expr, au: F1 over the classes or units that occur in the video,
    so that one of constant truth that is predicted exactly counts 1; what that alone is worth, `constant_baseline` tells.
    """
    table, left_out = {}, []
    for name, video in videos.items():
        truth, prediction = valid_frames(task, name, video)
        if len(truth) < 2:
            left_out.append(name)
        else:
            table[name] = _scores(task, truth, prediction) | {"frames": len(truth)}
    means = {}
    for key in KEYS[task]:
        known = [row[key] for row in table.values() if not np.isnan(row[key])]
        means[key] = float(np.mean(known)) if known else float("nan")
    return WithinVideo(means, table, tuple(left_out))


# ---- baselines: the videos with another prediction, to be scored like any system --------------------------------------------------------


def constant_baseline(task: str, videos: Mapping[str, Video]) -> dict[str, Video]:
    """Each video predicted, at every frame, by its own truth's mean (va) or most frequent value (expr, au); predictions are not read.

    It knows the level of each video and sees no change over time, so a model whose pooled figure is below it may owe all of its score to
    the videos' levels. A video without a valid frame is predicted 0, which nobody reads.
    """
    out = {}
    for name, (truth, _, valid) in videos.items():
        kept, _ = valid_frames(task, name, (truth, truth, valid))
        if not len(kept):
            row = np.zeros(len(TASKS[task].columns))
        else:
            row = kept.mean(axis=0) if task == "va" else majority_row(label_counts(task, kept, np.ones(len(kept), bool)))
        out[name] = (truth, np.broadcast_to(row, (len(truth), len(row))), valid)
    return out


def majority_baseline(task: str, videos: Mapping[str, Video], row: np.ndarray) -> dict[str, Video]:
    """Every frame of expr or au predicted by one (K,) row, `majority_row` of the training labels; predictions are not read."""
    _refuse_va("majority_baseline", task)
    row = np.asarray(row, np.float64)
    if row.shape != (len(TASKS[task].columns),):
        raise InputError(f"majority_baseline: want a row ({len(TASKS[task].columns)},) for {task}, got {row.shape}; see majority_row")
    return {name: (truth, np.broadcast_to(row, (len(truth), len(row))), valid) for name, (truth, _, valid) in videos.items()}


def label_counts(task: str, truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Valid frames by column and value, int64: (1, 8) of expr, (12, 2) of au. Counts of several videos are added."""
    _refuse_va("label_counts", task)
    kept, _ = valid_frames(task, "label_counts", (truth, truth, valid))
    values = len(EXPRESSIONS) if task == "expr" else 2
    return np.stack([np.bincount(column.astype(np.int64), minlength=values) for column in kept.T])


def majority_row(counts: np.ndarray) -> np.ndarray:
    """The most frequent value of each column, (K,) float64, of counts (K, values); of equally frequent ones the smaller."""
    if counts.ndim != 2 or not counts.sum(axis=1).all():
        raise InputError(f"majority_row: want counts (K, values) of at least one labelled frame, got {counts.tolist()}; see label_counts")
    return counts.argmax(axis=1).astype(np.float64)


# ---- checks -----------------------------------------------------------------------------------------------------------------------------


def valid_frames(task: str, name: str, video: Video) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction (n, K) float64 at the valid frames of `name`; InputError for other shapes, or a value that is no label."""
    if task not in TASKS:
        raise InputError(f"{name}: want a task of {', '.join(TASKS)}, got {task!r}")
    truth, prediction, valid = (np.asarray(part) for part in video)
    k = len(TASKS[task].columns)
    if truth.ndim != 2 or truth.shape[1] != k or prediction.shape != truth.shape or valid.shape != truth.shape[:1] or valid.dtype != bool:
        raise InputError(
            f"{name}: want truth and prediction (T, {k}) and valid bool (T,), "
            f"got {truth.shape}, {prediction.shape} and {valid.dtype} {valid.shape}"
        )
    kept = truth[valid].astype(np.float64), prediction[valid].astype(np.float64)
    for what, values in zip(("truth", "prediction"), kept, strict=True):
        _check_values(task, name, what, values, valid)
    return kept


def _check_values(task: str, name: str, what: str, values: np.ndarray, valid: np.ndarray) -> None:
    if task == "va":
        right, want = np.isfinite(values), "finite values"
    elif task == "expr":
        right, want = (values >= 0) & (values < len(EXPRESSIONS)) & (values == np.floor(values)), f"a class 0 to {len(EXPRESSIONS) - 1}"
    else:
        right, want = (values == 0) | (values == 1), "0 or 1"
    if not right.all():
        frame, column = np.argwhere(~right)[0]
        raise InputError(
            f"{name}: want {want} in the {what} of valid frames, got {values[frame, column]:g} at index {np.flatnonzero(valid)[frame]}; "
            "mend it or mark the frame invalid"
        )


def _refuse_va(who: str, task: str) -> None:
    if task == "va":
        raise InputError(f"{who}: want a task of classes, expr or au, got va; its constant is constant_baseline")
