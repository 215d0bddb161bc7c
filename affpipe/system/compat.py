"""Fixes for third-party packages that otherwise fail to import, or log too much.

torchvision: PyPI's wheel is built against CUDA torch, and its `_C.so` does not load beside a CPU-only torch. Then `import torchvision`
fails with "operator torchvision::nms does not exist". Of its compiled operators this project and its dependencies need only nms, and a few
lines of torch do the same. On a matching build `ensure_torchvision` does nothing. Beside CUDA torch a library that does not load is a
broken installation, so the import is left to fail.
"""

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from affpipe.system.standins import TORCHVISION, lightly

_libraries: list[torch.library.Library] = []  # an operator lives as long as the object that defines it


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the (N, 4) xyxy boxes that survive non-maximum suppression, highest score first, as torchvision.ops.nms.

    A box is removed if its intersection over union with a better surviving box exceeds the threshold. Equal scores keep their order.
    """
    order = scores.sort(descending=True, stable=True).indices
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[Tensor] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        corner = torch.maximum(boxes[best, :2], boxes[rest, :2]), torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = (corner[1] - corner[0]).clamp(min=0).prod(dim=1)
        # Multiplied, not divided: two empty boxes have no ratio and do not suppress each other.
        order = rest[overlap <= iou_threshold * (area[best] + area[rest] - overlap)]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64, device=boxes.device)


def ensure_torchvision() -> None:
    """Make `import torchvision` work. Call it before anything that imports torchvision (transformers' processors, timm, ultralytics)."""
    if "torchvision" in sys.modules or torch.version.cuda is not None:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return  # the import that follows names the missing package
    try:
        torch.ops.load_library(Path(spec.origin).with_name("_C.so"))
    except OSError:
        _define_operators()


def _define_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")
    _libraries.append(library)
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # named at import; used for quantized boxes only
    library.impl("nms", nms, "CPU")

    lightly("torchvision", TORCHVISION)
    import torchvision.ops.boxes as boxes

    boxes._assert_has_ops = lambda: None  # the check asks for the library, not for the operator


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and log lines below ERROR inside the block; restore its settings afterwards."""
    from transformers.utils import logging as hf

    bars, level = hf.is_progress_bar_enabled(), hf.get_verbosity()
    hf.disable_progress_bar()
    hf.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hf.set_verbosity(level)
        if bars:
            hf.enable_progress_bar()
