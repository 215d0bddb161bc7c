"""Tasks of classes: one class per frame, as for expressions. A label is the number of a class, from 0.

Outputs are logits. Source: Yu et al., "Solution to the 10th ABAW Expression Recognition Challenge", sec. 3.6: logits are averaged over
windows, the greatest is taken, then classes are filtered over frames. Its "frame-level predictions" are read as class numbers. The measure
is the challenge's, macro F1 over all frames of a split together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from affpipe.core import align
from affpipe.core.errors import InputError
from affpipe.core.tasks import f1, smoothing
from affpipe.core.tasks.task import Decoding, check_shape


@dataclass(frozen=True)
class Classes(f1.Counted):
    """A task of classes.

    Attributes:
        column: the word for a frame's class in a prediction table.
    """

    column: str = ""

    kind: ClassVar = "classes"
    measure_title: ClassVar = "macro F1"
    target_title: ClassVar = "macro F1"
    loss: ClassVar = "cross_entropy"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    targets = columns

    @property
    def cell(self) -> str:
        return f"a whole number from 0 to {len(self.names) - 1}"

    @property
    def range(self) -> tuple[float, float]:
        return 0, len(self.names) - 1

    @property
    def measured(self) -> str:
        return f"a class 0 to {len(self.names) - 1}"

    def pool(self, values: np.ndarray, valid: np.ndarray, first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of most frames; of equally frequent ones the lowest."""
        classes = np.where(valid, values[:, 0], 0).astype(np.int64)
        share, known = align.pool(np.eye(len(self.names))[classes], valid, first, stop)
        return share.argmax(axis=1).astype(np.float32)[:, None], known

    def plain(self, raw: np.ndarray) -> np.ndarray:
        return raw.argmax(axis=1)[:, None]

    def decode(self, raw: np.ndarray, valid: np.ndarray, how: Decoding) -> tuple[np.ndarray, np.ndarray]:
        """Take the class of the greatest logit (the lowest class on a tie), then filter over frames; softmax gives the probabilities.

        Invalid frames get the task's mark and equal probabilities. Raises InputError if a valid frame holds NaN, and as
        `smoothing.smooth_classes` does.
        """
        check_shape(self.name, raw, valid, len(self.names))
        if np.isnan(raw[valid]).any():
            raise InputError(f"{self.name}: want numbers at valid frames, got NaN; mark such frames invalid")
        classes = np.where(valid, raw.argmax(axis=1), self.invalid).astype(np.int64)
        if how.filter != "none":
            classes = smoothing.smooth_classes(classes, valid, filter=how.filter, frames=how.frames[0])
        return classes[:, None].astype(np.float64), softmax(np.where(valid[:, None], raw, raw.dtype.type(0)))

    def blend(self, values: np.ndarray, chances: np.ndarray | None, thresholds: np.ndarray | None) -> np.ndarray:
        """Return the probabilities. A filter over classes does not affect them."""
        return chances

    def unblend(self, mean: np.ndarray) -> np.ndarray:
        return mean.argmax(axis=1)[:, None].astype(np.float64)

    @property
    def output_figures(self) -> tuple[str, ...]:
        return ("f1",) * len(self.names)

    def _confusion(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return f1.confusion(truth[:, 0], prediction[:, 0], len(self.names))

    def sums(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return f1.class_ratios(self._confusion(truth, prediction))

    def counts(self, truth: np.ndarray) -> np.ndarray:
        return np.bincount(truth[:, 0].astype(np.int64), minlength=len(self.names))[None]

    def distribution(self, values: np.ndarray) -> dict[str, Any]:
        return dict(zip(self.names, self.counts(values)[0].tolist(), strict=True))

    def shares(self, distribution: Mapping[str, Any], frames: int) -> Mapping[str, Any]:
        return {name: count / frames for name, count in distribution.items()}

    def details(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
        """Return the number of frames by class of truth and of prediction."""
        return {"confusion": self._confusion(truth, prediction).tolist()}

    @property
    def table_head(self) -> tuple[str, ...]:
        return "system", "F1", "95 %", "accuracy", "within-video F1"

    def table_cells(self, pooled: Mapping[str, str], interval: str, within: Mapping[str, str]) -> list[str]:
        return [pooled["f1"], interval, pooled["accuracy"], within["f1"]]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn (T, C) logits of any size into probabilities that sum to 1, float32 or wider."""
    from scipy import special

    return special.softmax(logits.astype(np.result_type(logits, np.float32)), axis=1)
