"""The label file of a task, in any form, laid on the frames of a video.

The official form has one line per frame (`annotations`); intervals and timed values are in `annotation_files`. The value of an interval is
a word: for classes the name of one (or its number), for a dimension a number, for units `0`, `1`, or anything else for present.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import ManifestError
from affpipe.core.tasks.task import Task
from affpipe.data import annotations
from affpipe.data.annotation_files import forms
from affpipe.data.annotation_files.intervals import LISTED, Intervals
from affpipe.data.annotation_files.on_frames import NOISE_S, covering, sampled
from affpipe.data.annotation_files.tables import NO_LABEL, number
from affpipe.data.annotation_files.timed import Timed

Laid = tuple[np.ndarray, np.ndarray]  # values (T, K) float64, zero where there is no label, and known (T,) bool
ABSENT = ("no", "absent", "false")  # values of an interval of a unit which is not there, beside the number 0
BEYOND_S = 2.0  # by which labels may reach beyond the video: sound is longer than pictures in many files


@dataclass(frozen=True, eq=False)
class Labels:
    """A label file that was read.

    Attributes:
        rows: number of its lines, intervals or samples. labelled: number of those with a label.
        on_frames: function that lays them on a frame axis.
        timed: True if they have times, False for one line per frame.
        end_s: time of the last label, seconds from the first frame; 0 for one line per frame.
        doubt: what is odd about it by itself, "" for nothing: samples too far apart to be joined, units without a tier beside tiers that
            no unit has.
    """

    rows: int
    labelled: int
    on_frames: Callable[[FrameAxis], Laid]
    timed: bool = True
    end_s: float = 0.0
    doubt: str = ""

    def odd(self, frames: int, duration_s: float) -> str:
        """Return what is odd about it for a video of so many frames and seconds; "" where nothing is."""
        return (beyond_fault(self.end_s, duration_s) or self.doubt) if self.timed else annotations.surplus_fault(self.rows, frames)


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
            f"got {found.values[row, column]:.12g}; mend the line"
        )
    clean = Timed(found.times_s, found.columns, np.where(blank, np.nan, found.values))

    def on_frames(axis: FrameAxis) -> Laid:
        how = "linear" if task.kind == "dimensions" else "nearest"
        values = sampled(clean, axis.times_s, zero_s=axis.start_s, how=how, gap_s=task.gap_s)
        return _known(values)

    said = ~blank.any(axis=1)
    return Labels(len(clean), int(said.sum()), on_frames, end_s=_last(clean.times_s[said]), doubt=_sparse(task, clean.times_s[said]))


def _intervals(task: Task, path: Path, media: str) -> Labels:
    """Read intervals of one tier: a class, or the number of a single dimension; several dimensions have one tier each."""
    tiers = _tiers(task, path, media)[0] if len(task.columns) > 1 else {task.columns[0]: _tier(task, path, media)}
    if missing := [name for name in task.columns if name not in tiers]:
        raise ManifestError(
            f"{path}: want a tier of each of {', '.join(task.columns)}, as a frame needs all, got none of {', '.join(missing)}; add it"
        )
    said = {name: np.array([_value(task, path, tier, i) for i in range(len(tier))]) for name, tier in tiers.items()}

    def on_frames(axis: FrameAxis) -> Laid:
        values = np.full((len(axis), len(task.columns)), np.nan)
        for name, tier in tiers.items():
            which = covering(tier, axis.times_s, zero_s=axis.start_s)
            values[which >= 0, task.columns.index(name)] = said[name][which[which >= 0]]
        return _known(values)

    labelled = sum(int((~np.isnan(own)).sum()) for own in said.values())
    return Labels(sum(map(len, tiers.values())), labelled, on_frames, end_s=_end_s(tiers))


def _units(task: Task, path: Path, media: str) -> Labels:
    """Read intervals in which units are present: one tier per unit. A unit is absent in all other frames, and without a tier always."""
    tiers, others = _tiers(task, path, media)

    def on_frames(axis: FrameAxis) -> Laid:
        values = np.zeros((len(axis), len(task.columns)))
        for name, tier in tiers.items():
            which = covering(tier, axis.times_s, zero_s=axis.start_s)
            values[:, task.columns.index(name)] = np.array([*said[name], 0.0])[which]  # the last is for frames in no interval
        return _known(values)

    said = {name: [_present(task, value) for value in tier.values] for name, tier in tiers.items()}
    labelled = sum(value == value for own in said.values() for value in own)
    missing = [name for name in task.columns if name not in tiers]
    got = f"none of {', '.join(missing)}, but {', '.join(repr(name) for name in others[:LISTED])}"
    doubt = f"want tiers named as the units, got {got}; rename what is misspelt" if missing and others else ""
    return Labels(sum(map(len, said.values())), labelled, on_frames, end_s=_end_s(tiers), doubt=doubt)


def _present(task: Task, text: str) -> float:
    """Return whether an interval says that its unit is there, NaN for the mark of no label."""
    if text.casefold() in NO_LABEL or number(text) == task.invalid:
        return np.nan
    return float(number(text) != 0 and text.casefold() not in ABSENT)


def beyond_fault(end_s: float, duration_s: float) -> str:
    """Return what is odd about labels that end at a time of a video that lasts so long; "" where nothing is."""
    if end_s <= duration_s + BEYOND_S:
        return ""
    got = f"{end_s:.6g} s in a video of {duration_s:.6g} s"
    return f"want seconds within the video, got {got}; compare the two, and write times in seconds"


def _sparse(task: Task, times_s: np.ndarray) -> str:
    """Return what is odd about the times of labelled samples: most of them lie too far apart to say anything of the frames between."""
    steps = np.diff(times_s)
    if not len(steps) or np.median(steps) <= task.gap_s + NOISE_S:
        return ""
    remedy = "write times in seconds, or " + ("give more of them" if task.folder else f"set gap_s of {task.name}")
    got = f"{float(np.median(steps)):.6g} s, and frames between without a label"
    return f"want samples at most {task.gap_s:g} s apart, got {got}; {remedy}"


def _last(times_s: np.ndarray) -> float:
    return float(times_s.max(initial=0.0))


def _end_s(tiers: Mapping[str, Intervals]) -> float:
    return max((_last(tier.end_s) for tier in tiers.values()), default=0.0)


def _tier(task: Task, path: Path, media: str) -> Intervals:
    return forms.read(path, task.tier or None, prefer=task.name, media=media)


def _tiers(task: Task, path: Path, media: str) -> tuple[dict[str, Intervals], list[str]]:
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
