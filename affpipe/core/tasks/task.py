"""A task: what a frame's label holds, what a model outputs for it, and how both are written, pooled, decoded and measured.

Every task is of one of three kinds, a module each: `dimensions`, `classes`, `units`. `table` lists the official tasks; tasks
of one's own are made from settings (`affpipe.data.settings`). Code that handles labels uses the task's methods and never its name.
Shapes: T frames, N rows, K label columns and O outputs of the task, S sums and A atoms of its figures.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from affpipe.core.errors import InputError

Kind = Literal["dimensions", "classes", "units"]
GAP_S = 1.0  # our choice: annotators do not move a lever faster than that, and a pause in a trace is longer
Part = tuple[np.ndarray, np.ndarray]  # truth and prediction (n, K) float64 of labelled frames


class Decoding(NamedTuple):
    """Settings by which outputs become labels.

    Attributes:
        filter: filter over neighbouring frames, "none" or one that the kind knows.
        frames: odd lengths of the filter, one per column (dimensions), else one.
        thresholds: (O,) of units; None: 0.5 each.
    """

    filter: str = "none"
    frames: tuple[int, ...] = (1,)
    thresholds: np.ndarray | None = None


@dataclass(frozen=True)
class Task(ABC):
    """One task.

    Attributes:
        name: the word for it in settings, manifest and folders. title: its name for people.
        invalid: mark in every column of a frame without a label, in files.
        folder: folder of its annotations in Aff-Wild2; "" for a task of one's own.
        tier: the tier to read of label files with several; "" for the one with the task's name.
        gap_s: greatest gap between two timed labels that a line bridges, seconds.

    Attributes of its kind:
        measure: the figure by which systems are ranked, a key of `figures`; greater is better. measure_title: its name for people.
        target_title: name of the measure of a single target, see `targets`.
        loss: name of its training loss, see `affpipe.models.terms.build`.
        decimals: decimals of a value in a file.
        least: least value of a figure; the greatest is 1.
        centred: True if a common shift of truth and prediction leaves the figures unchanged.
        baselines: key of a constant prediction in the figures of a system -> its row in a table.
    """

    name: str
    title: str
    invalid: float
    folder: str = ""
    tier: str = ""
    gap_s: float = GAP_S

    kind: ClassVar[Kind]
    measure: ClassVar[str]
    measure_title: ClassVar[str]
    target_title: ClassVar[str]
    loss: ClassVar[str]
    decimals: ClassVar[int] = 0
    least: ClassVar[float] = 0.0
    centred: ClassVar[bool] = False
    baselines: ClassVar[Mapping[str, str]]

    # ---- names ----

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of a frame's label."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of a model's outputs for a frame."""

    @property
    def thresholded(self) -> tuple[str, ...]:
        """Outputs that become labels by a threshold."""
        return ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of what may be predicted by different systems: a dimension, all classes together, a unit."""
        return self.outputs

    @property
    def header(self) -> str:
        """First line of an annotation file."""
        return ",".join(self.outputs)

    @property
    def chance_columns(self) -> tuple[str, ...]:
        """Columns of the outputs' probabilities in a prediction table; for a task of one's own they contain its name."""
        own = "" if self.folder else f"{self.name}_"
        return tuple(f"p_{own}{output}" for output in self.outputs)

    # ---- text form ----

    @property
    @abstractmethod
    def cell(self) -> str:
        """Content that a cell of an annotation file may have, in words."""

    @property
    @abstractmethod
    def range(self) -> tuple[float, float]:
        """Least and greatest value of all columns."""

    @property
    def neutral(self) -> tuple[float, ...]:
        """(K,) values for a frame of which nothing is known."""
        return (0,) * len(self.columns)

    def possible(self, values: np.ndarray) -> np.ndarray:
        """Return (n, K) bool: which of (n, K) values may be a label; NaN may not."""
        low, high = self.range
        return (values >= low) & (values <= high) & (values == np.floor(values))

    def measurable(self, values: np.ndarray) -> np.ndarray:
        """Return (n, K) bool: which of (n, K) values figures accept."""
        return self.possible(values)

    @property
    def measured(self) -> str:
        """Values that figures accept, in words."""
        return self.cell

    def text(self, value: float) -> str:
        """Write a value as a cell."""
        return f"{value:.{self.decimals}f}"

    # ---- training ----

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Bring labels (..., K) to the scale of outputs."""
        return values

    @abstractmethod
    def pool(self, values: np.ndarray, valid: np.ndarray, first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pool labels (T, K) with valid (T,) over the frames [first, stop), (R,) each.

        Returns:
            (R, K) float32, zero where no frame is valid, and (R,) bool, True where one is.
        """

    def rounded(self, pooled: np.ndarray) -> np.ndarray:
        """Turn pooled labels (N, K) into ones that figures accept."""
        return pooled

    @abstractmethod
    def plain(self, raw: np.ndarray) -> np.ndarray:
        """Turn outputs (N, O) into labels (N, K) on the scale of outputs, without any setting."""

    # ---- decoding ----

    @abstractmethod
    def decode(self, raw: np.ndarray, valid: np.ndarray, how: Decoding) -> tuple[np.ndarray, np.ndarray | None]:
        """Turn outputs (T, O), anything where not valid (T,), into labels (T, K) float64 and probabilities (T, O), None for dimensions."""

    def thresholds(self, raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Return the thresholds of the `thresholded` outputs that are best on known rows: raw (N, O), target (N, K), known (N,)."""
        return np.zeros(0)

    # ---- late fusion ----

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the groups of outputs that have their own weights when systems are averaged."""
        return (self.name,)

    @abstractmethod
    def blend(self, values: np.ndarray, chances: np.ndarray | None, thresholds: np.ndarray | None) -> np.ndarray:
        """Return the (T, B) values to average over systems, from a system's labels (T, K), probabilities (T, O) and thresholds (O,)."""

    @abstractmethod
    def unblend(self, mean: np.ndarray) -> np.ndarray:
        """Turn a mean (T, B) of `blend` into labels (T, K) float64."""

    # ---- figures ----

    @property
    @abstractmethod
    def figures(self) -> tuple[str, ...]:
        """Keys of the figures of a system, in order."""

    @property
    @abstractmethod
    def output_figures(self) -> tuple[str, ...]:
        """The figure for each output: that of the target to which it belongs."""

    @abstractmethod
    def scores(self, parts: Iterable[Part]) -> dict[str, float]:
        """Return the figures over the frames of all parts together; there is at least one."""

    @abstractmethod
    def sums(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return the (S,) float64 sums that (n, K) truth and prediction add to the figures."""

    @abstractmethod
    def atoms(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the figures that are no mean of others, and their derivatives, from sums (B, S).

        Returns:
            (B, A) figures, NaN where there is none, and (B, A, S) derivatives.
        """

    @property
    @abstractmethod
    def members(self) -> np.ndarray:
        """(M, A) bool: the atoms whose mean each of `figures` is."""

    @abstractmethod
    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return the (K,) values that predict all of (n, K) labels best."""

    def counts(self, truth: np.ndarray) -> np.ndarray:
        """Count (n, K) labels by column and value, (K, values) int64; for kinds with a majority among their baselines."""
        raise NotImplementedError

    @abstractmethod
    def distribution(self, values: np.ndarray) -> dict[str, Any]:
        """Return how often each value occurs in (n, K) labels, in JSON types."""

    def shares(self, distribution: Mapping[str, Any], frames: int) -> Mapping[str, Any]:
        """Turn the counts of a distribution over so many frames into shares of them; other distributions are returned as they are."""
        return distribution

    def details(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
        """Return further details of a report, in JSON types."""
        return {}

    # ---- tables of figures ----

    @property
    @abstractmethod
    def table_head(self) -> tuple[str, ...]:
        """Headings of a table of systems: the system, figures of all frames, the interval of the measure, figures within videos."""

    @abstractmethod
    def table_cells(self, pooled: Mapping[str, str], interval: str, within: Mapping[str, str]) -> list[str]:
        """Return a system's cells under `table_head`, from figures in words."""

    @property
    @abstractmethod
    def video_columns(self) -> dict[str, str]:
        """Figures of a single video in a report, key -> heading."""

    @property
    def late_figures(self) -> dict[str, str]:
        """Figures of late fusion in a report, key -> heading."""
        return {self.measure: self.video_columns[self.measure]}

    @property
    def stream_columns(self) -> dict[str, str]:
        """Figures of a stream in one line, key -> heading."""
        return {self.measure: self.video_columns[self.measure]}


Tasks = Mapping[str, Task]  # name -> task, in the order in which rows hold them


def slices(tasks: Tasks, of: str = "outputs") -> dict[str, slice]:
    """Return the slice of each task's entries in a row that holds those of several tasks one after another.

    Args:
        of: "outputs", "columns" or "thresholded".
    """
    out, start = {}, 0
    for name, task in tasks.items():
        stop = start + len(getattr(task, of))
        out[name] = slice(start, stop)
        start = stop
    return out


def width(tasks: Tasks, of: str = "outputs") -> int:
    """Count the entries of a row that holds those of several tasks."""
    return sum(len(getattr(task, of)) for task in tasks.values())


def check_shape(who: str, values: np.ndarray, valid: np.ndarray | None, width: int) -> None:
    """Raise InputError unless values are (T, width), and valid, if given, is (T,) bool."""
    if values.ndim != 2 or values.shape[1] != width:
        raise InputError(f"{who}: want (T, {width}), got {values.shape}")
    if valid is not None and (valid.shape != values.shape[:1] or valid.dtype != bool):
        raise InputError(f"{who}: want valid bool (T,) for {values.shape}, got {valid.dtype} {valid.shape}")
