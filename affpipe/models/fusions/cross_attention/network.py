"""Cross-attention of a chosen query to a chosen context: one stack of layers, no experts, no gate.

After the fusion model of Team RAS's public code, which its paper calls DCMMOE and describes otherwise (`fusions/dcmmoe/network.py`). Each
modality is projected to a shared width (Linear, LayerNorm, Dropout). Query and context are each a modality or the mean of the projected
modalities. Each layer updates the query. A regression head of two layers predicts, and its first layer is the embedding. Keys and values
are the context's projection in every layer. If the query's modality has a part in the context, it takes part as updated so far. A query
that is the mean updates nothing but itself. The keywords of `AttentionStack` choose the layers. Positions come with every layer or not at
all: in a context that holds the updated query there is no "once".

Presence is ours; the public code fills whatever is absent. Per step:
- If the query is a modality, there is an answer where that modality is present; if it is the mean, where any modality is. Elsewhere
  embedding and prediction are zero.
- The mean is that of the present modalities.
- Rows where the context is absent are not attended to. If it is absent in the whole window, attention adds zero and the residual keeps the
  query.
The values of an absent row change nothing.
Shapes: B batch, T steps, M modalities, D_m width of modality m, H hidden width, O outputs.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from affpipe.core.errors import InputError
from affpipe.core.tensors import keep
from affpipe.models.branches.blocks import AttentionStack, check_word, projection, regress, regression
from affpipe.models.fusions.interface import Fused, check_streams

MEAN = "mean"  # mean of the present modalities, instead of the name of one


class CrossAttention(nn.Module):
    """Fusion of aligned streams by cross-attention; the order of `dims` (name -> D_m) orders the M axis.

    Args:
        query, context: a name of `dims`, or "mean". Each modality must have a part in one of them.
        stack: the other keywords of `AttentionStack`.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        query: str,
        context: str,
        hidden: int,
        layers: int,
        dropout: float,
        outputs: int = 2,
        positions: Literal["every_layer", "none"] = "every_layer",
        **stack: Any,
    ):
        super().__init__()
        for name, word in (("query", query), ("context", context)):
            check_word("CrossAttention", name, word, (*dims, MEAN))
        check_word("CrossAttention", "positions", positions, ("every_layer", "none"))
        if MEAN not in (query, context) and set(dims) != {query, context}:
            raise InputError(f"CrossAttention: want a part for each of {', '.join(dims)}, got {query} and {context}; leave the others out")
        self.dims, self.query, self.context = dict(dims), query, context
        self.project = nn.ModuleDict({m: projection(d, hidden, dropout=dropout) for m, d in dims.items()})
        self.stack = AttentionStack(layers, hidden, dropout=dropout, positions=positions, **stack)
        self.head = regression(hidden, hidden, outputs, dropout=dropout)

    def forward(self, streams: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse and predict every step.

        Args:
            streams: modality -> (B, T, D_m); values in absent rows change nothing.
            present: (B, T, M) bool, True where the modality was observed.

        Returns:
            prediction (B, T, O), unbounded; embedding (B, T, H); no gate. Both are zero where the query is absent.
        """
        check_streams("CrossAttention", streams, present, self.dims)
        here = dict(zip(self.dims, present.unbind(dim=-1), strict=True))  # modality -> (B, T)
        states = {m: keep(self.project[m](keep(streams[m], here[m])), here[m]) for m in self.dims}  # modality -> (B, T, H)
        count = present.sum(dim=-1, keepdim=True).clamp(min=1)  # (B, T, 1)

        def select(name: str, states: Mapping[str, Tensor]) -> Tensor:
            """Return (B, T, H) of a modality or of the mean; absent rows are zero."""
            return torch.stack(tuple(states.values())).sum(dim=0) / count if name == MEAN else states[name]

        def context(query: Tensor) -> Tensor:
            """Return the context (B, T, H) for the query as updated so far."""
            own = {} if self.query == MEAN else {self.query: keep(query, here[self.query])}
            return select(self.context, states | own)

        here[MEAN] = present.any(dim=-1)
        x = keep(self.stack(select(self.query, states), here[self.context], context), here[self.query])
        prediction, hidden = regress(self.head, x)
        return Fused(keep(prediction, here[self.query]), keep(hidden, here[self.query]))
