"""The selective scan of a Mamba block, forward and backward, at the sizes of recipes/ras.yaml: state 8, expansion 2, float32.

reference: the loop that people write where there is no fused kernel: an index a step, an einsum for the output, torch's gradient through
all of it. ours: `mamba.scan`. Windows of 16 segments are the paper's; 400 rows are what a stream of frames would have.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from affpipe.models.heads.mamba.network import scan
from benchmarks.speed.arms import DisagreeError, Row, ratio, take_turns

STATE = 8
SIZES = (  # what, windows, inner width, rows, repeats in one run, goal
    ("4 layers of 128, L = 16", 8, 256, 16, 20, 2.0),
    ("12 layers of 256, L = 16", 8, 512, 16, 10, 2.0),
    ("width 128, L = 400", 2, 256, 400, 1, 35.0),
)
TOLERANCE = 1e-5
Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def rows(*, quick: bool) -> list[Row]:
    return [_row(*size, quick=quick) for size in SIZES]


def _row(what: str, windows: int, inner: int, length: int, repeats: int, goal: float, *, quick: bool) -> Row:
    leaves, weights = _inputs(windows, inner, length)
    repeats, rounds = (1, 1) if quick else (repeats, 3)

    def run(own: Scan) -> list[Tensor]:
        for _ in range(repeats):
            y = own(*leaves)
            grads = torch.autograd.grad(y, leaves, weights)
        return [y.detach(), *grads]

    arms = {"reference": lambda: run(plain), "ours": lambda: run(scan)}
    costs, outputs = take_turns(arms, units=repeats, rounds=rounds, compare=_compare)
    return Row(f"Mamba scan, {windows} windows, {what}", "layer and step", costs, "reference : ours", ratio(costs), goal, outputs)


def plain(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan in the reference's way; shapes as in `scan`."""
    decay = torch.exp(torch.einsum("bet,en->betn", step, a))
    drive = torch.einsum("bet,bnt,bet->betn", step, b, u)
    state = torch.zeros(*u.shape[:2], a.shape[1])
    out = []
    for t in range(u.shape[2]):
        state = decay[:, :, t] * state + drive[:, :, t]
        out.append(torch.einsum("ben,bn->be", state, c[:, :, t]))
    return torch.stack(out, dim=2)


def _inputs(windows: int, inner: int, length: int) -> tuple[list[Tensor], Tensor]:
    """Leaves u, step, a, b, c as a block has them when training begins, and the weights of the gradient."""
    draw = torch.Generator().manual_seed(0)
    u, step, b, c, weights = (torch.randn(windows, length, n, generator=draw).transpose(1, 2) for n in (inner, inner, STATE, STATE, inner))
    a = -torch.arange(1.0, STATE + 1).repeat(inner, 1)
    return [x.requires_grad_() for x in (u, F.softplus(step - 4), a, b, c)], weights


def _compare(outputs: dict[str, Any]) -> str:
    worst = 0.0
    for want, got in zip(outputs["reference"], outputs["ours"], strict=True):
        worst = max(worst, float((got - want).abs().max() / want.abs().max()))
    if worst > TOLERANCE:
        raise DisagreeError(f"mamba: values or gradients differ by {worst:.1e} of the largest, want {TOLERANCE:g}")
    return f"values and gradients within {worst:.0e} of the largest"
