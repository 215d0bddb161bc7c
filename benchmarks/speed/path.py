"""From a video to the face stream, networks loaded beforehand: detection, tracks, crops, embeddings.

reference: frames dumped as JPEG files, each read with PIL and shown to the detector; the largest face cut into a file of its own; crop
files read one by one, prepared as published, and embedded in batches of 32 by the published network in eager mode; an npz of the video.
ours: the stages frames, faces, subject and grada by their workers, through the store, with default settings.
fast: the same with `faces: {every: 5}`, and `backend: openvino` where the package is installed.

Detector and weights are the same in all. The reference detects in frames that went through JPEG, so boxes, and with them embeddings, differ
a little; the column of outputs says how much.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from affpipe import device, jobs, workers
from affpipe.config import parse
from affpipe.faces.detect import MediaPipeDetector
from affpipe.manifest import Row as Video
from affpipe.plan import Plan
from affpipe.store import Stream
from benchmarks.speed.arms import Arm, DisagreeError, Row, ratio, take_turns
from benchmarks.speed.crops import BATCH, face_of, published_input, square_crop
from benchmarks.speed.efficientnet import GLIBC_BYTES, WEIGHTS, network
from benchmarks.speed.inputs import film

STAGES = ("frames", "faces", "subject", "grada")
COSINE = {"ours": 0.99, "fast": 0.95}  # in the mean over frames, of random weights; interpolated boxes are off by a few pixels


def published(video: Path, folder: Path) -> Arm:
    """The reference."""
    detector, net = MediaPipeDetector(), network()

    def run() -> np.ndarray:
        device.keep_memory(GLIBC_BYTES)
        for name in ("frames", "crops"):
            rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir(parents=True)
        capture, count = cv2.VideoCapture(str(video)), 0
        while (read := capture.read())[0]:
            cv2.imwrite(str(folder / "frames" / f"{count:05d}.jpg"), read[1])
            count += 1
        kept = {}
        for i in range(count):
            frame = np.asarray(Image.open(folder / "frames" / f"{i:05d}.jpg"))
            if found := detector.detect([frame])[0]:
                box = max((face.box for face in found), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
                crop, crop_box = square_crop(frame, box)
                Image.fromarray(crop).save(folder / "crops" / f"{i:05d}.jpg", quality=90)
                kept[i] = crop_box, box
        out = np.zeros((count, 256), np.float32)
        indices = list(kept)
        for i in range(0, len(indices), BATCH):
            batch = indices[i : i + BATCH]
            crops = (Image.open(folder / "crops" / f"{j:05d}.jpg").convert("RGB") for j in batch)
            inputs = [published_input(face_of(crop, *kept[j])) for j, crop in zip(batch, crops, strict=True)]
            with torch.no_grad():
                out[batch] = net(torch.stack(inputs))[0].numpy()
        np.savez(folder / "film.npz", embedding=out)
        return out

    return run


def staged(video: Path, folder: Path, *, faces: Mapping[str, Any], grada: Mapping[str, Any]) -> Arm:
    """The stages of the workflow, loaded once."""
    settings = {
        "cache": str(folder),
        "weights": str(WEIGHTS),
        "faces": dict(faces),
        "features": {"grada": {"encoder": "grada", **grada}},
        "models": {"face": {"kind": "transformer", "reads": "grada"}},
        "publish": "face",
    }
    plan = Plan(parse(settings), [Video(video.stem, video, "largest", "predict")])
    started = {name: workers.start(jobs.Context(plan, name)) for name in STAGES}

    def run() -> np.ndarray:
        device.keep_memory()
        for name, worker in started.items():
            job = jobs.Job(plan, name, plan.items(name)[0])
            worker(job)
        with Stream(job.path) as stream:
            return stream.rows()

    return run


def compare(found: dict[str, Any]) -> str:
    """Embeddings of each frame must point the same way."""
    said, a = [], found["reference"]
    for name in COSINE:
        b = found[name]
        if a.shape != b.shape or (a.any(axis=1) != b.any(axis=1)).any():
            raise DisagreeError(f"path: {name}: want the subject in the same frames, got {a.shape} and {b.shape}")
        seen = a.any(axis=1)
        cosine = (a * b).sum(1)[seen] / np.linalg.norm(a[seen], axis=1) / np.linalg.norm(b[seen], axis=1)
        if cosine.mean() < COSINE[name]:
            raise DisagreeError(f"path: {name}: want a mean cosine of {COSINE[name]}, got {cosine.mean()}")
        said.append(f"{name}: cosine {cosine.mean():.4f} in the mean, {cosine.min():.3f} at least")
    return "; ".join(said)


def rows(*, quick: bool) -> list[Row]:
    """One row with default settings, one with those for speed."""
    seconds = 1 if quick else 4
    video = film(seconds)
    backend = {"backend": "openvino"} if find_spec("openvino") else {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        arms = {
            "reference": published(video, folder / "reference"),
            "ours": staged(video, folder / "ours", faces={}, grada={}),
            "fast": staged(video, folder / "fast", faces={"every": 5}, grada=backend),
        }
        costs, outputs = take_turns(arms, units=25 * seconds, rounds=1 if quick else 2, compare=compare)
    what = f"video to face stream, {25 * seconds} frames of 1280x720"
    fast = f"reference / fast (every: 5{', openvino' if backend else ''})"
    return [
        Row(what, "frame", costs, "reference / ours", ratio(costs), 5, outputs),
        Row(what, "frame", costs, fast, ratio(costs, fast="fast"), None, outputs),
    ]
