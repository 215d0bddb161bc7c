"""Settings and declaration of chunk-wise attentive statistics pooling."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from affpipe.core.section import Name, Section, later
from affpipe.models.part import LARGE_FIT, ModelPart
from affpipe.models.settings import SequenceModel, SpeechOnly
from affpipe.models.training_settings import Augment


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
        description="labels of a chunk: those of the frames shown in it, or by the published rule, which counts frames at the nominal rate",
    )
    cut: Literal["equal", "rounded"] = later(
        "equal", description="cut of a window's rows into chunks; rounded: borders rounded half to even (public code: 50, 50, 49, 50)"
    )
    attention_hidden: int = Field(128, ge=1)
    attention_dropout: float = later(0.0, ge=0, lt=1, description="dropout within the pooling attention, after its tanh")
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
        description="norm after the encoder's last layer, if it has one: trained with the layers that the model trains, or frozen",
    )
    frozen_mode: Literal["eval", "train"] = later(
        "eval",
        description="mode of the encoder's frozen layers during fitting; train: with their dropouts, masks (SpecAugment) and layer "
        "drop as the checkpoint's configuration sets them; needs cache_frozen: false",
    )
    augment: Augment | None = Field(None, description="random changes of the sound in training; needs cache_frozen: false")

    @property
    def within(self) -> str:
        return "" if self.cache_frozen else self.reads

    def heard(self, models: Mapping[str, Any]) -> str:
        return self.reads

    def check_feature(self, where: str, feature: Section) -> None:
        trained = getattr(feature, "trained_layers", 0)
        if self.closing_norm == "frozen" and not trained:
            raise ValueError(f"{where}.closing_norm: want trained_layers of features.{self.reads}, got none; leave it trained")
        if self.standardise and (trained or not self.cache_frozen):
            raise ValueError(f"{where}.standardise: the layers of features.{self.reads} want their input as it is; leave it false")

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
        """Return the spec with `always` and `never` as they were written before there was a third word: so no key moved."""
        dump = super().spec()
        return dump | {"speech_only": {"always": True, "never": False}.get(self.speech_only, self.speech_only)}


def _arguments(s: ChunkModel, dims: Mapping[str, int]) -> dict[str, Any]:
    names = ("chunks", "cut", "hidden", "attention_hidden", "attention_dropout", "dropout")
    return {"dim": dims[s.reads], **{name: getattr(s, name) for name in names}}


CHUNK_ASP = ModelPart(
    name="chunk_asp",
    settings=ChunkModel,
    revision=3,
    network="affpipe.models.heads.chunk_asp.network:ChunkHead",
    arguments=_arguments,
    reads="windows",
    row_s=2e-3,  # by a cold run of the demo
    fit_needs=LARGE_FIT,
)
