"""Tasks of units: a yes or no per frame for each of several units, as for action units.

Outputs are logits; a unit is present from its threshold on. Thresholds are ours. They must be fitted on labelled frames of the validation
partition, never on frames that are reported as unseen. The measure is the challenge's, the mean F1 of the units over all frames of a
split together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from affpipe.core import align
from affpipe.core.tasks import f1, smoothing
from affpipe.core.tasks.task import Decoding, check_shape
from affpipe.core.tasks.thresholds import UNFITTED, best_thresholds, present

TINY = 1e-9  # least length on either side of a threshold
BELOW = 0.5 - 1e-6  # greatest blend of a probability below its threshold, also as float32


@dataclass(frozen=True)
class Units(f1.Counted):
    """A task of units."""

    kind: ClassVar = "units"
    measure_title: ClassVar = "mean F1"
    target_title: ClassVar = "F1 of the unit"
    loss: ClassVar = "binary_cross_entropy"

    @property
    def columns(self) -> tuple[str, ...]:
        return self.names

    thresholded = columns

    @property
    def cell(self) -> str:
        return "0 or 1"

    @property
    def range(self) -> tuple[float, float]:
        return 0, 1

    def pool(self, values: np.ndarray, valid: np.ndarray, first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of frames in which a unit is present."""
        return align.pool(values, valid, first, stop)

    def rounded(self, pooled: np.ndarray) -> np.ndarray:
        return (pooled >= 0.5).astype(np.float64)

    def plain(self, raw: np.ndarray) -> np.ndarray:
        return (raw >= 0).astype(np.float64)

    def decode(self, raw: np.ndarray, valid: np.ndarray, how: Decoding) -> tuple[np.ndarray, np.ndarray]:
        """Apply a sigmoid, average it over frames, and compare it with the thresholds; a frame without a number has no unit."""
        check_shape(self.name, raw, valid, len(self.names))
        chances = sigmoid(raw)
        if how.filter != "none":
            chances = smoothing.smooth(chances, valid, filter=how.filter, frames=[how.frames[0]] * len(self.names))
        return present(chances, np.full(len(self.names), UNFITTED) if how.thresholds is None else how.thresholds), chances

    def thresholds(self, raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> np.ndarray:
        return best_thresholds(sigmoid(raw), target, known)

    def blend(self, values: np.ndarray, chances: np.ndarray | None, thresholds: np.ndarray | None) -> np.ndarray:
        """Return the probabilities, stretched so that each unit's threshold lies at 0.5. A system alone then gives its own labels."""
        at = np.full(len(self.names), UNFITTED) if thresholds is None else np.asarray(thresholds)
        below, above = np.maximum(at, TINY), np.maximum(1 - at, TINY)
        return np.where(chances >= at, 0.5 + 0.5 * (chances - at) / above, np.minimum(0.5 * chances / below, BELOW))

    def unblend(self, mean: np.ndarray) -> np.ndarray:
        return (mean >= 0.5).astype(np.float64)

    @property
    def output_figures(self) -> tuple[str, ...]:
        return tuple(f"f1_{name}" for name in self.names)

    def sums(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return f1.unit_ratios(f1.unit_counts(truth, prediction))

    def counts(self, truth: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(column.astype(np.int64), minlength=2) for column in truth.T])

    def distribution(self, values: np.ndarray) -> dict[str, Any]:
        """Return the share of frames in which each unit is present."""
        return dict(zip(self.names, values.mean(axis=0).tolist(), strict=True))

    @property
    def table_head(self) -> tuple[str, ...]:
        return "system", "mean F1", "95 %", "within-video F1"

    def table_cells(self, pooled: Mapping[str, str], interval: str, within: Mapping[str, str]) -> list[str]:
        return [pooled["f1"], interval, within["f1"]]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Turn (T, U) logits of any size into probabilities, float32 or wider."""
    from scipy import special

    return special.expit(logits.astype(np.result_type(logits, np.float32)))
