"""The label file of a task, in any form, laid on the frames of a video.

A line a frame is the official form (`annotations`); intervals and timed values are of `annotation_files`. What an interval says is a word:
of classes the name of one (or its number), of a dimension a number, of units `0`, `1`, or anything else for present.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import ManifestError
from affpipe.core.tasks.task import Task
from affpipe.data import annotations
from affpipe.data.annotation_files import forms
from affpipe.data.annotation_files.intervals import Intervals
from affpipe.data.annotation_files.on_frames import covering, sampled
from affpipe.data.annotation_files.tables import number
from affpipe.data.annotation_files.timed import Timed

Laid = tuple[np.ndarray, np.ndarray]  # values (T, K) float64, zero where there is no label, and known (T,) bool
ABSENT = ("0", "no", "absent")  # values of an interval of a unit which is not there


@dataclass(frozen=True, eq=False)
class Labels:
    """A label file that was read.

    Attributes:
        rows: its lines, intervals or samples. labelled: those of them that say something.
        on_frames: lays them on a frame axis.
        timed: whether they say times, and not a line a frame.
        odd: what is odd about it for a video of so many frames; "" where nothing is.
    """

    rows: int
    labelled: int
    on_frames: Callable[[FrameAxis], Laid]
    timed: bool = True
    odd: Callable[[int], str] = lambda frames: ""


def read(task: Task, path: Path, *, media: str = "") -> Labels:
    """Read a label file of a task. ManifestError names file, place and remedy of what is wrong.

    media: name of the video's file, by which ELAN tells several media apart.
    """
    if not forms.tells_times(path):
        values, valid = annotations.read_labels(task, path)
        return Labels(
            len(values),
            int(valid.sum()),
            lambda axis: annotations.fit_length(values, valid, len(axis)),
            False,
            lambda frames: annotations.surplus_fault(len(values), frames),
        )
    if forms.holds_samples(path):
        return _timed(task, path)
    return _units(task, path, media) if task.kind == "units" else _intervals(task, path, media)


def _timed(task: Task, path: Path) -> Labels:
    """Values at a rate of their own: between two of a dimension a straight line, of classes and units the nearest one."""
    words = {name.casefold(): i for i, name in enumerate(task.outputs)} if task.kind == "classes" else {}
    found = forms.read(path, columns=task.columns, words=words)
    blank = np.isnan(found.values) | (found.values == task.invalid)
    wrong = ~(blank | task.possible(found.values))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ManifestError(
            f"{path}: at {found.times_s[row]:g} s: want {task.cell}, {task.invalid:g} or nothing for {task.columns[column]}, "
            f"got {found.values[row, column]:g}; mend the line"
        )
    clean = Timed(found.times_s, found.columns, np.where(blank, np.nan, found.values))

    def on_frames(axis: FrameAxis) -> Laid:
        how = "linear" if task.kind == "dimensions" else "nearest"
        values = sampled(clean, axis.times_s, zero_s=axis.start_s, how=how, gap_s=task.gap_s)
        return _known(values)

    return Labels(len(clean), int((~blank.any(axis=1)).sum()), on_frames)


def _intervals(task: Task, path: Path, media: str) -> Labels:
    """Intervals of one tier: a class, or the number of a single dimension; of several dimensions a tier each."""
    tiers = _tiers(task, path, media) if len(task.columns) > 1 else {task.columns[0]: _tier(task, path, media)}
    said = {name: np.array([_value(task, path, tier, i) for i in range(len(tier))]) for name, tier in tiers.items()}

    def on_frames(axis: FrameAxis) -> Laid:
        values = np.full((len(axis), len(task.columns)), np.nan)
        for name, tier in tiers.items():
            which = covering(tier, axis.times_s, zero_s=axis.start_s)
            values[which >= 0, task.columns.index(name)] = said[name][which[which >= 0]]
        return _known(values)

    return Labels(sum(map(len, tiers.values())), sum(int((~np.isnan(own)).sum()) for own in said.values()), on_frames)


def _units(task: Task, path: Path, media: str) -> Labels:
    """Intervals in which units are present: a tier a unit, all frames else are without it. A unit without a tier is never there."""
    tiers = _tiers(task, path, media)

    def on_frames(axis: FrameAxis) -> Laid:
        values = np.zeros((len(axis), len(task.columns)))
        for name, tier in tiers.items():
            which = covering(tier, axis.times_s, zero_s=axis.start_s)
            values[:, task.columns.index(name)] = np.array([*said[name], 0.0])[which]  # the last is of no interval
        return _known(values)

    said = {name: [_present(task, value) for value in tier.values] for name, tier in tiers.items()}
    return Labels(sum(map(len, said.values())), sum(value == value for own in said.values() for value in own), on_frames)


def _present(task: Task, text: str) -> float:
    """Return whether an interval says that its unit is there, NaN for the mark of no label."""
    return np.nan if number(text) == task.invalid else float(text.casefold() not in ABSENT)


def _tier(task: Task, path: Path, media: str) -> Intervals:
    return forms.read(path, task.tier or None, prefer=task.name, media=media)


def _tiers(task: Task, path: Path, media: str) -> dict[str, Intervals]:
    return forms.read_tiers(path, task.columns, media=media)


def _value(task: Task, path: Path, tier: Intervals, i: int) -> float:
    """Return the label of an interval, NaN for the mark of none."""
    text = tier.values[i]
    names = [name.casefold() for name in task.outputs] if task.kind == "classes" else []
    value = names.index(text.casefold()) if text.casefold() in names else number(text)
    if value == task.invalid:
        return np.nan
    if value is None or not task.possible(np.array([[value]], float)).all():
        want = f"one of {', '.join(task.outputs)}" if names else task.cell
        where = f"tier {tier.tier!r}: " if tier.tier else ""
        raise ManifestError(f"{path}: {where}{tier.where[i]}: want {want}, got {text[:80]!r}; mend it, or name another tier")
    return float(value)


def _known(values: np.ndarray) -> Laid:
    """Values with NaN where there is no label -> values without, and known; a frame needs all of its columns."""
    known = ~np.isnan(values).any(axis=1)
    return np.where(known[:, None], values, 0.0), known
