"""Typed settings: what may be set, its default and its limits. Defaults exist only here.

A setting marked with `speed()` changes how fast a value is made, never the value, and so stays out of keys.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
WAVLM_RATE_HZ = 16000
MEDIA_STAGES = ("frames", "audio", "faces", "subject", "landmarks", "mouth", "speech")


def speed(default: Any, **limits: Any) -> Any:
    """A field that cannot change a value and therefore is no part of any key."""
    return Field(default, json_schema_extra={"speed": True}, **limits)


class Section(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def spec(self) -> dict[str, Any]:
        """The part that alters values, as plain JSON types: what a key hashes."""
        dump = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if (field.json_schema_extra or {}).get("speed"):
                del dump[name]
            elif isinstance(value, Section):
                dump[name] = value.spec()
            elif isinstance(value, Mapping):
                dump[name] |= {key: section.spec() for key, section in value.items()}
        return dump


# ---- media stages -----------------------------------------------------------------------------------------------------------------------


class Frames(Section):
    """Decode once, keep the timestamps."""

    backend: Literal["pyav", "decord"] = "pyav"


class Audio(Section):
    """Mono track on the video's clock."""

    sample_rate_hz: int = Field(16000, ge=8000, le=48000)
    offset_s: float = Field(0.0, ge=-10, le=10, description="added to the track's timestamps, for recordings whose sound is out of step")


class Faces(Section):
    """Detect, track and cut out every face."""

    detector: Literal["mediapipe"] = "mediapipe"
    model: Literal["both", "full_range", "short_range"] = "both"
    min_score: float = Field(0.5, gt=0, le=1)
    min_iou: float = Field(0.3, ge=0, le=1)
    max_gap_frames: int = Field(5, ge=0)
    crop_margin: float = Field(0.5, ge=0, le=2, description="on each side, in boxes")
    crop_side: int = Field(256, ge=32, le=2048, description="longest side of a kept crop, pixels")
    jpeg_quality: int = Field(90, ge=1, le=100)


class Subject(Section):
    """Which tracks are the subject; a curation file (stream_id,tracks) overrides the rule of the manifest."""

    curation: str | None = speed(None)  # its rows enter the identity of the streams that they name


class Landmarks(Section):
    """FaceMesh on the subject's crops."""

    model: str = Field("bundled", description="bundled, or the path of a face_landmarker.task")


class Mouth(Section):
    """Mouth opening per frame (Team RAS, sec. 3.3; constants of its public code)."""

    compat: Literal["none", "ras2026"] = "none"
    smooth_frames: int = Field(30, ge=2)
    gap_s: float = Field(0.15, ge=0)
    burst_s: float = Field(0.20, ge=0)


class Windowed(Section):
    """A grid of windows over a video (Team RAS, sec. 3.3: 4 s windows every 2 s)."""

    length_s: float = Field(4.0, gt=0)
    hop_s: float = Field(2.0, gt=0)

    @model_validator(mode="after")
    def _hop(self):
        if self.hop_s > self.length_s:
            raise ValueError(f"hop_s must not exceed length_s, got {self.hop_s} > {self.length_s}")
        return self


class Speech(Windowed):
    """Windows in which the subject's mouth is open long enough to be heard."""

    min_open_ratio: float = Field(0.25, ge=0, le=1)
    min_coverage: float = Field(0.80, ge=0, le=1)


# ---- features ---------------------------------------------------------------------------------------------------------------------------


class Mesh(Section):
    """Pose- and size-normalised FaceMesh geometry."""

    encoder: Literal["mesh"] = "mesh"


class Qwen3VL(Windowed):
    """Segment embedding of a vision-language model (Team RAS, sec. 3.2)."""

    encoder: Literal["qwen3vl"] = "qwen3vl"
    weights: str = "qwen3vl-tiny"
    setting: Literal["multimodal", "visual"] = "multimodal"
    frames: int = Field(16, ge=1, le=16, description="uniformly thinned from a segment")
    min_pixels: int = Field(32 * 32, ge=32 * 32, description="of one frame, after resizing")
    max_pixels: int = Field(448 * 256, ge=32 * 32, description="of one frame, after resizing")
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = speed(1, ge=1)

    @model_validator(mode="after")
    def _pixels(self):
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels must not exceed max_pixels, got {self.min_pixels} > {self.max_pixels}")
        return self


class WavLM(Windowed):
    """Hidden states of a speech model for every window (Team RAS, sec. 3.3)."""

    encoder: Literal["wavlm"] = "wavlm"
    weights: str = "wavlm-tiny"
    layer: int | None = Field(None, ge=0, description="transformer layer whose output is kept, from 1 (0: its input); none: the last")
    normalise: Literal["checkpoint", "waveform"] = Field(
        "checkpoint", description="mean and deviation: the checkpoint's, or each window's own"
    )
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = speed(8, ge=1)


class LogMel(Windowed):
    """Log-mel spectrogram of every window."""

    encoder: Literal["logmel"] = "logmel"
    mels: int = Field(64, ge=8, le=256)
    frame_s: float = Field(0.025, gt=0)
    step_s: float = Field(0.010, gt=0)


Feature = Annotated[Mesh | Qwen3VL | WavLM | LogMel, Field(discriminator="encoder")]


# ---- models -----------------------------------------------------------------------------------------------------------------------------


class Loss(Section):
    """1 - CCC, with optional MAE and MSE terms (Team RAS, sec. 4.2)."""

    valence_weight: float = Field(0.5, ge=0)
    arousal_weight: float = Field(0.5, ge=0)
    mae_weight: float = Field(0.0, ge=0)
    mse_weight: float = Field(0.0, ge=0)


class Training(Section):
    """How a model is fitted (Team RAS, sec. 4.2, where a value is given there)."""

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(8, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    plateau_factor: float = Field(0.1, gt=0, lt=1)
    plateau_patience: int = Field(5, ge=0)
    stop_patience: int = Field(15, ge=1)
    clip_norm: float = Field(1.0, gt=0)
    loss: Loss = Loss()


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

    @model_validator(mode="after")
    def _stride(self):
        if self.stride > self.window:
            raise ValueError(f"stride must not exceed window, got {self.stride} > {self.window}")
        return self


class Attention(SequenceModel):
    """Sizes of stacked attention layers (Team RAS, sec. 4.2: N = 5, H = 16)."""

    layers: int = Field(5, ge=1)
    heads: int = Field(16, ge=1)
    feedforward: int = Field(256, ge=1)

    @model_validator(mode="after")
    def _heads(self):
        if self.hidden % self.heads:
            raise ValueError(f"hidden must be a multiple of heads, got {self.hidden} and {self.heads}")
        return self


class TransformerModel(Attention):
    """Transformer head on one stream of frames (Team RAS, sec. 3.1)."""

    kind: Literal["transformer"] = "transformer"
    reads: Name
    positions: Literal["sinusoidal", "none", "every_layer"] = "sinusoidal"


class MambaModel(SequenceModel):
    """Mamba head on one stream of segments (Team RAS, sec. 3.2)."""

    kind: Literal["mamba"] = "mamba"
    reads: Name
    hidden: int = Field(128, ge=1)
    window: int = Field(16, ge=1)
    stride: int = Field(8, ge=1)
    layers: int = Field(4, ge=1)
    state: int = Field(8, ge=1)
    kernel: int = Field(3, ge=1)
    head_hidden: int = Field(512, ge=1)


class ChunkModel(SequenceModel):
    """Chunk-wise attentive statistics pooling of one stream of audio windows (Team RAS, sec. 3.3)."""

    kind: Literal["chunk_asp"] = "chunk_asp"
    reads: Name
    window: Literal[1] = 1
    stride: Literal[1] = 1
    fill: Literal["none"] = "none"
    chunks: int = Field(4, ge=1)
    attention_hidden: int = Field(128, ge=1)
    speech_only: bool = Field(True, description="leave out windows that the stage `speech` did not retain, in training and after it")


class DCMMOEModel(Attention):
    """Directed cross-modal mixture of experts over models (Team RAS, sec. 3.4)."""

    kind: Literal["dcmmoe"] = "dcmmoe"
    reads: tuple[Name, ...] = Field(min_length=2)
    fill: Literal["none"] = "none"
    positions: Literal["sinusoidal", "none"] = "sinusoidal"


ModelSettings = Annotated[TransformerModel | MambaModel | ChunkModel | DCMMOEModel, Field(discriminator="kind")]


# ---- everything -------------------------------------------------------------------------------------------------------------------------


class Settings(Section):
    """A run: which data, which stages, which models, where to."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="results go to <results>/<name>")
    task: Literal["va"] = "va"
    manifest: str = "data_manifest.csv"
    data_root: str = "."
    cache: str = "cache"
    results: str = "results"
    weights: str = "weights"
    device: Literal["cpu", "cuda"] = "cpu"
    shards: int = Field(16, ge=1, le=1000, description="extraction jobs a stage, in each of the groups fit and rest")
    seed: int = Field(42, ge=0, lt=2**32)
    on_error: Literal["stop", "skip"] = "stop"
    frames: Frames = Frames()
    audio: Audio = Audio()
    faces: Faces = Faces()
    subject: Subject = Subject()
    landmarks: Landmarks = Landmarks()
    mouth: Mouth = Mouth()
    speech: Speech = Speech()
    features: dict[Name, Feature] = Field(min_length=1)
    models: dict[Name, ModelSettings] = Field(min_length=1)
    publish: Name = Field(description="the model whose predictions are the result of the run")

    @model_validator(mode="after")
    def _names(self):
        taken = [*MEDIA_STAGES, *self.features]
        for name in self.features:
            if name in MEDIA_STAGES:
                raise ValueError(f"features.{name}: the name is that of a stage; choose another")
            if self.features[name].encoder == "wavlm" and self.audio.sample_rate_hz != WAVLM_RATE_HZ:
                raise ValueError(f"features.{name}: WavLM hears {WAVLM_RATE_HZ} Hz, got audio.sample_rate_hz {self.audio.sample_rate_hz}")
            twins = [n for n, feature in self.features.items() if feature.spec() == self.features[name].spec()]
            if len(twins) > 1:  # one key, hence one folder with two rules that make it
                raise ValueError(f"features.{twins[1]}: the same as features.{twins[0]}; remove one and let all models read the other")
        for name, model in self.models.items():
            if name in taken:
                raise ValueError(f"models.{name}: the name is that of a stage or feature; choose another")
            fusion = isinstance(model.reads, tuple)
            known = [n for n, m in self.models.items() if isinstance(m.reads, str)] if fusion else list(self.features)
            for read in model.reads if fusion else (model.reads,):
                if read not in known:
                    raise ValueError(f"models.{name}.reads: want one of {known}, got {read!r}")
            if fusion and len(set(model.reads)) < len(model.reads):
                raise ValueError(f"models.{name}.reads: a model is named twice in {list(model.reads)}")
            if not fusion:
                self._check_input(name, model, self.features[model.reads])
        if self.publish not in self.models:
            raise ValueError(f"publish: want one of {list(self.models)}, got {self.publish!r}")
        return self

    def _check_input(self, name: str, model: SequenceModel, feature: Section) -> None:
        chunked = isinstance(model, ChunkModel)
        if chunked != isinstance(feature, WavLM | LogMel):
            want = "windows of audio (wavlm, logmel)" if chunked else "one vector a row (mesh, qwen3vl)"
            raise ValueError(f"models.{name}.reads: {model.kind} wants {want}, got {model.reads!r}, of the encoder {feature.encoder}")
        if chunked and model.speech_only:
            grids = [(s.length_s, s.hop_s) for s in (feature, self.speech)]
            if grids[0] != grids[1]:
                raise ValueError(
                    f"models.{name}: speech_only wants features.{model.reads} and speech on one grid, got length_s, hop_s {grids[0]} and "
                    f"{grids[1]}; make them equal, or set speech_only: false"
                )
