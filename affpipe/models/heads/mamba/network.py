"""Mamba regression on one stream: a prediction for every row of a window, each from its own and earlier rows.

The block is Mamba (Gu and Dao, 2023, sec. 3, algorithm 2) with the parameter names, shapes and initialisation of `mamba_ssm.Mamba`, so that
checkpoints are interchangeable. On CUDA it uses the fused scan of `mamba_ssm` if that is installed, else a loop over time in torch. The
convolution is always torch's, because the fused one has no kernels wider than 4. The stack follows "Team RAS in 10th ABAW Competition",
sec. 3.2 and 4.2; the paper gives depth, widths, state, kernel and dropout. Ours, where it is silent: projection with LayerNorm and dropout,
pre-norm residual blocks, one norm after the last, the regression head of the transformer model, and presence masks. The public code has a
block of its own: `heads/mamba/ras2026.py`.
Shapes: B batch, T rows, D input width, H hidden width, E inner width (expand · H), N state size, R rank of the step size, O outputs.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from affpipe.core.tensors import check_stream, keep
from affpipe.models.branches.blocks import MODEL_STARTS, check_word, exact, projection, regression, start_xavier

try:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
except ImportError:  # compiles for CUDA only
    selective_scan_fn = None

STEP_MIN, STEP_MAX, STEP_FLOOR = 0.001, 0.1, 1e-4  # step sizes at initialisation, in rows


class _Scan(torch.autograd.Function):
    """Autograd function of `scan` with its own gradient: one recurrence forward and one backward.

    Each recurrence launches one kernel per step; all else runs for all steps at once. Time is the first axis, so that a step is contiguous
    in memory, and E the last, so that kernels run along it. It keeps what autograd would keep of the loop: decays and states, (T, B, N, E)
    each.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Map u and step (T, B, 1, E), a (N, E), b (T, B, N, 1), c (T, B, 1, N) to y (T, B, 1, E)."""
        with exact(u):
            decay = (step * a).exp_()
            states = b @ (step * u)  # input of each state, to which the decayed state before is added
            rows = states.unbind()
            for t, decay_t in enumerate(decay.unbind()[1:], 1):
                rows[t].addcmul_(decay_t, rows[t - 1])
            ctx.save_for_backward(u, step, a, b, c, decay, states)
            return c @ states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        u, step, a, b, c, decay, states = ctx.saved_tensors
        with exact(u):
            of_c = grad @ states.mT
            x = c.mT @ grad  # (T, B, N, E) gradient of the states, to which that through the next state is added
            rows = x.unbind()
            for t, decay_t in reversed(list(enumerate(decay.unbind()[1:], 1))):
                rows[t - 1].addcmul_(decay_t, rows[t])
            of_b, of_drive = x @ (step * u).mT, b.mT @ x
            of_u, of_step = of_drive * step, of_drive * u
            x = x[1:].mul_(states[:-1]).mul_(decay[1:])  # gradient of step · a; the first state has none before it
            of_step[1:] += (x * a).sum(dim=2, keepdim=True)
            return of_u, of_step, x.mul_(step[1:]).sum(dim=(0, 1)), of_b, of_c


def scan(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Compute the selective scan: s_t = exp(step_t a) s_{t-1} + step_t b_t u_t and y_t = s_t · c_t, from s = 0.

    Args:
        u, step: (B, E, T). a: (E, N). b, c: (B, N, T).

    Returns:
        y (B, E, T) in the dtype of a, in which it is computed.
    """
    u, step, b, c = (x.to(a.dtype).permute(2, 0, 1).contiguous() for x in (u, step, b, c))  # (T, B, E or N)
    y = _Scan.apply(u.unsqueeze(2), step.unsqueeze(2), a.T.contiguous(), b.unsqueeze(3), c.unsqueeze(2))
    return y.squeeze(2).permute(1, 2, 0)


class MambaBlock(nn.Module):
    """Selective state-space block; causal.

    An absent row is skipped: the convolution reads zeros there, and its step size is zero, so the state passes through unchanged.
    """

    def __init__(self, d_model: int, *, d_state: int, d_conv: int, expand: int):
        super().__init__()
        inner, rank = expand * d_model, math.ceil(d_model / 16)
        self.rank, self.d_state = rank, d_state
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(inner, 1))  # (E, N)
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self.reset_step()

    @torch.no_grad()
    def reset_step(self) -> None:
        """Initialise the projection of the step size, with a bias such that softplus(bias) is log-uniform from STEP_MIN to STEP_MAX."""
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        span = math.log(STEP_MAX / STEP_MIN)
        step = (torch.rand_like(self.dt_proj.bias) * span + math.log(STEP_MIN)).exp().clamp(min=STEP_FLOOR)
        self.dt_proj.bias.copy_(step + (-torch.expm1(-step)).log())  # inverse of softplus

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Map (B, T, H), (B, T) bool to (B, T, H); rows where present is False hold zeros."""
        length = x.shape[1]
        u, gate = self.in_proj(x).chunk(2, dim=-1)  # (B, T, E) each
        u = keep(u, present).transpose(1, 2)  # (B, E, T)
        u = F.silu(self.conv1d(u)[..., :length])  # cut the right padding: causal

        step, b, c = self.x_proj(u.transpose(1, 2)).split((self.rank, self.d_state, self.d_state), dim=-1)
        step = keep(F.softplus(self.dt_proj(step)), present).transpose(1, 2)  # (B, T, R) -> (B, E, T), at least 0
        y = self._scan(u, step, -self.A_log.exp(), b.transpose(1, 2), c.transpose(1, 2))  # (B, E, T)

        y = y.transpose(1, 2) * F.silu(gate)  # (B, T, E)
        return keep(self.out_proj(y), present)

    def _scan(self, u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Return scan and skip connection, (B, E, T)."""
        if u.is_cuda and selective_scan_fn is not None:
            # float32 throughout, also under autocast: half precision is too coarse for a long product of decays.
            return selective_scan_fn(*(t.float().contiguous() for t in (u, step, a, b, c)), self.D.float())
        return scan(u, step, a, b, c) + u * self.D.unsqueeze(-1)


class MambaHead(nn.Module):
    """Residual stack of Mamba blocks with a regression head of its own width.

    Args:
        start: "torch" leaves each part's own initialisation. "xavier" is `start_xavier` (public code), except for the projection of the
            step size, whose initialisation is part of Mamba.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int,
        layers: int,
        state: int,
        kernel: int,
        expand: int = 2,
        head_hidden: int = 512,
        dropout: float,
        outputs: int = 2,
        start: Literal["torch", "xavier"] = "torch",
    ):
        super().__init__()
        check_word("MambaHead", "start", start, MODEL_STARTS)
        self.dim = dim
        self.project = projection(dim, hidden, dropout=dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))
        self.blocks = nn.ModuleList(MambaBlock(hidden, d_state=state, d_conv=kernel, expand=expand) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden)
        self.head = regression(hidden, head_hidden, outputs, dropout=dropout)
        if start == "xavier":
            start_xavier(self)
            for block in self.blocks:
                block.reset_step()

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every row.

        Args:
            x: (B, T, D); values in absent rows change nothing.
            present: (B, T) bool.

        Returns:
            prediction: (B, T, O), unbounded, zero in absent rows.
            embedding: (B, T, H), after the last norm, zero in absent rows.
        """
        check_stream("MambaHead", x, present, self.dim)
        x = self.project(keep(x, present))  # (B, T, D) -> (B, T, H)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + self.dropout(block(norm(x), present))
        embedding = keep(self.norm(x), present)
        return keep(self.head(embedding), present), embedding
