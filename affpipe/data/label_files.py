"""The label file of a task, in any form, laid on the frames of a video.

The official form has one line per frame (`annotations`); intervals and timed values are in `annotation_files`. The value of an interval is
a word: for classes the name of one (or its number), for a dimension a number, for units `0`, `1`, or anything else for present.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import ManifestError
from affpipe.core.tasks.task import Task
from affpipe.data import annotations
from affpipe.data.annotation_files import forms
from affpipe.data.annotation_files.intervals import Intervals
from affpipe.data.annotation_files.on_frames import NOISE_S, covering, sampled
from affpipe.data.annotation_files.tables import number
from affpipe.data.annotation_files.timed import Timed

Laid = tuple[np.ndarray, np.ndarray]  # values (T, K) float64, zero where there is no label, and known (T,) bool
BEYOND_S = 1.0  # by which a tier, as long as the sound, may outlast the pictures
ABSENT = ("0", "no", "absent")  # values of an interval in which a unit is absent


@dataclass(frozen=True, eq=False)
class Labels:
    """A label file that was read.

    Attributes:
        rows: number of its lines, intervals or samples. labelled: number of those with a label.
        on_frames: function that lays them on a frame axis.
        timed: True if they have times, False for one line per frame.
        last_s: their last time, seconds. sparse: a warning of samples too far apart to be joined; "" if there are none.
    """

    rows: int
    labelled: int
    on_frames: Callable[[FrameAxis], Laid]
    timed: bool = True
    last_s: float = 0.0
    sparse: str = ""

    def odd(self, frames: int, length_s: float = inf) -> str:
        """Tell what is odd about it for a video of so many frames and seconds; "" if nothing is."""
        if not self.timed:
            return annotations.surplus_fault(self.rows, frames)
        return beyond_fault(self.last_s, length_s) or self.sparse


def beyond_fault(last_s: float, length_s: float) -> str:
    """Tell what is odd about labels that go on after the end of a video; "" if they do not."""
    if last_s <= length_s + BEYOND_S:
        return ""
    got = f"{last_s:.6g} s in a video of {length_s:.6g} s"
    return f"want seconds within the video, got {got}; compare the two, and write times in seconds"


def read(task: Task, path: Path, *, media: str = "") -> Labels:
    """Read a label file of a task. ManifestError names file, place and remedy of a fault.

    Args:
        media: name of the video's file, by which ELAN distinguishes several media.
    """
    if not forms.tells_times(path):
        values, valid = annotations.read_labels(task, path)
        return Labels(
            len(values),
            int(valid.sum()),
            lambda axis: annotations.fit_length(values, valid, len(axis)),
            timed=False,
        )
    if forms.holds_samples(path):
        return _timed(task, path)
    return _units(task, path, media) if task.kind == "units" else _intervals(task, path, media)


def _timed(task: Task, path: Path) -> Labels:
    """Read values at a rate of their own: dimensions are interpolated linearly between two, classes and units take the nearest one."""
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

    there = ~blank.any(axis=1)
    return Labels(len(clean), int(there.sum()), on_frames, last_s=_last(clean.times_s), sparse=_sparse(task, clean.times_s[there]))


def _sparse(task: Task, times_s: np.ndarray) -> str:
    """Say so where most samples, at times (N,), are too far apart for a value between them."""
    gap_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    if gap_s <= task.gap_s + NOISE_S:
        return ""
    return f"want samples at most {task.gap_s:g} s apart, got {gap_s:.6g} s, and frames between without a label; set gap_s of {task.name}"


def _last(times_s: np.ndarray) -> float:
    return float(times_s.max(initial=0.0))


def _intervals(task: Task, path: Path, media: str) -> Labels:
    """Read intervals of one tier: a class, or the number of a single dimension; several dimensions have one tier each."""
    tiers = _tiers(task, path, media) if len(task.columns) > 1 else {task.columns[0]: _tier(task, path, media)}
    said = {name: np.array([_value(task, path, tier, i) for i in range(len(tier))]) for name, tier in tiers.items()}

    def on_frames(axis: FrameAxis) -> Laid:
        values = np.full((len(axis), len(task.columns)), np.nan)
        for name, tier in tiers.items():
            which = covering(tier, axis.times_s, zero_s=axis.start_s)
            values[which >= 0, task.columns.index(name)] = said[name][which[which >= 0]]
        return _known(values)

    labelled = sum(int((~np.isnan(own)).sum()) for own in said.values())
    return Labels(sum(map(len, tiers.values())), labelled, on_frames, last_s=max(_last(tier.end_s) for tier in tiers.values()))


def _units(task: Task, path: Path, media: str) -> Labels:
    """Read intervals in which units are present: one tier per unit. A unit is absent in all other frames, and without a tier always."""
    tiers = _tiers(task, path, media)

    def on_frames(axis: FrameAxis) -> Laid:
        values = np.zeros((len(axis), len(task.columns)))
        for name, tier in tiers.items():
            which = covering(tier, axis.times_s, zero_s=axis.start_s)
            values[:, task.columns.index(name)] = np.array([*said[name], 0.0])[which]  # the last is for frames in no interval
        return _known(values)

    said = {name: [_present(task, value) for value in tier.values] for name, tier in tiers.items()}
    labelled = sum(value == value for own in said.values() for value in own)
    return Labels(sum(map(len, said.values())), labelled, on_frames, last_s=max(_last(tier.end_s) for tier in tiers.values()))


def _present(task: Task, text: str) -> float:
    """Return 1 if an interval says that its unit is present, else 0; NaN for the mark of no label."""
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
    """Replace NaN, which stands for no label, by 0 in values, and return known; a frame needs all of its columns."""
    known = ~np.isnan(values).any(axis=1)
    return np.where(known[:, None], values, 0.0), known
