"""Likely duplicates: videos and annotations of the same bytes, and names that a copy or a slip leaves.

Pictures are not compared: two encodings of one video show as equal annotations, and then as equal numbers of frames of one size.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from affpipe.core.alike import groups
from affpipe.core.errors import MediaError
from affpipe.media.identity import fingerprint
from affpipe.system.files import sha256

T = TypeVar("T")
_COPY = re.compile(r"(?:[ _-]*\(\d+\)|[ _-]+copy(?:[ _-]*\d+)?)\s*$|^copy[ _-]of[ _-]")  # " (1)", "_copy", " - Copy 2"; "Copy of "


def plain(name: str) -> str:
    """Return a name without case, blanks and the marks of a copy."""
    out = name.lower()
    while (cut := _COPY.sub("", out)) not in ("", out):
        out = cut
    return re.sub(r"\s", "", out)


def similar(names: Iterable[str]) -> list[list[str]]:
    """Group different names that are equal but for case, blanks and copy marks; groups are sorted, also by their first."""
    return _groups(set(names), plain)


def similar_to(name: str, names: Iterable[str]) -> str:
    """Return the first of the names that is similar to one; "" if none is."""
    return min((other for other in names if plain(other) == plain(name)), default="")


def same_bytes(root: Path, files: Iterable[str]) -> list[list[str]]:
    """Group files of the same content; each group is sorted, and groups are sorted by their first.

    Only files of one fingerprint are read through. Files that are empty or cannot be read are in no group.
    """
    sizes = _groups(files, lambda name: (root / name).stat().st_size)
    like = [group for one in sizes for group in _groups(one, lambda name: _readable(fingerprint, root / name))]
    return sorted(group for one in like for group in _groups(one, lambda name: _readable(sha256, root / name)))


def alike(root: Path, files: Sequence[str]) -> bool:
    """Tell whether all these files have the same content."""
    found = {_readable(sha256, root / name) for name in files}
    return len(found) == 1 and None not in found


def same_annotations(labels: Iterable[tuple[T, str, Path]]) -> list[tuple[str, list[T]]]:
    """Return task and owners of annotations that several have, byte by byte.

    Args:
        labels: owner, task and file of readable annotations. Leave out those without any label: they prove nothing.
    """
    once = cache(sha256)
    found = groups(labels, lambda own: (own[1], once(own[2])))
    return [(own[0][1], [owner for owner, *_ in own]) for own in found if len(own) > 1]


def _readable(read: Callable[[Path], str], path: Path) -> str | None:
    try:
        return read(path)
    except (OSError, MediaError):
        return None


def _groups(names: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    """Group names that share a key; names with the key None are in no group."""
    keys = {name: key(name) for name in sorted(names)}
    found = groups((name for name, own in keys.items() if own is not None), keys.get)
    return sorted(group for group in found if len(group) > 1)
