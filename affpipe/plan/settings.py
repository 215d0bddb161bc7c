"""Settings of a run: all other sections, the treatment of predictions, and rules between sections."""

import unicodedata
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from affpipe.core.section import Name, Section, after, speed
from affpipe.core.tasks.task import Task
from affpipe.data.settings import AnyTask, OwnTask, task_table
from affpipe.encoders.table import ENCODERS, Feature
from affpipe.faces.settings import Faces, Landmarks, Mouth, Speech, Subject
from affpipe.media.settings import Audio, Frames, Vad
from affpipe.media.stages import VAD_RATE_HZ
from affpipe.models.settings import SequenceModel
from affpipe.models.table import MODELS, ModelSettings
from affpipe.models.terms.table import TERMS
from affpipe.plan import added
from affpipe.plan.stages import STAGES
from affpipe.store import cache

added.check(ENCODERS.values())


class CrossValidation(Section):
    """Every model is fitted once more without each fold of the training streams, and judged on that fold (SAGE, sec. 4)."""

    folds: int = Field(5, ge=2, le=20)
    use: Literal["whole", "ensemble", "per_target"] = after(
        "ensemble",
        description="what predicts streams outside of training: the fit on all of them, the mean of the folds' fits, "
        "or for each target the fold's fit that is best on the validation streams",
    )


class LateFusion(Section):
    """Weighted means of saved predictions, with a weight per system and dimension, fitted on one part of the validation streams."""

    members: tuple[Name, ...] = Field((), description="models to choose from; none named: all")
    largest: int = Field(3, ge=2, le=6, description="greatest number of systems in a subset")
    step: float = Field(0.05, gt=0, le=0.5, description="step of the grid of weights of a pair")
    draws: int = Field(2000, ge=1, description="Dirichlet draws of the weights of a larger subset")


class PublishedRow(Section):
    """Figures of one system as published; a figure that is not given stays empty."""

    label: str
    valence: float | None = None
    arousal: float | None = None
    mean: float | None = None
    test: float | None = None


class Reference(Section):
    """A published table that the report prints beside the run's figures."""

    source: str
    rows: dict[Name, PublishedRow] = Field(min_length=1, description="model of this run -> the row that it stands for")


class Settings(Section):
    """A run: its data, stages, models and folders."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="results go to <results>/<name>")
    tasks: tuple[AnyTask, ...] = Field(
        ("va",), min_length=1, description="what every model of the run predicts; see docs/data.md for tasks of your own"
    )
    manifest: str = "data_manifest.csv"
    data_root: str = "."
    cache: str = "cache"
    results: str = "results"
    weights: str = "weights"
    device: Literal["cpu", "cuda"] = "cpu"
    shards: int = Field(10, ge=1, le=1000, description="extraction jobs per stage, in each of the groups fit and rest")
    seed: int = Field(42, ge=0, lt=2**32)
    on_error: Literal["stop", "skip"] = "stop"
    umask: str | None = speed(
        None,
        pattern=r"^0?[0-7]{3}$",
        description='rights that nothing written has, octal and quoted: "077" keeps cache and results from others; none: as the shell says',
    )
    cross_fit: int = Field(
        0,
        ge=0,
        le=20,
        description="folds in which models that a fusion reads are fitted, so that it learns from "
        "streams which they were not fitted on; 0: it learns from the streams that they were fitted on",
    )
    cross_validation: CrossValidation | None = None
    frames: Frames = Frames()
    audio: Audio = Audio()
    vad: Vad = Vad()
    faces: Faces = Faces()
    subject: Subject = Subject()
    landmarks: Landmarks = Landmarks()
    mouth: Mouth = Mouth()
    speech: Speech = Speech()
    features: dict[Name, Feature] = Field(min_length=1)
    models: dict[Name, ModelSettings] = Field(min_length=1)
    publish: Name = Field(description="the model whose predictions are the result of the run")
    late_fusion: LateFusion | None = after(None)
    reference: Reference | None = after(None)

    @model_validator(mode="after")
    def _names(self):
        for name in self.features:
            if name in STAGES:
                raise ValueError(f"features.{name}: the name is that of a stage; choose another")
            hears, rate = ENCODERS[self.features[name].encoder].sample_rate_hz, self.audio.sample_rate_hz
            if hears not in (None, rate):
                raise ValueError(f"features.{name}: {self.features[name].encoder} hears {hears} Hz, got audio.sample_rate_hz {rate}")
            if getattr(self.features[name], "backend", "torch") == "openvino" and self.device != "cpu":
                raise ValueError(f"features.{name}.backend: openvino runs on a CPU, got device {self.device}; set torch, or device: cpu")
            margin = getattr(self.features[name], "margin", 0)
            if margin > self.faces.crop_margin:
                raise ValueError(f"features.{name}.margin: want at most faces.crop_margin {self.faces.crop_margin}, got {margin}")
            twins = [n for n, feature in self.features.items() if feature.spec() == self.features[name].spec()]
            if len(twins) > 1:  # one key, hence one folder with two rules that make it
                raise ValueError(f"features.{twins[1]}: the same as features.{twins[0]}; remove one and let all models read the other")
        if self.vad.model == "silero" and self.audio.sample_rate_hz != VAD_RATE_HZ:
            raise ValueError(f"vad: silero hears {VAD_RATE_HZ} Hz, got audio.sample_rate_hz {self.audio.sample_rate_hz}")
        if self.cross_fit == 1:
            raise ValueError("cross_fit: want 0 (off) or at least 2 folds, got 1")
        if self.cross_fit and self.cross_validation:
            raise ValueError(
                f"cross_fit and cross_validation exclude each other (the second does what the first does), got {self.cross_fit} and "
                f"{self.cross_validation.folds} folds; set one"
            )
        return self

    @field_validator("cache", "results")
    @classmethod
    def _outputs(cls, path: str):
        if not path or any(c in "{}" or unicodedata.category(c) == "Cc" for c in path):  # Snakemake reads names out of braces
            raise ValueError(f"want a path without braces and control characters, got {path!r}")
        return path

    @field_validator("tasks")
    @classmethod
    def _tasks(cls, tasks: tuple[AnyTask, ...]):
        named = {task if isinstance(task, str) else task.name: task for task in tasks}
        return tuple(named[name] for name in task_table(tasks))  # one order, so that one set of tasks has one key

    @cached_property
    def task_table(self) -> dict[str, Task]:
        """Name -> task, in the order in which rows hold them."""
        return task_table(self.tasks)

    @property
    def task_specs(self) -> list[Any]:
        """The tasks as a key hashes them: the name of an official one, the section of one's own."""
        return [task.spec() if isinstance(task, OwnTask) else task for task in self.tasks]

    @model_validator(mode="after")
    def _models(self):
        heads = [name for name, model in self.models.items() if not model.members]
        for name, model in self.models.items():
            if name in (*STAGES, *self.features):
                raise ValueError(f"models.{name}: the name is that of a stage or feature; choose another")
            if name in cache.OWN:
                raise ValueError(f"models.{name}: the name is that of a folder of the store; choose another")
            known = heads if model.members else list(self.features)
            for read in model.members or (model.reads,):
                if read not in known:
                    where = "audio" if read == getattr(model, "audio", None) else "reads"
                    raise ValueError(f"models.{name}.{where}: want one of {known}, got {read!r}")
            if len(set(model.members)) < len(model.members):
                raise ValueError(f"models.{name}.reads: a model is named twice in {list(model.members)}")
            if not model.members:
                self._check_input(name, model)
            where = f"models.{name}"
            model.check_tasks(where, self.task_table)
            for term in model.training.terms:
                if term.task not in self.task_table:
                    got = list(self.task_table)
                    raise ValueError(f"{where}.training.terms: {term.term} is of the task {term.task}, got {got}; take it out")
                if self.task_table[term.task].kind not in (kinds := TERMS[term.term].kinds):
                    got = f"{term.task}, of {self.task_table[term.task].kind}"
                    raise ValueError(f"{where}.training.terms: {term.term} is of tasks of {' or '.join(kinds)}, got {got}; take it out")
            if model.members:
                model.check_members(where, self.models, self.features)
            if model.by_mouth(True) and (heard := model.heard(self.models)):
                self._check_grid(where, heard)
        if self.late_fusion and "late_fusion" in self.models:
            raise ValueError("models.late_fusion: the name is that of late fusion in the scores; choose another")
        named = {"publish": [self.publish]}
        if self.late_fusion:
            named["late_fusion.members"] = members = list(self.late_fusion.members)
            if len(set(members)) < len(members):
                raise ValueError(f"late_fusion.members: a model is named twice in {members}")
        if self.reference:
            named["reference.rows"] = list(self.reference.rows)
        for where, models in named.items():
            for name in models:
                if name not in self.models:
                    raise ValueError(f"{where}: want one of {list(self.models)}, got {name!r}")
        return self

    @model_validator(mode="after")
    def _images(self):
        if self.faces.source == "images":
            if self.subject.curation:
                raise ValueError(f"subject.curation: want none, as faces.source is images, got {self.subject.curation}")
            for name, feature in self.features.items():
                if getattr(feature, "margin", 0):
                    raise ValueError(
                        f"features.{name}.margin: want 0, as faces.source is images (nothing is round them), got {feature.margin}"
                    )
        return self

    def _check_input(self, name: str, model: SequenceModel) -> None:
        """Check that a model reads a feature whose rows it can take."""
        where, feature = f"models.{name}", self.features[model.reads]
        takes, stage = MODELS[model.kind].reads, ENCODERS[feature.encoder]
        if (takes == "windows") != (stage.rows == "windows"):
            want = "windows of audio" if takes == "windows" else "one vector a row"
            fit = ", ".join(s.name for s in ENCODERS.values() if (s.rows == "windows") == (takes == "windows"))
            raise ValueError(f"{where}.reads: {model.kind} wants {want} ({fit}), got {model.reads!r}, of the encoder {feature.encoder}")
        if model.within and not stage.within:
            within = ", ".join(s.name for s in ENCODERS.values() if s.within)
            raise ValueError(f"{where}.cache_frozen: only {within} runs within a model, got {model.reads!r}; leave it true")
        if takes == "rows" and model.dataset not in stage.offers:
            raise ValueError(f"{where}.dataset: want one of {list(stage.offers)} of {feature.encoder}, got {model.dataset!r}")
        model.check_feature(where, feature)

    def _check_grid(self, who: str, heard: str) -> None:
        """Check that the windows of the sound and those of the stage `speech` are the same."""
        feature = self.features[heard]
        grids = [(s.length_s, s.hop_s) for s in (feature, self.speech)]
        if grids[0] != grids[1]:
            raise ValueError(
                f"{who}: speech_only wants features.{heard} and speech on one grid, got length_s, hop_s {grids[0]} and {grids[1]}; make "
                "them equal, or set speech_only: never"
            )
