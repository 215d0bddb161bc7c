"""EfficientNet-B1 of GRADA, from pictures of 240 pixels to embeddings, batches of 32, float32 unless said otherwise.

reference: the network as published, in eager mode, on normalised pictures that are there already; the C library's memory as it is.
ours: `Grada.run`, from bytes: normalisation, folded batch norms, channels last, memory kept. bfloat16: the same with `dtype: bfloat16`.
openvino: the same with `backend: openvino`, where the package is installed.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affpipe.encoders.grada import network as grada
from affpipe.encoders.grada.network import DIM, MEAN, STD, GradaNet, letterbox
from affpipe.encoders.tiny_weights import make_tiny
from affpipe.media.picture.decode import frames
from affpipe.system import memory
from benchmarks.speed.arms import GLIBC_BYTES, Arm, DisagreeError, Row, ratio, take_turns
from benchmarks.speed.inputs import film

WEIGHTS = Path("benchmarks/out/weights")
SIDE, BATCH = 240, 32
FACE = slice(180, 540), slice(460, 820)  # of the film: about the head
CLOSE = 1e-4
COSINE = 0.99  # of bfloat16, with random weights and drawn faces; tests ask for 0.999 on real ones


def network() -> GradaNet:
    """The published network, with tiny's random weights, in eager mode."""
    net = GradaNet().eval()
    net.load_state_dict(torch.load(make_tiny(WEIGHTS)[2] / "grada.pth", weights_only=True))
    return net


def compare(found: dict[str, Any]) -> str:
    """Float32 must be equal to rounding, bfloat16 in direction."""
    said = []
    for name in set(found) - {"reference"}:
        a, b = (np.concatenate([part.float().numpy() for part in found[arm]], axis=1) for arm in ("reference", name))
        if name == "bfloat16":
            a, b = a[:, :DIM], b[:, :DIM]
            cosine = ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()
            if cosine < COSINE:
                raise DisagreeError(f"efficientnet: {name}: want a cosine of {COSINE}, got {cosine}")
            said.append(f"bfloat16 cosine ≥ {cosine:.4f}")
        elif (apart := float(np.abs(a - b).max())) > CLOSE:
            raise DisagreeError(f"efficientnet: {name}: want outputs within {CLOSE}, got {apart}")
        else:
            said.append(f"{name} within {apart:.1e}")
    return ", ".join(sorted(said))


def rows(*, quick: bool) -> list[Row]:
    """One row for what is installed anyway, one for OpenVINO."""
    count = 4 if quick else BATCH
    shots = [image[FACE] for _, _, image in frames(film(2), wanted=np.arange(count))]
    pixels = torch.from_numpy(np.stack([letterbox(shot, SIDE) for shot in shots]))
    normal = ((pixels / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2).contiguous()
    published, path, cpu = network(), make_tiny(WEIGHTS)[2], torch.device("cpu")

    def reference():
        memory.keep(GLIBC_BYTES)
        with torch.no_grad():
            return published(normal)

    def arm(**options: Any) -> Arm:
        encoder = grada.load(path, device=cpu, side=SIDE, **options)

        def run():
            memory.keep()
            with torch.inference_mode():
                return encoder.run(pixels)

        return run

    arms = {"reference": reference, "ours": arm(dtype=torch.float32), "bfloat16": arm(dtype=torch.bfloat16)}
    if find_spec("openvino"):
        arms["openvino"] = arm(dtype=torch.float32, backend="openvino")
    costs, outputs = take_turns(arms, units=count, rounds=1 if quick else 5, compare=compare)
    what = f"EfficientNet-B1, {count} faces of {SIDE} pixels"
    out = [Row(what, "face", costs, "reference : ours", ratio(costs), 2.9, outputs)]
    if "openvino" in costs:
        out.append(Row(what, "face", costs, "reference : openvino", ratio(costs, fast="openvino"), 6, outputs))
    return out
