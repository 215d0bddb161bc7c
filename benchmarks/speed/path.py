"""From a video to the face stream, networks loaded beforehand: detection, tracks, crops, embeddings.

reference: frames dumped as JPEG files, each read with PIL and shown to the detector; the largest face cut into a file of its own; crop
files read one by one, prepared as published, and embedded in batches of 32 by the published network in eager mode; an npz of the video.
ours: the stages frames, faces, subject and grada by their workers, through the store, with default settings.
fast: the same with `faces: {every: 5}`, and `backend: openvino` where the package is installed.

Detector and weights are the same in all. The published network, fed crop by crop with what the stages stored, must give their embeddings to
rounding. The reference itself detects and cuts in frames that went through JPEG, so its faces are others by some grey levels and a pixel,
and random weights are touchy: how far its embeddings point elsewhere is told, not judged.
"""

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from affpipe.data.manifest import Row as Video
from affpipe.faces.detect import MediaPipeDetector
from affpipe.jobs import workers
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.store.streams import Stream
from affpipe.system import memory
from benchmarks.speed.arms import GLIBC_BYTES, Arm, DisagreeError, Row, ratio, take_turns
from benchmarks.speed.crops import BATCH, batches, face_of, published_input, square_crop
from benchmarks.speed.efficientnet import WEIGHTS, network
from benchmarks.speed.inputs import film

STAGES = ("frames", "faces", "subject", "grada")
CLOSE = 1e-4


def published(video: Path, folder: Path) -> Arm:
    """The reference."""
    detector, net = MediaPipeDetector(), network()

    def run() -> np.ndarray:
        memory.keep(GLIBC_BYTES)
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


def planned(video: Path, folder: Path, *, faces: Mapping[str, Any], grada: Mapping[str, Any]) -> Plan:
    """The workflow for one video."""
    settings = {
        "cache": str(folder),
        "weights": str(WEIGHTS),
        "faces": dict(faces),
        "features": {"grada": {"encoder": "grada", **grada}},
        "models": {"face": {"kind": "transformer", "reads": "grada"}},
        "publish": "face",
    }
    return Plan(parse(settings), [Video(video.stem, video, "largest", "predict")])


def staged(plan: Plan) -> Arm:
    """The stages of the workflow, loaded once."""
    started = {name: workers.start(plan.context(name)) for name in STAGES}

    def run() -> np.ndarray:
        memory.keep()
        for name, worker in started.items():
            job = plan.job(name, plan.items(name)[0])
            worker(job)
        with Stream(job.path) as stream:
            return stream.rows()

    return run


def again(plan: Plan) -> np.ndarray:
    """Embeddings of the stored faces by the published code."""
    job, net = plan.job("grada", plan.items("grada")[0]), network()
    with job.open("subject") as who, job.open("faces") as found:
        seen = np.flatnonzero(who.valid)
        row, box, crop_box = who.rows("row")[seen], found.rows(), found.rows("crop_box").tolist()
        crops = [Image.open(BytesIO(jpeg)).convert("RGB") for jpeg in found.blobs("crop", row)]
        out = np.zeros((len(who), 256), np.float32)
    inputs = [published_input(face_of(crop, crop_box[i], box[i])) for i, crop in zip(row, crops, strict=True)]
    for batch in batches(len(inputs)):
        with torch.no_grad():
            out[seen[batch]] = net(torch.stack(inputs[batch]))[0].numpy()
    return out


def compare(plans: Mapping[str, Plan], found: dict[str, Any]) -> str:
    """Embeddings must be those of the published network on the same crops."""
    said, a = [], found["reference"]
    for name, plan in plans.items():
        b = found[name]
        if a.shape != b.shape or (a.any(axis=1) != b.any(axis=1)).any():
            raise DisagreeError(f"path: {name}: want the subject in the same frames, got {a.shape} and {b.shape}")
        if (apart := float(np.abs(b - again(plan)).max())) > CLOSE:
            raise DisagreeError(f"path: {name}: want embeddings within {CLOSE} of the published network's, got {apart}")
        seen = a.any(axis=1)
        cosine = (a * b).sum(1)[seen] / np.linalg.norm(a[seen], axis=1) / np.linalg.norm(b[seen], axis=1)
        said.append(f"{name}: same crops within {apart:.1e}, to the reference a mean cosine of {cosine.mean():.3f}")
    return "; ".join(said)


def rows(*, quick: bool) -> list[Row]:
    """One row with default settings, one with those for speed."""
    seconds = 1 if quick else 4
    video = film(seconds)
    backend = {"backend": "openvino"} if find_spec("openvino") else {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        plans = {
            "ours": planned(video, folder / "ours", faces={}, grada={}),
            "fast": planned(video, folder / "fast", faces={"every": 5}, grada=backend),
        }
        arms = {
            "reference": published(video, folder / "reference"),
            **{name: staged(plan) for name, plan in plans.items()},
        }
        costs, outputs = take_turns(arms, units=25 * seconds, rounds=1 if quick else 2, compare=partial(compare, plans))
    what = f"video to face stream, {25 * seconds} frames of 1280x720"
    fast = f"reference : fast (every: 5{', openvino' if backend else ''})"
    return [
        Row(what, "frame", costs, "reference : ours", ratio(costs), 5, outputs),
        Row(what, "frame", costs, fast, ratio(costs, fast="fast"), None, outputs),
    ]
