"""Settings and stage of GRADA."""

from typing import Literal

from pydantic import Field

from affpipe.core.section import HEX, Section, later, speed
from affpipe.core.stage import Cost, Need, Network, Stage

WIDTH = 256
ADDS = 0.9e9  # multiply-adds for an image of 240 x 240, by its paper


class Grada(Section):
    """Expression embedding of the subject's face (Team RAS, sec. 3.1)."""

    encoder: Literal["grada"] = "grada"
    weights: str = Field("grada-tiny", description="a file or folder of the checkpoints")
    weights_revision: str | None = later(None, pattern=HEX)
    side: int = Field(240, ge=32, le=1024, description="side of the square that the network sees, pixels")
    margin: float = Field(0.0, ge=0, le=1, description="margin kept around the detector's box on each side, in boxes")
    dtype: Literal["float32", "bfloat16"] = "float32"
    backend: Literal["torch", "openvino"] = speed(
        "torch", description="library that runs the network; openvino, an optional package, is quicker on a CPU and differs by rounding"
    )
    batch_size: int = speed(32, ge=1)


GRADA = Stage(
    name="grada",
    level="stream",
    reads=("faces", "subject"),
    worker="affpipe.encoders.grada.worker:grada",
    revision=2,
    cost=Cost(
        5e-3,  # JPEG of 240 x 240 read, resized, normalised, one CPU core
        operations=lambda context, network: ADDS * (context.settings.side / 240) ** 2,
        activations=lambda context, network: context.settings.side**2 * 32 * 6,
    ),
    row_bytes=lambda context, network: (4 * WIDTH, 32, 8),
    block=256,
    needs=Need(1, 8000, 240, threads=8),
    network=Network(6_900_000, WIDTH, False),
    settings=Grada,
    modality="face",
    offers=("values", "emotion", "va"),
    width=lambda settings, network: WIDTH,
)
