"""Late fusion: weighted means of the predictions of finished systems, the weights fitted on videos other than those reported.

Source: Team RAS, public code (weights per dimension; single systems, pairs on a grid, larger subsets by Dirichlet draws). That code fits
and ranks on the videos that it reports; here the labelled videos are cut into two halves, and each half is reported with weights fitted on
the other. `study` also gives the figure of the published way, called optimistic, so that the difference can be seen.
Ours, where a system has nothing for a frame: the weights of those that have something are scaled to sum to 1; if none of them has a
weight, those present count equally. So every candidate is judged on the same frames, those that any system predicts.
The CCC of a weighted mean needs second moments alone. They are summed up once a stream, and no candidate is ever drawn out over frames.
Shapes: K systems, T frames, C candidates; the axis of 2 is (valence, arousal).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from affpipe.core.errors import InputError

FLAT = 1e-12  # denominators of a CCC below this: truth and prediction are one constant
BETTER = 1e-9  # a gain below this is rounding, and the smaller subset stands

# Systems that have a value, (K,) bool as a tuple -> (2, K + 2, K + 2): products of [1, truth, prediction 1 ... K] summed over frames
Sums = Mapping[tuple[bool, ...], np.ndarray]


@dataclass(frozen=True)
class Search:
    """Which weights to try. step: of a pair's grid, rounded so that it divides 1."""

    largest: int = 3
    step: float = 0.05
    draws: int = 2000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Half:
    """Videos that are reported together. weights: (2, K), fitted on the other half; single: the system that was best there."""

    videos: tuple[str, ...]
    weights: np.ndarray
    single: str


@dataclass(frozen=True, eq=False)
class Study:
    """Fitted weights and what they are worth.

    Attributes:
        names: the K systems, sorted. weights: (2, K), fitted on all labelled videos, for those without labels.
        single: the best system over all labelled videos. labelled: those videos.
        halves: two, or none where there are fewer than two labelled videos.
        honest, honest_single: ccc_valence, ccc_arousal, ccc of both halves pooled, each with weights (or the system) that the other
            half chose; None without halves.
        optimistic, optimistic_single: the same, fitted and reported on all labelled videos.
    """

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
        """(2, K) weights that never saw the video; None where there are no such: it is labelled, and there are no halves."""
        if video not in self.labelled:
            return self.weights
        return next((half.weights for half in self.halves if video in half.videos), None)


def sums(truth: np.ndarray, known: np.ndarray, predictions: np.ndarray, given: np.ndarray) -> dict[tuple[bool, ...], np.ndarray]:
    """Second moments of one stream, over the frames that have a label and a prediction of any system.

    Args:
        truth: (T, 2); known: (T,) bool. predictions: (K, T, 2); given: (K, T) bool, False where a system has nothing.
    """
    out = {}
    for present, rows in _patterns(given, known):
        here = np.array(present)[:, None, None]
        z = np.concatenate([np.ones((1, len(rows), 2)), truth[None, rows], np.where(here, predictions[:, rows], 0)])  # (K + 2, n, 2)
        z = z.transpose(2, 0, 1)
        out[present] = z @ z.transpose(0, 2, 1)
    return out


def fuse(weights: np.ndarray, predictions: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean of predictions (K, T, 2) by weights (2, K): (T, 2) float64, zero where no system has a value, and (T,) bool."""
    valid = given.any(axis=0)
    out = np.zeros(predictions.shape[1:])
    for present, rows in _patterns(given, valid):
        here = np.array(present)
        out[rows] = np.einsum("ck,ktc->tc", shares(weights, here), np.where(here[:, None, None], predictions[:, rows], 0))
    return out, valid


def worst(weights: np.ndarray, codes: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(T,) the least of codes (K, T) among the systems that have a part in the mean of `fuse`, in either channel; 0 where none has."""
    out = np.zeros(codes.shape[1], codes.dtype)
    for present, rows in _patterns(given, given.any(axis=0)):
        part = (shares(weights, np.array(present)) > 0).any(axis=0)
        out[rows] = codes[np.ix_(part, rows)].min(axis=0)
    return out


def _patterns(given: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[tuple[bool, ...], np.ndarray]]:
    """The sets of systems (K,) that are present together, each with its frames, among the wanted ones (T,) that have any system."""
    rows = np.flatnonzero(wanted & given.any(axis=0))
    packed = np.packbits(given[:, rows], axis=0)  # eight systems a byte, so that equal sets are found by bytes
    kinds, first, which = np.unique(packed.T.copy().view(f"V{len(packed)}").ravel(), return_index=True, return_inverse=True)
    for i in range(len(kinds)):
        yield tuple(given[:, rows[first[i]]].tolist()), rows[which == i]


def shares(weights: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Weights (..., K) scaled to sum to 1 over the systems that are present (K,) bool; equal ones where none of those has a weight."""
    kept = weights * present
    total = kept.sum(axis=-1, keepdims=True)
    return np.where(total > 0, kept / np.where(total > 0, total, 1), present / present.sum())


def ccc(parts: Iterable[tuple[Sums, np.ndarray]], channel: int) -> np.ndarray:
    """(C,) CCC of one channel, pooled over parts of the data, each with its own weights (C, K)."""
    total = np.zeros(())
    for moments, weights in parts:
        for present, both in moments.items():
            w, gram = shares(weights, np.array(present)), both[channel]
            own = [w @ gram[0, 2:], ((w @ gram[2:, 2:]) * w).sum(axis=1), w @ gram[1, 2:]]
            total = total + np.stack([*(np.full(len(w), gram[i]) for i in ((0, 0), (0, 1), (1, 1))), *own])
    n, t, tt, p, pp, tp = total
    covariance, spread = tp / n - t * p / n**2, tt / n + pp / n - 2 * t * p / n**2
    return np.where(spread > FLAT, 2 * covariance / np.maximum(spread, FLAT), 1.0)


def candidates(systems: int, search: Search) -> Iterator[np.ndarray]:
    """Weights (C, K), one block a subset: all single systems, then each pair, each three, and so on up to `largest`."""
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


def fit(moments: Sums, systems: int, search: Search) -> np.ndarray:
    """(2, K) weights of the best candidate for each channel; of equal ones the first. A system without any value gets none."""
    best, weights = np.full(2, -np.inf), np.zeros((2, systems))
    able = _able(moments)
    for few in candidates(len(able), search):
        block = np.zeros((len(few), systems))
        block[:, able] = few
        for channel in range(2):
            scores = ccc([(moments, block)], channel)
            top = int(np.argmax(scores > scores.max() - BETTER))
            if scores[top] > best[channel] + BETTER:
                best[channel], weights[channel] = scores[top], block[top]
    return weights


def halves(videos: Iterable[str]) -> tuple[list[str], list[str]]:
    """Two disjoint halves, the first one larger by one if the number is odd: every other video in the order of a hash of its id."""
    order = sorted(videos, key=lambda video: hashlib.sha256(video.encode()).hexdigest())
    return sorted(order[::2]), sorted(order[1::2])


def study(names: Sequence[str], moments: Mapping[str, Sequence[Sums]], search: Search) -> Study:
    """Fit weights on labelled videos, and report them on videos that they never saw.

    Args:
        names: the K systems, sorted. moments: video -> `sums` of its streams; a video stays on one side with all of them.
    """
    if list(names) != sorted(set(names)):
        raise ValueError(f"study: want sorted names, each once, got {list(names)}")
    labelled = {video: add(streams) for video, streams in moments.items() if any(streams)}
    if not labelled:
        raise InputError("late fusion: want a validation video with labels and a prediction, got none; check annotations and failures.csv")
    whole, k = add(labelled.values()), len(names)
    weights, single = fit(whole, k, search), _single(whole, k)
    kept, honest, honest_single = [], None, None
    if len(labelled) > 1:
        sides = [(videos, add(labelled[v] for v in videos)) for videos in halves(labelled)]
        chosen = [(fit(other, k, search), _single(other, k)) for _, other in reversed(sides)]
        kept = [Half(tuple(videos), w, names[one]) for (videos, _), (w, one) in zip(sides, chosen, strict=True)]
        honest = _scores([(own, w) for (_, own), (w, _) in zip(sides, chosen, strict=True)])
        honest_single = _scores([(own, _alone(one, k)) for (_, own), (_, one) in zip(sides, chosen, strict=True)])
    optimistic, optimistic_single = _scores([(whole, weights)]), _scores([(whole, _alone(single, k))])
    own = tuple(names), weights, names[single], tuple(sorted(labelled))
    return Study(*own, tuple(kept), honest, honest_single, optimistic, optimistic_single)


def add(parts: Iterable[Sums]) -> dict[tuple[bool, ...], np.ndarray]:
    """Moments of several streams together."""
    out: dict[tuple[bool, ...], np.ndarray] = {}
    for part in parts:
        for present, gram in part.items():
            out[present] = out[present] + gram if present in out else gram
    return out


def _single(moments: Sums, systems: int) -> int:
    """The system with the best mean CCC."""
    able = _able(moments)
    mean = np.mean([ccc([(moments, np.eye(systems)[able])], channel) for channel in range(2)], axis=0)
    return int(able[np.argmax(mean > mean.max() - BETTER)])


def _able(moments: Sums) -> np.ndarray:
    """Indices of the systems that have a value for some frame. One that has none would score as the mean of the others."""
    return np.flatnonzero(np.any(list(moments), axis=0))


def _alone(system: int, systems: int) -> np.ndarray:
    return np.eye(systems)[[system, system]]


def _scores(parts: Sequence[tuple[Sums, np.ndarray]]) -> dict[str, float]:
    """Pooled scores of parts with weights (2, K) each."""
    valence, arousal = (float(ccc([(m, w[channel : channel + 1]) for m, w in parts], channel)[0]) for channel in range(2))
    return {"ccc_valence": valence, "ccc_arousal": arousal, "ccc": (valence + arousal) / 2}
