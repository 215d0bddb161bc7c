"""Parts of several temporal and fusion models.

The attention layer is the post-norm one of "Attention Is All You Need" (Vaswani et al., 2017, sec. 3 and 5.4). It has a query stream and a
context stream, so it serves as a self-attention layer (context = query) and as a cross-attention layer. Where the public code of "Team RAS
in 10th ABAW Competition" differs, a keyword selects it: see `Attention`, `AttentionLayer` and `AttentionStack`.

Presence: `present` is True where a row was observed. Rows where it is False are never attended to. A window whose context holds no present
row gets a zero attention output instead of a NaN, and the residual passes the query on.
Shapes: B batch, T rows of the query, S rows of the context, D input width, H hidden width.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affpipe.core.errors import InputError

POSITIONS = ("sinusoidal", "none", "every_layer")
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}
STARTS = ("xavier", "multihead")  # initialisations of attention
MODEL_STARTS = ("torch", "xavier")  # initialisations of a whole model
DROPPED = ("branch", "residual")


def check_word(who: str, name: str, word: str, known: Iterable[str]) -> None:
    """Raise InputError unless a keyword of a model is one of its known words."""
    if word not in known:
        raise InputError(f"{who}: want {name} among {', '.join(known)}, got {word!r}; take one of them")


def projection(dim: int, hidden: int, *, dropout: float) -> nn.Sequential:
    """Return Linear, LayerNorm, Dropout: (..., D) -> (..., H)."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.LayerNorm(hidden), nn.Dropout(dropout))


def regression(dim: int, hidden: int, outputs: int, *, dropout: float) -> nn.Sequential:
    """Return Linear, LayerNorm, GELU, Dropout, Linear: (..., D) -> (..., outputs), unbounded."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))


def regress(head: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the prediction (..., outputs) of a regression head, and the input of its last Linear (..., H)."""
    hidden = head[:-1](x)
    return head[-1](hidden), hidden


@torch.no_grad()
def start_xavier(model: nn.Module) -> None:
    """Initialise every Linear of a model Xavier-uniform with zero bias and every LayerNorm with 1 and 0; all else stays as it is."""
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        if isinstance(part, nn.Linear | nn.LayerNorm) and part.bias is not None:
            nn.init.zeros_(part.bias)


def exact(x: Tensor) -> torch.autocast:
    """Return a context without autocast: half precision is too coarse for a long product of decays."""
    return torch.autocast(x.device.type, enabled=False)


def sinusoids(length: int, dim: int, *, like: Tensor) -> Tensor:
    """Return sinusoids of positions 0 … length-1 as (length, dim) in [-1, 1], on the device and in the dtype of `like`.

    Even columns are sines, odd ones cosines; wavelengths are 2π … 10000·2π rows.
    """
    step = torch.arange(length, device=like.device, dtype=torch.float32).unsqueeze(1)
    even = torch.arange(0, dim, 2, device=like.device, dtype=torch.float32)
    angle = step * 10000.0 ** (-even / dim)  # (length, ceil(dim / 2))
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :dim].to(like.dtype)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention of a query stream to the present rows of a context stream.

    Args:
        start: "xavier" draws each of the four maps Xavier-uniform. "multihead" draws them as `nn.MultiheadAttention` does, which the public
            code uses: there query, key and value are one matrix of 3 H by H, so their bounds are narrower by the root of 2, and the output
            starts as any Linear. Biases start at zero in both.
    """

    def __init__(self, dim: int, *, heads: int, dropout: float, start: Literal["xavier", "multihead"] = "xavier"):
        super().__init__()
        if dim % heads:
            raise InputError(f"Attention: want a width divisible by the number of heads, got {dim} and {heads}; change one of them")
        check_word("Attention", "start", start, STARTS)
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        for linear in (self.query, self.key, self.value, self.out):
            if start == "xavier" or linear is not self.out:
                nn.init.xavier_uniform_(linear.weight, gain=1.0 if start == "xavier" else 0.5**0.5)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, context: Tensor, context_present: Tensor, value: Tensor | None = None) -> Tensor:
        """Map (B, T, H), (B, S, H), (B, S) bool to (B, T, H), zero in windows without a present context row.

        Args:
            value: (B, S, H), the values, if they are not the context as the keys read it.
        """
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T or S, H) -> (B, heads, T or S, H / heads)
            for linear, x in ((self.query, query), (self.key, context), (self.value, context if value is None else value))
        )
        any_present = context_present.any(dim=1, keepdim=True)  # (B, 1)
        # A softmax over nothing is NaN: such a window attends to all of its rows, and its result is dropped below.
        attend = (context_present | ~any_present)[:, None, None, :]  # (B, 1, 1, S)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, dropout_p=self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2)).masked_fill(~any_present.unsqueeze(-1), 0)


class AttentionLayer(nn.Module):
    """Post-norm transformer layer: attention and a feed-forward net, each with dropout, residual and LayerNorm.

    Args:
        activation: "relu" or "gelu", of the feed-forward net.
        dropout_on: "branch" drops the outputs of attention and of the feed-forward net, as in the paper of the transformer. "residual"
            drops what these outputs are added to and leaves the branch whole (public code).
        start: initialisation of the attention, see `Attention`.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        feedforward: int,
        dropout: float,
        activation: Literal["relu", "gelu"] = "relu",
        dropout_on: Literal["branch", "residual"] = "branch",
        start: Literal["xavier", "multihead"] = "xavier",
    ):
        super().__init__()
        check_word("AttentionLayer", "activation", activation, ACTIVATIONS)
        check_word("AttentionLayer", "dropout_on", dropout_on, DROPPED)
        self.attention = Attention(dim, heads=heads, dropout=dropout, start=start)
        inner = ACTIVATIONS[activation]()
        self.feedforward = nn.Sequential(nn.Linear(dim, feedforward), inner, nn.Dropout(dropout), nn.Linear(feedforward, dim))
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout, self.dropout_on = nn.Dropout(dropout), dropout_on

    def forward(self, x: Tensor, context: Tensor, context_present: Tensor, value: Tensor | None = None) -> Tensor:
        """Map (B, T, H), (B, S, H), (B, S) bool to (B, T, H); value (B, S, H) if it is not the context."""
        x = self.norm_attention(self._add(x, self.attention(x, context, context_present, value)))
        return self.norm_feedforward(self._add(x, self.feedforward(x)))

    def _add(self, residual: Tensor, branch: Tensor) -> Tensor:
        """Add both (B, T, H) after dropout on one of them."""
        return residual + self.dropout(branch) if self.dropout_on == "branch" else self.dropout(residual) + branch


class AttentionStack(nn.ModuleList):
    """Attention layers, each of which reads the output of the one before.

    Args:
        positions: "sinusoidal" adds sinusoids to query and context once, before the first layer. "every_layer" adds them to the inputs of
            each layer, so to queries, keys, values and the layer's residual. "none" adds none.
        position_dropout: dropout of "every_layer": query, key and value are each dropped on their own after positions are added.
        second_residual: the input of a layer is added to its output, around the layer's own residuals and norms.
        layer: the other keywords of `AttentionLayer`.

    "every_layer", its dropout and the second residual are those of the public code of "Team RAS in 10th ABAW Competition".
    """

    def __init__(
        self,
        layers: int,
        dim: int,
        *,
        positions: Literal["sinusoidal", "none", "every_layer"] = "sinusoidal",
        second_residual: bool = False,
        position_dropout: float = 0.0,
        **layer: Any,
    ):
        check_word("AttentionStack", "positions", positions, POSITIONS)
        super().__init__(AttentionLayer(dim, **layer) for _ in range(layers))
        self.positions, self.second_residual, self.position_dropout = positions, second_residual, position_dropout

    def forward(self, x: Tensor, present: Tensor, context: Tensor | Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Map the query x (B, T, H) to (B, T, H).

        Args:
            present: (B, T) bool, rows of the context that may be attended to.
            context: (B, T, H), the same in every layer; or a function that makes it from the query as it enters a layer, which gets no
                positions unless every layer adds them; None for self-attention.
        """
        table = sinusoids(x.shape[1], x.shape[2], like=x)  # (T, H)
        if self.positions == "sinusoidal":
            x, context = x + table, context + table if isinstance(context, Tensor) else context
        for layer in self:
            other = x if context is None else context if isinstance(context, Tensor) else context(x)
            query, key, value = self._placed(x, other, table)
            answer = layer(query, key, present, value)
            x = x + answer if self.second_residual else answer
        return x

    def _placed(self, query: Tensor, context: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value (B, T, H) as a layer reads them, with positions (T, H) if every layer adds them."""
        if self.positions != "every_layer":
            return query, context, context
        placed = query + table
        other = placed if context is query else context + table
        query, key, value = (F.dropout(x, self.position_dropout, self.training) for x in (placed, other, other))
        return query, key, value
