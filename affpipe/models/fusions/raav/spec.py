"""Settings and declaration of reliability-aware audio-visual fusion."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from affpipe.core.section import Name, later
from affpipe.models.part import LARGE_FIT, ModelPart, attention_numbers
from affpipe.models.settings import Fusion, SpeechOnly


class RAAVModel(Fusion):
    """Reliability-aware audio-visual fusion (Team RAS, sec. 3.4; sizes of its public code)."""

    kind: Literal["raav"] = "raav"
    reads: tuple[Name, ...] = Field(min_length=1, description="visual models, weighed against each other at every frame")
    priors: tuple[float, ...] = Field((0.85, 0.15), description="prior trust in each of them; they sum to 1")
    audio: Name = Field(description="audio model, read through the latents")
    latents: int = Field(4, ge=1)
    layers: int = Field(1, ge=1)
    heads: int = Field(4, ge=1)
    feedforward: int = Field(1024, ge=1)
    compat: Literal["none", "ras2026"] = later(
        "none",
        description="how frames read audio: the paper's formula, or the public code (a norm before, none without sound, torch's start)",
    )
    level: Literal["window", "frame"] = Field("window", description="a sequence is `window_s` seconds of frames, or `window` frames")
    window_s: float = Field(4.0, gt=0)
    hop_s: float = Field(2.0, gt=0)
    audio_rows: Literal["frames", "window"] = later(
        "frames",
        description="audio of a window: the audio model's rows on the frames, those of overlapping windows averaged, or the "
        "rows of the window itself; these need level: window on the grid of the audio model",
    )
    speech_only: SpeechOnly = later(
        "never", description="use audio only of windows with an open mouth: always, in training alone, or never"
    )
    min_open_s: float = later(1.0, ge=0, description="with `speech_only`: least time for which the mouth is open in a window")
    min_coverage: float = later(0.80, ge=0, le=1, description="with `speech_only`: least share of a window in which the mouth was seen")

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.reads, self.audio)

    def heard(self, models: Mapping[str, Any]) -> str:
        return models[self.audio].reads

    def check_members(self, where: str, models: Mapping[str, Any], features: Mapping[str, Any]) -> None:
        """Check that the audio windows of the fusion are windows of its audio model."""
        if self.audio_rows == "frames" and self.speech_only == "never":
            return
        audio = models[self.audio]
        if not hasattr(audio, "chunks"):
            what = "audio_rows: window" if self.audio_rows == "window" else f"speech_only: {self.speech_only}"
            raise ValueError(f"{where}.audio: {what} wants a model of audio windows (chunk_asp), got {self.audio!r}, a {audio.kind}")
        feature = features[audio.reads]
        if self.audio_rows == "window" and (feature.length_s, feature.hop_s) != (self.window_s, self.hop_s):
            raise ValueError(
                f"{where}: audio_rows: window wants window_s, hop_s as length_s, hop_s of features.{audio.reads}, got "
                f"{(self.window_s, self.hop_s)} and {(feature.length_s, feature.hop_s)}; make them equal, or set audio_rows: frames"
            )

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


def _arguments(s: RAAVModel, dims: Mapping[str, int]) -> dict[str, Any]:
    names = ("hidden", "latents", "layers", "heads", "feedforward", "priors", "audio", "compat", "dropout")
    return {"dims": {m: dims[m] for m in s.members}, "visual": s.reads, **{name: getattr(s, name) for name in names}}


RAAV = ModelPart(
    name="raav",
    settings=RAAVModel,
    revision=3,
    network="affpipe.models.fusions.raav.network:RAAV",
    arguments=_arguments,
    reads="members",
    gates=lambda s: len(s.reads),
    row_s=1e-3,  # by a cold run of the demo
    kept=attention_numbers,
    fit_needs=LARGE_FIT,
)
