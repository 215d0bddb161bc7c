"""Annotation files with times, in any form: `.eaf` of ELAN, `.TextGrid` of Praat, `.csv` of intervals or of timed values."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from affpipe.core.errors import ManifestError
from affpipe.data.annotation_files import elan, tables, textgrid
from affpipe.data.annotation_files.intervals import Intervals, Span, checked, chosen, listed
from affpipe.data.annotation_files.timed import Timed
from affpipe.system.files import on_disk

ELAN, PRAAT, TABLE = ".eaf", ".textgrid", ".csv"
LARGEST = 64 << 20  # bytes: nobody annotated more


def tells_times(path: Path) -> bool:
    """Tell whether a file is of one of these forms: by its suffix, and for a CSV by its header. ManifestError if a CSV cannot be read."""
    suffix = path.suffix.lower()
    return suffix in (ELAN, PRAAT) or (suffix == TABLE and tables.kind(path) != "")


def holds_samples(path: Path) -> bool:
    """Tell whether a file for which `tells_times` is True holds timed values instead of intervals."""
    return path.suffix.lower() == TABLE and tables.kind(path) == tables.TIMED


def read(
    path: Path,
    tier: str | None = None,
    *,
    prefer: str = "",
    media: str = "",
    columns: Sequence[str] | None = None,
    words: Mapping[str, float] | None = None,
) -> Intervals | Timed:
    """Read the labels of a file: those of a tier, or timed values.

    Args:
        tier: tier to read; None: the only one, or else the one named `prefer`, in letters of any case. Timed values have none.
        media: file name of the video, see `elan.read_spans`.
        columns, words: for timed values, see `tables.read_timed`.

    Raises ManifestError, one line, if the file, or this part of it, is not as it must be.
    """
    _look(path)
    if path.suffix.lower() == TABLE and (kind := tables.kind(path)) != tables.INTERVALS:
        if not kind:
            raise ManifestError(
                f"{path}: line 1: want the header {tables.INTERVALS}, or {tables.TIMED}, got neither; name the columns there"
            )
        if tier is not None:
            raise ManifestError(f"{path}: want the tier {tier!r}, got timed values, which have none; name no tier")
        return tables.read_timed(path, columns, words)
    tiers = _spans(path, media)
    return checked(path, tiers, chosen(path, tiers, tier, prefer))


def read_tiers(path: Path, wanted: Collection[str], *, media: str = "") -> tuple[dict[str, Intervals], list[str]]:
    """Read those of the wanted tiers that a file has, in letters of any case: one per unit, say. ManifestError if it has none of them.

    Returns:
        wanted name -> its tier, and the names of the other tiers.
    """
    _look(path)
    tiers = _spans(path, media)
    own = {}
    for name in wanted:
        found = [tier for tier in tiers if tier.casefold() == name.casefold()]
        if len(found) > 1:
            raise ManifestError(f"{path}: want one tier {name}, got {' and '.join(found)}; rename one")
        if found:
            own[name] = found[0]
    if not own:
        got, remedy = listed(tiers).rsplit("; ", 1)
        remedy = remedy if not tiers else "add one that names them" if list(tiers) == [""] else "give the tiers these names"
        raise ManifestError(f"{path}: want a tier of {', '.join(wanted)}, got {got}; {remedy}")
    return {name: checked(path, tiers, tier) for name, tier in own.items()}, [tier for tier in tiers if tier not in own.values()]


def _look(path: Path) -> None:
    path = on_disk(path)
    if path.is_file() and (size := path.stat().st_size) > LARGEST:
        raise ManifestError(f"{path}: want an annotation file of at most {LARGEST >> 20} MB, got {size >> 20} MB; name the right file")


def _spans(path: Path, media: str) -> dict[str, list[Span]]:
    suffix = path.suffix.lower()
    if suffix == ELAN:
        return elan.read_spans(path, media)
    if suffix == PRAAT:
        return textgrid.read_spans(path)
    if suffix == TABLE:
        return tables.read_spans(path)
    raise ManifestError(f"{path}: want .eaf, .TextGrid or .csv, got {path.suffix or 'no suffix'!r}; save it in one of these forms")
