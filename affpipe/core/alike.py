"""Lines that say the same of many: one for all of them, with a count."""

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

FEW = 3  # like lines that are told one by one

_OWN = re.compile(r"[^\s:;,()]*[/\\][^\s:;,()]*|[^\s:;,()'\"]+\.[A-Za-z][A-Za-z0-9]{1,4}(?![\w.])|\d+(?:\.\d+)?")
T = TypeVar("T")


def shape(line: str, names: Iterable[str] = ()) -> str:
    """A line without what is of one file alone: paths, names of files, numbers, and the names given."""
    for name in sorted((name for name in names if name), key=len, reverse=True):
        line = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "*", line)
    return _OWN.sub("*", line)


def groups(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Items that share a key, together, in the order in which the first of each comes."""
    out: dict[Hashable, list[T]] = {}
    for item in items:
        out.setdefault(key(item), []).append(item)
    return list(out.values())


def told(lines: Sequence[str], *, few: int = FEW, more: str = "") -> list[str]:
    """The lines, but for the rest of those that are alike and more than `few`: they are the first one with a count.

    Args:
        more: where the rest stands, as in "failures.csv".
    """
    out = []
    for own in groups(lines, shape):
        where = f": {more}" if more else ""
        out += own if len(own) <= few else [f"{own[0]} (and {len(own) - 1} more like it{where})"]
    return out
