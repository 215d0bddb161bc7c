"""Transformer regression on one stream: a prediction for every row of a window.

After "Team RAS in 10th ABAW Competition", sec. 3.1 and 4.2 (5 layers, 16 heads): projection, transformer layers, regression head. The
paper names the layers by reference to "Attention Is All You Need" only, so they are that paper's: post-norm, ReLU, sinusoidal
positions added once before the first layer. It does not give the feed-forward width. Ours: presence masks. `positions="every_layer"`
adds the positions to what the queries, keys and values of each layer read, as the public code of the method does; that code's second
residual round is left out.
Shapes: B batch, T rows, D input width, H hidden width, O outputs.
"""

from typing import Literal

from torch import Tensor, nn

from affpipe.errors import InputError
from affpipe.heads.blocks import AttentionLayer, check_stream, keep, projection, regression, sinusoids

POSITIONS = ("sinusoidal", "none", "every_layer")


class TransformerHead(nn.Module):
    """Self-attention over the present rows of a window; rows count as positions whether present or not."""

    def __init__(
        self,
        dim: int,
        *,
        hidden: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        outputs: int = 2,
        positions: Literal["sinusoidal", "none", "every_layer"] = "sinusoidal",
    ):
        super().__init__()
        if positions not in POSITIONS:
            raise InputError(f"TransformerHead: want positions among {', '.join(POSITIONS)}, got {positions!r}")
        self.dim, self.hidden, self.positions = dim, hidden, positions
        self.project = projection(dim, hidden, dropout=dropout)
        self.layers = nn.ModuleList(AttentionLayer(hidden, heads=heads, feedforward=feedforward, dropout=dropout) for _ in range(layers))
        self.head = regression(hidden, hidden, outputs, dropout=dropout)

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every row.

        Args:
            x: (B, T, D); what stands in absent rows changes nothing.
            present: (B, T) bool.

        Returns:
            prediction: (B, T, O), unbounded, zero in absent rows.
            embedding: (B, T, H), output of the last layer, zero in absent rows.
        """
        check_stream("TransformerHead", x, present, self.dim)
        x = self.project(keep(x, present))  # (B, T, D) -> (B, T, H)
        table = None if self.positions == "none" else sinusoids(x.shape[1], self.hidden, like=x)  # (T, H)
        if self.positions == "sinusoidal":
            x = x + table
        for layer in self.layers:
            x = layer(x, x, present, table if self.positions == "every_layer" else None)
        embedding = keep(x, present)
        return keep(self.head(embedding), present), embedding
