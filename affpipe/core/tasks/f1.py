"""F1 of classes and of units from counts of frames, which add over videos.

F1 = 2 tp / (2 tp + fp + fn). A class or unit that occurs in neither truth nor prediction has no F1 (NaN) and is left out of the mean. If
none occurs at all, truth and prediction agree everywhere and the mean is 1. On the challenge's sets all occur.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from affpipe.core.tasks.task import Part, Task


@dataclass(frozen=True)
class Counted(Task):
    """A task that is measured by F1: what classes and units share.

    Attributes:
        names: names of the classes, in the order of their numbers, or of the units, in the order of columns.
    """

    names: tuple[str, ...] = ()

    measure: ClassVar = "f1"
    baselines: ClassVar = {"constant": "majority per video", "majority": "majority in training"}

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.names

    @property
    def figures(self) -> tuple[str, ...]:
        return f1_figures(self.names)

    def scores(self, parts: Iterable[Part]) -> dict[str, float]:
        return f1_scores(self.names, sum(self.sums(*part) for part in parts))

    @abstractmethod
    def sums(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return the numerators, then denominators of each F1 and of accuracy."""

    def atoms(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return quotients(sums)

    @property
    def members(self) -> np.ndarray:
        return f1_members(len(self.names))

    def constant(self, truth: np.ndarray) -> np.ndarray:
        return self.counts(truth).argmax(axis=1).astype(np.float64)

    @property
    def video_columns(self) -> dict[str, str]:
        return {"f1": self.table_head[1], "accuracy": "accuracy"}


def confusion(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Count frames by class of truth (rows) and of prediction (columns), (C, C) int64, from two (n,) sequences of class numbers."""
    cells = np.asarray(truth).astype(np.int64) * classes + np.asarray(prediction).astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def unit_counts(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Count true positives, false positives, false negatives, true negatives by unit, (U, 4) int64; from (n, U) of 0 and 1."""
    t, p = np.asarray(truth, bool), np.asarray(prediction, bool)
    hits, truths, guesses = (x.sum(axis=0) for x in (t & p, t, p))
    return np.stack([hits, guesses - hits, truths - hits, len(t) - truths - guesses + hits], axis=1)


def class_ratios(counts: np.ndarray) -> np.ndarray:
    """Return numerators, then denominators (..., 2 (C + 1)) of each class's F1 and of accuracy, from `confusion` (..., C, C)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return _ratios(hits, counts.sum(axis=-1) + counts.sum(axis=-2), hits.sum(axis=-1), counts)


def unit_ratios(counts: np.ndarray) -> np.ndarray:
    """Return numerators, then denominators (..., 2 (U + 1)) of each unit's F1 and of accuracy, from `unit_counts` (..., U, 4).

    Accuracy is the share of all units at all frames that is right.
    """
    hits = counts[..., 0]
    return _ratios(hits, 2 * hits + counts[..., 1] + counts[..., 2], (hits + counts[..., 3]).sum(axis=-1), counts)


def _ratios(hits: np.ndarray, totals: np.ndarray, right: np.ndarray, counts: np.ndarray) -> np.ndarray:
    parts = 2 * hits, right[..., None], totals, counts.sum(axis=(-2, -1))[..., None]
    return np.concatenate(parts, axis=-1).astype(np.float64)


def quotients(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return quotients and derivatives of (B, 2 A) numerators and then denominators.

    Returns:
        (B, A) quotients, NaN for 0 / 0, and (B, A, 2 A) derivatives, 0 there.
    """
    over, under = np.split(sums, 2, axis=1)
    some = under > 0
    inverse = np.divide(1.0, under, out=np.zeros_like(under), where=some)
    value, one = over * inverse, np.eye(over.shape[1])
    slope = np.concatenate([one * inverse[:, :, None], one * (-value * inverse)[:, :, None]], axis=2)
    return np.where(some, value, np.nan), slope


def f1_figures(names: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of the figures of classes or units of these names: the mean F1, accuracy, and the F1 of each."""
    return "f1", "accuracy", *(f"f1_{name}" for name in names)


def f1_scores(names: Sequence[str], ratios: np.ndarray) -> dict[str, float]:
    """Return the figures of `f1_figures` from ratios (2 A,) of the classes or units, the last of which is accuracy."""
    over, under = np.split(ratios, 2)
    each = np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)
    known = each[:-1][under[:-1] > 0]
    values = known.mean() if len(known) else 1.0, each[-1], *each[:-1]
    return dict(zip(f1_figures(names), map(float, values), strict=True))


def f1_members(count: int) -> np.ndarray:
    """Return (count + 2, count + 1) bool: the atoms whose mean each of `f1_figures` is."""
    one = np.eye(count + 1, dtype=bool)
    return np.concatenate([[~one[-1]], one[-1:], one[:-1]])
