"""An experiment: the experts of a DCMMOE in one batch, each layer of all of them a single product.

Same numbers as `fusions.dcmmoe`, from which the weights are taken; for positions "sinusoidal" without second residual.
Whether it
pays is what the benchmark asks, so it is not part of the package.
Shapes: E experts, B batch, T steps, H hidden width.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affpipe.core.tensors import keep
from affpipe.models.branches.blocks import sinusoids
from affpipe.models.fusions.dcmmoe.network import DCMMOE
from affpipe.models.fusions.interface import Fused


class Batched(nn.Module):
    """A DCMMOE with the weights of all its experts stacked."""

    def __init__(self, model: DCMMOE):
        super().__init__()
        self.model, self.dropout = model, model.stacks[0][0].dropout.p
        self.heads, self.depth = model.stacks[0][0].attention.heads, len(model.stacks[0])
        stacks = [dict(stack.named_parameters()) for stack in model.stacks]
        stacked = {name: torch.stack([stack[name].detach() for stack in stacks]) for name in stacks[0]}
        self.weights = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(value) for name, value in stacked.items()})
        self.queries, self.contexts = ([model.modalities.index(pair[i]) for pair in model.experts] for i in range(2))

    def forward(self, streams: Mapping[str, Tensor], present: Tensor) -> Fused:
        """As DCMMOE."""
        model = self.model
        here = dict(zip(model.modalities, present.unbind(dim=-1), strict=True))
        states = {m: keep(model.project[m](keep(streams[m], here[m])), here[m]) for m in model.modalities}
        gate = model._weigh(states, present)  # (B, T, E)

        stacked = torch.stack(tuple(states.values()))  # (M, B, T, H)
        table = sinusoids(*stacked.shape[-2:], like=stacked)
        x, context = stacked[self.queries] + table, stacked[self.contexts] + table  # (E, B, T, H)
        read = present.permute(2, 0, 1)[self.contexts]  # (E, B, T)
        for i in range(self.depth):
            x = self._layer(i, x, context, read)
        embedding = (gate.permute(2, 0, 1).unsqueeze(-1) * x).sum(dim=0)  # (B, T, H)
        return Fused(keep(model.head(embedding), present.any(dim=-1)), embedding, gate)

    def _layer(self, i: int, x: Tensor, context: Tensor, read: Tensor) -> Tensor:
        q, k, v = (
            self._linear(f"{i}/attention/{name}", part).unflatten(-1, (self.heads, -1)).transpose(2, 3).flatten(0, 1)
            for name, part in (("query", x), ("key", context), ("value", context))
        )  # (E B, heads, T, H / heads)
        any_read = read.any(dim=-1, keepdim=True)  # (E, B, 1)
        attend = (read | ~any_read).flatten(0, 1)[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, dropout_p=self.dropout if self.training else 0.0)
        mixed = mixed.transpose(1, 2).flatten(2).unflatten(0, x.shape[:2])  # (E, B, T, H)
        answer = self._linear(f"{i}/attention/out", mixed).masked_fill(~any_read.unsqueeze(-1), 0)
        x = self._norm(f"{i}/norm_attention", x + self._drop(answer))
        wide = self._drop(self._linear(f"{i}/feedforward/0", x).relu())
        return self._norm(f"{i}/norm_feedforward", x + self._drop(self._linear(f"{i}/feedforward/3", wide)))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}/weight"], self.weights[f"{name}/bias"]
        return torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.transpose(1, 2)).unflatten(1, x.shape[1:3])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = (self.weights[f"{name}/{part}"][:, None, None] for part in ("weight", "bias"))
        return F.layer_norm(x, x.shape[-1:]) * weight + bias

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
