"""Settings of a run: all of the others, what is made of predictions, and rules between sections."""

import unicodedata
from typing import Literal

from pydantic import Field, field_validator, model_validator

from affpipe.core.section import Name, Section, after, speed
from affpipe.core.tasks.task import TASKS
from affpipe.encoders.settings import DATASETS, Feature, LogMel, WavLM
from affpipe.faces.settings import Faces, Landmarks, Mouth, Speech, Subject
from affpipe.media.settings import Audio, Frames, Vad
from affpipe.models.settings import ChunkModel, ModelSettings, RAAVModel, SequenceModel

WAVLM_RATE_HZ = 16000
MEDIA_STAGES = ("frames", "labels", "audio", "vad", "faces", "subject", "landmarks", "mouth", "speech")


class CrossValidation(Section):
    """Every model is fitted once more without each fold of the training streams, and judged on that fold (SAGE, sec. 4)."""

    folds: int = Field(5, ge=2, le=20)
    use: Literal["whole", "ensemble", "per_target"] = after(
        "ensemble",
        description="what streams outside of training are predicted by: the fit on all of them, the mean of the folds' fits, "
        "or for each target the fold's fit that is best on the validation streams",
    )


class LateFusion(Section):
    """Weighted means of saved predictions, a weight per system and dimension, fitted on one part of the validation streams."""

    members: tuple[Name, ...] = Field((), description="models to choose from; none named: all")
    largest: int = Field(3, ge=2, le=6, description="systems in a subset, at most")
    step: float = Field(0.05, gt=0, le=0.5, description="of the grid of weights of a pair")
    draws: int = Field(2000, ge=1, description="Dirichlet draws of the weights of a larger subset")


class PublishedRow(Section):
    """Figures of one system as published; what is not given stays empty."""

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
    """A run: which data, which stages, which models, where to."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="results go to <results>/<name>")
    tasks: tuple[Literal["va", "expr", "au"], ...] = Field(("va",), min_length=1, description="what every model of the run predicts")
    manifest: str = "data_manifest.csv"
    data_root: str = "."
    cache: str = "cache"
    results: str = "results"
    weights: str = "weights"
    device: Literal["cpu", "cuda"] = "cpu"
    shards: int = Field(10, ge=1, le=1000, description="extraction jobs a stage, in each of the groups fit and rest")
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
            if name in MEDIA_STAGES:
                raise ValueError(f"features.{name}: the name is that of a stage; choose another")
            if self.features[name].encoder == "wavlm" and self.audio.sample_rate_hz != WAVLM_RATE_HZ:
                raise ValueError(f"features.{name}: WavLM hears {WAVLM_RATE_HZ} Hz, got audio.sample_rate_hz {self.audio.sample_rate_hz}")
            if getattr(self.features[name], "backend", "torch") == "openvino" and self.device != "cpu":
                raise ValueError(f"features.{name}.backend: openvino runs on a CPU, got device {self.device}; set torch, or device: cpu")
            margin = getattr(self.features[name], "margin", 0)
            if margin > self.faces.crop_margin:
                raise ValueError(f"features.{name}.margin: want at most faces.crop_margin {self.faces.crop_margin}, got {margin}")
            twins = [n for n, feature in self.features.items() if feature.spec() == self.features[name].spec()]
            if len(twins) > 1:  # one key, hence one folder with two rules that make it
                raise ValueError(f"features.{twins[1]}: the same as features.{twins[0]}; remove one and let all models read the other")
        if self.vad.model == "silero" and self.audio.sample_rate_hz != WAVLM_RATE_HZ:
            raise ValueError(f"vad: silero hears {WAVLM_RATE_HZ} Hz, got audio.sample_rate_hz {self.audio.sample_rate_hz}")
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
    def _tasks(cls, tasks: tuple[str, ...]):
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"want each task once, got {list(tasks)}")
        return tuple(task for task in TASKS if task in tasks)  # one order, so that one set of tasks has one key

    @model_validator(mode="after")
    def _models(self):
        heads = [name for name, model in self.models.items() if not model.members]
        for name, model in self.models.items():
            if name in (*MEDIA_STAGES, *self.features):
                raise ValueError(f"models.{name}: the name is that of a stage or feature; choose another")
            known = heads if model.members else list(self.features)
            for read in model.members or (model.reads,):
                if read not in known:
                    where = "audio" if read == getattr(model, "audio", None) else "reads"
                    raise ValueError(f"models.{name}.{where}: want one of {known}, got {read!r}")
            if len(set(model.members)) < len(model.members):
                raise ValueError(f"models.{name}.reads: a model is named twice in {list(model.members)}")
            if not model.members:
                self._check_input(name, model, self.features[model.reads])
            elif isinstance(model, RAAVModel):
                self._check_audio(name, model)
        if self.late_fusion and "va" not in self.tasks:
            raise ValueError(f"late_fusion: it weighs valence and arousal, got the tasks {list(self.tasks)}; add va, or set null")
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

    def _check_input(self, name: str, model: SequenceModel, feature: Section) -> None:
        chunked = isinstance(model, ChunkModel)
        if chunked != isinstance(feature, WavLM | LogMel):
            want = "windows of audio (wavlm, logmel)" if chunked else "one vector a row (mesh, grada, qwen3vl)"
            raise ValueError(f"models.{name}.reads: {model.kind} wants {want}, got {model.reads!r}, of the encoder {feature.encoder}")
        if chunked and not model.cache_frozen and not isinstance(feature, WavLM):
            raise ValueError(f"models.{name}.cache_frozen: only wavlm runs within a model, got {model.reads!r}; leave it true")
        if chunked and model.closing_norm == "frozen" and not getattr(feature, "trained_layers", 0):
            raise ValueError(f"models.{name}.closing_norm: want trained_layers of features.{model.reads}, got none; leave it trained")
        if chunked and model.standardise and (getattr(feature, "trained_layers", 0) or not model.cache_frozen):
            raise ValueError(f"models.{name}.standardise: the layers of features.{model.reads} want their input as it is; leave it false")
        if chunked and model.speech_only != "never":
            self._check_grid(f"models.{name}: speech_only", f"features.{model.reads}", feature)
        if not chunked:
            datasets = DATASETS.get(feature.encoder, ("values",))
            if model.dataset not in datasets:
                raise ValueError(f"models.{name}.dataset: want one of {list(datasets)} of {feature.encoder}, got {model.dataset!r}")

    def _check_audio(self, name: str, model: RAAVModel) -> None:
        """What RAAV hears in a window is a window of its audio model."""
        if model.audio_rows == "frames" and model.speech_only == "never":
            return
        heard, where = self.models[model.audio], f"models.{name}"
        if not isinstance(heard, ChunkModel):
            what = "audio_rows: window" if model.audio_rows == "window" else f"speech_only: {model.speech_only}"
            raise ValueError(f"{where}.audio: {what} wants a model of audio windows (chunk_asp), got {model.audio!r}, a {heard.kind}")
        feature = self.features[heard.reads]
        if model.audio_rows == "window" and (feature.length_s, feature.hop_s) != (model.window_s, model.hop_s):
            raise ValueError(
                f"{where}: audio_rows: window wants window_s, hop_s as length_s, hop_s of features.{heard.reads}, got "
                f"{(model.window_s, model.hop_s)} and {(feature.length_s, feature.hop_s)}; make them equal, or set audio_rows: frames"
            )
        if model.speech_only != "never":
            self._check_grid(f"{where}: speech_only", f"features.{heard.reads}", feature)

    def _check_grid(self, who: str, where: str, feature: Section) -> None:
        grids = [(s.length_s, s.hop_s) for s in (feature, self.speech)]
        if grids[0] != grids[1]:
            raise ValueError(
                f"{who} wants {where} and speech on one grid, got length_s, hop_s {grids[0]} and {grids[1]}; make them equal, or set "
                "speech_only: never"
            )
