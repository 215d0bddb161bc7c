"""Settings of the features: one section an encoder."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from affpipe.core.section import HEX, Section, later, speed
from affpipe.faces.settings import Windowed

DATASETS = {  # encoder -> what its stream offers to a model; of the others `values` alone
    "grada": ("values", "emotion", "va"),
    "qwen3vl": ("values", "multimodal_mean", "multimodal_std", "visual_last", "visual_mean", "visual_std"),
}
WAVLM_ROW_S = 0.025


class Mesh(Section):
    """Pose- and size-normalised FaceMesh geometry."""

    encoder: Literal["mesh"] = "mesh"


class Grada(Section):
    """Expression embedding of the subject's face (Team RAS, sec. 3.1)."""

    encoder: Literal["grada"] = "grada"
    weights: str = Field("grada-tiny", description="a file or folder of the checkpoints")
    weights_revision: str | None = later(None, pattern=HEX)
    side: int = Field(240, ge=32, le=1024, description="of the square that the network sees, pixels")
    margin: float = Field(0.0, ge=0, le=1, description="kept round the detector's box on each side, in boxes")
    dtype: Literal["float32", "bfloat16"] = "float32"
    backend: Literal["torch", "openvino"] = speed(
        "torch", description="what runs the network; openvino, an optional package, is quicker on a CPU and differs by rounding"
    )
    batch_size: int = speed(32, ge=1)


class Qwen3VL(Windowed):
    """Segment embeddings of a vision-language model, visual and multimodal (Team RAS, sec. 3.2)."""

    encoder: Literal["qwen3vl"] = "qwen3vl"
    weights: str = "qwen3vl-tiny"
    weights_revision: str | None = later(None, pattern=HEX)
    describe: bool = Field(False, description="also generate the description that the prompt asks for, and keep it as text")
    description_tokens: int = Field(100, ge=1, description="of a description, at most")
    visual_tokens: Literal["video", "marks"] = later(
        "video",
        description="what `visual_last`, `visual_mean` and `visual_std` are of: the video's tokens, or the marks round each pair of "
        "frames, which the public code finds: the last is then the last end-of-vision mark, mean and deviation are of the marks alone",
    )
    frames: int = Field(16, ge=1, le=16, description="uniformly thinned from a segment")
    min_pixels: int = Field(32 * 32, ge=32 * 32, description="of one frame, after resizing")
    max_pixels: int = Field(448 * 256, ge=32 * 32, description="of one frame, after resizing")
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = speed(1, ge=1)

    @model_validator(mode="after")
    def _pixels(self):
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"want min_pixels of at most max_pixels, got {self.min_pixels} > {self.max_pixels}")
        return self


class WavLM(Windowed):
    """Hidden states of a speech model for every window (Team RAS, sec. 3.3)."""

    encoder: Literal["wavlm"] = "wavlm"
    weights: str = "wavlm-tiny"
    weights_revision: str | None = later(None, pattern=HEX)
    layer: int | None = Field(None, ge=0, description="transformer layer whose output is kept, from 1 (0: its input); none: the last")
    trained_layers: int = Field(
        0, ge=0, description="top layers that the model which reads this feature trains; the feature is what enters them"
    )
    normalise: Literal["checkpoint", "waveform"] = Field(
        "checkpoint", description="mean and deviation: the checkpoint's, or each window's own"
    )
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = speed(8, ge=1)

    @model_validator(mode="after")
    def _layers(self):
        if self.trained_layers and self.layer is not None:
            raise ValueError(f"layer and trained_layers exclude each other, got {self.layer} and {self.trained_layers}; set one")
        if self.length_s < WAVLM_ROW_S:
            raise ValueError(f"length_s: WavLM hears nothing in less than {WAVLM_ROW_S} s, got {self.length_s}")
        return self


class LogMel(Windowed):
    """Log-mel spectrogram of every window."""

    encoder: Literal["logmel"] = "logmel"
    mels: int = Field(64, ge=8, le=256)
    frame_s: float = Field(0.025, gt=0)
    step_s: float = Field(0.010, gt=0)


Feature = Annotated[Mesh | Grada | Qwen3VL | WavLM | LogMel, Field(discriminator="encoder")]
