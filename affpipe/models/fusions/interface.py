"""Inputs and outputs of all fusion models.

Shapes: B batch, T steps, M modalities, D_m width of modality m, H hidden width, G entries of the gate, O outputs.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from affpipe.core.errors import InputError
from affpipe.core.tensors import check_stream


class Fused(NamedTuple):
    """Answer of a fusion model.

    Attributes:
        prediction: (B, T, O), unbounded. embedding: (B, T, H).
        gate: (B, T, G), which sums to 1 where it weighs anything, else 0; None for a model without a gate.
    """

    prediction: Tensor
    embedding: Tensor
    gate: Tensor | None = None


def check_streams(
    who: str, streams: Mapping[str, Tensor], present: Tensor, dims: Mapping[str, int], own: Mapping[str, Tensor] | None = None
) -> None:
    """Raise InputError unless streams are (B, T, D_m) for each name of `dims` (name -> D_m) and present is (B, T, M) bool.

    Args:
        own: name -> (B, A) bool, presence of a stream (B, A, D_m) that has its own rows.
    """
    if set(streams) != set(dims):
        raise InputError(f"{who}: want streams {', '.join(dims)}, got {', '.join(streams)}; give zeros for an absent one")
    if present.ndim != 3 or present.shape[-1] != len(dims):
        raise InputError(f"{who}: want present (B, T, {len(dims)}), got {tuple(present.shape)}")
    for i, (name, dim) in enumerate(dims.items()):
        check_stream(f"{who}: {name}", streams[name], (own or {}).get(name, present[..., i]), dim)
