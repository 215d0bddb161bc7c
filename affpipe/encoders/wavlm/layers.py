"""WavLM in two parts: the top transformer layers, which a model trains with its head, and the frozen rest below them.

Source: Team RAS, sec. 3.3: the top four layers of WavLM-Large are trained. Frozen layers always give the same states, so these are stored
once (rounded to float16) or computed at every step (and rounded in the same way): both ways train on the same numbers.

Departures from transformers' own training: no trained layer is dropped at random, which with four layers would silence a quarter of what is
trained; and attention is torch's fused one, which takes the padding together with the position bias.

The public code of Team RAS leaves the frozen layers in training mode while it fits: dropouts, SpecAugment and layer drop, as the
configuration has them. `live` does that on request. The closing norm is frozen there; here it is trained with the top, unless set
otherwise. The Odyssey checkpoint holds none of these probabilities. So transformers' defaults apply here, to the trained layers too; that
code reads the configuration of microsoft/wavlm-large, which was not available.

Shapes: B windows, S samples, F rows of a window (20 ms each), D width, H heads.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affpipe.core.errors import WeightsError
from affpipe.core.tensors import check_stream, keep
from affpipe.system.compat import ensure_torchvision
from affpipe.system.standins import TRANSFORMERS, lightly

ensure_torchvision()  # transformers' loss functions import it, whatever the model
lightly("transformers.models.wavlm.modeling_wavlm", TRANSFORMERS)

from transformers import WavLMConfig, WavLMModel  # noqa: E402
from transformers.models.wavlm.modeling_wavlm import (  # noqa: E402
    WavLMAttention,
    WavLMEncoderLayer,
    WavLMEncoderLayerStableLayerNorm,
)

NAME = "wavlm"  # in settings and messages

CONFIG = (  # settings that the layers are built from
    *("hidden_size", "intermediate_size", "num_attention_heads", "hidden_act", "layer_norm_eps", "do_stable_layer_norm"),
    *("num_buckets", "max_bucket_distance", "hidden_dropout", "attention_dropout", "activation_dropout"),
)


class _Attention(WavLMAttention):
    """transformers' attention layer with the mask added to the position bias. A separate mask makes torch warn."""

    def torch_multi_head_self_attention(
        self, hidden_states: Tensor, attention_mask: Tensor | None, gated_position_bias: Tensor
    ) -> tuple[Tensor, None]:
        """Attend: (B, F, D), keys to attend to (B, F) bool, (B H, F, F) -> (B, F, D)."""
        q, k, v = (
            part(hidden_states).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, H, F, D / H)
        bias = gated_position_bias.unflatten(0, (-1, self.num_heads)).to(q.dtype)  # (B, H, F, F)
        if attention_mask is not None:
            # finfo.min, not -inf: softmax over a window with nothing present would be NaN.
            bias = bias.masked_fill(~attention_mask[:, None, None, :], torch.finfo(q.dtype).min)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(found.transpose(1, 2).flatten(2)), None


class Top(nn.Module):
    """Last layers of a WavLM with its closing layer norm.

    The embedding of relative positions is part of it and frozen; it belongs to the first layer of the whole model and serves all layers.

    Attributes:
        config: what it is built from, plain JSON types.
        count: number of layers.
        dim: D.
    """

    def __init__(self, config: dict[str, Any], layers: int):
        """Build the layers.

        Args:
            config: settings of transformers' WavLM. Settings that are not named have transformers' defaults.
        """
        super().__init__()
        if layers < 1:
            raise ValueError(f"Top: want at least one layer, got {layers}")
        full = WavLMConfig(**{name: config[name] for name in CONFIG if name in config})
        self.config: dict[str, Any] = {name: getattr(full, name) for name in CONFIG}
        self.count, self.dim = layers, full.hidden_size
        kind = WavLMEncoderLayerStableLayerNorm if full.do_stable_layer_norm else WavLMEncoderLayer
        self.layers = nn.ModuleList(kind(full, has_relative_position_bias=False) for _ in range(layers))
        for i, layer in enumerate(self.layers):
            layer.attention = _Attention(
                full.hidden_size, full.num_attention_heads, full.attention_dropout, full.num_buckets, full.max_bucket_distance, i == 0
            )
        self.layers[0].attention.rel_attn_embed.requires_grad_(False)
        # The other variant normalises the input of its first layer instead.
        self.layer_norm = nn.LayerNorm(full.hidden_size, eps=full.layer_norm_eps) if full.do_stable_layer_norm else nn.Identity()

    @classmethod
    def take(cls, model: WavLMModel, layers: int) -> "Top":
        """Copy the last layers of a whole model in float32, on a CPU and ready to be trained."""
        whole = model.encoder.layers
        if not 1 <= layers <= len(whole):
            raise ValueError(f"Top: want 1 to {len(whole)} layers, got {layers}")
        with torch.device("meta"):
            top = cls(model.config.to_dict(), layers)
        weights = {f"layers.{name}": value for name, value in whole[-layers:].state_dict().items()}
        weights["layers.0.attention.rel_attn_embed.weight"] = whole[0].attention.rel_attn_embed.weight
        if isinstance(top.layer_norm, nn.LayerNorm):
            weights |= {f"layer_norm.{name}": value for name, value in model.encoder.layer_norm.state_dict().items()}
        copies = {name: value.detach().to("cpu", torch.float32, copy=True) for name, value in weights.items()}
        top.load_state_dict(copies, assign=True)
        return top

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Compute the hidden states of the last layer.

        Args:
            x: (B, F, D) input of the first layer. The values of absent rows change nothing.
            present: (B, F) bool.

        Returns: (B, F, D), zero in absent rows.
        """
        check_stream("Top", x, present, self.dim)
        x, positions = keep(x, present), None
        for layer in self.layers:
            x, positions = layer(x, attention_mask=present, position_bias=positions)
        return keep(self.layer_norm(x), present)


def cut(model: WavLMModel, layer: int) -> None:
    """End a model at the unchanged output of a layer, 1-based (0: the input of the first): without the closing layer norm."""
    model.encoder.layers = model.encoder.layers[:layer]
    model.adapter = None
    if model.config.do_stable_layer_norm:
        model.encoder.layer_norm = nn.Identity()


class Trunk:
    """Frozen part of a WavLM. It is no nn.Module, so that its weights do not belong to a module that holds it."""

    def __init__(self, encoder: Any):
        self.encoder, self.dim = encoder, encoder.dim

    def __call__(self, waveforms: Tensor, lengths: Tensor, *, live: bool = False) -> Tensor:
        """Map (B, S) float32 sound with (B,) real samples each to (B, F, D) float32, zero past the end of the sound, without graph.

        States are rounded as a stored feature is and stay on the device of the encoder. `live` runs it as in training, at random, see
        `WavLM.live`. Raises WeightsError if a state is not finite or beyond float16.
        """
        with self.encoder.live() if live else nullcontext():
            states = self.encoder.states(waveforms, lengths).half().float()
        if not states.isfinite().all():
            raise WeightsError(f"{NAME}: want hidden states finite and within 65504, got others; fetch the weights again")
        return states

    def frames(self, lengths: Tensor) -> Tensor:
        """Return (B,) how many of the F rows are real sound, for (B,) samples."""
        return torch.tensor([self.encoder.frame_count(n) for n in lengths.tolist()], device=lengths.device, dtype=torch.int64)


def split(encoder: Any, layers: int) -> tuple[Trunk, Top | None]:
    """Return the frozen and the trainable part of an encoder loaded with `trained_layers`; the second is None if these are 0."""
    found = encoder.top.count if encoder.top else 0
    if layers != found:
        raise ValueError(f"split: want an encoder loaded with trained_layers {layers}, got {found}")
    return Trunk(encoder), encoder.top
