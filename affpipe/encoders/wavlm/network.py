"""WavLM hidden states of waveform windows.

Source: Team RAS, sec. 3.3 (WavLM-Large as fine-tuned for the Odyssey 2024 challenge); SAGE and others use the plain models. Loads
microsoft/wavlm-* folders and 3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes. In the latter WavLM-Large lies under `ssl_model.`, beside a
pooling and a regression head that are not used. Published code loads it leniently: the positional convolution, saved under an older name,
silently stays that of plain WavLM-Large. Here the names are translated and every key must find its place.

Normalisation of the waveform: "checkpoint" is what the checkpoint was trained with (the flag of its feature extractor, or the fixed mean
and standard deviation in the Odyssey config). "waveform" gives each waveform zero mean and unit variance, as Team RAS does with the Odyssey
weights.

Padding: group norm (the base model), the positional convolution and attention all see past the end of the speech, and an attention mask
stops only the last two. So nothing is padded: rows of equal length run together, cut to their real samples. Windows of one hop and length
are equal except for the last of a video, so this costs one small batch a video.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from affpipe.core.errors import InputError, WeightsError
from affpipe.encoders.waveforms import check_waveforms
from affpipe.encoders.wavlm.layers import Top, cut
from affpipe.system.compat import ensure_torchvision, quiet_transformers
from affpipe.system.standins import TRANSFORMERS, lightly
from affpipe.system.weights.checkpoint import read, read_safe
from affpipe.system.weights.declared_sizes import unfilled
from affpipe.system.weights.reading import first_line, read_json

ensure_torchvision()  # transformers' loss functions import it, whatever the model
lightly("transformers.models.wavlm.modeling_wavlm", TRANSFORMERS)

from transformers import WavLMConfig, WavLMModel  # noqa: E402

NAME = "wavlm"  # in settings and messages

Normalise = Literal["checkpoint", "waveform"]

# Settings of microsoft/wavlm-large that differ from WavLMConfig's defaults: the Odyssey checkpoint names that model without them.
LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
}
ODYSSEY_PREFIX, ODYSSEY_HEADS = "ssl_model.", ("pool_model.", "ser_model.")
# torch renamed the two halves of a weight-normed convolution.
RENAMED = {".conv.weight_g": ".conv.parametrizations.weight.original0", ".conv.weight_v": ".conv.parametrizations.weight.original1"}

# Fewest channels a group for which a bfloat16 convolution is right on any CPU. With fewer, oneDNN's kernel for CPUs with AMX gives
# values unrelated to the input (torch 2.13: groups of 2 and 8 are wrong, of 16 to 64 right). Published WavLM has 48 or 64.
RIGHT_GROUP = 16


class WavLM:
    """WavLM encoder; `dim` is the width of its hidden states."""

    def __init__(
        self,
        model: WavLMModel,
        *,
        device: torch.device,
        scale: tuple[float, float] | None,
        layer: int | None = None,
        top: Top | None = None,
        batch_size: int = 8,
    ):
        """Take over a model.

        Args:
            model: becomes part of the encoder, and loses the layers above `layer`.
            scale: mean and standard deviation by which every waveform is normalised; None uses each waveform's own.
            layer: transformer layer whose output to give, 1-based (0: its input). None is the last, with the closing layer norm, if any.
            top: layers above, for whoever trains them. The encoder itself does not use them.
        """
        layers = model.config.num_hidden_layers
        if layer is not None and not 0 <= layer <= layers:
            raise InputError(f"{NAME}: want layer from 0 to {layers}, or none for the last, got {layer}")
        if layer is not None:
            cut(model, layer)
        self.model = model.eval().requires_grad_(False).to(device)
        self.device, self.scale, self.top, self.batch_size = device, scale, top, batch_size
        self.dim: int = model.config.hidden_size

    def frame_count(self, samples: int) -> int:
        """Return the frames of a waveform of `samples` samples; frame j covers samples 320 j to 320 j + 400 (25 ms every 20 ms)."""
        for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    def extract(self, waveforms: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Compute the hidden states of N mono 16 kHz waveforms as (N, frame_count(S), dim) float32, in order.

        Args:
            waveforms: (N, S) float32. Samples past a row's length are not read.
            lengths: (N,) integer samples of real audio. Frames past frame_count(length) are zero.

        Raises InputError for anything else.
        """
        check_waveforms(NAME, waveforms, lengths)
        return self.states(torch.from_numpy(waveforms), torch.from_numpy(lengths)).cpu().numpy()

    @torch.no_grad()
    def states(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Run `extract` on tensors on any device, without graph. The result is on the encoder's device."""
        n, samples = waveforms.shape
        out = torch.zeros(n, self.frame_count(samples), self.dim, device=self.device)
        for length in lengths.unique().tolist():
            frames = self.frame_count(length)
            if frames == 0:
                continue
            for batch in (lengths == length).nonzero().ravel().split(self.batch_size):
                piece = waveforms[batch.to(waveforms.device), :length].to(self.device)
                if not piece.isfinite().all():
                    raise InputError(f"{NAME}: want finite samples, got NaN or infinity; decode the audio again")
                # (B, S) -> (B, F, D)
                sound, masked = self._normalise(piece).to(self.model.dtype), self._unmasked(len(piece), frames)
                out[batch.to(self.device), :frames] = self.model(sound, mask_time_indices=masked).last_hidden_state.float()
        return out

    @contextmanager
    def live(self) -> Iterator[None]:
        """Run the network as in training inside the block: dropouts, masks and layer drop by its configuration, a batch of `states` at a
        time.

        All randomness depends on torch's global generator. transformers draws masks from numpy's, which is seeded from torch's and restored
        afterwards.
        """
        if not hasattr(self.model.config, "mask_feature_min_masks"):  # transformers 5 asks for it and gives it no value
            self.model.config.mask_feature_min_masks = 0
        state = np.random.get_state()  # noqa: NPY002 - transformers draws from it
        np.random.seed(int(torch.randint(2**32, ())))  # noqa: NPY002
        self.model.train()
        try:
            yield
        finally:
            self.model.eval()
            np.random.set_state(state)  # noqa: NPY002

    def _unmasked(self, batch: int, frames: int) -> Tensor | None:
        """Return an empty mask (B, F) for windows too short for one, which transformers refuses; None leaves masks to the configuration."""
        config = self.model.config
        if not self.model.training or not config.mask_time_prob or frames >= config.mask_time_length:
            return None
        return torch.zeros(batch, frames, dtype=torch.bool, device=self.device)

    def _normalise(self, x: Tensor) -> Tensor:
        if self.scale is not None:
            mean, std = self.scale
            return (x - mean) / std
        # As in transformers' feature extractor: with the epsilon silence stays silence.
        return (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True, correction=0) + 1e-7).sqrt()


def load(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    normalise: Normalise = "checkpoint",
    layer: int | None = None,
    trained_layers: int = 0,
    batch_size: int = 8,
) -> WavLM:
    """Load the encoder with the weights in a local folder; float32 on a CPU. Runs no code of the checkpoint.

    Args:
        trained_layers: number of top layers to set aside, in float32, as `top`; the encoder then gives their input. Instead of `layer`.

    Raises WeightsError if the folder is no WavLM checkpoint, a key is missing, left over or of another shape, or layers are too few.
    """
    weights = _weights(folder)
    settings = read_json(NAME, folder / "config.json")
    odyssey = any(key.startswith(ODYSSEY_PREFIX) for key in weights)
    if odyssey:
        weights = {key.removeprefix(ODYSSEY_PREFIX): value for key, value in weights.items() if not key.startswith(ODYSSEY_HEADS)}
        config = WavLMConfig(**LARGE)
    elif settings.get("model_type") == "wavlm":
        config = WavLMConfig.from_dict(settings)
    else:
        raise WeightsError(f"{NAME}: {folder}: want a WavLM checkpoint, got model_type {settings.get('model_type')!r}; correct the path")
    scale = _scale(folder, settings, odyssey) if normalise == "checkpoint" else None
    for old, new in RENAMED.items():
        weights = {key.replace(old, new): value for key, value in weights.items()}
    # Built without memory or random draws. `assign` then puts the weights in place, so a missing key would stay without a value.
    try:
        with unfilled(len(weights)), quiet_transformers():
            model = WavLMModel(config)
        model.load_state_dict(weights, strict=True, assign=True)
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:  # also for sizes that make no network
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3]) or first_line(error)
        raise WeightsError(f"{NAME}: {folder} does not fit its config: {reason}; fetch the weights again") from None
    top = None
    if trained_layers:
        layer = config.num_hidden_layers - trained_layers
        if layer < 0:
            have = config.num_hidden_layers
            raise WeightsError(f"{NAME}: {folder} has {have} layers, got trained_layers {trained_layers}; set {have} or fewer")
        top = Top.take(model, trained_layers)
    model.to(dtype)
    if device.type == "cpu" and config.hidden_size // config.num_conv_pos_embedding_groups < RIGHT_GROUP:
        model.encoder.pos_conv_embed.conv = _Float32(model.encoder.pos_conv_embed.conv, dtype)
    return WavLM(model, device=device, scale=scale, layer=layer, top=top, batch_size=batch_size)


class _Float32(nn.Module):
    """Part of a network that always computes in float32, even under autocast, and returns the dtype `answers`."""

    def __init__(self, part: nn.Module, answers: torch.dtype):
        super().__init__()
        self.part, self.answers = part.float(), answers

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.part(x.float()).to(self.answers)


def _scale(folder: Path, settings: dict, odyssey: bool) -> tuple[float, float] | None:
    if odyssey:
        if not {"mean", "std"} <= settings.keys():
            raise WeightsError(f"{NAME}: {folder}/config.json lacks mean and std; fetch it again, or set normalise: waveform")
        return float(settings["mean"]), float(settings["std"]) + 1e-6
    return None if read_json(NAME, folder / "preprocessor_config.json").get("do_normalize") else (0.0, 1.0)


def _weights(folder: Path) -> dict[str, Tensor]:
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    if safe.is_file():
        return read_safe(NAME, safe)
    if pickled.is_file():
        found = read(NAME, pickled)
        if isinstance(found, Mapping) and all(isinstance(value, Tensor) for value in found.values()):
            return dict(found)
        raise WeightsError(f"{NAME}: {pickled}: want a state dict of tensors, got a {type(found).__name__}; fetch the weights again")
    raise WeightsError(f"{NAME}: {folder} holds neither {safe.name} nor {pickled.name}; fetch the weights, or correct the path")
