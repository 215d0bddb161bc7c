"""GRADA (EfficientNet-B1): a 256-number embedding of a face crop, from which its emotion, valence and arousal are read.

Source: Team RAS, sec. 3.1, after Dresvyanskiy et al., CVPRW 2024; loads their `affective_static_efficientNet_b1.pth`. Taken from the
authors' public code: names and order of the layers (DresvyanskiyDenis/datatools, Modified_EfficientNet_B1); the preprocessing
(resize_image_saving_aspect_ratio there, repeated in SMIL-SPCRAS/CVPRW-26, extract_grada_features.py); classes and the order of the
regression's outputs (DresvyanskiyDenis/EmotionRecognition, training of the static facial model: column 0 is arousal, column 1 valence). Not
found: the checkpoint itself, and the package grada_emotion, through which CVPRW-26 loads it.

Departures: valence comes first here, as everywhere in this project. Emotions stay logits, as in the published forward (the extraction
script of CVPRW-26 then stores their softmax). Every key must find its place.

The paper counts 7.9 M parameters, which is about EfficientNet-B1 with its ImageNet classifier (7.79 M). With the heads that replace it, the
network has 6,844,202.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from affpipe.core.errors import InputError, WeightsError
from affpipe.system.compat import ensure_torchvision
from affpipe.system.files import left_by_mac
from affpipe.system.openvino import compiled
from affpipe.system.standins import TORCHVISION, lightly
from affpipe.system.weights.checkpoint import SAFE, read, read_safe
from affpipe.system.weights.declared_sizes import Undrawn

ensure_torchvision()
lightly("torchvision", TORCHVISION)

from torchvision.models import efficientnet_b1  # noqa: E402

NAME = "grada"  # in settings and messages

EMOTIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
TRUNK, DIM = 1280, 256  # widths of EfficientNet-B1's pooled features and of the embedding
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, RGB


class Embedded(NamedTuple):
    """GRADA's outputs for N faces, float32: embedding (N, 256) in [-1, 1], emotion (N, 8) logits, va (N, 2) valence, arousal."""

    embedding: np.ndarray
    emotion: np.ndarray
    va: np.ndarray


class GradaNet(nn.Module):
    """GRADA network under its published names."""

    def __init__(self):
        super().__init__()
        self.model = efficientnet_b1(weights=None)
        self.model.classifier = nn.Identity()
        self.dropout_after_pretrained = nn.Dropout(0.1)
        self.embeddings_layer = nn.Linear(TRUNK, DIM)
        self.batchnorm = nn.BatchNorm1d(DIM)
        self.activation_embeddings = nn.Tanh()
        self.classifier = nn.Linear(DIM, len(EMOTIONS))
        self.regression = nn.Linear(DIM, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map normalised pictures (B, 3, side, side) to embedding (B, 256), emotion logits (B, 8), and valence and arousal (B, 2)."""
        x = self.dropout_after_pretrained(self.model(x))  # (B, 1280)
        x = self.activation_embeddings(self.batchnorm(self.embeddings_layer(x)))  # (B, 256)
        return x, self.classifier(x), self.regression(x).flip(-1)  # trained in the order arousal, valence


class Prepared(nn.Module):
    """Network that takes pixels. It scales them as for ImageNet, with one product and one sum a value."""

    def __init__(self, network: GradaNet, dtype: torch.dtype):
        super().__init__()
        self.network = network.to(dtype, memory_format=torch.channels_last)
        self.dtype = dtype
        mean, std = np.array(MEAN), np.array(STD)
        self.register_buffer("scale", torch.tensor(1 / (255 * std), dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(-mean / std, dtype=torch.float32))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise (B, side, side, 3) uint8 to (B, 3, side, side) float32, without a change of the memory layout."""
        side = pixels.shape[2]
        x = pixels.flatten(2).float()  # (B, side, 3 side): by whole rows, since three values are too few for a loop
        x = x.mul_(self.scale.repeat(side)).add_(self.shift.repeat(side))
        return x.unflatten(2, (side, 3)).permute(0, 3, 1, 2)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, side, side, 3) uint8 RGB to the outputs of `GradaNet.forward`."""
        return self.network(self.normalise(pixels).to(self.dtype))


def fold(network: GradaNet) -> GradaNet:
    """Fold the batch norms into the weights of their convolutions: equal but for rounding, with one pass less over each feature map."""
    for block in network.modules():
        if isinstance(block, nn.Sequential) and len(block) > 1 and isinstance(block[1], nn.BatchNorm2d):
            block[0], block[1] = fuse_conv_bn_eval(block[0], block[1]), nn.Identity()
    return network


class Grada:
    """GRADA encoder. Several threads may call it at the same time."""

    dim = DIM

    def __init__(
        self,
        network: GradaNet,
        *,
        device: torch.device,
        dtype: torch.dtype,
        side: int = 240,
        batch_size: int = 32,
        backend: Literal["torch", "openvino"] = "torch",
    ):
        """Take over a float32 network. `backend` "openvino" is for CPUs only; raises SettingsError if its package is not installed."""
        self.device, self.side, self.batch_size = device, side, batch_size
        self._alone = threading.Lock()  # the GPU's memory holds one batch at a time, however many threads call
        network = fold(network.eval())
        if backend == "openvino":
            example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
            self.run = compiled(NAME, Prepared(network, torch.float32), example, dtype=dtype)
        else:
            self.run = Prepared(network, dtype).to(device)

    def extract(self, crops: Sequence[np.ndarray]) -> Embedded:
        """Embed N face crops, each (h, w, 3) uint8 RGB of any size, in order.

        Raises InputError for anything else.
        """
        for crop in crops:
            if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or crop.size == 0:
                raise InputError(f"{NAME}: want crops as uint8 (h, w, 3), got {crop.dtype} {crop.shape}")
        out = Embedded(*(np.empty((len(crops), width), np.float32) for width in (DIM, len(EMOTIONS), 2)))
        for i in range(0, len(crops), self.batch_size):
            batch = slice(i, i + self.batch_size)
            for rows, found in zip(out, self._embed([letterbox(crop, self.side) for crop in crops[batch]]), strict=True):
                rows[batch] = found.float().cpu().numpy()
        return out

    @torch.inference_mode()
    def _embed(self, pictures: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        pixels = torch.from_numpy(np.stack(pictures))  # (B, side, side, 3) uint8: a quarter of the bytes of floats to copy
        with self._alone:
            return self.run(pixels.to(self.device))


def letterbox(image: np.ndarray, side: int) -> np.ndarray:
    """Resize (h, w, 3) uint8 so that its longer side is `side`, centred in a black square: (side, side, 3) uint8.

    The filter is Pillow's bilinear one, since the weights were trained with it: unlike OpenCV's, it averages when it shrinks. Sizes are
    truncated, not rounded, in the published order of operations. So some longer sides (11, 13, 22, ... to 240) end up one pixel short, as
    published.
    """
    height, width = image.shape[:2]
    ratio = side / max(height, width)
    height, width = max(1, int(height * ratio)), max(1, int(width * ratio))
    top, left = (side - height) // 2, (side - width) // 2
    out = np.zeros((side, side, 3), np.uint8)
    out[top : top + height, left : left + width] = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return out


def load(path: Path, **options: Any) -> Grada:
    """Load the encoder with the weights of a .pth or .safetensors file, or of the one in a folder. Runs no code of the checkpoint.

    A state dict may lie alone under "state_dict", and all its names may begin with "module.", as nn.DataParallel saves them. Nothing else
    is unwrapped or left out. Raises WeightsError if there is no such file, or a key is missing, left over or of another shape.

    Args:
        options: those of `Grada`.
    """
    weights = _weights(_file(path))
    # Built without memory or random draws. `assign` then puts the weights in place, so a missing key would stay without a value.
    with torch.device("meta"), Undrawn():
        network = GradaNet()
    try:
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])[:300]
        raise WeightsError(f"{NAME}: {path} is no GRADA checkpoint: {reason}; correct the path, or get the file again") from None
    return Grada(network.float(), **options)


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in (".pth", SAFE) and not left_by_mac(file.name))
    if len(files) != 1:
        raise WeightsError(f"{NAME}: {path}: want one .pth or {SAFE} file in it, got {[f.name for f in files]}; name the file itself")
    return files[0]


def _weights(file: Path) -> Mapping[str, Tensor]:
    found = read_safe(NAME, file) if file.suffix == SAFE else read(NAME, file)
    if isinstance(found, Mapping) and set(found) == {"state_dict"}:
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        what = f"a {type(found).__name__}" + (f" of {sorted(map(str, found))[:5]}" if isinstance(found, Mapping) else "")
        raise WeightsError(f"{NAME}: {file}: want a state dict of tensors, got {what}; save the network's state_dict() alone")
    if all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found
