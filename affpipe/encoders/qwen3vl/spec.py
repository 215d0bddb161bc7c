"""Settings and stage of Qwen3-VL."""

import math
from typing import Literal

from pydantic import Field, model_validator

from affpipe.core.section import HEX, later, speed
from affpipe.core.stage import Context, Cost, Need, Network, Stage
from affpipe.faces.settings import Windowed

TEXT_TOKENS = 350  # tokens of the prompt and of the timestamps of a segment
TOKEN_S = 0.03  # assumed, for a token of a description on a GPU


class Qwen3VL(Windowed):
    """Segment embeddings of a vision-language model, visual and multimodal (Team RAS, sec. 3.2)."""

    encoder: Literal["qwen3vl"] = "qwen3vl"
    weights: str = "qwen3vl-tiny"
    weights_revision: str | None = later(None, pattern=HEX)
    describe: bool = Field(False, description="also generate the description that the prompt asks for, and keep it as text")
    description_tokens: int = Field(100, ge=1, description="greatest number of tokens of a description")
    visual_tokens: Literal["video", "marks"] = later(
        "video",
        description="tokens behind `visual_last`, `visual_mean` and `visual_std`: the video's tokens, or the marks around each pair of "
        "frames, which the public code finds: the last is then the last end-of-vision mark, mean and deviation are of the marks alone",
    )
    frames: int = Field(16, ge=1, le=16, description="greatest number of frames of a segment, evenly spaced")
    min_pixels: int = Field(32 * 32, ge=32 * 32, description="least pixels of one frame, after resizing")
    max_pixels: int = Field(448 * 256, ge=32 * 32, description="most pixels of one frame, after resizing")
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = speed(1, ge=1)

    @model_validator(mode="after")
    def _pixels(self):
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"want min_pixels of at most max_pixels, got {self.min_pixels} > {self.max_pixels}")
        return self


def tokens(settings: Qwen3VL) -> int:
    """Return the most tokens of a segment: one for 32 x 32 pixels of two frames, and the text."""
    return math.ceil(settings.frames / 2) * (settings.max_pixels // 1024) + TEXT_TOKENS


def _activations(context: Context, network: Network) -> float:
    """Return the size of a layer's states, its widest product, and six float32 copies of the last states to pool."""
    return tokens(context.settings) * network.width * 24


QWEN3VL = Stage(
    name="qwen3vl",
    level="video",
    reads=("frames",),
    sees=("frames",),
    worker="affpipe.encoders.qwen3vl.worker:qwen3vl",
    revision=2,
    axis="windows",
    cost=Cost(
        0.15,  # the frames of a 4 s segment at 720p in one sequential pass, one CPU core
        operations=lambda context, network: network.parameters * tokens(context.settings),
        activations=_activations,
        seconds=lambda settings: settings.description_tokens * TOKEN_S if settings.describe else 0,
    ),
    row_bytes=lambda context, network: (2 * network.width,) * 6,
    block=lambda settings: settings.batch_size,
    needs=Need(1, 24000, 720, threads=4),
    network=Network(4_440_000_000, 2560, False),
    settings=Qwen3VL,
    modality="behaviour",
    offers=("values", "multimodal_mean", "multimodal_std", "visual_last", "visual_mean", "visual_std"),
)
