"""Reliability-aware audio-visual fusion: visual streams are weighed at every frame, audio is context for the whole window.

After "Team RAS in 10th ABAW Competition", sec. 3.4. At every frame a masked softmax of g_m(h_m) + log π_m weighs the visual modalities;
z_vis is their weighted sum. Audio is read through a few learnable latents B_a; z_0 = LN(z_vis + CrossAttn(z_vis, B_a, B_a)). A light
transformer encoder and a regression head follow. Where the paper is silent, this follows its public code: linear projections; g_m of two
layers with GELU; B_a = LN(latents + Attn(latents, audio, audio)); pre-norm encoder layers with GELU and without positions; a head of
LayerNorm, Linear, GELU, Dropout, Linear. With `compat="ras2026"` three more things follow that code and not the paper's formula: the frames
query the latents with a norm of z_vis, a window without audio continues as z_vis itself, attention starts as `nn.MultiheadAttention` does.

Audio comes as a few rows of each window (as in the public code: four seconds, four rows), or on the frames like the other streams. There
each row is repeated over the frames that it covers, so its weight is the number of these frames. Presence, per frame:
- The softmax runs over the visual modalities that are present. If none is, gate and z_vis are zero and the frame has audio only: z_0 comes
  from the latents alone. Since the encoder has no positions, the frames of a window with audio only share one prediction.
- If a whole window has no audio, z_0 = LN(z_vis), or z_vis with `compat="ras2026"`.
- Frames where nothing is present are not attended to; their embedding and prediction are zero.
Values in absent rows change nothing, nor do rows of padding.
Shapes: B batch, T frames, V visual modalities, M = V + 1, D_m width of modality m, K latents, H hidden width, O outputs.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from affpipe.core.errors import InputError
from affpipe.core.tensors import keep
from affpipe.models.branches.blocks import Attention, check_word
from affpipe.models.fusions.interface import Fused, check_streams

COMPAT = ("none", "ras2026")
LATENT_SCALE = 0.02  # initial standard deviation of the latents (public code)


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer with GELU."""

    def __init__(self, dim: int, *, heads: int, feedforward: int, dropout: float, start: Literal["xavier", "multihead"] = "xavier"):
        super().__init__()
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads=heads, dropout=dropout, start=start)
        self.feedforward = nn.Sequential(nn.Linear(dim, feedforward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feedforward, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Map (B, T, H), (B, T) bool to (B, T, H)."""
        read = self.norm_attention(x)
        x = x + self.dropout(self.attention(read, read, present))
        return x + self.dropout(self.feedforward(self.norm_feedforward(x)))


class RAAV(nn.Module):
    """Fusion of visual streams with audio as context; the order of `dims` (name -> D_m) is (*visual, audio) and orders the M axis.

    Args:
        priors: (V,) positive, the prior trust in each visual modality. Only their ratios matter.
        compat: "ras2026" reads audio as the public code does, see above.

    Attributes:
        gate_names: (V,) names of the entries of the gate, the visual modalities.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        visual: tuple[str, ...],
        priors: tuple[float, ...],
        audio: str,
        hidden: int,
        latents: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        outputs: int = 2,
        compat: Literal["none", "ras2026"] = "none",
    ):
        super().__init__()
        check_word("RAAV", "compat", compat, COMPAT)
        if not visual or tuple(dims) != (*visual, audio):
            raise InputError(f"RAAV: want widths of at least one visual stream, then audio, got {list(dims)} for {[*visual, audio]}")
        if len(priors) != len(visual) or min(priors) <= 0:
            raise InputError(f"RAAV: want a positive prior for each of {', '.join(visual)}, got {list(priors)}")
        self.dims, self.visual, self.audio = dict(dims), tuple(visual), audio
        self.gate_names = self.visual
        self.project = nn.ModuleDict({m: nn.Linear(d, hidden) for m, d in dims.items()})
        self.score = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, 1)) for m in visual}
        )
        self.register_buffer("log_priors", torch.tensor(priors, dtype=torch.float32).log(), persistent=False)
        self.latents = nn.Parameter(LATENT_SCALE * torch.randn(latents, hidden))
        sizes = {"heads": heads, "dropout": dropout, "start": "multihead" if compat == "ras2026" else "xavier"}
        self.listen, self.consult = (Attention(hidden, **sizes) for _ in range(2))
        self.norm_latents, self.norm_fused = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.norm_seen = nn.LayerNorm(hidden) if compat == "ras2026" else None
        self.layers = nn.ModuleList(EncoderLayer(hidden, feedforward=feedforward, **sizes) for _ in range(layers))
        self.head = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
        )

    def forward(self, streams: Mapping[str, Tensor], present: Tensor, heard: Tensor | None = None) -> Fused:
        """Fuse and predict every frame.

        Args:
            streams: modality -> (B, T, D_m); values in absent rows change nothing.
            present: (B, T, M) bool, True where the modality was observed.
            heard: (B, A) bool, present rows of an audio stream (B, A, D) with A rows of each window's own. The last column of `present`
                then says which frames have sound.

        Returns:
            prediction (B, T, O), unbounded, and embedding (B, T, H), both zero where nothing is present; gate (B, T, V), which sums to 1
            over the present visual modalities, zero where none is.
        """
        check_streams("RAAV", streams, present, self.dims, {} if heard is None else {self.audio: heard})
        here = dict(zip(self.dims, present.unbind(dim=-1), strict=True))  # modality -> (B, T)
        here |= {} if heard is None else {self.audio: heard}
        states = {m: keep(self.project[m](keep(streams[m], here[m])), here[m]) for m in self.dims}  # modality -> (B, T, H)

        gate = self._weigh(states, present[..., :-1])  # (B, T, V)
        seen = (gate.unsqueeze(-1) * torch.stack([states[m] for m in self.visual], dim=2)).sum(dim=2)  # (B, T, V, H) -> (B, T, H)
        asked = seen if self.norm_seen is None else self.norm_seen(seen)
        x = self.norm_fused(seen + self._hear(asked, states[self.audio], here[self.audio]))
        if self.norm_seen is not None:
            x = torch.where(here[self.audio].any(dim=1)[:, None, None], x, seen)

        any_present = present.any(dim=-1)  # (B, T)
        for layer in self.layers:
            x = layer(x, any_present)
        embedding = keep(x, any_present)
        return Fused(keep(self.head(embedding), any_present), embedding, gate)

    def _weigh(self, states: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Return the gate (B, T, V): softmax of score and log prior over the present (B, T, V) modalities."""
        scores = torch.cat([self.score[m](states[m]) for m in self.visual], dim=-1) + self.log_priors  # (B, T, V)
        # finfo.min, not -inf: softmax over a frame with nothing present would be NaN.
        return scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(dim=-1) * present

    def _hear(self, asked: Tensor, audio: Tensor, present: Tensor) -> Tensor:
        """Return the attention of each frame (B, T, H) to the latents, which have read the audio; zero without audio.

        Args:
            asked: (B, T, H), the queries of the frames.
            audio: (B, A or T, H). present: (B, A or T) bool.
        """
        latents = self.latents.expand(len(audio), -1, -1)  # (B, K, H)
        latents = self.norm_latents(latents + self.listen(latents, audio, present))
        any_audio = present.any(dim=1, keepdim=True).expand(-1, latents.shape[1])  # (B, K)
        return self.consult(asked, latents, any_audio)
