"""Divergence of a fit: it is reported in one line, and nothing of the fit is kept."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from affpipe.core.errors import SettingsError


class Trace:
    """Record of which numbers of a batch were finite, by their names; it stays on the device, so that nothing waits for a GPU."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._batches: list[Tensor] = []

    def add(self, values: Mapping[str, Tensor | None]) -> None:
        """Add the next batch, in the order of computation; all batches have the same names."""
        there = {name: value for name, value in values.items() if value is not None}
        self._names = tuple(there)
        self._batches.append(torch.stack([torch.isfinite(value).all() for value in there.values()]))

    def first(self) -> str:
        """Return the words for the first value that was not finite; "" if all were."""
        for batch, finite in enumerate(torch.stack(self._batches).tolist() if self._batches else []):
            for name, fine in zip(self._names, finite, strict=True):
                if not fine:
                    return f", {name} first, in batch {batch + 1}"
        return ""


def check(name: str, epoch: int, rate: float, losses: Tensor, raw: np.ndarray, trace: Trace) -> None:
    """Raise SettingsError unless the losses and outputs of a fit's epoch are finite.

    Args:
        name: the model's name. epoch: from 0, shown from 1. rate: learning rate of the epoch.
        losses: (B,) of its batches. raw: outputs for the validation streams after it. trace: record of the batches.
    """
    bad = int((~torch.isfinite(losses)).sum())
    if bad:
        _fail(name, epoch, rate, "losses", f"{bad} of {len(losses)} batches without{trace.first()}")
    if not np.isfinite(raw).all():
        rows = ~np.isfinite(raw).reshape(len(raw), -1).all(axis=1)
        _fail(name, epoch, rate, "predictions", f"{int(rows.sum())} of {len(raw)} validation rows without")


def check_weights(name: str, epoch: int, rate: float, model: nn.Module) -> None:
    """Raise SettingsError if a model holds NaN or infinity."""
    bad = [key for key, value in model.state_dict().items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        _fail(name, epoch, rate, "weights", f"{len(bad)} tensors with others, the first {bad[0]}")


def _fail(name: str, epoch: int, rate: float, what: str, got: str) -> None:
    raise SettingsError(
        f"{name}: the fit diverged in epoch {epoch + 1} at learning rate {rate:.1e}: want finite {what}, got {got}; "
        f"lower models.{name}.training.learning_rate, or set a lower clip_norm there"
    )
