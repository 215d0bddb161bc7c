"""Labels as CSV: intervals (`start,end,value`) or values at a rate of their own (`time` and columns), by the header.

Times are seconds with a decimal point, from the beginning of the media. Columns may stand in any order, and their names in letters of any
case.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from affpipe.core.errors import ManifestError
from affpipe.data.annotation_files.intervals import SHOWN, Span
from affpipe.data.annotation_files.timed import Timed
from affpipe.system import files, sheets

START, END, TIER, TIME = ("start", "start_s"), ("end", "end_s"), ("tier", "track"), ("time", "time_s")
KNOWN = {*START, *END, *TIER, *TIME, "value"}
INTERVALS, TIMED = "start,end,value", "time and columns of values"
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
NO_LABEL = ("", "nan")
_COMMAS = "separate cells by commas, and write decimals with a point"


def kind(path: Path) -> str:
    """Return INTERVALS or TIMED by the names in the header, whatever separates them; "" for another table.

    Raises ManifestError if it is unreadable.
    """
    return kind_of(next(iter(files.lines(_text(path))), ""))


def kind_of(head: str) -> str:
    """Return the same for a header alone."""
    names = {name.strip(' "').lower() for name in re.split(r"[,;\t]", head)}
    if names & {*START} and names & {*END}:
        return INTERVALS
    return TIMED if names & {*TIME} else ""


def read_spans(path: Path) -> dict[str, list[Span]]:
    """Read tier -> intervals of a table, in the order of lines; all are in the tier "" if there is no column `tier` (or `track`).

    Further columns are not read. ManifestError names the line of a cell that is no time.
    """
    head, rows = _open(path, INTERVALS)
    start, end, value = (_column(path, head, names, INTERVALS) for names in (START, END, ("value",)))
    tier = _column(path, head, TIER, INTERVALS) if set(head) & {*TIER} else None
    tiers: dict[str, list[Span]] = {}
    for line, cells in rows:
        times = [_seconds(path, line, column, cells[column]) for column in (start, end)]
        tiers.setdefault(cells[tier].strip() if tier else "", []).append(Span(f"line {line}", *times, cells[value]))
    return tiers or ({} if tier else {"": []})


def read_timed(path: Path, columns: Sequence[str] | None = None, words: Mapping[str, float] | None = None) -> Timed:
    """Read the samples of a table; an empty cell, or `nan`, is no label.

    Args:
        columns: columns to read, in this order, in letters of any case; None: all but the time. A single one may be named `value` in the
            file.
        words: casefolded words that may stand for numbers.

    ManifestError names the line of a cell that is no number, or of a time that is not after the one before it.
    """
    head, rows = _open(path, TIMED)
    time = _column(path, head, TIME, TIMED)
    names = [name for name in head if name.strip() and name != time] if columns is None else columns
    if not names:
        raise ManifestError(f"{path}: line 1: want {TIMED}, got {time} alone; add a column of values")
    others = ("value",) if len(names) == 1 else ()
    found = [_column(path, head, (name, *others), f"{time} and {', '.join(names)}") for name in names]
    times, values, before = [], [], -np.inf
    for line, cells in rows:
        time_s = _seconds(path, line, time, cells[time])
        if time_s <= before:
            raise ManifestError(
                f"{path}: line {line}: want times that rise, got {time_s:g} after {before:g} s; sort the lines, a time once"
            )
        before = time_s
        times.append(time_s)
        values.append([_value(path, line, column, cells[column], words or {}) for column in found])
    return Timed(np.array(times, np.float64), tuple(map(str.strip, names)), np.array(values, np.float64).reshape(-1, len(names)))


def _text(path: Path) -> str:
    return files.read_text(path, "annotation file", ManifestError, "check the path")


def _open(path: Path, want: str) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Read the header, and rows of as many cells, each with its line."""
    text = _text(path)
    try:
        head, rows = sheets.rows(text, KNOWN)
    except csv.Error as error:
        raise _unreadable(path, error) from None
    if len(head) < 2:
        got = repr(head[0][:SHOWN]) if head else "an empty file"
        remedy = _COMMAS if head and re.search("[;\t]", head[0]) else "put the header in front of the first row"
        raise ManifestError(f"{path}: line 1: want the header {want}, got {got}; {remedy}")
    return head, _rows(path, head, rows)


def _rows(path: Path, head: list[str], rows: Iterator[tuple[int, sheets.Cells]]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        for line, cells in rows:
            beyond = len(cells.get(None, []))
            count = sum(cell is not None for name, cell in cells.items() if name is not None) + beyond
            if beyond or None in cells.values():
                remedy = "write decimals with a point" if beyond else "give each column its cell"
                raise ManifestError(f"{path}: line {line}: want {len(head)} cells, got {count}; {remedy}")
            yield line, cells
    except csv.Error as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: csv.Error) -> ManifestError:
    return ManifestError(f"{path}: want a readable CSV file, got {error}; mend its quotes")


def _column(path: Path, head: list[str], names: Sequence[str], want: str) -> str:
    """Return the one column of the header that has one of these names."""
    meant = {name.strip().lower() for name in names}
    found = [column for column in head if column.strip().lower() in meant]
    if len(found) != 1:
        got = f"{' and '.join(found)}" if found else f"no {names[0]} in {','.join(head)[:SHOWN]!r}"
        raise ManifestError(f"{path}: line 1: want {want}, got {got}; {'leave one' if found else 'name the columns in line 1'}")
    return found[0]


def number(text: str) -> float | None:
    """Parse a number in plain digits, with a decimal point; None for anything else."""
    digits = NUMBER.fullmatch(text.strip())
    found = float(digits[0]) if digits else np.inf
    return found if np.isfinite(found) else None


def _seconds(path: Path, line: int, column: str, cell: str) -> float:
    found = number(cell)
    if found is None or found < 0:
        raise ManifestError(f"{path}: line {line}: {column}: want seconds from 0, got {cell[:SHOWN]!r}; {_remedy(cell)}")
    return found


def _value(path: Path, line: int, column: str, cell: str, words: Mapping[str, float]) -> float:
    text = cell.strip().casefold()
    found = words.get(text, np.nan if text in NO_LABEL else number(cell))
    if found is None:
        want = f"{', '.join(words)}, their number" if words else "a number"
        raise ManifestError(f"{path}: line {line}: {column}: want {want} or an empty cell, got {cell[:SHOWN]!r}; {_remedy(cell)}")
    return found


def _remedy(cell: str) -> str:
    return "write decimals with a point" if re.fullmatch(r"\s*[-+]?\d*,\d+\s*", cell) else "mend the line"
