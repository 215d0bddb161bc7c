"""Out-of-fold embeddings in one space.

If a fusion learns from embeddings of streams on which its members were fitted, it learns from better features than it will ever see again.
With cross-fit every training stream is embedded by a member that was fitted without its fold. Networks fitted apart do not share the axes
of their embeddings. So each fold's embedding is mapped into the space of the fit on all training streams, which embeds everything else. The
map is affine, with the least squared error over the rows of the streams that both were fitted on (ridge regression). It uses no label.
Source: none; the papers fit members and fusion on the same streams.
"""

from collections.abc import Sequence as Many

import numpy as np
import torch

from affpipe.models.inputs import Sequence
from affpipe.models.predictor import Predictor, run

RIDGE = 1e-3  # in mean variances of the embedding


class Moments:
    """Sums over pairs of rows x, y, (n, H) each, from which their affine map is computed: memory does not grow with the rows."""

    def __init__(self, width: int):
        self.count, self.sum_x, self.sum_y = 0, np.zeros(width), np.zeros(width)
        self.xx, self.xy = np.zeros((width, width)), np.zeros((width, width))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        x, y = x.astype(np.float64), y.astype(np.float64)
        self.count, self.sum_x, self.sum_y = self.count + len(x), self.sum_x + x.sum(axis=0), self.sum_y + y.sum(axis=0)
        self.xx, self.xy = self.xx + x.T @ x, self.xy + x.T @ y

    def ridge(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weight (H, H) and bias (H,), float64, such that x @ weight + bias is close to y."""
        mean_x, mean_y = self.sum_x / self.count, self.sum_y / self.count
        gram = self.xx - self.count * np.outer(mean_x, mean_x)
        gram += RIDGE * max(np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram))
        weight = np.linalg.solve(gram, self.xy - self.count * np.outer(mean_x, mean_y))
        return weight, mean_y - mean_x @ weight


def join(part: Predictor, whole: Predictor, sequences: Many[Sequence], device: torch.device) -> None:
    """Fit the map of the embedding of `part` into that of `whole` on the usable rows of `sequences`, and store it in `part`."""
    moments = Moments(part.settings.hidden)
    for sequence in sequences:
        moments.add(_embeddings(part, sequence, device), _embeddings(whole, sequence, device))
    weight, bias = moments.ridge()
    space = part.join().to(device)
    with torch.no_grad():
        space.weight.copy_(torch.from_numpy(weight.T))
        space.bias.copy_(torch.from_numpy(bias))


def _embeddings(predictor: Predictor, sequence: Sequence, device: torch.device) -> np.ndarray:
    return run(predictor, sequence, device).embedding[sequence.usable]
