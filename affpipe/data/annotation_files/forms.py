"""Annotation files that tell times, of whatever form: `.eaf` of ELAN, `.TextGrid` of Praat, `.csv` of intervals or of timed values."""

from collections.abc import Collection, Sequence
from pathlib import Path

from affpipe.core.errors import ManifestError
from affpipe.data.annotation_files import elan, tables, textgrid
from affpipe.data.annotation_files.intervals import Intervals, Span, checked, chosen, listed
from affpipe.data.annotation_files.timed import Timed
from affpipe.system.files import on_disk

ELAN, PRAAT, TABLE = ".eaf", ".textgrid", ".csv"
LARGEST = 64 << 20  # bytes: above that nobody annotated


def tells_times(path: Path) -> bool:
    """Whether a file is of one of these forms: by its suffix, and of a CSV by its header. ManifestError where a CSV cannot be read."""
    suffix = path.suffix.lower()
    return suffix in (ELAN, PRAAT) or (suffix == TABLE and tables.kind(path) != "")


def read(
    path: Path, tier: str | None = None, *, prefer: str = "", media: str = "", columns: Sequence[str] | None = None
) -> Intervals | Timed:
    """Labels of a file: those of a tier, or timed values.

    Args:
        tier: which one; None: the only one, or else the one named `prefer`, in letters of any case. Timed values have none.
        media: file name of the video, see `elan.read_spans`. columns: of timed values, see `tables.read_timed`.

    ManifestError, one line, where the file, or this part of it, is not as it must be.
    """
    _look(path)
    if path.suffix.lower() == TABLE and tables.kind(path) != tables.INTERVALS:
        if tables.kind(path) == "":
            raise ManifestError(
                f"{path}: line 1: want the header {tables.INTERVALS}, or {tables.TIMED}, got neither; name the columns there"
            )
        if tier is not None:
            raise ManifestError(f"{path}: want the tier {tier!r}, got timed values, which have none; name no tier")
        return tables.read_timed(path, columns)
    tiers = _spans(path, media)
    return checked(path, tiers, chosen(path, tiers, tier, prefer))


def read_tiers(path: Path, wanted: Collection[str], *, media: str = "") -> dict[str, Intervals]:
    """Of the wanted tiers those that a file has, in letters of any case: one a unit, say. ManifestError where it has none of them."""
    _look(path)
    tiers = _spans(path, media)
    own = {name: found[0] for name in wanted if (found := [t for t in tiers if t.casefold() == name.casefold()])}
    if not own:
        raise ManifestError(f"{path}: want a tier of {', '.join(wanted)}, got {listed(tiers)}")
    return {name: checked(path, tiers, tier) for name, tier in own.items()}


def _look(path: Path) -> None:
    path = on_disk(path)
    if path.is_file() and (size := path.stat().st_size) > LARGEST:
        raise ManifestError(f"{path}: want an annotation file of at most {LARGEST >> 20} MB, got {size >> 20} MB; name the right file")


def _spans(path: Path, media: str) -> dict[str, list[Span]]:
    match path.suffix.lower():
        case ".eaf":
            return elan.read_spans(path, media)
        case ".textgrid":
            return textgrid.read_spans(path)
        case ".csv":
            return tables.read_spans(path)
    raise ManifestError(f"{path}: want .eaf, .TextGrid or .csv, got {path.suffix or 'no suffix'!r}; save it in one of these forms")
