"""Asymmetric loss of units.

Source: Ridnik et al., "Asymmetric Loss For Multi-Label Classification" (ICCV 2021), eq. 4 to 7. With p the probability of a unit and p_m =
max(p - margin, 0), a present unit costs -(1 - p)^gamma_present log p, an absent one -p_m^gamma_absent log(1 - p_m).
"""

import torch
from torch import Tensor, nn

from affpipe.core.errors import InputError

SMALLEST = 1e-8  # least probability whose logarithm is taken


class AsymmetricLoss(nn.Module):
    """Asymmetric loss: its mean over the known entries and units.

    Args:
        gamma_present, gamma_absent: >= 0. margin: in [0, 1).
    """

    def __init__(self, *, gamma_present: float, gamma_absent: float, margin: float):
        super().__init__()
        if gamma_present < 0 or gamma_absent < 0 or not 0 <= margin < 1:
            raise InputError(f"AsymmetricLoss: want gammas >= 0 and a margin in [0, 1), got {gamma_present}, {gamma_absent}, {margin}")
        self.gamma_present, self.gamma_absent, self.margin = gamma_present, gamma_absent, margin

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Return the scalar loss of logits (..., U) for target (..., U) in [0, 1]; valid: (...) bool."""
        logits, target = logits[valid].float(), target[valid].float()  # (n, U) each
        if len(logits) == 0:
            return logits.sum() * 0
        p = torch.sigmoid(logits)
        absent = (p - self.margin).clamp(min=0)
        cost_present = -((1 - p) ** self.gamma_present) * torch.log(p.clamp(min=SMALLEST))
        cost_absent = -(absent**self.gamma_absent) * torch.log((1 - absent).clamp(min=SMALLEST))
        return (target * cost_present + (1 - target) * cost_absent).mean()
