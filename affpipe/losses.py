"""Training losses on valence and arousal.

After "Team RAS in 10th ABAW Competition", sec. 4.2: one minus the concordance correlation coefficient (Lin, 1989), with weights for
valence and arousal and optional absolute and squared error terms. Moments are the population's (divided by n), as in `metrics`. All
valid entries of a batch count as one sample, whatever window they come from, unless one CCC per window is asked for (the public code).
Shapes: B windows, T rows, N entries; the last axis is (valence, arousal).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from affpipe.errors import InputError

EPS = 1e-8  # keeps the quotient and its gradient finite where prediction and target are constant and equal


def ccc_loss(prediction: Tensor, target: Tensor, valid: Tensor, *, weights: tuple[float, float] = (0.5, 0.5)) -> Tensor:
    """Weighted sum over valence and arousal of 1 - CCC; with weights that sum to 1, one minus the weighted CCC.

    Args:
        prediction, target: (N, 2) or (B, T, 2); targets of invalid entries may hold anything.
        valid: (N,) or (B, T) bool.

    Returns a scalar, float32 or wider; zero with a zero gradient where fewer than 2 entries are valid.
    """
    prediction, target = _valid_entries(prediction, target, valid)  # (n, 2)
    if len(prediction) < 2:
        return prediction.sum() * 0
    return _weighted_ccc_loss(prediction, target, weights)


class VALoss(nn.Module):
    """ccc_loss plus weighted mean absolute and mean squared error, both plain means over valid entries and both dimensions.

    over: "batch" takes one CCC over all valid entries; "window" the mean of one per window, of those with at least 2 valid entries.
    """

    def __init__(
        self,
        *,
        valence_weight: float = 0.5,
        arousal_weight: float = 0.5,
        mae_weight: float = 0,
        mse_weight: float = 0,
        over: Literal["batch", "window"] = "batch",
    ):
        super().__init__()
        self.weights = (valence_weight, arousal_weight)
        self.mae_weight, self.mse_weight, self.over = mae_weight, mse_weight, over

    def forward(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Scalar loss; shapes, dtype and the rule for fewer than 2 valid entries as in ccc_loss; the first axis counts windows."""
        p, t = _valid_entries(prediction, target, valid)  # (n, 2)
        if len(p) < 2:
            return p.sum() * 0
        error = p - t
        errors = self.mae_weight * error.abs().mean() + self.mse_weight * error.square().mean()
        if self.over == "batch":
            return _weighted_ccc_loss(p, t, self.weights) + errors
        windows = [_valid_entries(*window) for window in zip(prediction, target, valid, strict=True)]
        losses = [_weighted_ccc_loss(*window, self.weights) for window in windows if len(window[0]) >= 2]
        return (torch.stack(losses).mean() if losses else p.sum() * 0) + errors


def _weighted_ccc_loss(prediction: Tensor, target: Tensor, weights: tuple[float, float]) -> Tensor:
    """(n, 2), (n, 2) -> scalar."""
    mean_p, mean_t = prediction.mean(dim=0), target.mean(dim=0)
    p, t = prediction - mean_p, target - mean_t
    spread = p.square().mean(dim=0) + t.square().mean(dim=0) + (mean_p - mean_t).square()
    ccc = 2 * (p * t).mean(dim=0) / (spread + EPS)  # (2,)
    return ((1 - ccc) * prediction.new_tensor(weights)).sum()


def _valid_entries(prediction: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 2) each, in float32 or wider: half precision cannot hold sums over a batch."""
    if prediction.shape != target.shape or prediction.shape[-1] != 2 or valid.shape != prediction.shape[:-1] or valid.dtype != torch.bool:
        raise InputError(
            f"loss: want prediction and target (..., 2) and valid bool (...), got {tuple(prediction.shape)}, {tuple(target.shape)} "
            f"and {valid.dtype} {tuple(valid.shape)}"
        )
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return prediction[valid].to(dtype), target[valid].to(dtype)
