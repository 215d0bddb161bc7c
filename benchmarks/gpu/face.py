"""Networks of the face: EfficientNet-B1 (GRADA) on crops, YOLOv8n on frames, with random weights."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.clock import Place
from benchmarks.gpu.rows import Case

SIDE, TINY_SIDE, BATCHES = 240, 64, (32, 64, 128, 256)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FACES = (120, 300)  # pixels of the sides of a face before it is resized
FRAME = (720, 1280, 3)


def cases(at: Place) -> Iterator[Case]:
    """A row a batch size and network."""
    for batch in (2,) if at.tiny else BATCHES:
        yield Case(f"EfficientNet-B1, crops/s, batch {batch}, squares from the host", lambda b=batch: _squares(at, b))
    for batch in (2,) if at.tiny else (64, 256):
        yield Case(f"EfficientNet-B1, crops/s, batch {batch}, letterbox on the CPU included", lambda b=batch: _crops(at, b))
    for batch in (2,) if at.tiny else (1, 8, 32):
        yield Case(f"YOLOv8n, frames/s of 720p, batch {batch}, letterbox and suppression included", lambda b=batch: _yolo(at, b))


def grada(at: Place, dtype: torch.dtype, batch: int):
    """The encoder of the pipeline."""
    from affpipe.encoders.grada.network import Grada, GradaNet

    torch.manual_seed(0)
    side = TINY_SIDE if at.tiny else SIDE
    return Grada(GradaNet().requires_grad_(False), device=at.device, dtype=dtype, side=side, batch_size=batch)


def _squares(at: Place, batch: int) -> dict[str, float]:
    """uint8 on the host to numbers on the host."""
    works = {}
    for name, dtype in DTYPES.items():
        encoder = grada(at, dtype, batch)
        pictures = list(np.random.default_rng(0).integers(0, 256, (batch, encoder.side, encoder.side, 3), dtype=np.uint8))
        works[name] = lambda e=encoder, p=pictures: [found.float().cpu() for found in e._embed(p)]
    figures: dict[str, float] = {}
    with at.peak(figures):
        took = at.in_turn(works)
    return {name: batch / seconds for name, seconds in took.items()} | figures


def _crops(at: Place, batch: int) -> dict[str, float]:
    """`extract`, crops of all sizes."""
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (*rng.integers(*FACES, 2), 3), dtype=np.uint8) for _ in range(batch)]
    encoders = {name: grada(at, dtype, batch) for name, dtype in DTYPES.items()}
    took = at.in_turn({name: lambda e=encoder: e.extract(crops) for name, encoder in encoders.items()})
    return {name: batch / seconds for name, seconds in took.items()}


def _yolo(at: Place, batch: int) -> dict[str, float]:
    """The detector of the pipeline, from a checkpoint as ultralytics writes it, and the network alone."""
    from affpipe.faces.yolo.detector import YoloDetector, prepare

    prepare()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    net = DetectionModel("yolov8n.yaml", nc=1, verbose=False)
    net.names = {0: "face"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "yolov8n.pt"
        torch.save({"model": net.half()}, path)
        detector = YoloDetector(path, device=at.device, image_side=64 if at.tiny else 640, batch_size=batch)
    frames = list(np.random.default_rng(0).integers(0, 256, (batch, *FRAME), dtype=np.uint8))
    x = torch.rand(batch, 3, *((64, 64) if at.tiny else (384, 640)), device=at.device)  # what the letterbox makes of 720p

    @torch.inference_mode()
    def alone() -> None:
        detector._net(x)

    took = at.in_turn({"float32": lambda: detector.detect(frames), "float32, network alone": alone})
    return {name: batch / seconds for name, seconds in took.items()}
