"""Files for people and for ABAW: prediction tables, and the official text form of labels and predictions.

The official form has the header of its task and then one line per frame; the first belongs to frame 0, which ABAW numbers 1. A frame
without a value has the mark of the task in every cell: -5 (va) or -1 (expr, au).
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from affpipe.core.axis import SOURCE_NAMES
from affpipe.core.errors import ManifestError
from affpipe.core.tasks.table import TASKS
from affpipe.core.tasks.task import Task, Tasks
from affpipe.data.annotation_files import tables
from affpipe.system import disk, files
from affpipe.system.sheets import table_text

SHOWN = 80  # characters of a faulty line at most
SURPLUS = (-49, 2)  # rows of an annotation minus frames of its video, as they occur in Aff-Wild2
EMPTY = " \t,"  # cells at the end of a line that hold nothing
NO_QUOTES = "save it without quotes"
_QUOTED = re.compile(r'(?<![^,])[ \t]*"([^",]*)"[ \t]*(?![^,])')  # a cell between quotes that holds neither comma nor quote


def read_labels(task: Task, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an official text file as (T, K) float64, K columns of the task, zero where invalid, and (T,) bool valid.

    A line with the mark (-5 or -1) in any cell is a frame without a label. Cells may stand between quotes; and if the header ends in
    commas, the other lines may too, as spreadsheets save it. ManifestError names file and line for a wrong header, a line with other cells,
    or a value that the task does not have.
    """
    text = files.read_text(path, "annotation file", ManifestError, "check the path")
    lines = files.lines(text)
    if not lines or not is_header(task, lines[0]):
        got = repr(lines[0][:SHOWN]) if lines else "an empty file"
        raise ManifestError(f"{path}: line 1: want the header {task.header}, got {got}; {_head_remedy(path, lines[0] if lines else '')}")
    while lines and not lines[-1].strip(EMPTY):  # a spreadsheet's empty row is commas
        lines.pop()
    rows, width = [unquoted(line) for line in lines[1:]], len(task.columns)
    if lines[0].rstrip().endswith(","):
        rows = [line.rstrip(EMPTY) for line in rows]
    try:
        values = np.loadtxt(io.StringIO("\n".join(rows)), delimiter=",", ndmin=2, comments=None) if rows else np.zeros((0, width))
        if values.shape != (len(rows), width):
            raise ValueError
    except ValueError:
        number = next(i for i, line in enumerate(rows, 2) if not _is_row(line, width))
        line = lines[number - 1]
        got = f"{line[:SHOWN]!r}{_cells(line, width)}"
        raise ManifestError(f"{path}: line {number}: want {','.join(task.columns)}, got {got}; {_line_remedy(task, line)}") from None
    blank = values == task.invalid
    wrong = ~(blank | task.possible(values)).all(axis=1)  # NaN is wrong too
    if wrong.any():
        number = int(np.argmax(wrong)) + 2
        raise ManifestError(
            f"{path}: line {number}: want {task.cell} or {task.invalid:g} in each cell, got {lines[number - 1][:SHOWN]!r}; mend the line"
        )
    valid = ~blank.any(axis=1)
    return np.where(valid[:, None], values, 0.0), valid


def is_header(task: Task, line: str) -> bool:
    """Tell whether a line is the header of a task, whatever its case, blanks, quotes and commas at the end."""
    return unquoted(line).rstrip(EMPTY).replace(" ", "").lower() == task.header.replace(" ", "").lower()


def unquoted(line: str) -> str:
    """Return a line without the quotes around its cells; those of a cell that holds a comma or a quote stay."""
    return _QUOTED.sub(r"\1", line) if '"' in line else line


def _head_remedy(path: Path, line: str) -> str:
    for name, t in TASKS.items():
        if is_header(t, line):
            return f"it has the labels of {name}: name it in that column"
        if _is_row(unquoted(line), len(t.columns)):
            return "put the header in front of the first row"
    if '"' in unquoted(line):
        return NO_QUOTES
    if path.suffix.lower() == ".csv":  # where times would be known by their names
        return f"name the columns so, or {tables.INTERVALS}, or {tables.TIMED}"
    return "save it as .csv, since it tells times" if tables.kind_of(line) else "mend the file"


def _cells(line: str, width: int) -> str:
    found = line.count(",") + 1
    return "" if found == width or not line.strip() else f" ({found} {'cell' if found == 1 else 'cells'} for {width})"


def _line_remedy(task: Task, line: str) -> str:
    if not line.strip():
        return "give the frame its row, or remove the line"
    line, width = unquoted(line), len(task.columns)
    names = [name.casefold() for name in task.outputs] if task.kind == "classes" else []
    if (name := line.strip(EMPTY).casefold()) in names:
        return f"write the number of the class, {names.index(name)}"
    if '"' in line:
        return NO_QUOTES + (", and write decimals with a point" if line.count(",") + 1 == 2 * width else "")
    if ";" in line or "\t" in line:
        return "separate cells by commas, and write decimals with a point"
    if line.count(",") + 1 == 2 * width:
        return "write decimals with a point"
    if _is_row(line.rstrip(EMPTY), width):
        return "save it without commas at the end of lines"
    return "mend the line"


def _is_row(line: str, width: int) -> bool:
    cells = [cell.strip() for cell in line.split(",")]
    if not all(cell.isascii() and "_" not in cell for cell in cells):  # Python reads these as numbers, numpy does not
        return False
    try:
        return len([float(cell) for cell in cells]) == width
    except ValueError:
        return False


def write_labels(task: Task, path: Path, values: np.ndarray, valid: np.ndarray) -> None:
    """Write (T, K) values in the official text form, the mark of the task where not valid; numbers of va with six decimals."""
    blank = ",".join([f"{task.invalid:g}"] * len(task.columns))
    lines = [",".join(map(task.text, row)) if ok else blank for row, ok in zip(values, valid, strict=True)]
    disk.write_text(path, "\n".join([task.header, *lines]) + "\n")


def surplus_fault(rows: int, frames: int) -> str:
    """Tell what is odd about the number of rows of an annotation; "" if such a number occurs."""
    low, high = SURPLUS
    if low <= rows - frames <= high:
        return ""
    return f"want a line a frame ({low} to +{high}), got {rows} lines for {frames} frames ({rows - frames:+d}); compare the two"


def fit_length(values: np.ndarray, valid: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels for exactly `frames` frames: extra rows are dropped, missing ones are invalid."""
    out, ok = np.zeros((frames, *values.shape[1:])), np.zeros(frames, bool)
    n = min(frames, len(values))
    out[:n], ok[:n] = values[:n], valid[:n]
    return out, ok


def write_predictions(
    path: Path,
    tasks: Tasks,
    times_s: np.ndarray,
    values: Mapping[str, np.ndarray],
    chances: Mapping[str, np.ndarray],
    source: np.ndarray,
    valid: np.ndarray,
) -> None:
    """Write the prediction table: `frame,time_s`, each task's columns and then its probabilities `p_<output>`, `source`.

    Args:
        times_s: (T,), the container's timestamps.
        values: task -> (T, K). chances: task -> (T, O), see `frames.FramePredictions`.
        source: (T,) codes of `axis.SOURCE_NAMES`.
        valid: (T,), False where there is no prediction: the cells stay empty.
    """
    head, cells = ["frame", "time_s"], []
    for name, columns in values.items():
        head += tasks[name].columns
        cells.append([[tasks[name].text(x) for x in row] for row in columns])
        if name in chances:
            head += tasks[name].chance_columns
            cells.append([[f"{p:.6f}" for p in row] for row in chances[name]])
    rows = []
    for i, (time_s, code, ok) in enumerate(zip(times_s, source, valid, strict=True)):
        own = [cell for part in cells for cell in part[i]] if ok else [""] * (len(head) - 2)
        rows.append([i + 1, f"{time_s:.6f}", *own, SOURCE_NAMES[int(code)]])
    disk.write_text(path, table_text([*head, "source"], rows))
