"""Evaluation of valence and arousal: the concordance correlation coefficient (CCC), pooled and within videos.

CCC (Lin, 1989) = 2 cov / (var_t + var_p + (mean_t - mean_p)²), with population moments (divided by n) throughout; a mixture of n and n
- 1 is no CCC. It is the measure of the ABAW challenge, over all valid frames of the split together ("Team RAS in 10th ABAW
Competition", sec. 4.2). The pooled figure rewards knowing each video's mean level, so `within_video` and `constant_baseline` stand
beside it.
Everything is float64. Shapes: T frames; the last axis is (valence, arousal).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from affpipe.errors import InputError

Video = tuple[np.ndarray, np.ndarray, np.ndarray]  # truth (T, 2), prediction (T, 2), valid (T,) bool


class WithinVideo(NamedTuple):
    """Scores inside videos.

    Attributes:
        scores: mean over the videos of `table`, by the keys of `va_scores`; NaN where no video has two valid frames.
        table: video id -> its own scores and `frames`, the number of valid ones.
        left_out: ids of videos with fewer than 2 valid frames.
    """

    scores: dict[str, float]
    table: dict[str, dict[str, float]]
    left_out: tuple[str, ...]


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


def va_scores(truth: np.ndarray, prediction: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """`ccc_valence`, `ccc_arousal` and their mean `ccc`, over the valid frames of (T, 2) sequences.

    Frames where valid (T,) is False may hold anything. Raises InputError where no frame is valid.
    """
    truth, prediction = _valid_frames("va_scores", (truth, prediction, valid))
    valence, arousal = (ccc(truth[:, i], prediction[:, i]) for i in range(2))
    return {"ccc_valence": valence, "ccc_arousal": arousal, "ccc": (valence + arousal) / 2}


def pooled(videos: Mapping[str, Video]) -> dict[str, float]:
    """va_scores over the valid frames of all videos (id -> truth, prediction, valid) as one sequence: the challenge's measure."""
    kept = [_valid_frames(name, video) for name, video in videos.items()]
    if sum(len(truth) for truth, _ in kept) == 0:
        raise InputError(f"pooled: want at least one valid frame, got none in {len(kept)} videos")
    truth, prediction = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return va_scores(truth, prediction, np.ones(len(truth), bool))


def within_video(videos: Mapping[str, Video]) -> WithinVideo:
    """va_scores of each video, and their unweighted mean; a video of constant truth counts 0 unless it is predicted exactly."""
    table, left_out = {}, []
    for name, video in videos.items():
        truth, prediction = _valid_frames(name, video)
        if len(truth) < 2:
            left_out.append(name)
        else:
            table[name] = va_scores(truth, prediction, np.ones(len(truth), bool)) | {"frames": len(truth)}
    keys = ("ccc_valence", "ccc_arousal", "ccc")
    scores = {key: float(np.mean([row[key] for row in table.values()])) if table else float("nan") for key in keys}
    return WithinVideo(scores, table, tuple(left_out))


def constant_baseline(videos: Mapping[str, Video]) -> dict[str, float]:
    """Pooled scores of predicting, at each frame, the mean of its video's own truth over valid frames; predictions are not read.

    It sees no change over time, so a model whose pooled CCC is below it may owe all of its score to the videos' levels.
    """
    constants = {}
    for name, (truth, _, valid) in videos.items():
        kept, _ = _valid_frames(name, (truth, truth, valid))
        level = kept.mean(axis=0) if len(kept) else np.zeros(2)  # no valid frame: the level is never read
        constants[name] = (truth, np.broadcast_to(level, (len(truth), 2)), valid)
    return pooled(constants)


def _valid_frames(name: str, video: Video) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction (n, 2) float64 at the valid frames."""
    truth, prediction, valid = (np.asarray(part) for part in video)
    if truth.ndim != 2 or truth.shape[1] != 2 or prediction.shape != truth.shape or valid.shape != truth.shape[:1] or valid.dtype != bool:
        raise InputError(
            f"{name}: want truth and prediction (T, 2) and valid bool (T,), "
            f"got {truth.shape}, {prediction.shape} and {valid.dtype} {valid.shape}"
        )
    return truth[valid].astype(np.float64), prediction[valid].astype(np.float64)
