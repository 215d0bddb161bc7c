"""Tensors of streams: checks of their shape, and zeros for rows that are not present."""

import torch
from torch import Tensor

from affpipe.core.errors import InputError


def check_stream(who: str, x: Tensor, present: Tensor, dim: int) -> None:
    """Raise InputError unless x is (B, T, dim) floating point and present is (B, T) bool."""
    if x.ndim != 3 or x.shape[-1] != dim or not x.is_floating_point():
        raise InputError(
            f"{who}: want floating point (B, T, {dim}), got {x.dtype} {tuple(x.shape)}; give the width that the model was built for"
        )
    if present.dtype != torch.bool or present.shape != x.shape[:2]:
        raise InputError(f"{who}: want present bool {tuple(x.shape[:2])}, got {present.dtype} {tuple(present.shape)}")


def keep(x: Tensor, present: Tensor) -> Tensor:
    """Zero the rows of x (B, T, ...) where present (B, T) is False, in value and in gradient."""
    # masked_fill, not a product: zero times an overflow is NaN.
    return x.masked_fill(~present.reshape(*present.shape, *[1] * (x.ndim - present.ndim)), 0)
