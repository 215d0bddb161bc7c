"""Transformer regression on one stream: a prediction for every row of a window.

After "Team RAS in 10th ABAW Competition", sec. 3.1 and 4.2 (5 layers, 16 heads): projection, transformer layers, regression head. The
paper names the layers by reference to "Attention Is All You Need" only, so they are that paper's: post-norm, ReLU, sinusoidal
positions added once before the first layer. It does not give the feed-forward width. Ours: presence masks. `positions="every_layer"`
and `second_residual` are variants of the public code, see `AttentionStack`; its embedding is the hidden layer of the regression head,
ours the output of the last transformer layer.
Shapes: B batch, T rows, D input width, H hidden width, O outputs.
"""

from typing import Literal

from torch import Tensor, nn

from affpipe.heads.blocks import AttentionStack, check_stream, keep, projection, regression


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
        second_residual: bool = False,
    ):
        super().__init__()
        self.dim = dim
        self.project = projection(dim, hidden, dropout=dropout)
        sizes = {"heads": heads, "feedforward": feedforward, "dropout": dropout}
        self.layers = AttentionStack(layers, hidden, **sizes, positions=positions, second_residual=second_residual)
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
        embedding = keep(self.layers(self.project(keep(x, present)), present), present)  # (B, T, D) -> (B, T, H)
        return keep(self.head(embedding), present), embedding
