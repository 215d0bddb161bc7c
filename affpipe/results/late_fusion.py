"""Late fusion: weighted means of the predictions of finished systems, with weights fitted on videos other than those reported.

Source: Team RAS, public code (weights per dimension; single systems, pairs on a grid, larger subsets by Dirichlet draws). That code fits
and ranks on the videos that it reports. Here the labelled videos are cut into two halves, and each half is reported with weights fitted on
the other. `study` also gives the figure of the published way, called optimistic, so that the difference can be seen.
Ours: for classes their probabilities are averaged, and the greatest mean is the class. For units it is the same, with each system's own
threshold moved to 0.5 first. Both have one weight per system. `late_evidence` says how frames are weighed if a system lacks them.
Shapes: K systems, T frames, C candidates, H channels, each with its own weights: the dimensions, or one for all classes or units.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import add

import numpy as np

from affpipe.core.errors import InputError
from affpipe.core.tasks.task import Task
from affpipe.results.late_evidence import Evidence, patterns, shares, total

BETTER = 1e-9  # a gain below this is rounding, and the smaller subset is kept


@dataclass(frozen=True)
class Search:
    """Weights to try.

    Attributes:
        largest: greatest number of systems in a subset.
        step: step of a pair's grid, rounded so that it divides 1.
        draws: Dirichlet draws of a larger subset. seed: their seed.
    """

    largest: int = 3
    step: float = 0.05
    draws: int = 2000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Half:
    """Videos that are reported together.

    Attributes:
        weights: (H, K), fitted on the other half.
        single: the system that was best there.
    """

    videos: tuple[str, ...]
    weights: np.ndarray
    single: str


@dataclass(frozen=True, eq=False)
class Study:
    """Fitted weights and their figures.

    Attributes:
        task: the task whose predictions are weighed. names: the K systems, sorted.
        weights: (H, K), fitted on all labelled videos, for those without labels.
        single: the best system over all labelled videos. labelled: those videos.
        halves: two, or none if there are fewer than two labelled videos.
        honest, honest_single: figures of both halves pooled, of each dimension and their mean, or the mean F1, each with weights (or the
            system) that the other half chose; None without halves.
        optimistic, optimistic_single: the same, fitted and reported on all labelled videos.
    """

    task: Task
    names: tuple[str, ...]
    weights: np.ndarray
    single: str
    labelled: tuple[str, ...]
    halves: tuple[Half, ...]
    honest: dict[str, float] | None
    honest_single: dict[str, float] | None
    optimistic: dict[str, float]
    optimistic_single: dict[str, float]

    def weights_for(self, video: str) -> np.ndarray | None:
        """Return the (H, K) weights that never saw the video; None if there are none, as for a labelled video without halves."""
        if video not in self.labelled:
            return self.weights
        return next((half.weights for half in self.halves if video in half.videos), None)


def fuse(task: Task, weights: np.ndarray, blends: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average what systems predict, see `Task.blend`: labels (T, columns) float64, zero where no system has a value, and (T,) bool.

    Args:
        weights: (H, K). blends: (K, T, B). given: (K, T) bool.
    """
    valid = given.any(axis=0)
    mean = np.zeros(blends.shape[1:])
    for present, rows in patterns(given, valid):
        here = np.array(present)
        own = np.broadcast_to(shares(weights, here), (mean.shape[1], len(here))) if len(weights) == 1 else shares(weights, here)
        mean[rows] = np.einsum("ck,ktc->tc", own, np.where(here[:, None, None], blends[:, rows], 0))
    return np.where(valid[:, None], task.unblend(mean), 0.0), valid


def worst(weights: np.ndarray, codes: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return the least of codes (K, T) among the systems with a part in the mean of `fuse`, in any channel, (T,); 0 where none has."""
    out = np.zeros(codes.shape[1], codes.dtype)
    for present, rows in patterns(given, given.any(axis=0)):
        part = (shares(weights, np.array(present)) > 0).any(axis=0)
        out[rows] = codes[np.ix_(part, rows)].min(axis=0)
    return out


def candidates(systems: int, search: Search) -> Iterator[np.ndarray]:
    """Yield weights (C, K), one block per subset: all single systems, then each pair, each three, and so on up to `largest`."""
    yield np.eye(systems)
    parts = round(1 / search.step)
    for size in range(2, min(search.largest, systems) + 1):
        if size == 2:
            first = np.arange(1, parts) / parts
            drawn = np.stack([first, 1 - first], axis=1)
        else:
            drawn = np.random.default_rng([search.seed, size]).dirichlet(np.ones(size), search.draws)
        for subset in combinations(range(systems), size):
            block = np.zeros((len(drawn), systems))
            block[:, subset] = drawn
            yield block


def fit(task: Task, evidence: Evidence, systems: int, search: Search) -> np.ndarray:
    """Return the (H, K) weights of the best candidate for each channel, the first on a tie. A system without any value gets none."""
    channels = len(task.channels)
    best, weights = np.full(channels, -np.inf), np.zeros((channels, systems))
    able = evidence.able
    for few in candidates(len(able), search):
        block = np.zeros((len(few), systems))
        block[:, able] = few
        for channel in range(channels):
            scores = total(task, [(evidence, block)], channel)
            top = int(np.argmax(scores > scores.max() - BETTER))
            if scores[top] > best[channel] + BETTER:
                best[channel], weights[channel] = scores[top], block[top]
    return weights


def halves(videos: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split videos into two disjoint halves: every other video in the order of a hash of its id. The first may be larger by one."""
    order = sorted(videos, key=lambda video: hashlib.sha256(video.encode()).hexdigest())
    return sorted(order[::2]), sorted(order[1::2])


def study(task: Task, names: Sequence[str], evidence: Mapping[str, Sequence[Evidence]], search: Search) -> Study:
    """Fit weights on labelled videos, and report them on videos that they never saw.

    Args:
        names: the K systems, sorted.
        evidence: video -> the evidence of its streams; a video stays on one side with all of them.
    """
    if list(names) != sorted(set(names)):
        raise ValueError(f"study: want sorted names, each once, got {list(names)}")
    labelled = {video: whole for video, streams in evidence.items() if (whole := reduce(add, streams)).found}
    if not labelled:
        raise InputError(
            f"late fusion: want a video to score with labels of {task.name} and a prediction, got none; check annotations and failures.csv"
        )
    whole, k = reduce(add, labelled.values()), len(names)
    weights, single = fit(task, whole, k, search), _single(task, whole, k)
    kept, honest, honest_single = [], None, None
    if len(labelled) > 1:
        sides = [(videos, reduce(add, (labelled[v] for v in videos))) for videos in halves(labelled)]
        chosen = [(fit(task, other, k, search), _single(task, other, k)) for _, other in reversed(sides)]
        kept = [Half(tuple(videos), w, names[one]) for (videos, _), (w, one) in zip(sides, chosen, strict=True)]
        honest = _scores(task, [(own, w) for (_, own), (w, _) in zip(sides, chosen, strict=True)])
        honest_single = _scores(task, [(own, _alone(task, one, k)) for (_, own), (_, one) in zip(sides, chosen, strict=True)])
    optimistic, optimistic_single = _scores(task, [(whole, weights)]), _scores(task, [(whole, _alone(task, single, k))])
    own = task, tuple(names), weights, names[single], tuple(sorted(labelled))
    return Study(*own, tuple(kept), honest, honest_single, optimistic, optimistic_single)


def _single(task: Task, evidence: Evidence, systems: int) -> int:
    """Return the system with the best mean over the channels."""
    able = evidence.able
    mean = np.mean([total(task, [(evidence, np.eye(systems)[able])], channel) for channel in range(len(task.channels))], axis=0)
    return int(able[np.argmax(mean > mean.max() - BETTER)])


def _alone(task: Task, system: int, systems: int) -> np.ndarray:
    return np.eye(systems)[[system] * len(task.channels)]


def _scores(task: Task, parts: Sequence[tuple[Evidence, np.ndarray]]) -> dict[str, float]:
    """Return pooled figures of parts with weights (H, K) each: of each channel, if there are several, and their mean."""
    each = [float(total(task, [(e, w[h : h + 1]) for e, w in parts], h)[0]) for h in range(len(task.channels))]
    by_channel = dict(zip(task.output_figures, each, strict=True)) if task.kind == "dimensions" else {}
    return {**by_channel, task.measure: sum(each) / len(each)}
