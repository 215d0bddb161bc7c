"""Tasks of dimensions: one number per frame for each dimension, as for valence and arousal.

Outputs are numbers on the scale [-1, 1]. Labels of another range are brought to that scale for training, and outputs are brought back.
Source: Team RAS, public code (valence and arousal: smoothing, then clipping). The measure is the challenge's, the mean CCC over all frames
of a split together ("Team RAS in 10th ABAW Competition", sec. 4.2).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from affpipe.core import align
from affpipe.core.tasks import smoothing
from affpipe.core.tasks.concordance import ccc, concordances, moments
from affpipe.core.tasks.task import Decoding, Part, Task, check_shape

BINS = 20  # bins of a histogram


@dataclass(frozen=True)
class Dimensions(Task):
    """A task of dimensions.

    Attributes:
        ranges: dimension -> its least and greatest value.
        short: short names of the dimensions for a narrow table; if empty, the full names are used.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    short: tuple[str, ...] = ()

    kind: ClassVar = "dimensions"
    measure: ClassVar = "ccc"
    measure_title: ClassVar = "CCC"
    target_title: ClassVar = "CCC"
    loss: ClassVar = "concordance"
    decimals: ClassVar = 6
    least: ClassVar = -1.0
    centred: ClassVar = True
    baselines: ClassVar = {"constant": "constant per video"}

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.ranges)

    outputs = columns
    chance_columns = ()

    @property
    def cell(self) -> str:
        return " and ".join(f"a number in [{low:g}, {high:g}]" for low, high in dict.fromkeys(self.ranges.values()))

    @property
    def range(self) -> tuple[float, float]:
        return float(self._limits[0].min()), float(self._limits[1].max())

    @property
    def neutral(self) -> tuple[float, ...]:
        return tuple((self._limits.mean(axis=0) + 0.0).tolist())

    @property
    def _limits(self) -> np.ndarray:
        """(2, K) least and greatest values."""
        return np.array(list(self.ranges.values()), float).T

    def possible(self, values: np.ndarray) -> np.ndarray:
        low, high = self._limits
        return (values >= low) & (values <= high)

    def measurable(self, values: np.ndarray) -> np.ndarray:
        return np.isfinite(values)

    @property
    def measured(self) -> str:
        return "finite values"

    def scaled(self, values: np.ndarray) -> np.ndarray:
        low, high = self._limits
        return (values - (low + high) / 2) / ((high - low) / 2)

    def pool(self, values: np.ndarray, valid: np.ndarray, first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return align.pool(values, valid, first, stop)

    def plain(self, raw: np.ndarray) -> np.ndarray:
        return raw

    def decode(self, raw: np.ndarray, valid: np.ndarray, how: Decoding) -> tuple[np.ndarray, None]:
        """Smooth, clip to [-1, 1], and bring back to the range; frames that are not valid are clipped only."""
        check_shape(self.name, raw, valid, len(self.columns))
        values = raw.astype(np.float64)
        if how.filter != "none":
            values = smoothing.smooth(values, valid, filter=how.filter, frames=how.frames)
        low, high = self._limits
        return np.clip(values, -1, 1) * ((high - low) / 2) + (low + high) / 2, None

    @property
    def channels(self) -> tuple[str, ...]:
        return self.columns

    def blend(self, values: np.ndarray, chances: np.ndarray | None, thresholds: np.ndarray | None) -> np.ndarray:
        return values

    def unblend(self, mean: np.ndarray) -> np.ndarray:
        return mean

    @property
    def figures(self) -> tuple[str, ...]:
        return *self.output_figures, "ccc"

    @property
    def output_figures(self) -> tuple[str, ...]:
        return tuple(f"ccc_{name}" for name in self.columns)

    def scores(self, parts: Iterable[Part]) -> dict[str, float]:
        truth, prediction = (np.concatenate(of) for of in zip(*parts, strict=True))
        each = [ccc(t, p) for t, p in zip(truth.T, prediction.T, strict=True)]
        return dict(zip(self.figures, (*each, sum(each) / len(each)), strict=True))

    def sums(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return np.concatenate([moments(t, p) for t, p in zip(truth.T, prediction.T, strict=True)])

    def atoms(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return concordances(sums)

    @property
    def members(self) -> np.ndarray:
        one = np.eye(len(self.columns), dtype=bool)
        return np.concatenate([one, [one.any(axis=0)]])

    def constant(self, truth: np.ndarray) -> np.ndarray:
        return truth.mean(axis=0)

    def distribution(self, values: np.ndarray) -> dict[str, Any]:
        """Count the values of each dimension in BINS equal bins of its range; values outside count in the outer bins."""
        own = zip(self.ranges.items(), values.T, strict=True)
        return {name: np.histogram(np.clip(column, *limits), BINS, limits)[0].tolist() for (name, limits), column in own}

    @property
    def table_head(self) -> tuple[str, ...]:
        first, *more = (*(self.short or self.columns), *(["mean"] if len(self.columns) > 1 else []))
        pooled = *(f"CCC {name}" for name in (self.short or self.columns)), *(["mean"] if more else [])
        return "system", *pooled, "95 %", f"within-video {first}", *more

    def table_cells(self, pooled: Mapping[str, str], interval: str, within: Mapping[str, str]) -> list[str]:
        return [*(pooled[key] for key in self._shown), interval, *(within[key] for key in self._shown)]

    @property
    def _shown(self) -> tuple[str, ...]:
        """Figures in a table. The mean is left out if there is a single dimension, as it says nothing new."""
        return self.figures if len(self.columns) > 1 else self.output_figures

    @property
    def video_columns(self) -> dict[str, str]:
        return dict(zip(self._shown, self.table_head[1:], strict=False))

    @property
    def late_figures(self) -> dict[str, str]:
        return self.video_columns

    @property
    def stream_columns(self) -> dict[str, str]:
        return dict(zip(self.output_figures, self.table_head[1:], strict=False))
