"""Grouping of similar lines: one line stands for all of them, with a count."""

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

FEW = 3  # similar lines that are printed one by one

_OWN = re.compile(r"[^\s:;,()]*[/\\][^\s:;,()]*|[^\s:;,()'\"]+\.[A-Za-z][A-Za-z0-9]{1,4}(?![\w.])|\d+(?:\.\d+)?")
T = TypeVar("T")


def shape(line: str, names: Iterable[str] = ()) -> str:
    """Return a line without the parts that belong to one file alone: paths, file names, numbers, and the given names."""
    for name in sorted((name for name in names if name), key=len, reverse=True):
        line = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "*", line)
    return _OWN.sub("*", line)


def groups(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Group items that share a key, in the order in which the first of each group comes."""
    out: dict[Hashable, list[T]] = {}
    for item in items:
        out.setdefault(key(item), []).append(item)
    return list(out.values())


def told(lines: Sequence[str], *, few: int = FEW, more: str = "") -> list[str]:
    """Return the lines; of more than `few` similar lines return the first only, with a count.

    Args:
        more: where the other lines can be read, as in "failures.csv".
    """
    out = []
    for own in groups(lines, shape):
        where = f": {more}" if more else ""
        out += own if len(own) <= few else [f"{own[0]} (and {len(own) - 1} more like it{where})"]
    return out
