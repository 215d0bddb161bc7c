"""A fit that diverges: said in one line, and nothing of it is kept."""

import numpy as np
import torch
from torch import Tensor, nn

from affpipe.core.errors import SettingsError


def check(name: str, epoch: int, rate: float, losses: Tensor, raw: np.ndarray) -> None:
    """SettingsError unless a fit's epoch went well.

    Args:
        name: of the model. epoch: from 0, shown from 1. rate: learning rate of the epoch.
        losses: (B,) of its batches. raw: outputs for the validation streams after it.
    """
    bad = int((~torch.isfinite(losses)).sum())
    if bad:
        _fail(name, epoch, rate, "losses", f"{bad} of {len(losses)} batches without")
    if not np.isfinite(raw).all():
        rows = ~np.isfinite(raw).reshape(len(raw), -1).all(axis=1)
        _fail(name, epoch, rate, "predictions", f"{int(rows.sum())} of {len(raw)} validation rows without")


def check_weights(name: str, epoch: int, rate: float, model: nn.Module) -> None:
    """SettingsError for a model that holds a number which is none."""
    bad = [key for key, value in model.state_dict().items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        _fail(name, epoch, rate, "weights", f"{len(bad)} tensors with others, the first {bad[0]}")


def _fail(name: str, epoch: int, rate: float, what: str, got: str) -> None:
    raise SettingsError(
        f"{name}: the fit diverged in epoch {epoch + 1} at learning rate {rate:.1e}: want finite {what}, got {got}; "
        f"lower models.{name}.training.learning_rate, or set a lower clip_norm there"
    )
