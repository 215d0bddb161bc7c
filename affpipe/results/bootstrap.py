"""Intervals of the measures, and of differences between two systems, by resampling over videos.

Frames of a video resemble each other, so whole videos are drawn, with replacement (the cluster bootstrap). Every measure is a function of
sums that add over videos. So a resample is a row of counts, and all of them are one matrix product.

Method: the studentised bootstrap (bootstrap-t; Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 12), on Fisher's z scale
for a single system, on the plain scale for a difference. A resample's standard error is the linearised one (infinitesimal jackknife, same
book, ch. 21); the sample's own is the delete-one-video jackknife (ch. 11). That pair is ours, chosen by measurement. With some ten videos
for a rare class the linearised error is too small by a factor that resamples repeat. And mean F1 is biased downwards, so its usual
percentile interval covers the truth in three cases of four.
Measured, 95 % intervals of the challenge's figures over 1,000 simulated sets of 76 videos (benchmarks/bootstrap.py): the truth lies in 95
to 96 % of them, of means within videos in 93 to 95 %, of differences in 95 to 96 %; with 20 videos in 94 to 99 %. Percentile intervals: 93
% (CCC) and 76 to 79 % (F1), with 20 videos 91 % and 51 to 56 %. An interval of mean F1 that misses mostly lies too low.
Shapes: n videos, B draws, S sums, A atoms (a CCC or an F1 each), M figures (an atom, or the mean over some).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from affpipe.core.errors import InputError
from affpipe.core.tasks import metrics
from affpipe.core.tasks.f1 import quotients
from affpipe.core.tasks.metrics import Video
from affpipe.core.tasks.task import Task

Of = Literal["pooled", "within_video"]
Interval = tuple[float, float]
FLOOR = 0.1  # least standard error of a resample, in those of the sample: one of few distinct videos can have next to none
EDGE = 1 - 1e-12  # Fisher's z is infinite at 1
ROUNDING = 1e-12  # standard errors below this count as none
CELLS = 2**22  # entries of the largest array allocated at once


class Difference(NamedTuple):
    """A figure of system a minus that of b; low and high are None without an interval."""

    estimate: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of one system, or of a pair of them, on each video.

    Attributes:
        rows: (n, S) float64, one row per video; their sum over any draw of videos gives that draw's figures.
        keys: names of the M figures.
        at: function of sums (B, S) that returns figures (B, M), NaN where there is none, and their derivatives by each sum (B, M, S).
        range: least and greatest value of a figure.
        z: True if a figure is taken to Fisher's z scale.
    """

    rows: np.ndarray
    keys: tuple[str, ...]
    at: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    range: tuple[float, float]
    z: bool = True


# ---- intervals --------------------------------------------------------------------------------------------------------------------------


def interval(
    task: Task,
    videos: Mapping[str, Video],
    *,
    seed: int,
    of: Of = "pooled",
    draws: int = 2000,
    level: float = 0.95,
    keys: Iterable[str] | None = None,
    source: Mapping[str, str] | None = None,
) -> dict[str, Interval | None]:
    """Return low and high of each figure of `metrics.pooled`, or of the means of `metrics.within_video`.

    All figures are None for fewer than 2 videos with valid frames (2 valid frames each within videos), as one video says nothing of others.
    A figure is None if it does not exist or depends on a single video, such as the F1 of a class that occurs in one. It is also None if it
    is the same whichever video is left out, such as the F1 of a class never predicted right: nothing then says how far other videos would
    move it.

    Args:
        seed: seed of the draws; the same seed gives the same interval. draws: resamples. keys: wanted figures; default: all of the task.
        source: stream -> its film, if several of `videos` are streams of one. These are drawn together, and count as one video.

    Raises InputError for fewer than 100 draws, a level outside (0, 1), an unknown figure, or videos that `metrics` refuses.
    """
    wanted = _wanted(task, keys)
    return intervals_of(sums_of(task, videos, of, wanted, source), seed=seed, draws=draws, level=level)


def difference(
    task: Task,
    a: Mapping[str, Video],
    b: Mapping[str, Video],
    *,
    seed: int,
    of: Of = "pooled",
    draws: int = 2000,
    level: float = 0.95,
    keys: Iterable[str] | None = None,
    source: Mapping[str, str] | None = None,
) -> dict[str, Difference]:
    """Return figures of system a minus those of b on the same videos, both in the same resamples, so that what the videos share cancels.

    Arguments, errors and missing intervals are as in `interval`. Also raises InputError if the two differ in videos or in the truth.
    """
    wanted = _wanted(task, keys)
    _check_pair(task, a, b)
    pair = paired(*(sums_of(task, {name: system[name] for name in a}, of, wanted, source) for system in (a, b)))
    found = intervals_of(pair, seed=seed, draws=draws, level=level)
    estimate = pair.at(pair.rows.sum(axis=0, keepdims=True))[0][0] if len(pair.rows) else np.full(len(pair.keys), np.nan)
    return {key: Difference(float(x), *(found[key] or (None, None))) for key, x in zip(pair.keys, estimate, strict=True)}


def intervals_of(sums: Sums, *, seed: int, draws: int = 2000, level: float = 0.95) -> dict[str, Interval | None]:
    """Return the intervals of `interval` from sums."""
    if draws < 100 or not 0 < level < 1:
        raise InputError(f"bootstrap: want at least 100 draws and a level in (0, 1), got {draws} and {level}")
    n = len(sums.rows)
    if n < 2:
        return dict.fromkeys(sums.keys)
    total = sums.rows.sum(axis=0, keepdims=True)
    estimate = sums.at(total)[0][0]
    without = (total - part for part in _parts(sums.rows, sums.rows.shape[1] * len(sums.keys)))  # sums with one video left out
    left = np.concatenate([sums.at(part)[0] for part in without])  # (n, M)
    error = np.sqrt((n - 1) / n * ((left - left.mean(axis=0)) ** 2).sum(axis=0))  # (M,)
    out: dict[str, Interval | None] = dict.fromkeys(sums.keys)
    chosen = np.flatnonzero(~np.isnan(estimate) & (error > ROUNDING))
    if len(chosen):
        centre, error = _scaled(sums, estimate[chosen], error[chosen])
        pivots = _pivots(sums, chosen, centre, error, draws, np.random.default_rng(seed))
        low, high = (centre - np.nanquantile(pivots, q, axis=0) * error for q in ((1 + level) / 2, (1 - level) / 2))
        low, high = (np.clip(np.tanh(x) if sums.z else x, *sums.range) for x in (low, high))
        out |= {sums.keys[i]: (float(low[k]), float(high[k])) for k, i in enumerate(chosen)}
    return out


def _pivots(sums: Sums, chosen: np.ndarray, centre: np.ndarray, error: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return (draws, chosen): each resample's figure less the sample's, in standard errors of the resample; NaN without such a figure."""
    n, out = len(sums.rows), []
    for part in _parts(np.empty(draws), max(n, sums.rows.shape[1]) * len(sums.keys)):
        counts = resamples(rng, n, len(part))
        figures, slopes = (x[:, chosen] for x in sums.at(counts @ sums.rows))
        influence = slopes @ sums.rows.T  # (b, chosen, n)
        spread = np.sqrt((influence**2 @ counts[:, :, None])[..., 0])
        figures, spread = _scaled(sums, figures, spread)
        out.append((figures - centre) / np.maximum(spread, FLOOR * error))
    return np.concatenate(out)


def resamples(rng: np.random.Generator, videos: int, draws: int) -> np.ndarray:
    """Return (draws, videos) float64: how often each video is drawn, in `videos` draws with replacement."""
    drawn = rng.integers(videos, size=(draws, videos)) + videos * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * videos).reshape(draws, videos).astype(np.float64)


def _scaled(sums: Sums, figure: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a figure and its standard error on the scale on which intervals are computed."""
    if not sums.z:
        return figure, error
    figure = np.clip(figure, -EDGE, EDGE)
    return np.arctanh(figure), error / (1 - figure**2)


def _parts(rows: np.ndarray, width: int) -> list[np.ndarray]:
    """Split rows into consecutive parts so small that an array of `width` entries a row stays within CELLS."""
    step = max(CELLS // width, 1)
    return [rows[i : i + step] for i in range(0, len(rows), step)]


# ---- sums over videos -------------------------------------------------------------------------------------------------------------------


def sums_of(
    task: Task, videos: Mapping[str, Video], of: Of = "pooled", keys: Sequence[str] | None = None, source: Mapping[str, str] | None = None
) -> Sums:
    """Return the sums of one system over its videos with valid frames (within videos: at least 2); those of one `source` share a row."""
    least = 1 if of == "pooled" else 2
    found = {name: metrics.valid_frames(task, name, video) for name, video in videos.items()}
    films = [(source or {}).get(name, name) for name, (truth, _) in found.items() if len(truth) >= least]
    kept = [valid for valid in found.values() if len(valid[0]) >= least]
    # Moments about a value near all of them lose nothing to cancellation; a shift that truth and prediction share leaves a CCC as it is.
    centre = np.mean(np.concatenate([truth for truth, _ in kept]), axis=0) if task.centred and kept else 0.0
    rows = np.array([task.sums(truth - centre, prediction - centre) for truth, prediction in kept])
    return _together((pooled if of == "pooled" else within)(task, rows, keys), films)


def _together(sums: Sums, films: Sequence[str]) -> Sums:
    """Add the rows of each film: sums over videos are sums over films as well."""
    names, row = np.unique(films, return_inverse=True)
    if len(names) == len(films):
        return sums
    rows = np.zeros((len(names), sums.rows.shape[1]))
    np.add.at(rows, row, sums.rows)
    return replace(sums, rows=rows)


def pooled(task: Task, rows: np.ndarray, keys: Sequence[str] | None = None) -> Sums:
    """Return the pooled figures of a task, from rows (n, S) of `Task.sums`."""
    chosen = [task.figures.index(key) for key in (task.figures if keys is None else keys)]
    members = task.members[chosen]
    return Sums(rows, tuple(task.figures[i] for i in chosen), lambda sums: _means(*task.atoms(sums), members), (task.least, 1.0))


def within(task: Task, rows: np.ndarray, keys: Sequence[str] | None = None) -> Sums:
    """Return the within-video means of a task, from rows (n, S) of `Task.sums`: a sum over videos by the number that have the figure."""
    each = pooled(task, rows, keys)
    if not len(rows):
        return each
    figures = np.concatenate([each.at(part)[0] for part in _parts(rows, rows.shape[1] * len(each.keys))])
    some = ~np.isnan(figures)
    return replace(each, rows=np.concatenate([np.where(some, figures, 0), some], axis=1), at=quotients)


def paired(a: Sums, b: Sums) -> Sums:
    """Return the figures of a minus those of b; their rows are the same videos."""
    split = a.rows.shape[1] if a.rows.ndim == 2 else 0

    def at(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (figure_a, slope_a), (figure_b, slope_b) = a.at(sums[:, :split]), b.at(sums[:, split:])
        return figure_a - figure_b, np.concatenate([slope_a, -slope_b], axis=2)

    width = a.range[1] - a.range[0]
    rows = np.concatenate([a.rows, b.rows], axis=1) if split else a.rows
    return Sums(rows, a.keys, at, (-width, width), z=False)


# ---- figures of sums, and their derivatives ---------------------------------------------------------------------------------------------


def _means(value: np.ndarray, slope: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means over the existing atoms of each figure: (B, A), (B, A, S), members (M, A) -> (B, M), (B, M, S).

    A mean of several of which none exists is 1, as in `metrics`.
    """
    some = ~np.isnan(value)
    weight = members * some[:, None, :]  # (B, M, A)
    number = weight.sum(axis=2)
    weight = weight / np.maximum(number, 1)[..., None]
    mean = (weight @ np.where(some, value, 0)[..., None])[..., 0]
    missing = np.where(members.sum(axis=1) > 1, 1.0, np.nan)
    return np.where(number > 0, mean, missing), weight @ slope


# ---- checks -----------------------------------------------------------------------------------------------------------------------------


def _wanted(task: Task, keys: Iterable[str] | None) -> tuple[str, ...]:
    wanted = task.figures if keys is None else tuple(keys)
    unknown = [key for key in wanted if key not in task.figures]
    if unknown:
        raise InputError(f"bootstrap: want figures of {task.name}, {', '.join(task.figures)}, got {', '.join(unknown)}")
    return wanted


def _check_pair(task: Task, a: Mapping[str, Video], b: Mapping[str, Video]) -> None:
    if set(a) != set(b):
        odd = sorted(set(a) ^ set(b))
        raise InputError(
            f"difference: want two systems on the same videos, got {len(a)} and {len(b)}, of which {', '.join(odd[:3])} in one alone; "
            "leave out what only one has"
        )
    for name in a:
        if not np.array_equal(*(metrics.valid_frames(task, name, system[name])[0] for system in (a, b))):
            raise InputError(
                f"difference: want the same truth for both systems, got other valid frames or labels of {name}; score both on one"
            )
