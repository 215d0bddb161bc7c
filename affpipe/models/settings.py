"""Settings that kinds of models share; those of a kind stand beside its network."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from affpipe.core.section import Name, Section, after, later
from affpipe.core.tasks.task import Decoding, Task, Tasks
from affpipe.models.training_settings import LOSS_FIELDS, OFFICIAL, Odd, Smooth, Training

SpeechOnly = Literal["always", "training", "never"]


class TaskDecode(Section):
    """Decoding of a further task: how outputs become labels."""

    filter: Literal["mode", "median"] = Field("mode", description="filter over the classes of neighbouring frames")
    frames: Odd = Field(1, ge=1, description="frames that the filter covers (classes), or over which probabilities are averaged (units)")
    thresholds: Literal["validation", "half"] = Field(
        "validation", description="thresholds of units: the best ones on validation streams, or 0.5"
    )


DECODE_FIELDS = {"dimensions": set(), "classes": {"filter", "frames"}, "units": {"frames", "thresholds"}}


class Decode(Section):
    """Decoding: how outputs become classes and units; dimensions are taken as they are, see `smooth`."""

    expression_filter: Literal["mode", "median"] = Field("mode", description="filter over the classes of neighbouring frames")
    expression_frames: Odd = Field(1, ge=1, description="frames that the filter covers, odd")
    au_frames: Odd = Field(1, ge=1, description="frames over which probabilities are averaged, odd")
    au_thresholds: Literal["validation", "half"] = Field(
        "validation", description="thresholds of units: the best ones on validation streams, or 0.5"
    )
    tasks: dict[Name, TaskDecode] = later({}, description="decoding of further tasks, by name")

    def of(self, task: str) -> TaskDecode:
        """Return the settings of a task."""
        if task not in OFFICIAL:
            return self.tasks.get(task, TaskDecode())
        own = {"expr": {"filter": self.expression_filter, "frames": self.expression_frames}}
        own["au"] = {"frames": self.au_frames, "thresholds": self.au_thresholds}
        return TaskDecode(**own.get(task, {}))


class SequenceModel(Section):
    """Settings that all models share. Lengths count rows of the stream that the model reads."""

    hidden: int = Field(256, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    window: int = Field(400, ge=1, description="rows that a model sees at once (L)")
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
        """Models that it fuses; empty for a model of one stream."""
        return ()

    @property
    def within(self) -> str:
        """The feature whose encoder it runs itself; "" if it reads streams alone."""
        return ""

    def by_mouth(self, fitting: bool) -> bool:
        """Tell whether it leaves out windows by the mouth, as its `speech_only`, if it has one, says; fitting: True in training."""
        rule = getattr(self, "speech_only", "never")
        return rule == "always" or (fitting and rule == "training")

    def heard(self, models: Mapping[str, Any]) -> str:
        """Return the feature whose windows are selected by the mouth; "" if there is none. models: those of the run."""
        return ""

    def chooses_thresholds(self, task: Task) -> bool:
        """Tell whether thresholds of a task are found on validation streams."""
        return bool(task.thresholded) and self.decode.of(task.name).thresholds == "validation"

    def decoding(self, task: Task, thresholds: np.ndarray | None = None) -> Decoding:
        """Return how a task's outputs become labels. thresholds: (O,), those that a fit has found."""
        own = self.decode.of(task.name)
        if task.kind == "dimensions":
            return Decoding(self.smooth.filter, tuple(self.smooth.of(name) for name in task.columns))
        if task.kind == "classes":
            return Decoding(own.filter, (own.frames,))
        return Decoding("mean" if own.frames > 1 else "none", (own.frames,), thresholds if self.chooses_thresholds(task) else None)

    def check_tasks(self, where: str, tasks: Tasks) -> None:
        """Raise ValueError, naming the setting, if settings by name are of a task or dimension that the run does not have."""
        loss = self.training.loss
        for part, own, fields in (("training.loss", loss.tasks, LOSS_FIELDS), ("decode", self.decode.tasks, DECODE_FIELDS)):
            for name, section in own.items():
                if name not in tasks or name in OFFICIAL:
                    known = [task for task in tasks if task not in OFFICIAL]
                    raise ValueError(f"{where}.{part}.tasks: want a task of the run among {known}, got {name!r}; rename it, or take it out")
                kind = tasks[name].kind
                if other := section.changed() - fields[kind] - {"weight"}:
                    raise ValueError(
                        f"{where}.{part}.tasks.{name}: want settings of {kind} ({', '.join(sorted(fields[kind])) or 'none'}), "
                        f"got {', '.join(sorted(other))}; take it out"
                    )
        own = [name for task in tasks.values() if task.kind == "dimensions" and task.name not in OFFICIAL for name in task.columns]
        named = {f"training.loss.tasks.{task}.weights": section.weights for task, section in loss.tasks.items()}
        named |= {"smooth.frames": self.smooth.frames, "training.score_smooth.frames": self.training.score_smooth.frames}
        for part, by_name in named.items():
            if unknown := [name for name in by_name if name not in own]:
                raise ValueError(
                    f"{where}.{part}: want dimensions of your own tasks among {own}, got {unknown[0]!r}; rename it, or take it out"
                )

    def check_feature(self, where: str, feature: Section) -> None:
        """Raise ValueError, naming the setting, if the feature that it reads does not fit its settings."""

    def check_members(self, where: str, models: Mapping[str, Any], features: Mapping[str, Any]) -> None:
        """Raise ValueError, naming the setting, if the models that it fuses do not fit its settings."""

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
        0.0, ge=0, lt=1, description="with `positions: every_layer`: dropout of query, key and value each, after positions (public code)"
    )
    second_residual: bool = Field(False, description="add the input of a layer to its output (public code)")
    activation: Literal["relu", "gelu"] = later("relu", description="activation of the feed-forward nets; the public code's: gelu")
    dropout_on: Literal["branch", "residual"] = later(
        "branch", description="what a layer drops: the outputs of attention and feed-forward net, or what they are added to (public code)"
    )
    start: Literal["xavier", "multihead"] = later(
        "xavier",
        description="initialisation of attention: Xavier-uniform each map, or torch's MultiheadAttention, query, key and value as one "
        "(public code)",
    )

    @model_validator(mode="after")
    def _heads(self):
        if self.hidden % self.heads:
            raise ValueError(f"want hidden that is a multiple of heads, got {self.hidden} and {self.heads}")
        if self.position_dropout and self.positions != "every_layer":
            raise ValueError(f"position_dropout: want positions: every_layer, got {self.positions}; set 0")
        return self


class Fusion(SequenceModel):
    """Settings that models of models share."""

    reads: tuple[Name, ...] = Field(min_length=2)
    fill: Literal["none"] = "none"
    inputs: Literal["embedding", "embedding_and_prediction"] = Field("embedding", description="its input from each model that it reads")

    @property
    def members(self) -> tuple[str, ...]:
        return self.reads

    @property
    def needed(self) -> str | None:
        """The member without which a frame has no answer; None if any of them will do."""
        return None


def stack_sizes(s: Attention) -> dict[str, Any]:
    """Return the keywords of a model that is built from stacks of attention layers."""
    names = ("hidden", "layers", "heads", "feedforward", "dropout", "positions", "position_dropout", "second_residual")
    return {name: getattr(s, name) for name in (*names, "activation", "dropout_on", "start")}
