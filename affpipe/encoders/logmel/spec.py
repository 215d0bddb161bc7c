"""Settings and stage of the log-mel spectrogram."""

from typing import Literal

from pydantic import Field

from affpipe.core.stage import Context, Cost, Stage
from affpipe.faces.settings import Windowed


class LogMel(Windowed):
    """Log-mel spectrogram of every window."""

    encoder: Literal["logmel"] = "logmel"
    mels: int = Field(64, ge=8, le=256)
    frame_s: float = Field(0.025, gt=0)
    step_s: float = Field(0.010, gt=0)


def steps(context: Context) -> int:
    """Return the number of rows of a whole window."""
    s, rate = context.settings, context.see("audio").sample_rate_hz
    return max(0, (round(s.length_s * rate) - round(s.frame_s * rate)) // round(s.step_s * rate) + 1)


LOGMEL = Stage(
    name="logmel",
    level="video",
    reads=("audio",),
    opens=("frames",),
    sees=("audio",),
    worker="affpipe.encoders.logmel.worker:logmel",
    revision=1,
    axis="windows",
    cost=Cost(2e-3),  # assumed
    row_bytes=lambda context, network: (2 * context.settings.mels * steps(context), 4),
    block=16,
    settings=LogMel,
    modality="audio",
    rows="windows",
    width=lambda settings, network: settings.mels,
    steps=steps,
)
