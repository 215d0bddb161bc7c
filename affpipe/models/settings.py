"""Settings of the models: heads on one stream, fusions of heads, how they are fitted."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from affpipe.core.section import Name, Section, after, later
from affpipe.models.training_settings import Augment, Smooth, Training

SpeechOnly = Literal["always", "training", "never"]


class Decode(Section):
    """How outputs become expressions and action units; valence and arousal are taken as they are, see `smooth`."""

    expression_filter: Literal["mode", "median"] = Field("mode", description="over the classes of neighbouring frames")
    expression_frames: int = Field(1, ge=1, description="frames that the filter sees, odd")
    au_frames: int = Field(1, ge=1, description="frames over which probabilities are averaged, odd")
    au_thresholds: Literal["validation", "half"] = Field("validation", description="a unit's best one on validation streams, or 0.5")

    @model_validator(mode="after")
    def _odd(self):
        for name in ("expression_frames", "au_frames"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name}: want an odd number, which has a middle, got {getattr(self, name)}")
        return self


class SequenceModel(Section):
    """What all models share. Lengths count rows of the stream that the model reads."""

    hidden: int = Field(256, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    window: int = Field(400, ge=1, description="rows a model sees at once (L)")
    stride: int = Field(150, ge=1, description="rows between windows (S)")
    fill: Literal["nearest", "none"] = Field(
        "nearest", description="a row that was not observed takes its nearest neighbour, or stays masked"
    )
    standardise: bool = Field(False, description="z-score each input feature with mean and deviation of the training streams")
    training: Training = Training()
    smooth: Smooth = after(Smooth())
    decode: Decode = after(Decode())

    @property
    def members(self) -> tuple[str, ...]:
        """Models that it fuses; none for a model of one stream."""
        return ()

    @model_validator(mode="after")
    def _stride(self):
        if self.stride > self.window:
            raise ValueError(f"want stride of at most window, got {self.stride} > {self.window}")
        return self


class Attention(SequenceModel):
    """Sizes of stacked attention layers (Team RAS, sec. 4.2: N = 5, H = 16)."""

    layers: int = Field(5, ge=1)
    heads: int = Field(16, ge=1)
    feedforward: int = Field(256, ge=1)
    positions: Literal["sinusoidal", "none", "every_layer"] = "sinusoidal"
    position_dropout: float = later(
        0.0, ge=0, lt=1, description="of `positions: every_layer`: query, key and value drop on their own, positions in them (public code)"
    )
    second_residual: bool = Field(False, description="what comes into a layer is added to what comes out of it (public code)")
    activation: Literal["relu", "gelu"] = later("relu", description="of the feed-forward nets; the public code's: gelu")
    dropout_on: Literal["branch", "residual"] = later(
        "branch", description="what a layer drops: what its attention and its feed-forward net say, or what that is added to (public code)"
    )
    start: Literal["xavier", "multihead"] = later(
        "xavier",
        description="of attention's maps: Xavier-uniform each, or as torch's MultiheadAttention, where query, key and value are one "
        "(public code)",
    )

    @model_validator(mode="after")
    def _heads(self):
        if self.hidden % self.heads:
            raise ValueError(f"want hidden that is a multiple of heads, got {self.hidden} and {self.heads}")
        if self.position_dropout and self.positions != "every_layer":
            raise ValueError(f"position_dropout: want positions: every_layer, got {self.positions}; set 0")
        return self


class TransformerModel(Attention):
    """Transformer head on one stream of frames (Team RAS, sec. 3.1)."""

    kind: Literal["transformer"] = "transformer"
    reads: Name
    dataset: Name = Field("values", description="of the stream that it reads: which of the encoder's outputs")
    embedding: Literal["layer", "head"] = later(
        "layer", description="what it hands on: its last layer, or what the last Linear of its head reads (public code)"
    )


class MambaModel(SequenceModel):
    """Mamba head on one stream of segments (Team RAS, sec. 3.2)."""

    kind: Literal["mamba"] = "mamba"
    reads: Name
    dataset: Name = Field("values", description="of the stream that it reads: which of the encoder's outputs")
    hidden: int = Field(128, ge=1)
    window: int = Field(16, ge=1)
    stride: int = Field(8, ge=1)
    layers: int = Field(4, ge=1)
    state: int = Field(8, ge=1)
    kernel: int = Field(3, ge=1)
    head_hidden: int = Field(512, ge=1)
    block: Literal["mamba", "ras2026"] = later("mamba", description="Mamba's, or the public code's own, see models.md")
    start: Literal["torch", "xavier"] = later(
        "torch",
        description="each part's own, or Xavier-uniform for every Linear but that of Mamba's step size, with zero bias (public code)",
    )
    tail: Literal["shifted", "truncated"] = later(
        "shifted", description="the last window of a stream: as long as the others, or from its stride to the end (public code)"
    )


class ChunkModel(SequenceModel):
    """Chunk-wise attentive statistics pooling of one stream of audio windows (Team RAS, sec. 3.3)."""

    kind: Literal["chunk_asp"] = "chunk_asp"
    reads: Name
    window: Literal[1] = 1
    stride: Literal[1] = 1
    fill: Literal["none"] = "none"
    chunks: int = Field(4, ge=1)
    compat: Literal["none", "ras2026"] = Field(
        "none",
        description="labels of a chunk: of the frames shown in it, or by the published rule, which counts frames at the nominal rate",
    )
    cut: Literal["equal", "rounded"] = later(
        "equal", description="of a window's rows into chunks; rounded: borders at whole rows, half to even (public code: 50, 50, 49, 50)"
    )
    attention_hidden: int = Field(128, ge=1)
    attention_dropout: float = later(0.0, ge=0, lt=1, description="within the pooling attention, behind its tanh")
    speech_only: SpeechOnly = Field(
        "always",
        description="leave out windows that the stage `speech` did not retain: always, in training alone, or never",
    )
    expand: Literal["linear", "constant"] = later(
        "constant", description="predictions and embeddings from chunks to frames: linear within a window, or constant within a chunk"
    )
    cache_frozen: bool = Field(True, description="read the feature; else run the encoder's frozen layers on the sound at every step")
    closing_norm: Literal["trained", "frozen"] = later(
        "trained",
        description="the encoder's norm above its last layer, where it has one: trained with the layers that the model trains, or not",
    )
    frozen_mode: Literal["eval", "train"] = later(
        "eval",
        description="of the encoder's frozen layers while the model is fitted; train: with their dropouts, masks (SpecAugment) and layer "
        "drop by the checkpoint's configuration; needs cache_frozen: false",
    )
    augment: Augment | None = Field(None, description="of the sound, in training; needs cache_frozen: false")

    @model_validator(mode="after")
    def _live(self):
        if self.augment and self.cache_frozen:
            raise ValueError("augment changes the sound, which a model that reads cached states never hears; set cache_frozen: false")
        if self.frozen_mode == "train" and self.cache_frozen:
            raise ValueError("frozen_mode: train gives other states at every step, got cached ones; set cache_frozen: false")
        return self

    @field_validator("speech_only", mode="before")
    @classmethod
    def _of_before(cls, value: Any):
        return {True: "always", False: "never"}[value] if isinstance(value, bool) else value

    def spec(self) -> dict[str, Any]:
        """With `always` and `never` as they were written before there was a third: no key moved by the change."""
        dump = super().spec()
        return dump | {"speech_only": {"always": True, "never": False}.get(self.speech_only, self.speech_only)}


class Fusion(SequenceModel):
    """What models of models share."""

    reads: tuple[Name, ...] = Field(min_length=2)
    fill: Literal["none"] = "none"
    inputs: Literal["embedding", "embedding_and_prediction"] = Field("embedding", description="what it takes of each model that it reads")

    @property
    def members(self) -> tuple[str, ...]:
        return self.reads

    @property
    def needed(self) -> str | None:
        """The member without which a frame has no answer; None where any of them will do."""
        return None


class DCMMOEModel(Attention, Fusion):
    """Directed cross-modal mixture of experts over models (Team RAS, sec. 3.4)."""

    kind: Literal["dcmmoe"] = "dcmmoe"
    fill: Literal["none"] = "none"

    @field_validator("fill", mode="before")
    @classmethod
    def _of_before(cls, value: Any):
        return "none" if value == "nearest" else value

    def spec(self) -> dict[str, Any]:
        """With `fill` as it was written before, when it said nearest and no frame was filled: no key moved by the right word."""
        return super().spec() | {"fill": "nearest"}


class CrossAttentionModel(Attention, Fusion):
    """Cross-attention of a chosen query to a chosen context (Team RAS, public code, in place of `dcmmoe`)."""

    kind: Literal["cross_attention"] = "cross_attention"
    query: Name = Field(description="model whose embedding asks, or `mean` of those that are present")
    context: Name = Field(description="model whose embedding is keys and values, or `mean`; where the query is in it, then as updated")
    fill: Literal["nearest", "none"] = Field(
        "none", description="a frame that a model says nothing of takes its nearest one (public code), or stays masked"
    )
    positions: Literal["every_layer", "none"] = "every_layer"

    @property
    def needed(self) -> str | None:
        return None if self.query == "mean" else self.query

    @model_validator(mode="after")
    def _parts(self):
        for name in ("query", "context"):
            if getattr(self, name) not in (*self.reads, "mean"):
                raise ValueError(f"{name}: want one of {[*self.reads, 'mean']}, got {getattr(self, name)!r}")
        if "mean" in self.reads:
            raise ValueError("reads: want no model named mean, which is that of all; rename it")
        if "mean" not in (self.query, self.context) and {self.query, self.context} != set(self.reads):
            raise ValueError(f"reads: want the query and the context alone, or mean as one of them, got {list(self.reads)}")
        return self


class RAAVModel(Fusion):
    """Reliability-aware audio-visual fusion (Team RAS, sec. 3.4; sizes of its public code)."""

    kind: Literal["raav"] = "raav"
    reads: tuple[Name, ...] = Field(min_length=1, description="models of what is seen, weighed against each other at every frame")
    priors: tuple[float, ...] = Field((0.85, 0.15), description="how much each of them is trusted beforehand; they sum to 1")
    audio: Name = Field(description="model of what is heard, read through the latents")
    latents: int = Field(4, ge=1)
    layers: int = Field(1, ge=1)
    heads: int = Field(4, ge=1)
    feedforward: int = Field(1024, ge=1)
    compat: Literal["none", "ras2026"] = later(
        "none",
        description="how frames hear: by the paper's formula, or as in the public code (a norm before, none without sound, torch's start)",
    )
    level: Literal["window", "frame"] = Field("window", description="a sequence is `window_s` seconds of frames, or `window` frames")
    window_s: float = Field(4.0, gt=0)
    hop_s: float = Field(2.0, gt=0)
    audio_rows: Literal["frames", "window"] = later(
        "frames",
        description="what it hears in a window: the audio model's rows on the frames, those of overlapping windows averaged, or the "
        "rows of the window itself; these want level: window on the grid of the audio model",
    )
    speech_only: SpeechOnly = later("never", description="hear only windows with an open mouth: always, in training alone, or never")
    min_open_s: float = later(1.0, ge=0, description="with `speech_only`: least time of an open mouth in a window")
    min_coverage: float = later(0.80, ge=0, le=1, description="with `speech_only`: least part of a window in which the mouth was seen")

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.reads, self.audio)

    @model_validator(mode="after")
    def _sizes(self):
        if self.hidden % self.heads:
            raise ValueError(f"want hidden that is a multiple of heads, got {self.hidden} and {self.heads}")
        if len(self.priors) != len(self.reads) or min(self.priors) <= 0 or abs(sum(self.priors) - 1) > 1e-6:
            raise ValueError(f"priors: want a positive one for each of {list(self.reads)}, in sum 1, got {list(self.priors)}")
        if self.hop_s > self.window_s:
            raise ValueError(f"want hop_s of at most window_s, got {self.hop_s} > {self.window_s}")
        if self.audio_rows == "window" and self.level != "window":
            raise ValueError(f"audio_rows: window wants level: window, got {self.level}; set audio_rows: frames")
        return self


ModelSettings = Annotated[
    TransformerModel | MambaModel | ChunkModel | DCMMOEModel | CrossAttentionModel | RAAVModel, Field(discriminator="kind")
]
