"""A step of training at the paper's sizes: forward, loss, backward, AdamW; float32 as the pipeline fits, and beside it with tf32 products.

Sizes are those of recipes/ras.yaml. Inputs lie on the device.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from affpipe.models.fusions.dcmmoe.network import DCMMOE
from affpipe.models.fusions.raav.network import RAAV
from affpipe.models.heads.chunk_asp.network import ChunkHead
from affpipe.models.heads.mamba import network as mamba
from affpipe.models.heads.mamba.network import MambaHead
from affpipe.models.heads.transformer.network import TransformerHead
from affpipe.models.terms.losses import ConcordanceLoss
from benchmarks.gpu.ceilings import matmul_precision
from benchmarks.gpu.clock import Place, Work
from benchmarks.gpu.experts import Batched
from benchmarks.gpu.rows import Case, LackingError

BATCH = 8
ATTENTION = {"hidden": 256, "layers": 5, "heads": 16, "feedforward": 256, "dropout": 0.1}
VISUAL = {"hidden": 128, "layers": 4, "state": 8, "kernel": 3, "dropout": 0.2}
MULTIMODAL = {"hidden": 256, "layers": 12, "state": 8, "kernel": 5, "dropout": 0.2}
RELIABILITY = {"hidden": 256, "latents": 4, "layers": 1, "heads": 4, "feedforward": 1024, "dropout": 0.1}
TINY = {"hidden": 32, "layers": 2}
STREAMS = ("face", "behaviour", "audio")
CLOSE = 1e-4  # of the batched experts' predictions, float32


class Inputs(NamedTuple):
    """Streams by name (B, T, D), or one stream, and (B, T, M) or (B, T) present."""

    streams: Mapping[str, Tensor] | Tensor
    present: Tensor


def cases(at: Place) -> Iterator[Case]:
    """A row a model."""
    for name, sizes in {"visual": VISUAL, "multimodal": MULTIMODAL}.items():
        for scan in ("ours", "mamba_ssm"):
            what = f"Mamba, {name}, windows of 16 segments, scan: {scan}"
            yield Case(what, lambda s=sizes, scan=scan: _mamba(at, s, scan))
    yield Case("transformer head, windows of 400 frames", lambda: _figures(at, TransformerHead(256, **_sized(at, ATTENTION)), 400, 256))
    yield Case("DCMMOE of 3, windows of 400 frames", lambda: _figures(at, _dcmmoe(at), 400, _dcmmoe(at).dims))
    yield Case("DCMMOE of 3, experts in one batch", lambda: _experts(at))
    yield Case("RAAV, windows of 120 frames", lambda: _raav(at))
    yield Case("WavLM-Large, top four layers and chunks, windows of 199 rows", lambda: _wavlm(at))


def _mamba(at: Place, sizes: Mapping, scan: str) -> dict[str, float]:
    fused = mamba.selective_scan_fn
    if scan == "mamba_ssm" and (fused is None or at.device.type != "cuda"):
        raise LackingError("mamba_ssm and a GPU")
    mamba.selective_scan_fn = fused if scan == "mamba_ssm" else None
    try:
        return _figures(at, MambaHead(2560, **_sized(at, sizes)), 16, 2560)
    finally:
        mamba.selective_scan_fn = fused


def _raav(at: Place) -> dict[str, float]:
    dims = dict.fromkeys(STREAMS, 258)  # embedding and prediction
    model = RAAV(dims, visual=STREAMS[:2], priors=(0.85, 0.15), audio=STREAMS[2], **_sized(at, RELIABILITY))
    return _figures(at, model, 120, dims)


def _wavlm(at: Place) -> dict[str, float]:
    from affpipe.encoders.wavlm.layers import Top
    from affpipe.encoders.wavlm.network import LARGE

    sizes = LARGE | ({"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4} if at.tiny else {})

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.top = Top(sizes, 4)
            self.head = ChunkHead(sizes["hidden_size"], chunks=4, hidden=256, attention_hidden=128, dropout=0.2)

        def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
            return self.head(self.top(x, present), present)

    return _figures(at, Whole(), 199, sizes["hidden_size"], rows=4)


def _experts(at: Place) -> dict[str, float]:
    """The steps of both, in turn; their predictions without dropout must agree."""
    torch.manual_seed(0)
    model = _dcmmoe(at).to(at.device)
    batched = Batched(model)
    length = 16 if at.tiny else 400
    inputs = _inputs(at, length, model.dims)
    with torch.no_grad():
        plain, other = (m.eval()(*inputs) for m in (model, batched))
    apart = max((a - b).abs().max().item() for a, b in zip(plain, other, strict=True))
    if not apart <= CLOSE:
        raise ValueError(f"want the same outputs of batched experts, got {apart:g} apart")
    works = {"one by one": step(model.train(), inputs, length), "in one batch": step(batched.train(), inputs, length)}
    took = at.in_turn(works)
    return {
        **_rates(took["in one batch"], length),
        "steps/s one by one": 1 / took["one by one"],
        "times": took["one by one"] / took["in one batch"],
        "outputs apart": apart,
    }


def _figures(at: Place, model: nn.Module, length: int, dims: Mapping[str, int] | int, rows: int | None = None) -> dict[str, float]:
    """Args: length: rows of a window that enter, `rows` that are predicted. dims: widths of the streams, or of the one."""
    torch.manual_seed(0)
    length = min(length, 16) if at.tiny else length
    rows = rows or length
    inputs = _inputs(at, length, dims)
    work = step(model.to(at.device).train(), inputs, rows)
    figures: dict[str, float] = {}
    with at.peak(figures):
        took = at.in_turn({"float32": _with("highest", work), "tf32": _with("high", work)})
    return {**_rates(took["float32"], rows), "steps/s with tf32": 1 / took["tf32"], **figures}


def _sized(at: Place, sizes: Mapping) -> Mapping:
    return {**sizes, **TINY} if at.tiny else sizes


def _dcmmoe(at: Place) -> DCMMOE:
    return DCMMOE(dict.fromkeys(STREAMS, 256), **_sized(at, ATTENTION))


def _rates(seconds: float, rows: int) -> dict[str, float]:
    return {"steps/s": 1 / seconds, "predicted rows/s": BATCH * rows / seconds}


def _with(precision: str, work: Work) -> Work:
    def inner() -> None:
        with matmul_precision(precision):
            work()

    return inner


def _inputs(at: Place, length: int, dims: Mapping[str, int] | int) -> Inputs:
    """Nine rows of ten are present."""
    if isinstance(dims, int):
        return Inputs(torch.randn(BATCH, length, dims, device=at.device), torch.rand(BATCH, length, device=at.device) < 0.9)
    streams = {name: torch.randn(BATCH, length, dim, device=at.device) for name, dim in dims.items()}
    return Inputs(streams, torch.rand(BATCH, length, len(dims), device=at.device) < 0.9)


def step(model: nn.Module, inputs: Inputs, rows: int) -> Callable[[], None]:
    """One step of training on the same inputs; all of the `rows` that are predicted have labels."""
    loss = ConcordanceLoss()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    device = inputs.present.device
    target = torch.rand(BATCH, rows, 2, device=device) * 2 - 1
    known = torch.ones(BATCH, rows, dtype=torch.bool, device=device)

    def work() -> None:
        optimiser.zero_grad()
        loss(model(*inputs)[0], target, known).backward()
        optimiser.step()

    return work
