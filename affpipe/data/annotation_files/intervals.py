"""Labels over intervals of time: the common result of reading any form of file, and the choice and check of one of its tiers.

A tier is a named series of intervals, an annotator's or a question's. Only the tier that is read is checked, not the others.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, isnan
from pathlib import Path

import numpy as np

from affpipe.core.errors import ManifestError
from affpipe.system.files import named

STEP_S = 0.001  # a step of ELAN's clock, and of most tables: times are no finer
SHOWN = 80  # characters of a value at most
LISTED = 12  # tiers named in a message at most


@dataclass(frozen=True)
class Span:
    """An interval as it stands in its file.

    Attributes:
        where: its place in the file for people, as in "line 4" or "annotation a7".
        start_s, end_s: seconds from the beginning of the media; NaN where the file gives no time.
        value: text.
    """

    where: str
    start_s: float
    end_s: float
    value: str


@dataclass(frozen=True, eq=False)
class Intervals:
    """A tier: N intervals [start_s, end_s) in order, which overlap by at most STEP_S.

    Attributes:
        tier: its name; "" in a table without tiers.
        start_s, end_s: (N,) float64, seconds from the beginning of the media, end above start.
        values: N texts without blanks at their ends, none empty.
        where: N places in the file, for messages about one interval.
    """

    tier: str
    start_s: np.ndarray
    end_s: np.ndarray
    values: tuple[str, ...]
    where: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)


def chosen(path: Path, names: Collection[str], tier: str | None, prefer: str = "") -> str:
    """Return the name of the tier to read; ManifestError, which lists the tiers, if that is unclear.

    Args:
        names: tiers of the file.
        tier: tier to read; None: the only one, or else the one named `prefer`, in letters of any case.
    """
    if tier is not None:
        found = named(tier, names)
        own = [] if found is None else [found]
    else:
        own = list(names) if len(names) == 1 else [name for name in names if name.casefold() == prefer.casefold()]
    if len(own) == 1:
        return own[0]
    want = "one tier" + (f", or one named {prefer}" if prefer else "") if tier is None else f"the tier {tier!r}"
    raise ManifestError(f"{path}: want {want}, got {listed(names)}")


def listed(tiers: Collection[str]) -> str:
    """Return the tiers of a file in words, and what to do if none of them is the wanted one."""
    names = list(tiers)
    if not names:
        return "none; save it with its intervals"
    if names == [""]:
        return "a table without a column `tier`; name no tier"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(repr(name[:SHOWN]) for name in names[:LISTED])}{more}; name one of them"


def checked(path: Path, tiers: Mapping[str, Sequence[Span]], tier: str) -> Intervals:
    """Return the intervals of a tier in order, without those of a blank value, with which Praat fills up a tier.

    Raises ManifestError, naming the interval, if one has no time, does not end after it starts, or overlaps another by more than STEP_S.
    """
    kept = [span for span in tiers[tier] if span.value.strip()]
    for span in kept:
        if fault := _fault(span):
            raise ManifestError(f"{path}: {_place(tier, span)}: {fault}")
    kept.sort(key=lambda span: span.start_s)
    for before, after in pairwise(kept):
        if after.start_s < before.end_s - STEP_S:
            got = f"{_told(after)} beside {before.where}, {_told(before)}"
            raise ManifestError(f"{path}: {_place(tier, after)}: want intervals that do not overlap, got {got}; mend one of them")
    start_s, end_s = np.array([(span.start_s, span.end_s) for span in kept], np.float64).reshape(-1, 2).T
    return Intervals(tier, start_s, end_s, tuple(span.value.strip() for span in kept), tuple(span.where for span in kept))


def _fault(span: Span) -> str:
    if isnan(span.start_s) or isnan(span.end_s):
        return f"want times of both ends, got none of its {'start' if isnan(span.start_s) else 'end'}; give it one"
    if not (isfinite(span.start_s) and isfinite(span.end_s)):
        return f"want seconds, got {_told(span)}; mend it"
    if span.start_s == span.end_s:
        return f"want an interval, got a point at {span.start_s:g} s; give it a length"
    return "" if span.start_s < span.end_s else f"want an end after its start, got {_told(span)}; mend it"


def _place(tier: str, span: Span) -> str:
    return (f"tier {tier!r}: " if tier else "") + span.where


def _told(span: Span) -> str:
    return f"{span.start_s:.6g} to {span.end_s:.6g} s"
