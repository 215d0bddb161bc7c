"""Cross-attention of a chosen query to a chosen context: one stack of layers, no experts, no gate.

After the fusion model of Team RAS's public code, which its paper calls DCMMOE and describes otherwise (`fusion/dcmmoe.py`): project each
modality to a shared width (Linear, LayerNorm, Dropout); query and context are each a modality or the mean of the projected modalities;
each layer updates the query; a regression head of two layers, and its first one as the embedding. Keys and values are the context's
projection in every layer, but where the query's modality has a part in the context, it does so as updated so far. A query that is the
mean updates nothing but itself. What the layers are is up to the keywords of `AttentionStack`; positions come with every layer or not at
all, since in a context that holds the updated query there is no "once".

Presence is ours, the public code fills whatever is absent. Per step:
- with a modality as the query there is an answer where that modality is present, with the mean where any modality is; else embedding and
  prediction are zero;
- the mean is that of the present modalities;
- rows where the context is absent are not attended to; where it is absent in the whole window attention adds zero and the residual keeps
  the query.
An absent row's values change nothing.
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

MEAN = "mean"  # of the present modalities, in place of the name of one


class CrossAttention(nn.Module):
    """Fuse aligned streams; the order of `dims` (name -> D_m) orders the M axis.

    Args:
        query, context: a name of `dims`, or "mean". Each modality has a part in one of them.
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
            streams: modality -> (B, T, D_m); what stands in absent rows changes nothing.
            present: (B, T, M) bool, True where the modality was observed.

        Returns:
            prediction (B, T, O), unbounded; embedding (B, T, H); no gate. Both zero where the query is absent.
        """
        check_streams("CrossAttention", streams, present, self.dims)
        here = dict(zip(self.dims, present.unbind(dim=-1), strict=True))  # modality -> (B, T)
        states = {m: keep(self.project[m](keep(streams[m], here[m])), here[m]) for m in self.dims}  # modality -> (B, T, H)
        count = present.sum(dim=-1, keepdim=True).clamp(min=1)  # (B, T, 1)

        def select(name: str, states: Mapping[str, Tensor]) -> Tensor:
            """(B, T, H) of a modality or of the mean; what is absent is zero."""
            return torch.stack(tuple(states.values())).sum(dim=0) / count if name == MEAN else states[name]

        def context(query: Tensor) -> Tensor:
            """The context (B, T, H) once the query has come to this."""
            own = {} if self.query == MEAN else {self.query: keep(query, here[self.query])}
            return select(self.context, states | own)

        here[MEAN] = present.any(dim=-1)
        x = keep(self.stack(select(self.query, states), here[self.context], context), here[self.query])
        prediction, hidden = regress(self.head, x)
        return Fused(keep(prediction, here[self.query]), keep(hidden, here[self.query]))
