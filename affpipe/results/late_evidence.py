"""Evidence for weights of late fusion: labelled frames reduced to what the figure of any weighted mean needs.

Dimensions have a weight for each system and dimension. The CCC of a weighted mean needs second moments alone, so no candidate is computed
over frames. Classes and units have a weight for each system; candidates are computed over frames, some at a time.
If a system has nothing for a frame, the weights of the systems that have something are scaled to sum to 1. If none of these has a weight,
they count equally. So every candidate is judged on the same frames, those that any system predicts.
Shapes: K systems, T frames, C candidates, B values that are averaged, see `Task.blend`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from affpipe.core.tasks import f1
from affpipe.core.tasks.task import Task

FLAT = 1e-12  # a denominator of a CCC below this: truth and prediction are one constant
CELLS = 2**24  # entries of an array of candidates over frames
Present = tuple[bool, ...]  # which of the K systems have a value


def patterns(given: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[Present, np.ndarray]]:
    """Yield the sets of systems that are present together, in given (K, T), with the frames of each set among the wanted (T,).

    Frames without any system are in no set.
    """
    rows = np.flatnonzero(wanted & given.any(axis=0))
    packed = np.packbits(given[:, rows], axis=0)  # eight systems a byte, so that equal sets are found by bytes
    kinds, first, which = np.unique(packed.T.copy().view(f"V{len(packed)}").ravel(), return_index=True, return_inverse=True)
    for i in range(len(kinds)):
        yield tuple(given[:, rows[first[i]]].tolist()), rows[which == i]


def shares(weights: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Scale weights (..., K) to sum to 1 over the systems that are present (K,) bool; equal weights if none of those has one."""
    kept = weights * present
    total = kept.sum(axis=-1, keepdims=True)
    return np.where(total > 0, kept / np.where(total > 0, total, 1), present / present.sum())


@dataclass(frozen=True, eq=False)
class Evidence(ABC):
    """Labelled frames of some streams.

    Attributes:
        found: systems that are present together -> what is kept of their frames.
    """

    found: dict[Present, Any]

    @classmethod
    def of(cls, task: Task, truth: np.ndarray, known: np.ndarray, blends: np.ndarray, given: np.ndarray) -> "Evidence":
        """Keep what is needed of one stream: its frames that have a label and a prediction of any system.

        Args:
            truth: (T, columns). known: (T,) bool. blends: (K, T, B). given: (K, T) bool, False where a system has nothing.
        """
        kind = Moments if task.kind == "dimensions" else Frames
        out = {}
        for present, rows in patterns(given, known):
            own = np.where(np.array(present)[:, None, None], blends[:, rows], 0)
            out[present] = kind.keep(task.scaled(truth[rows]), task.scaled(own))  # moments of any range are well conditioned then
        return kind(out)

    def __add__(self, other: "Evidence") -> "Evidence":
        both = {present: self.join(own, other.found[present]) for present, own in self.found.items() if present in other.found}
        return type(self)({**self.found, **other.found, **both})

    @property
    def able(self) -> np.ndarray:
        """Indices of the systems that have a value for some frame. One without any would score as the mean of the others."""
        return np.flatnonzero(np.any(list(self.found), axis=0))

    def sums(self, task: Task, weights: np.ndarray, channel: int) -> np.ndarray:
        """Return the (C, S) sums of a channel for candidates (C, K). They add over streams, and `worth` turns them into a figure."""
        parts = (self.measure(task, shares(weights, np.array(present)), kept, channel) for present, kept in self.found.items())
        return sum(parts, np.zeros(()))

    @staticmethod
    @abstractmethod
    def keep(truth: np.ndarray, blends: np.ndarray) -> Any:
        """Keep what is needed of n frames, all with the same systems: truth (n, columns), blends (K, n, B), zero for missing systems."""

    @staticmethod
    @abstractmethod
    def join(a: Any, b: Any) -> Any:
        """Join what is kept of two streams."""

    @staticmethod
    @abstractmethod
    def measure(task: Task, weights: np.ndarray, kept: Any, channel: int) -> np.ndarray:
        """Return the (C, S) sums of candidates (C, K) over what is kept."""


class Moments(Evidence):
    """Second moments: for each dimension the products of [1, truth, prediction 1 ... K] summed over frames, (columns, K + 2, K + 2)."""

    @staticmethod
    def keep(truth: np.ndarray, blends: np.ndarray) -> np.ndarray:
        z = np.concatenate([np.ones((1, *truth.shape)), truth[None], blends]).transpose(2, 0, 1)  # (columns, K + 2, n)
        return z @ z.transpose(0, 2, 1)

    @staticmethod
    def join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + b

    @staticmethod
    def measure(task: Task, weights: np.ndarray, kept: np.ndarray, channel: int) -> np.ndarray:
        gram = kept[channel]
        own = [weights @ gram[0, 2:], ((weights @ gram[2:, 2:]) * weights).sum(axis=1), weights @ gram[1, 2:]]
        return np.stack([*(np.full(len(weights), gram[i]) for i in ((0, 0), (0, 1), (1, 1))), *own], axis=1)


class Frames(Evidence):
    """The frames themselves: truth (n, columns) and blends (K, n, B)."""

    @staticmethod
    def keep(truth: np.ndarray, blends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return truth, blends.astype(np.float32)

    @staticmethod
    def join(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]], axis=1)

    @staticmethod
    def measure(task: Task, weights: np.ndarray, kept: tuple[np.ndarray, np.ndarray], channel: int) -> np.ndarray:
        truth, blends = kept
        systems, frames, width = blends.shape
        out = []
        for some in np.array_split(weights.astype(np.float32), -(-len(weights) * frames * width // CELLS) or 1):
            mean = (some @ blends.reshape(systems, -1)).reshape(len(some), frames, width)
            out += [task.sums(truth, task.unblend(own)) for own in mean]
        return np.stack(out)


def worth(task: Task, sums: np.ndarray) -> np.ndarray:
    """Return the figure (C,) of a channel from (C, S) sums: the CCC of a dimension, else the mean F1."""
    if task.kind != "dimensions":
        each = f1.quotients(sums)[0][:, task.members[task.figures.index(task.measure)]]  # of classes or units, without accuracy
        some = ~np.isnan(each)
        return np.where(some.any(axis=1), np.where(some, each, 0).sum(axis=1) / np.maximum(some.sum(axis=1), 1), 1.0)
    n, t, tt, p, pp, tp = sums.T
    covariance, spread = tp / n - t * p / n**2, tt / n + pp / n - 2 * t * p / n**2
    return np.where(spread > FLAT, 2 * covariance / np.maximum(spread, FLAT), 1.0)


def total(task: Task, parts: Iterable[tuple[Evidence, np.ndarray]], channel: int) -> np.ndarray:
    """Return the figure (C,) of a channel, pooled over parts of the data, each with its own weights (C, K)."""
    return worth(task, sum((evidence.sums(task, weights, channel) for evidence, weights in parts), np.zeros(())))
