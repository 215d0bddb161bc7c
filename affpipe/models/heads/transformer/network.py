"""Transformer regression on one stream: a prediction for every row of a window.

After "Team RAS in 10th ABAW Competition", sec. 3.1 and 4.2 (5 layers, 16 heads): projection, transformer layers, regression head. The paper
names the layers by reference to "Attention Is All You Need" only, so they are that paper's: post-norm, ReLU, sinusoidal positions added
once before the first layer. It does not give the feed-forward width. Ours: presence masks. Where the public code differs, a keyword selects
it: those of `AttentionStack`, and the embedding. Its embedding is the regression head without its last Linear; ours is the output of the
last transformer layer. Both are H wide.
Shapes: B batch, T rows, D input width, H hidden width, O outputs.
"""

from typing import Any, Literal

from torch import Tensor, nn

from affpipe.core.tensors import check_stream, keep
from affpipe.models.branches.blocks import AttentionStack, check_word, projection, regress, regression

EMBEDDINGS = ("layer", "head")


class TransformerHead(nn.Module):
    """Head of self-attention over the present rows of a window; rows count as positions whether present or not.

    Args:
        embedding: "layer" is the output of the last layer, "head" the input of the last Linear of the regression head.
        stack: the other keywords of `AttentionStack`.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int,
        layers: int,
        dropout: float,
        outputs: int = 2,
        embedding: Literal["layer", "head"] = "layer",
        **stack: Any,
    ):
        super().__init__()
        check_word("TransformerHead", "embedding", embedding, EMBEDDINGS)
        self.dim, self.embedding = dim, embedding
        self.project = projection(dim, hidden, dropout=dropout)
        self.layers = AttentionStack(layers, hidden, dropout=dropout, **stack)
        self.head = regression(hidden, hidden, outputs, dropout=dropout)

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every row.

        Args:
            x: (B, T, D); values in absent rows change nothing.
            present: (B, T) bool.

        Returns:
            prediction: (B, T, O), unbounded, zero in absent rows.
            embedding: (B, T, H), of the last layer or of the head, zero in absent rows.
        """
        check_stream("TransformerHead", x, present, self.dim)
        x = keep(self.layers(self.project(keep(x, present)), present), present)  # (B, T, D) -> (B, T, H)
        prediction, hidden = regress(self.head, x)
        return keep(prediction, present), x if self.embedding == "layer" else keep(hidden, present)
