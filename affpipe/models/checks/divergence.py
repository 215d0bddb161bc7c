"""A fit that diverges: said in one line, and nothing of it is kept."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from affpipe.core.errors import SettingsError


class Trace:
    """Which of the numbers of a batch were finite, by their names: kept where they are, without waiting for a GPU."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._batches: list[Tensor] = []

    def add(self, values: Mapping[str, Tensor | None]) -> None:
        """The next batch's, in the order in which they come about; the names are those of the batch before."""
        there = {name: value for name, value in values.items() if value is not None}
        self._names = tuple(there)
        self._batches.append(torch.stack([torch.isfinite(value).all() for value in there.values()]))

    def first(self) -> str:
        """What was the first that was not finite; "" where all were."""
        for batch, finite in enumerate(torch.stack(self._batches).tolist() if self._batches else []):
            for name, fine in zip(self._names, finite, strict=True):
                if not fine:
                    return f", {name} first, in batch {batch + 1}"
        return ""


def check(name: str, epoch: int, rate: float, losses: Tensor, raw: np.ndarray, trace: Trace) -> None:
    """SettingsError unless a fit's epoch went well.

    Args:
        name: of the model. epoch: from 0, shown from 1. rate: learning rate of the epoch.
        losses: (B,) of its batches. raw: outputs for the validation streams after it. trace: of the batches.
    """
    bad = int((~torch.isfinite(losses)).sum())
    if bad:
        _fail(name, epoch, rate, "losses", f"{bad} of {len(losses)} batches without{trace.first()}")
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
