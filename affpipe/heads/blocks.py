"""Parts that several temporal and fusion models are built from.

The attention layer is the post-norm one of "Attention Is All You Need" (Vaswani et al., 2017, sec. 3 and 5.4), with a query stream and
a context stream, so that it serves as a self-attention layer (context = query) and as a cross-attention layer.

Presence: `present` is True where a row was observed. Rows where it is False are never attended to; a window whose context holds no
present row gets a zero attention output instead of a NaN, and the residual carries the query on.
Shapes: B batch, T rows of the query, S rows of the context, D input width, H hidden width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affpipe.errors import InputError

POSITIONS = ("sinusoidal", "none", "every_layer")


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


def projection(dim: int, hidden: int, *, dropout: float) -> nn.Sequential:
    """Linear, LayerNorm, Dropout: (..., D) -> (..., H)."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.LayerNorm(hidden), nn.Dropout(dropout))


def regression(dim: int, hidden: int, outputs: int, *, dropout: float) -> nn.Sequential:
    """Linear, LayerNorm, GELU, Dropout, Linear: (..., D) -> (..., outputs), unbounded."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))


def sinusoids(length: int, dim: int, *, like: Tensor) -> Tensor:
    """Positions 0 … length-1 as (length, dim) in [-1, 1]: sine in even columns, cosine in odd ones, wavelengths 2π … 10000·2π rows.

    On the device and in the dtype of `like`.
    """
    step = torch.arange(length, device=like.device, dtype=torch.float32).unsqueeze(1)
    even = torch.arange(0, dim, 2, device=like.device, dtype=torch.float32)
    angle = step * 10000.0 ** (-even / dim)  # (length, ceil(dim / 2))
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :dim].to(like.dtype)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention of a query stream to the present rows of a context stream."""

    def __init__(self, dim: int, *, heads: int, dropout: float):
        super().__init__()
        if dim % heads:
            raise InputError(f"Attention: want a width divisible by the number of heads, got {dim} and {heads}; change one of them")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, context: Tensor, context_present: Tensor) -> Tensor:
        """(B, T, H), (B, S, H), (B, S) bool -> (B, T, H), zero in windows without a present context row."""
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T or S, H) -> (B, heads, T or S, H / heads)
            for linear, x in ((self.query, query), (self.key, context), (self.value, context))
        )
        any_present = context_present.any(dim=1, keepdim=True)  # (B, 1)
        # A softmax over nothing is NaN: such a window attends to all of its rows, and its result is dropped below.
        attend = (context_present | ~any_present)[:, None, None, :]  # (B, 1, 1, S)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, dropout_p=self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2)).masked_fill(~any_present.unsqueeze(-1), 0)


class AttentionLayer(nn.Module):
    """Post-norm transformer layer: attention and a ReLU feed-forward net, each with dropout, residual and LayerNorm."""

    def __init__(self, dim: int, *, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.attention = Attention(dim, heads=heads, dropout=dropout)
        self.feedforward = nn.Sequential(nn.Linear(dim, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, dim))
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor, context_present: Tensor) -> Tensor:
        """(B, T, H), (B, S, H), (B, S) bool -> (B, T, H)."""
        x = self.norm_attention(x + self.dropout(self.attention(x, context, context_present)))
        return self.norm_feedforward(x + self.dropout(self.feedforward(x)))


class AttentionStack(nn.ModuleList):
    """Attention layers, each reading what the one before it gave.

    Args:
        positions: "sinusoidal" adds sinusoids to query and context once, before the first layer; "every_layer" adds them to what each
            layer reads, so to queries, keys, values and the layer's residual; "none" leaves them out.
        second_residual: what came into a layer is added to what comes out of it, around the layer's own residuals and norms.

    "every_layer" and the second residual are of the public code of "Team RAS in 10th ABAW Competition". Its GELU, and its dropout on the
    residual in place of the branch, are left out.
    """

    def __init__(
        self,
        layers: int,
        dim: int,
        *,
        heads: int,
        feedforward: int,
        dropout: float,
        positions: Literal["sinusoidal", "none", "every_layer"],
        second_residual: bool,
    ):
        if positions not in POSITIONS:
            raise InputError(f"AttentionStack: want positions among {', '.join(POSITIONS)}, got {positions!r}")
        super().__init__(AttentionLayer(dim, heads=heads, feedforward=feedforward, dropout=dropout) for _ in range(layers))
        self.positions, self.second_residual = positions, second_residual

    def forward(self, x: Tensor, present: Tensor, context: Tensor | None = None) -> Tensor:
        """Query x (B, T, H) -> (B, T, H).

        Args:
            present: (B, T) bool, rows of the context that may be attended to.
            context: (B, T, H), the same in every layer; None for self-attention.
        """
        table = 0 if self.positions == "none" else sinusoids(x.shape[1], x.shape[2], like=x)  # (T, H)
        context = None if context is None else context + table
        x = x + table if self.positions == "sinusoidal" else x
        for layer in self:
            read = x + table if self.positions == "every_layer" else x
            answer = layer(read, read if context is None else context, present)
            x = x + answer if self.second_residual else answer
        return x
