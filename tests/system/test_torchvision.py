"""torchvision beside a CPU-only torch: nms against plain loops, and the import itself in a fresh interpreter."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from affpipe.system import compat


def _nms_by_loops(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    def iou(a: np.ndarray, b: np.ndarray) -> float:
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        both = max(width, 0.0) * max(height, 0.0)
        return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)

    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_nms_agrees_with_plain_loops(threshold: float) -> None:
    rng = np.random.default_rng(7)
    corner = rng.uniform(0, 50, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (60, 2))], axis=1)
    scores = rng.permutation(60) / 60
    got = compat.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    assert got.tolist() == _nms_by_loops(boxes, scores, threshold)
    assert got.dtype == torch.int64


def test_nms_worked_by_hand() -> None:
    # The second box shares half of the first: intersection 50, union 150. The third touches nothing.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 5, 10, 15], [40, 40, 50, 50]])
    scores = torch.tensor([0.5, 0.9, 0.1])
    assert compat.nms(boxes, scores, 1 / 3 - 1e-6).tolist() == [1, 2]
    assert compat.nms(boxes, scores, 1 / 3 + 1e-6).tolist() == [1, 0, 2]
    assert compat.nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_torchvision_imports_and_its_nms_is_right() -> None:
    code = """
import torch
from affpipe.system.compat import ensure_torchvision
ensure_torchvision()
ensure_torchvision()
import torchvision
boxes = torch.tensor([[0.0, 0, 10, 10], [0, 5, 10, 15], [40, 40, 50, 50]])
scores = torch.tensor([0.5, 0.9, 0.1])
print(torchvision.ops.nms(boxes, scores, 0.3).tolist(), torchvision.ops.nms(boxes, scores, 0.4).tolist())
print(torchvision.ops.batched_nms(boxes, scores, torch.tensor([0, 1, 0]), 0.3).tolist())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[1, 2] [1, 0, 2]", "[1, 0, 2]"]


def test_a_library_that_loads_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    monkeypatch.setattr(compat, "_define_operators", lambda: pytest.fail("patched a matching build"))
    compat.ensure_torchvision()
    assert [path.name for path in loaded] == ["_C.so"]


def test_cuda_torch_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.ops, "load_library", lambda path: pytest.fail("tried to load"))
    compat.ensure_torchvision()
