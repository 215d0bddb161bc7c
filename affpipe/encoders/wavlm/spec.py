"""Settings and stage of WavLM."""

from typing import Literal

from pydantic import Field, model_validator

from affpipe.core.section import HEX, later, speed
from affpipe.core.stage import Context, Cost, Need, Network, Stage
from affpipe.faces.settings import Windowed

RATE_HZ = 16000
STRIDE, FIELD = 320, 400  # samples between two rows, and samples of the first one
ROW_S = FIELD / RATE_HZ


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
        if self.length_s < ROW_S:
            raise ValueError(f"length_s: WavLM hears nothing in less than {ROW_S} s, got {self.length_s}")
        return self


def steps(context: Context) -> int:
    """Return the number of rows of a whole window."""
    return max(0, (round(context.settings.length_s * RATE_HZ) - FIELD) // STRIDE + 1)


WAVLM = Stage(
    name="wavlm",
    level="video",
    reads=("audio",),
    opens=("frames",),
    sees=("audio",),
    worker="affpipe.encoders.wavlm.worker:wavlm",
    revision=1,
    axis="windows",
    cost=Cost(
        2e-2,  # by a cold run of the demo, less the network
        operations=lambda context, network: network.parameters * steps(context),
        # The first convolution gives 512 channels at a fifth of the sample rate.
        activations=lambda context, network: context.settings.length_s * RATE_HZ / 5 * 512 * 3,
    ),
    row_bytes=lambda context, network: (2 * network.width * steps(context), 4),
    block=lambda settings: max(16, settings.batch_size),
    needs=Need(1, 16000, 240),
    network=Network(316_000_000, 1024, False),
    settings=WavLM,
    modality="audio",
    rows="windows",
    sample_rate_hz=RATE_HZ,
    steps=steps,
    within="affpipe.encoders.wavlm.within",
)
