"""Files for people and for ABAW: prediction tables and the official text form of valence and arousal.

The official form has the header `valence,arousal` and then a line a frame: the first one belongs to frame 0, which ABAW numbers 1. A frame
without a value has -5,-5.
"""

import csv
import io
from pathlib import Path

import numpy as np

from affpipe import store
from affpipe.errors import ManifestError
from affpipe.frames import SOURCE_NAMES

INVALID = -5.0
HEADER = "valence,arousal"
COLUMNS = ("frame", "time_s", "valence", "arousal", "source")


def read_va(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Official text file as (T, 2) float64 in [-1, 1], zero where invalid, and (T,) bool valid.

    ManifestError names file and line for a wrong header, a line that is not two numbers, or a value outside [-1, 1] that is not -5.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{path}: want a readable annotation file, got {getattr(error, 'strerror', None) or error}; check the path"
        ) from None
    if not lines or lines[0].replace(" ", "").lower() != HEADER:
        raise ManifestError(f"{path}: line 1: want the header {HEADER}, got {repr(lines[0]) if lines else 'an empty file'}; mend the file")
    while lines and not lines[-1].strip():
        lines.pop()
    try:
        text = io.StringIO("\n".join(lines[1:]))
        values = np.loadtxt(text, delimiter=",", ndmin=2, comments=None) if len(lines) > 1 else np.zeros((0, 2))
        if values.shape[1] != 2 or len(values) != len(lines) - 1:
            raise ValueError
    except ValueError:
        number = next(i for i, line in enumerate(lines[1:], 2) if not _is_pair(line))
        raise ManifestError(f"{path}: line {number}: want valence,arousal, got {lines[number - 1]!r}; mend the line") from None
    invalid = (values == INVALID).any(axis=1)
    wrong = ~invalid & ~(np.abs(values) <= 1).all(axis=1)  # NaN is wrong too
    if wrong.any():
        number = int(np.argmax(wrong)) + 2
        raise ManifestError(f"{path}: line {number}: want values in [-1, 1] or -5, got {lines[number - 1]!r}; mend the line")
    return np.where(invalid[:, None], 0.0, values), ~invalid


def _is_pair(line: str) -> bool:
    if "_" in line or not line.isascii():  # numbers to Python, none to numpy
        return False
    try:
        return len([float(cell) for cell in line.split(",")]) == 2
    except ValueError:
        return False


def write_va(path: Path, values: np.ndarray, valid: np.ndarray) -> None:
    """Write (T, 2) values in the official text form with six decimals, -5 where not valid."""
    lines = [f"{v:.6f},{a:.6f}" if ok else "-5,-5" for (v, a), ok in zip(values, valid, strict=True)]
    store.write_text(path, "\n".join([HEADER, *lines]) + "\n")


def fit_length(values: np.ndarray, valid: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels for exactly `frames` frames: rows too many are dropped, missing ones are invalid."""
    out, ok = np.zeros((frames, *values.shape[1:])), np.zeros(frames, bool)
    n = min(frames, len(values))
    out[:n], ok[:n] = values[:n], valid[:n]
    return out, ok


def write_predictions(path: Path, times_s: np.ndarray, values: np.ndarray, source: np.ndarray, valid: np.ndarray) -> None:
    """Write the prediction table `frame,time_s,valence,arousal,source`.

    Args:
        times_s: (T,) the container's timestamps. values: (T, 2) in [-1, 1]. source: (T,) codes of `frames.SOURCE_NAMES`.
        valid: (T,) False where there is no prediction: the cells stay empty.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for i, (time_s, (v, a), code, ok) in enumerate(zip(times_s, values, source, valid, strict=True), 1):
        table.writerow([i, f"{time_s:.6f}", *((f"{v:.6f}", f"{a:.6f}") if ok else ("", "")), SOURCE_NAMES[int(code)]])
    store.write_text(path, text.getvalue())
