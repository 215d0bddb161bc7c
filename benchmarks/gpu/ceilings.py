"""What the machine can do: matrix products, and copies of memory. The other groups are held against these."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.gpu.clock import GB, Place
from benchmarks.gpu.rows import Case, LackingError

SIDES, TINY_SIDES = (4096, 8192, 12288, 16384), (128,)
KINDS = {"bfloat16": (torch.bfloat16, "highest"), "float32": (torch.float32, "highest"), "tf32": (torch.float32, "high")}
COPIED, TINY_COPIED = 2 * 2**30, 2**20  # bytes


def cases(at: Place) -> Iterator[Case]:
    """A row a kind of product and a kind of copy."""
    for kind in KINDS:
        yield Case(f"matrix product, {kind}, the best of several sides", lambda kind=kind: _product(at, kind))
    yield Case("copy on the device, bytes read and written", lambda: _copy(at))
    yield Case("host to device", lambda: _across(at, to_device=True))
    yield Case("device to host", lambda: _across(at, to_device=False))


def _product(at: Place, kind: str) -> dict[str, float]:
    dtype, precision = KINDS[kind]
    if kind == "tf32" and at.device.type != "cuda":
        raise LackingError("a GPU")
    best = (0.0, 0)
    with matmul_precision(precision):
        for side in TINY_SIDES if at.tiny else SIDES:
            # Drawn, not zeros, which take less power and so run faster.
            a, b = (torch.randn(side, side, device=at.device, dtype=dtype) for _ in range(2))
            out = torch.empty_like(a)
            best = max(best, (2 * side**3 / at.seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out)), side))
    at.ceilings[kind] = best[0]
    return {"TFLOP/s": best[0] / 1e12, "side": best[1]}


def _copy(at: Place) -> dict[str, float]:
    source = _bytes(at, at.device)
    target = torch.empty_like(source)
    return {"GB/s": 2 * len(source) / at.seconds(lambda: target.copy_(source)) / GB}


def _across(at: Place, *, to_device: bool) -> dict[str, float]:
    """Between the host's memory, pinned or pageable, and the device."""
    if at.device.type != "cuda":
        raise LackingError("a GPU")
    there, pageable = _bytes(at, at.device), _bytes(at, torch.device("cpu"))
    pinned = pageable.pin_memory()
    pairs = {"pinned": pinned, "pageable": pageable}
    if to_device:
        works = {name: lambda here=here: there.copy_(here, non_blocking=True) for name, here in pairs.items()}
    else:
        works = {name: lambda here=here: here.copy_(there, non_blocking=True) for name, here in pairs.items()}
    return {f"{name} GB/s": len(there) / seconds / GB for name, seconds in at.in_turn(works).items()}


def _bytes(at: Place, device: torch.device) -> torch.Tensor:
    return torch.randint(256, (TINY_COPIED if at.tiny else COPIED,), dtype=torch.uint8, device=device)


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Products of float32 matrices with all bits inside ("highest"), or as tf32 ("high")."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
