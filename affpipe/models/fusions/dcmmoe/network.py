"""Directed cross-modal mixture of experts: each ordered pair of modalities is an expert; a gate weighs the experts at every step.

After "Team RAS in 10th ABAW Competition", sec. 3.4 and 4.2 (5 layers, 16 heads). Each modality is projected to a shared width (Linear,
LayerNorm, Dropout). Expert (q, k) is a stack of cross-attention layers. Its query stream starts as modality q and is updated from layer to
layer; keys and values are modality k's projection in every layer. The gate is the softmax of a linear map of the mean projection. The
weighted sum of the experts enters a linear head.

Where the paper is silent: layers are post-norm with a ReLU feed-forward net. Sinusoids are added to the inputs of the experts (queries and
keys alike), since without positions no expert can tell which row of k belongs to its own step. The gate reads the bare projections, as in
the formula. Where the layers of the public code differ, a keyword selects it, see `AttentionStack`. That code has one stack with a chosen
query and context, no experts and no gate: `fusions/cross_attention/network.py`. Presence, per step l:
- Expert (q, k) counts at l only if q is present at l; the softmax runs over the experts that count.
- Rows where k is absent are not attended to. If k is absent in the whole window, attention adds zero and the residual keeps q.
- The gate reads the mean over present modalities.
- If nothing is present, gate, embedding and prediction are zero.
If only one modality is present everywhere, its M-1 experts share the weight, so a prediction remains. The values of an absent row change
nothing.
Shapes: B batch, T steps, M modalities, D_m width of modality m, H hidden width, E = M(M-1) experts, O outputs.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from affpipe.core.errors import InputError
from affpipe.core.tensors import keep
from affpipe.models.branches.blocks import AttentionStack, projection
from affpipe.models.fusions.interface import Fused, check_streams


class DCMMOE(nn.Module):
    """Fusion of aligned streams by a mixture of experts; the order of `dims` (name -> D_m) orders every M axis.

    Args:
        stack: the other keywords of `AttentionStack`, for each expert.

    Attributes:
        modalities: (M,) names.
        experts: (E,) pairs (query, context), in the order of the gate. gate_names: (E,) the same as "query<-context".
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        hidden: int,
        layers: int,
        dropout: float,
        outputs: int = 2,
        **stack: Any,
    ):
        super().__init__()
        if len(dims) < 2:
            raise InputError(f"DCMMOE: want at least 2 modalities, got {list(dims)}; use a single-stream model")
        self.dims, self.modalities = dict(dims), tuple(dims)
        self.experts = tuple((q, k) for q in self.modalities for k in self.modalities if q != k)
        self.gate_names = tuple(f"{q}<-{k}" for q, k in self.experts)
        self.project = nn.ModuleDict({m: projection(d, hidden, dropout=dropout) for m, d in dims.items()})
        self.stacks = nn.ModuleList(AttentionStack(layers, hidden, dropout=dropout, **stack) for _ in self.experts)
        self.gate = nn.Linear(hidden, len(self.experts))
        self.head = nn.Linear(hidden, outputs)

    def forward(self, streams: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse and predict every step.

        Args:
            streams: modality -> (B, T, D_m); values in absent rows change nothing.
            present: (B, T, M) bool, True where the modality was observed.

        Returns:
            prediction (B, T, O), unbounded; embedding (B, T, H); gate (B, T, E), which sums to 1. All are zero where nothing is present.
        """
        check_streams("DCMMOE", streams, present, self.dims)
        here = dict(zip(self.modalities, present.unbind(dim=-1), strict=True))  # modality -> (B, T)
        states = {m: keep(self.project[m](keep(streams[m], here[m])), here[m]) for m in self.modalities}  # modality -> (B, T, H)

        gate = self._weigh(states, present)  # (B, T, E)
        answers = [stack(states[q], here[k], states[k]) for (q, k), stack in zip(self.experts, self.stacks, strict=True)]  # (B, T, H) each
        embedding = (gate.unsqueeze(-1) * torch.stack(answers, dim=2)).sum(dim=2)  # (B, T, E, H) -> (B, T, H)
        return Fused(keep(self.head(embedding), present.any(dim=-1)), embedding, gate)

    def _weigh(self, states: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Return the gate (B, T, E) from the mean of the present projections; absent ones are zero already."""
        count = present.sum(dim=-1, keepdim=True).clamp(min=1)  # (B, T, 1)
        scores = self.gate(torch.stack(tuple(states.values())).sum(dim=0) / count)  # (B, T, H) -> (B, T, E)
        counts = present[..., [self.modalities.index(q) for q, _ in self.experts]]  # (B, T, E)
        # finfo.min, not -inf: softmax over a step with nothing present would be NaN.
        return scores.masked_fill(~counts, torch.finfo(scores.dtype).min).softmax(dim=-1) * counts
