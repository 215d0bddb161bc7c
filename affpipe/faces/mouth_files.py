"""Windows judged by mouth masks from CSV files, in the layout of the main method's authors.

A folder holds STREAM.csv with the columns `frame` (numbered from 1, frames may be missing) and `mouth_open` (0 or 1). A table of windows
has `stream`, `start_frame`, `end_frame` (0-based, end exclusive) and `fps`. `compat="ras2026"` reproduces the published table: it takes the
1-based numbers as 0-based indices, and asks for one open second whatever the window's length.
"""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from affpipe.core.errors import ManifestError, SettingsError
from affpipe.faces.mouth import frame_windows, smooth
from affpipe.system import sheets
from affpipe.system.files import on_disk, read_text

COLUMNS = ("stream", "start_frame", "end_frame", "start_time", "end_time", "fps", "open_sec", "coverage_ratio", "use_for_audio")
MIN_OPEN_S, MIN_OPEN_RATIO, MIN_COVERAGE = 1.0, 0.25, 0.80


def parity_windows(openmouth: Path, windows: Path, compat: Literal["none", "ras2026"]) -> list[dict[str, Any]]:
    """Judge each row of the table `windows`: return one row of COLUMNS for each, in its order.

    start_time and end_time are copied if the table has them, else they are frame / fps. Raises ManifestError with file and line.
    """
    if compat not in ("none", "ras2026"):
        raise SettingsError(f"mouth windows: want compat none or ras2026, got {compat!r}")
    rows = list(_read(windows, {"stream": _name, "start_frame": _index, "end_frame": _index, "fps": _positive}))
    groups: dict[tuple[str, float], list[int]] = {}
    for i, row in enumerate(rows):
        if row["end_frame"] <= row["start_frame"]:
            raise ManifestError(f"{windows}, line {i + 2}: want end_frame > start_frame, got {row['start_frame']} to {row['end_frame']}")
        for end in ("start", "end"):
            row[f"{end}_time"] = row.get(f"{end}_time") or row[f"{end}_frame"] / row["fps"]
        groups.setdefault((row["stream"], row["fps"]), []).append(i)

    ras = compat == "ras2026"
    limits = {"min_open_s": MIN_OPEN_S} if ras else {"min_open_ratio": MIN_OPEN_RATIO}
    for (stream, fps), members in groups.items():
        path = on_disk(openmouth / f"{stream}.csv")
        if not path.is_file():
            raise ManifestError(f"{windows}, line {members[0] + 2}: no {path} for stream {stream!r}")
        open_, present = _mask(path, first_number=0 if ras else 1)
        start, end = (np.array([rows[i][c] for i in members]) for c in ("start_frame", "end_frame"))
        table = frame_windows(smooth(open_, fps), present, np.full(len(members), fps), start, end, min_coverage=MIN_COVERAGE, **limits)
        for n, i in enumerate(members):
            rows[i] |= {
                "open_sec": float(table.open_s[n]), "coverage_ratio": float(table.coverage[n]), "use_for_audio": bool(table.retained[n])
            }  # fmt: skip
    return [{c: row[c] for c in COLUMNS} for row in rows]


def to_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Format rows of COLUMNS as CSV."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _mask(path: Path, *, first_number: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a mask file as dense open (T,) and present (T,) bool. The frame numbered `first_number` is row 0."""
    rows = list(_read(path, {"frame": _number, "mouth_open": _flag}))
    number = np.array([r["frame"] for r in rows], np.int64) - first_number
    size = int(number.max()) + 1 if rows else 0
    if len(np.unique(number)) < len(number):
        doubled = next(i for i, n in enumerate(number) if n in number[:i])
        raise ManifestError(f"{path}, line {doubled + 2}: frame {rows[doubled]['frame']} stands here a second time")
    open_, present = np.zeros(size, bool), np.zeros(size, bool)
    open_[number], present[number] = [r["mouth_open"] for r in rows], True
    return open_, present


def _read(path: Path, columns: dict[str, Callable[[str], Any]]) -> Iterable[dict[str, Any]]:
    """Yield the rows of a CSV file with `columns` converted and the others as text. Raises ManifestError with file and line."""
    text = read_text(path, "CSV file", ManifestError, "check the path")
    try:
        head, rows = sheets.rows(text)
        missing = [c for c in columns if c not in head]
        if missing:
            raise ManifestError(f"{path}: want columns {', '.join(columns)}, got {head}; {', '.join(missing)} not there")
        for line, row in rows:
            for column, convert in columns.items():
                try:
                    row[column] = convert(row[column] or "")
                except ValueError as e:
                    raise ManifestError(f"{path}, line {line}: {column}: want {e}, got {row[column]!r}") from e
            yield row
    except csv.Error as e:
        raise ManifestError(f"{path}: want a readable CSV file, got {e}; mend its quotes") from e


def _name(text: str) -> str:
    if not text or Path(text).name != text:
        raise ValueError("the name of a stream")
    return text


def _index(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("a whole number >= 0")
    return int(text)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ValueError("a frame number from 1")
    return int(text)


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise ValueError("a rate > 0")
    return value
