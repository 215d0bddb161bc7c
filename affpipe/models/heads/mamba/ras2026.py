"""Regression on one stream with the state-space block of Team RAS's public code, which is not Mamba's.

After "Team RAS in 10th ABAW Competition" and its public code, where the two differ from `heads/mamba/network.py`. It has no expansion, a
rank of the step size that is rounded down, no norm before the block and none after the last one. Instead the block's own result is added to
its input times a learned vector, and a norm follows. Its recurrence, for each of H channels and N states, is

    h_t = (exp(-A) · s_t) h_{t-1} + B_t s_t u_t,    y_t = Σ_N h_t C_t,    s_t = softplus(D + step(u_t))

where Mamba has exp(-A · s_t), and no D within the softplus. Mamba's factor is below 1 whatever the step. This one is s_t / e^A, and s_t has
no upper bound: where it exceeds e^A, the state grows from row to row. A starts at 1 … N and D at 1, so at first s_t is near 1.3 and the
largest factor near 0.5; nothing in training keeps them there. The same D weighs the block's input in the residual. Mamba's D, which carries
u_t past the state, does not exist here.

Ours: presence masks. An absent row is skipped: the convolution reads zeros there, and the state passes through unchanged. (The public code
has absent rows at the end of a window only, where nothing follows.)
Shapes: B batch, T rows, D input width, H hidden width, N state size, R rank of the step size, O outputs.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affpipe.core.tensors import check_stream, keep
from affpipe.models.branches.blocks import MODEL_STARTS, check_word, exact, projection, regression, start_xavier


class Block(nn.Module):
    """The public code's block with its residual and norm; causal."""

    def __init__(self, dim: int, *, state: int, kernel: int, dropout: float):
        super().__init__()
        rank = max(1, dim // 16)
        self.in_proj = nn.Linear(dim, 2 * dim, bias=False)
        self.conv = nn.Conv1d(dim, dim, kernel, groups=dim, padding=kernel - 1)
        self.step = nn.Sequential(nn.Linear(dim, rank, bias=False), nn.Linear(rank, dim, bias=False))
        self.drive, self.read = nn.Linear(dim, state, bias=False), nn.Linear(dim, state, bias=False)  # B and C
        self.A = nn.Parameter(torch.arange(1.0, state + 1).repeat(dim, 1))  # (H, N)
        self.D = nn.Parameter(torch.ones(dim))
        self.out_proj = nn.Linear(dim, dim, bias=False)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Map (B, T, H), (B, T) bool to (B, T, H); rows where present is False hold zeros."""
        x = keep(x, present)
        u, gate = self.in_proj(x).chunk(2, dim=-1)  # (B, T, H) each; no bias, so u is zero in absent rows
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)  # cut the right padding: causal
        y = self._recur(u, F.softplus(self.D + self.step(u)), self.drive(u), self.read(u), present)
        y = self.out_proj(y * F.silu(gate))
        return keep(self.norm(self.D * x + self.dropout(y)), present)

    def _recur(self, u: Tensor, step: Tensor, b: Tensor, c: Tensor, present: Tensor) -> Tensor:
        """Run the recurrence from h = 0: u and step (B, T, H), b and c (B, T, N) -> (B, T, H), in the dtype of A."""
        with exact(u):
            u, step, b, c = (t.to(self.A.dtype) for t in (u, step, b, c))
            here = present[..., None, None]  # (B, T, 1, 1)
            factor = torch.where(here, step.unsqueeze(-1) * (-self.A).exp(), 1.0)  # (B, T, H, N)
            added = keep((step * u).unsqueeze(-1) * b.unsqueeze(2), present)  # (B, T, H, N)
            state, out = torch.zeros_like(added[:, 0]), []
            for factor_t, added_t, c_t in zip(factor.unbind(1), added.unbind(1), c.unbind(1), strict=True):
                state = factor_t * state + added_t  # (B, H, N)
                out.append((state @ c_t.unsqueeze(-1)).squeeze(-1))
            return torch.stack(out, dim=1)


class Ras2026Head(nn.Module):
    """Stack of the public code's blocks with a regression head of its own width."""

    def __init__(
        self,
        dim: int,
        *,
        hidden: int,
        layers: int,
        state: int,
        kernel: int,
        head_hidden: int = 512,
        dropout: float,
        outputs: int = 2,
        start: Literal["torch", "xavier"] = "torch",
    ):
        super().__init__()
        check_word("Ras2026Head", "start", start, MODEL_STARTS)
        self.dim = dim
        self.project = projection(dim, hidden, dropout=dropout)
        self.blocks = nn.ModuleList(Block(hidden, state=state, kernel=kernel, dropout=dropout) for _ in range(layers))
        self.head = regression(hidden, head_hidden, outputs, dropout=dropout)
        if start == "xavier":
            start_xavier(self)

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every row.

        Args:
            x: (B, T, D); values in absent rows change nothing.
            present: (B, T) bool.

        Returns:
            prediction: (B, T, O), unbounded, zero in absent rows.
            embedding: (B, T, H), the output of the last block, zero in absent rows.
        """
        check_stream("Ras2026Head", x, present, self.dim)
        x = self.project(keep(x, present))  # (B, T, D) -> (B, T, H)
        for block in self.blocks:
            x = block(x, present)
        return keep(self.head(x), present), x
