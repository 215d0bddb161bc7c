"""Labels as values at a rate of their own: samples at rising times, which need not be those of frames or evenly spaced."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Timed:
    """N samples of K columns.

    Attributes:
        times_s: (N,) float64, strictly rising, seconds from the beginning of the media.
        columns: K names. values: (N, K) float64, NaN where there is no label.
    """

    times_s: np.ndarray
    columns: tuple[str, ...]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.times_s)
