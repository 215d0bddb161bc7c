"""Check of the rows that a worker writes against what its stage declares, at a point where stage, item and dataset can be named.

A fault found here is a bug of the worker and no fault of the video, so it is a PartError. Without this check the stage that reads the
stream later would be blamed. `values_fault` and `times_fault` find what makes a stored stream useless by itself; `cache verify` uses them
too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from affpipe.core.errors import PartError

NUMBERS = "biuf"  # kinds of dtype that a stream may have
TIMES = ("start_s", "end_s")
ROWS = ("values", *TIMES, "valid")  # datasets that every stream has
STEPS = "steps"  # dataset of a stream of windows: how many vectors of each window are real


@dataclass(frozen=True)
class Form:
    """Form that the rows of a stage must have.

    Attributes:
        offers: datasets that the stream must have.
        read_as: how a model reads the rows; "" if no model reads them.
        ordered: whether the rows must be sorted by their start. Rows of models need not be, since their windows overlap.
    """

    offers: tuple[str, ...] = ("values",)
    read_as: Literal["vectors", "windows", ""] = ""
    ordered: bool = True


class Written:
    """The rows of one stream, checked as they are written.

    Args:
        stage, item, code: origin of the rows: name of the stage, id of the item, module and function of the worker.
        columns: names that the header gives to the columns of `values`.
    """

    def __init__(self, stage: str, item: str, code: str, form: Form, columns: tuple[str, ...]):
        self._who, self._code, self._form, self._columns = f"{stage}: {item}", code, form, columns
        self._first: dict[str, tuple[np.dtype | None, tuple[int, ...]]] = {}
        self._rows, self._begun = 0, -np.inf

    def check(self, rows: Mapping[str, Any]) -> None:
        """Raise PartError unless a block of rows may follow those before it."""
        arrays = {name: np.asarray(data) for name, data in rows.items() if not _ragged(data) or name in (*ROWS, *self._form.offers)}
        for name, data in arrays.items():
            if isinstance(rows[name], list) and name not in ROWS[1:]:
                self._fail(name, "an array, or of ragged data bytes a row", "a list")
            self._check_array(name, data)
        valid = arrays["valid"].astype(bool)
        for name, data in rows.items():
            if len(data) != len(valid):
                self._fail(name, f"as many rows as `valid`, {len(valid)}", len(data))
        for name, data in arrays.items():
            if name not in TIMES and (fault := values_fault(data, valid)):
                self._fail(name, "finite numbers in valid rows", fault)
        start_s, end_s = (arrays[name].astype(np.float64) for name in TIMES)
        if fault := times_fault(start_s, end_s, valid):
            self._fail("times", "start_s and end_s in seconds", fault)
        if self._form.ordered and (np.diff(start_s, prepend=self._begun) < 0).any():
            self._fail("start_s", "rows in the order in which they begin", "one before the row before it")
        self._rows, self._begun = self._rows + len(valid), max(self._begun, start_s.max(initial=-np.inf))

    def end(self, frames: int | None) -> None:
        """Raise PartError if something is missing at the end.

        Args:
            frames: number of frames of the video, if each must have a row; else None.
        """
        if not self._first:
            self._fail("rows", "some, or at least a block of none", "no `append` at all")
        if missing := [name for name in self._form.offers if name not in self._first]:
            self._fail(missing[0], "what the stage `offers`", f"{', '.join(self._first)} alone")
        if self._form.read_as == "windows" and STEPS not in self._first:
            self._fail(STEPS, "how many vectors of each window are real", "no such dataset")
        if frames not in (None, self._rows):
            self._fail("rows", f"one for each of the {frames} frames, as its `axis` is frames", self._rows)

    def _check_array(self, name: str, data: np.ndarray) -> None:
        """Check dtype and shape of an array, which must also equal those of the first block."""
        if data.dtype.kind not in NUMBERS:
            self._fail(name, "an array of numbers", data.dtype)
        axes = None
        if name in self._form.offers and self._form.read_as:
            axes = 3 if self._form.read_as == "windows" else 2
            if data.dtype.kind != "f":
                self._fail(name, "floating point numbers, which a model reads", data.dtype)
        elif name in (*ROWS, STEPS) and name != "values":
            axes = 1
        if axes not in (None, data.ndim) or data.ndim < (2 if name == "values" else 1):
            kind = {None: "rows of columns", 1: "a number a row", 2: "a vector a row", 3: "windows of vectors"}[axes]
            self._fail(name, kind, f"the shape {data.shape}")
        if name == "values" and self._columns and data.shape[-1] != len(self._columns):
            self._fail(name, f"the {len(self._columns)} columns {', '.join(self._columns)}", f"{data.shape[-1]} of them")
        own = (data.dtype if name not in ROWS[1:] else None), data.shape[1:]  # times and `valid` are stored as one type
        if (first := self._first.setdefault(name, own)) != own:
            self._fail(name, f"rows as the first ones, {first[0]} {first[1]}", f"{own[0]} {own[1]}")

    def _fail(self, what: str, want: str, got: object) -> None:
        raise PartError(f"{self._who}: {what}: want {want}, got {got}; mend {self._code}, and raise the stage's revision")


def values_fault(data: np.ndarray, valid: np.ndarray) -> str:
    """Describe what makes valid rows of a dataset (R, ...) useless; valid is (R,). Return "" if nothing does."""
    if data.dtype.kind != "f" or len(data) != len(valid):  # of another length: ragged data, not rows of the stream
        return ""
    finite = np.isfinite(data)
    if finite.all():
        return ""
    bad = ~finite.reshape(len(data), -1).all(axis=1) & valid
    return f"nan or inf in {int(bad.sum())} of {int(valid.sum())}" if bad.any() else ""


def times_fault(start_s: np.ndarray, end_s: np.ndarray, valid: np.ndarray) -> str:
    """Describe what makes the times (R,) of rows useless; "" if nothing does. A row that is not valid may be empty, or end before it
    begins.
    """
    bad = ~(np.isfinite(start_s) & np.isfinite(end_s))
    if bad.any():
        return f"nan or inf in {int(bad.sum())} of {len(bad)} rows"
    before = (end_s < start_s) & valid
    return f"{int(before.sum())} of {int(valid.sum())} valid rows that end before they begin" if before.any() else ""


def _ragged(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(blob, bytes) for blob in data)
