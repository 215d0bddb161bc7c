"""Preflight: check whether a file of predictions that answers the organisers' template is fit to send."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affpipe.core.errors import ManifestError
from affpipe.core.tasks.task import Task
from affpipe.results.submission.template import Template, read_template

SAMPLE = 5000  # rows from which the number of decimals of the file is found
CONSTANT_ROWS = 30  # from so many rows on, the same value in all of them is a fault: about a second of video
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")


@dataclass(frozen=True)
class Fault:
    """A fault, or a warning, in lines `line` to `last` of a file; `text` is that of the first line. Line 1 is the header."""

    file: Path
    line: int
    last: int
    text: str

    @property
    def place(self) -> str:
        return f"line {self.line}" if self.line == self.last else f"lines {self.line} to {self.last}"

    def __str__(self) -> str:
        return f"{self.file}: {self.place}: {self.text}"


class _Faults:
    """Collected faults; those of one kind in consecutive lines are one fault."""

    def __init__(self, file: Path):
        self.file = file
        self._found: dict[str, list[tuple[int, int, str]]] = {}  # kind -> line, last, text

    def add(self, line: int, kind: str, rest: str = "") -> None:
        """Add a fault of a kind; `kind` opens its text and is the same for all that belong together, `rest` closes it."""
        found = self._found.setdefault(kind, [])
        if found and found[-1][1] == line - 1:
            found[-1] = (found[-1][0], line, found[-1][2])
        else:
            found.append((line, line, kind + rest))

    def all(self) -> list[Fault]:
        """Return all faults by line."""
        return [Fault(self.file, *place) for place in sorted(place for found in self._found.values() for place in found)]


def check(task: Task, file: Path, template: Path, *, constant: Collection[str] = (), warnings: list[Fault] | None = None) -> list[Fault]:
    """Return all faults of a file of predictions, by line; if there are none, it is fit to send.

    The file must be UTF-8 without BOM and have the template's header and each of its rows once, in its order, with a line end after each.
    Values must be those of the task: for dimensions, numbers in its range with the same number of decimals everywhere, at most 6; for
    classes, a class number; for units, a 0 or 1 each. No frame may have the mark of one without a value. In dimensions, a stream of one
    value is a fault from 30 rows on. In classes and units, a file of one value is a fault, while a stream of one value may be right and is
    a warning.

    Args:
        constant: streams that may be constant.
        warnings: gets oddities that are no fault.

    Raises:
        ManifestError: the template has a fault, or the file cannot be opened.
    """
    wanted, faults = read_template(task, template), _Faults(file)
    lines = _lines(file, faults)
    if not lines:
        return faults.all()
    first = 1 if lines[0].partition(",")[0] in wanted.locations else 2  # line of the first row
    if lines[0] != wanted.header:
        faults.add(1, f"want the header {wanted.header}, got {lines[0][:80]!r}; copy line 1 of the template")
    locations = [line.partition(",")[0] for line in lines[first - 1 :]]
    cells = [line[len(location) + 1 :] for line, location in zip(lines[first - 1 :], locations, strict=True)]
    at = _places(locations, wanted, first, faults)
    at[~_check_cells(task, locations, cells, first, faults)] = -1
    odd = _check_constant(task, cells, at, first, wanted, constant, faults)
    if warnings is not None:
        warnings += odd
    return faults.all()


def _lines(file: Path, faults: _Faults) -> list[str]:
    """Read lines without their ends, and note faults of encoding and line ends."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ManifestError(f"{file}: want a readable file of predictions, got {error.strerror}; check the path") from None
    if not data:
        faults.add(1, "want a header and rows, got an empty file; make it again")
        return []
    if data.startswith(b"\xef\xbb\xbf"):
        faults.add(1, "want UTF-8 without a byte order mark, got one; save it without")
        data = data[3:]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        faults.add(data.count(b"\n", 0, error.start) + 1, f"want UTF-8, got byte {data[error.start]:#04x}; save it as UTF-8")
        text = data.decode("utf-8", errors="replace")
    lines = text.split("\n")
    if lines[-1]:
        faults.add(len(lines), "want a line end after the last row, got none; add it")
    else:
        lines.pop()
    if "\r" in text:
        for line, row in enumerate(lines, 1):
            if row.endswith("\r"):
                faults.add(line, "want lines that end in LF, got CR LF; save it with Unix line ends")
        lines = [row.removesuffix("\r") for row in lines]
    return lines


def _places(locations: list[str], wanted: Template, first: int, faults: _Faults) -> np.ndarray:
    """Return (R,) int64, the row of the template that each row answers, -1 for none; note extra, missing and misplaced rows."""
    if locations == wanted.locations:
        return np.arange(len(locations))
    index, streams = {location: i for i, location in enumerate(wanted.locations)}, set(wanted.streams)
    at, lines = np.full(len(locations), -1), {}  # lines: row of the template -> line that answers it
    for row, location in enumerate(locations):
        i, line = index.get(location), row + first
        if i is None:
            faults.add(line, *_stranger(location, streams, wanted.header))
        elif i in lines:
            faults.add(line, "want each row once, got ", f"{location} as in line {lines[i]}; remove one")
        else:
            at[row], lines[i] = i, line
    known = np.flatnonzero(at >= 0)
    for row in known[~_rising(at[known].tolist())].tolist():
        faults.add(row + first, "want the template's order, got ", f"{locations[row]}, line {at[row] + 2} of the template; move it")
    missing = np.array([i for i in range(len(wanted.locations)) if i not in lines], np.int64)
    for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1) if len(missing) else ():
        some = f"{wanted.locations[run[0]]}" + (f" to {wanted.locations[run[-1]]} ({len(run)} rows)" if len(run) > 1 else "")
        faults.add(lines.get(int(run[0]) - 1, 1), f"want {some} after this line, got no such row; add what is missing")
    return at


def _stranger(location: str, streams: Collection[str], header: str) -> tuple[str, str]:
    """Return kind and rest of the fault of a row that the template does not have."""
    stream, slash, image = location.rpartition("/")
    if not location.strip():
        return "want a row, got a line without an image", "; remove it"
    if location == header.partition(",")[0]:
        return "want one header, got it again", "; remove it"
    if not slash:
        return "want a row like video/00001.jpg,", f" got {location[:80]!r}; mend it"
    if stream in streams:
        return f"want an image of {stream} that the template has, got ", f"{image}; remove it"
    return f"want a video of the template, got {stream!r}", "; remove its rows or rename it as there"


def _rising(values: Sequence[int]) -> np.ndarray:
    """Return (n,) bool: True for a longest rising subsequence of different numbers; the others are as few as can be out of place."""
    tails: list[int] = []  # smallest end of a rising subsequence of each length
    ends: list[int] = []  # index of that end
    before = []
    for n, value in enumerate(values):
        k = bisect_left(tails, value)
        before.append(ends[k - 1] if k else -1)
        tails[k : k + 1], ends[k : k + 1] = [value], [n]
    kept, n = np.zeros(len(values), bool), ends[-1] if ends else -1
    while n >= 0:
        kept[n], n = True, before[n]
    return kept


# ---- values -----------------------------------------------------------------------------------------------------------------------------


def _check_cells(task: Task, locations: list[str], cells: list[str], first: int, faults: _Faults) -> np.ndarray:
    """Return (R,) bool: rows whose cells (all after the first comma) are right; note the faults of the others."""
    decimals = min(task.decimals, _decimals(cells)) if task.decimals else 0
    one = re.compile(
        rf"-?(?:0|[1-9][0-9]*)\.[0-9]{{{decimals}}}" if decimals else r"0|-?[1-9][0-9]*|-0" if task.decimals else r"0|[1-9][0-9]*"
    )
    whole = re.compile(",".join([f"(?:{one.pattern})"] * len(task.columns)))
    fit = np.fromiter(map(bool, map(whole.fullmatch, cells)), bool, len(cells))
    if fit.any():
        values = np.array(",".join(row for row, ok in zip(cells, fit, strict=True) if ok).split(","), float)
        fit[fit] = task.possible(values.reshape(-1, len(task.columns))).all(axis=1)
    for row in (row for row in np.flatnonzero(~fit).tolist() if "/" in locations[row]):  # a row without a slash is reported as no row
        for kind, rest in _wrong(task, cells[row], one, decimals):
            faults.add(row + first, kind, rest)
    return fit


def _decimals(cells: list[str]) -> int:
    """Return the number of decimals that most numbers have, by some thousands of rows; the greater on a tie."""
    some = ",".join(cells[:: max(1, len(cells) // SAMPLE)]).split(",")
    count = Counter(len(cell.partition(".")[2]) for cell in some)
    return max(count, key=lambda d: (count[d], d))


def _wrong(task: Task, cells: str, one: re.Pattern[str], decimals: int) -> Iterator[tuple[str, str]]:
    """Yield kind and rest of each fault of a row's cells."""
    t, found = task, cells.split(",") if cells else []
    if len(found) != len(t.columns):
        todo = "add what is missing" if len(found) < len(t.columns) else "write decimals with a dot, and nothing but the values"
        yield f"want the cells {','.join(t.columns)} after the image, got ", f"{len(found)}: {cells[:80]!r}; {todo}"
        return
    numbers = [float(cell) if _PLAIN.fullmatch(cell) else None for cell in found]
    if t.invalid in numbers:
        yield f"want a prediction, got the mark {t.invalid:g} of a frame without one", "; fill it"
        return
    fits = task.possible(np.array([[np.nan if number is None else number for number in numbers]], float))[0]
    for name, cell, number, fit in zip(t.columns, found, numbers, fits, strict=True):
        if not (fit and one.fullmatch(cell)):
            yield f"want for {name} {_want(task, cell, number, fit, decimals)}, got ", f"{cell[:80]!r}; mend it"


def _want(task: Task, cell: str, number: float | None, fit: bool, decimals: int) -> str:
    """Tell what an unfit cell should have been."""
    if number is None:
        return "a finite number in plain notation"
    if not fit and (task.decimals or not task.range[0] <= number <= task.range[1]):
        return task.cell
    if not task.decimals:
        return "a whole number without decimals"
    own = len(cell.partition(".")[2])
    return f"at most {task.decimals} decimals" if own > task.decimals else f"{decimals} decimals as most rows have"


def _check_constant(
    task: Task, cells: list[str], at: np.ndarray, first: int, wanted: Template, constant: Collection[str], faults: _Faults
) -> list[Fault]:
    """Note streams (dimensions), or a file (classes, units), of one value; return warnings of streams of one value (classes, units).

    Args:
        at: (R,) row of the template that each row answers, -1 for those that do not count.
    """
    odd = _Faults(faults.file)
    must = np.array([name not in constant for name in wanted.streams])
    rows = np.flatnonzero(at >= 0)
    rows = rows[must[wanted.stream[at[rows]]]]
    if not task.decimals and _constant(task, [cells[row] for row in rows]):
        faults.add(int(rows[0]) + first, f"want more than one value in the file, got {cells[rows[0]]} in all rows; predict it again")
        return []
    stream = wanted.stream[at[rows]]
    order = np.argsort(stream, kind="stable")
    for some in np.split(rows[order], np.flatnonzero(np.diff(stream[order])) + 1):
        for what, got in _constant(task, [cells[row] for row in some]).items():
            line, name = int(some[0]) + first, wanted.streams[wanted.stream[at[some[0]]]]
            if task.decimals:
                faults.add(line, f"want {what} that changes within {name}, got {got} in all its {len(some)} rows; predict it again")
            else:
                odd.add(line, f"{name}: {what} is {got} in all its {len(some)} rows; look whether that is right")
    return odd.all()


def _constant(task: Task, cells: list[str]) -> dict[str, str]:
    """Return what is the same in all of so many rows, a dimension or the label as a whole, with its value."""
    if len(cells) < CONSTANT_ROWS:
        return {}
    if not task.decimals:
        return {task.title: cells[0]} if all(text == cells[0] for text in cells) else {}
    found = {}
    for k, name in enumerate(task.columns):
        cell = cells[0].split(",")[k]
        if all(float(text.split(",")[k]) == float(cell) for text in cells):  # as numbers: 0 may be written -0
            found[name] = cell
    return found
