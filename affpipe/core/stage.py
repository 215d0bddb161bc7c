"""Declarations of stages, as planning uses them. The code that makes a stage's streams is imported in the job alone.

A stage is declared once, beside its code. Tables list the declarations by hand (`affpipe.plan.stages`, `affpipe.encoders.table`). All else
that is known of a stage is read from its declaration: its settings, its place in the graph, its worker, its needs of a node, the size of
its streams.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from affpipe.core import extensions
from affpipe.core.errors import PartError
from affpipe.core.extensions import Origin
from affpipe.core.item import Item
from affpipe.core.section import Section
from affpipe.core.tasks.task import Tasks

RETRY = 1.5  # a retried job gets this many times the memory and time of the try before
Level = Literal["video", "stream", "label"]
Axis = Literal["frames", "windows", "samples", "steps"]
Rows = Literal["vectors", "windows"]
MODALITIES = ("face", "behaviour", "audio", "text", "mouth")


class UndeclaredError(PartError):
    """Bug of a stage that asks for something it does not declare, so that its key would not depend on it."""


@dataclass(frozen=True)
class Need:
    """Needs of one job.

    Attributes:
        gpu: number of GPUs.
        mem_mb: main memory, MB.
        minutes: time after which it is stopped.
        threads: cores. With several it processes as many videos at a time, a thread each, so that a GPU need not wait for one decoder.
    """

    gpu: int
    mem_mb: int
    minutes: int
    threads: int = 1

    def again(self, attempt: int) -> "Need":
        """Return the need of the nth try, from 1."""
        factor = RETRY ** (attempt - 1)
        return replace(self, mem_mb=round(self.mem_mb * factor), minutes=round(self.minutes * factor))


LIGHT = Need(0, 4000, 120)


@dataclass(frozen=True)
class Network:
    """Size of a network.

    Attributes:
        parameters: number of its parameters.
        width: width of its hidden states; 0 if nothing uses it.
        known: True if read from a checkpoint.
    """

    parameters: int
    width: int = 0
    known: bool = True


@dataclass(frozen=True, eq=False)
class Context:
    """Context of a stage: its own settings, those that it declares to see, and the place of its job.

    Attributes:
        name: name of the stage in the plan; for a feature the one that the settings give it.
        settings: its own section. reads: stages whose streams it reads.
        sections: stage -> its section, for the stages that it declares.
        tasks: tasks of the run.
        device: "cpu" or "cuda". weights: folder of the weights. cache: folder of the store.
        worker: module and function that make its streams. origin: origin of the part; None for our own.
        fits: fits of a model that is applied.
    """

    name: str
    settings: Any
    reads: tuple[str, ...]
    sections: Mapping[str, Any]
    tasks: Tasks
    device: str
    weights: Path
    cache: Path
    worker: str = ""
    origin: Origin | None = None
    fits: "Fits | None" = None

    def see(self, stage: str) -> Any:
        """Return the settings of another stage. Raises UndeclaredError for one that this stage does not declare."""
        if stage not in self.sections:
            raise UndeclaredError(f"{self.name}: sees the settings of {stage}, which it does not declare; declare it in its `sees`")
        return self.sections[stage]

    def of(self, stage: str) -> "Context":
        """Return the context of a stage that runs within this one."""
        return replace(self, name=stage, settings=self.see(stage), reads=(), worker="", origin=None, fits=None)


@dataclass(frozen=True)
class Fits:
    """Fits of a model: where they are, and which one applies to which item.

    Attributes:
        key: key of the model.
        path: fold -> file of the fit that left it out; None -> file of the fit on all training streams.
        fold: item -> the fold whose fit applies to it; None for the fit on all.
        beside: number of folds that predict, beside the fit on all, the items that are in no fold.
    """

    key: str
    path: Callable[[int | None], Path]
    fold: Callable[[Item], int | None]
    beside: int


@dataclass(frozen=True)
class Cost:
    """Cost of a row. It is rough: it serves an estimate before anything is measured.

    Attributes:
        row_s: seconds for all but the network: decoding, copies, writing.
        operations: multiply-adds of the network for a row. activations: numbers that an item of a batch holds at once.
        seconds: further seconds of a row that depend on the settings.
    """

    row_s: float
    operations: Callable[[Context, Network], float] = lambda context, network: 0.0
    activations: Callable[[Context, Network], float] = lambda context, network: 0.0
    seconds: Callable[[Any], float] = lambda settings: 0.0


def _width(settings: Any, network: Network | None) -> int:
    return network.width if network else 0


@dataclass(frozen=True)
class Stage:
    """One stage, or one encoder.

    Attributes:
        name: its folder in the store, and the word for an encoder in settings.
        level: "video" gives one stream for all subjects of a video, "stream" one for each, "label" one for each with annotations.
        reads: stages whose streams it opens; their keys are in its key.
        worker: module and function that make its streams, "affpipe.faces.workers:subject".
        revision: raised by hand when its code changes values; streams of another revision are then made again.
        axis: what a row stands for. The estimate counts rows by it; their times are what the worker writes. "frames": a frame of the video.
            "windows": `length_s` seconds, every `hop_s`, by its settings. "steps": `step_s` seconds. "samples": one sample of the sound.
        step_s: seconds from row to row of "steps"; a function if settings decide.
        cost: cost of a row; None: unknown before it is measured.
        row_bytes: bytes per row of each dataset except times, for a checkpoint of that size; None: unknown before it is measured.
        opens: further stages that it opens. Each is behind what it reads, so its key is in the key already.
        sees: stages whose settings it uses. Each is behind what it reads.
        needs: needs of a job. network: size of the published checkpoint; None if it has none.
        block: rows of the first write; 0: none, None: all.
        settings: section of an encoder. modality: face, behaviour, audio, text or mouth.
        offers: datasets that a model may read. rows: form of such a row: one vector, or a window of several.
        sample_rate_hz: the one sample rate that it accepts; None: any.
        width: width of the vectors of `values`; by default that of the network. steps: number of vectors of a whole window.
        within: module with the encoder's layers (`split`, `Top`, `load`), if a model may train the top ones or run the frozen ones.
        origin: entry point and package of an encoder that is not our own. It is set on loading, and the package is in the key.
    """

    name: str
    level: Level | Callable[[Context], Level]
    reads: tuple[str, ...] | Callable[[Context], tuple[str, ...]]
    worker: str
    revision: int
    axis: Axis = "frames"
    step_s: float | Callable[[Context], float] | None = None
    cost: Cost | Callable[[Context], Cost] | None = None
    row_bytes: Callable[[Context, Network | None], tuple[int, ...]] | None = None
    opens: tuple[str, ...] = ()
    sees: tuple[str, ...] = ()
    needs: Need | Callable[[Context], Need] = LIGHT
    network: Network | Callable[[Context], Any] | None = None
    block: int | Callable[[Any], int] | None = None
    settings: type[Section] | None = None
    modality: str = ""
    offers: tuple[str, ...] = ("values",)
    rows: Rows = "vectors"
    sample_rate_hz: int | None = None
    width: Callable[[Any, Network | None], int] = _width
    steps: Callable[[Context], int] | None = None
    within: str = ""
    origin: Origin | None = None

    def fault(self) -> str:
        """Return the fault of an encoder's declaration, as far as it shows without others; "" if there is none."""
        for name, known in (("level", get_args(Level)), ("axis", get_args(Axis)), ("modality", MODALITIES), ("rows", get_args(Rows))):
            value = getattr(self, name)
            if value not in known and not (name == "level" and callable(value)) and not (name == "modality" and value == ""):
                return f"want {name} one of {', '.join(known)}, got {value!r}"
        for name in ("reads", "opens", "sees", "offers"):
            value = getattr(self, name)
            if not (_names(value) or (name == "reads" and callable(value))):
                return f"want {name} as a tuple of names, got {value!r}"
        if self.within and (wrong := extensions.path_fault("within", self.within, "module")):
            return wrong
        if (self.axis == "steps") != (self.step_s is not None):
            return f"want step_s beside the axis steps and no other, got {self.step_s!r} with {self.axis}"
        if not (self.step_s is None or callable(self.step_s) or (isinstance(self.step_s, int | float) and self.step_s > 0)):
            return f"want step_s as seconds beyond 0, or a function that gives them, got {self.step_s!r}"
        needed = {"length_s": "windows", "hop_s": "windows"} if self.axis == "windows" else {}
        needed |= dict.fromkeys(("weights", "batch_size"), "a network") if self.network is not None else {}
        if lost := [name for name in needed if name not in self.settings.model_fields]:
            return f"want the settings {', '.join(needed)}, as it has {needed[lost[0]]}, got none of the name {lost[0]}"
        if self.rows == "windows" and (self.steps is None or self.axis != "windows"):
            return f"want steps and the axis windows, as its rows are windows, got {'steps' if self.steps else 'none'} and {self.axis}"
        if self.width is _width and self.network is None and self.cost is not None:
            return "want width, as it has no network, got none"
        return extensions.path_fault("worker", self.worker, "module:function")


def _names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)
