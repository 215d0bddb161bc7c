"""A tiny finished run made by hand, for tests of what comes after the models."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from affpipe.core.axis import NEAREST, OBSERVED
from affpipe.core.item import Item
from affpipe.core.tasks import metrics
from affpipe.core.tasks.task import width
from affpipe.data.annotations import write_labels
from affpipe.data.manifest import Row
from affpipe.data.workers import labels
from affpipe.media.sound.heard import Heard
from affpipe.media.tracks import Choice
from affpipe.plan import config
from affpipe.plan.plan import Plan
from affpipe.results import basis, evaluate, ledger, report
from affpipe.store.flac import write_flac
from affpipe.store.index import Entry, write_index
from affpipe.store.streams import Header, write
from affpipe.system import disk

T, FPS = 150, 25
TIMES = np.arange(T) / FPS
ENDS = np.append(TIMES[1:], T / FPS)  # a frame is shown until the next one
KNOWN = np.arange(T) // 10 != 5  # frames that have a label
EXPERTS = ["face<-voice", "voice<-face"]
EVIL = "audio: want a track, got <script>alert(1)</script> & none"
MODEL = {"hidden": 8, "training": {"epochs": 3}}
SETTINGS = {
    "name": "small",
    "features": {"mesh": {"encoder": "mesh"}, "wavlm": {"encoder": "wavlm"}},
    "models": {
        "face": {"kind": "transformer", "reads": "mesh", "heads": 2, **MODEL},
        "voice": {"kind": "chunk_asp", "reads": "wavlm", **MODEL},
        "fused": {"kind": "dcmmoe", "reads": ["face", "voice"], "heads": 2, **MODEL},
    },
    "publish": "fused",
}
STREAMS = {"a one": "train", "v1": "validation", "v2": "validation", "t+1": "test", "p1": "predict"}
LAG = 4  # frames by which expressions and units are predicted late
MARGIN = 4.0  # by which a logit is above or below none
OFF = {"face": 0.2, "voice": 0.5, "look": 0.3}  # how far a model's predictions are from half the truth plus 0.1


class Run:
    """A tiny finished run made by hand: every stream done but the audio of p1, and what hangs on it.

    Its scores are those of predictions as `prediction` gives them without its deviation (va), and as `outputs` does (expr, au).

    Args:
        streams: stream -> partition; what comes before "_" names the video. own: stream -> task -> its own partition there.
        copies: video -> the one that it has the content of.
        sounds: video -> what was heard of its sound. tracks: video -> which of several tracks was taken.
        demo: videos that are marked as rendered. random: checkpoints with random weights behind every model, or behind those named.
        other: settings.
    """

    def __init__(
        self,
        folder: Path,
        *,
        streams: dict[str, str] = STREAMS,
        own: dict[str, dict[str, str]] | None = None,
        copies: dict[str, str] | None = None,
        demo: tuple[str, ...] = (),
        random: tuple[str, ...] | dict[str, tuple[str, ...]] = (),
        sounds: dict[str, Heard] | None = None,
        tracks: dict[str, Choice] | None = None,
        **other: object,
    ):
        settings = config.parse(SETTINGS | {"cache": str(folder / "cache"), "results": str(folder / "results")} | other)
        self.demo, self.random, self.sounds, self.tracks = demo, random, sounds or {}, tracks or {}
        rows = []
        for id, partition in streams.items():
            video, parts = folder / f"{id.split('_')[0]}.mp4", (own or {}).get(id, {})
            video.write_bytes((copies or {}).get(video.stem, video.stem).encode() * 40)
            files = {task: folder / f"{id}.{task}.txt" for task in settings.task_table}
            for task, path in files.items():
                write_labels(settings.task_table[task], path, self.labels(task, id), KNOWN)
            labelled = {task for task in files if parts.get(task, partition) in ("train", "validation")}
            rows.append(Row(id, video, "largest", partition, {task: files[task] for task in labelled}, parts))
        self.plan = Plan(settings, rows)
        self.entries = {name: {i.id: self._write(name, i) for i in self.plan.items(name)} for name in self.plan.names}
        for name in ("audio", "wavlm", "voice"):
            if "p1" in streams and name in self.entries:
                self.entries[name]["p1"] = Entry("absent", reason=EVIL)
        for model in settings.models:
            for fold in self.plan.fits(model):
                self._fit(model, fold)
        scores = {task: self._score(task) for task in self.plan.tasks}
        self.scores = {model: {task: own | {"basis": self.basis(model, task)} for task, own in scores.items()} for model in settings.models}

    def _score(self, task: str) -> dict:
        pairs = {row.stream_id: (self.labels(task, row.stream_id), self._guess(task, row.stream_id), KNOWN) for row in self.plan.rows}
        parts = {part: {row.stream_id for row in self.plan.rows if row.labelled([task], part)} for part in ("train", "validation")}
        usual = None
        own = self.plan.tasks[task]
        if task != "va":
            usual = metrics.majority_row(sum(metrics.label_counts(own, pairs[id][0], KNOWN) for id in parts["train"]))
        return evaluate.score(own, {id: pairs[id] for id in parts["validation"]}, majority=usual, draws=100)

    def basis(self, model: str, task: str) -> dict:
        """What a model's figures rest on: all streams that validate a task."""
        labelled = {row.stream_id: int(KNOWN.sum()) for row in self.plan.rows if row.labelled([task], "validation")}
        counts = {id: basis.count(KNOWN, self.sources(model)) for id in labelled}
        return basis.of(self.plan, model, task, labelled, counts, ledger.of_run(self.plan, self.entries))

    @staticmethod
    def sources(model: str) -> np.ndarray:
        """(T,) how a model's prediction was had: the first second is filled."""
        return np.where(TIMES < 1, NEAREST, OBSERVED).astype(np.uint8)

    @classmethod
    def labels(cls, task: str, id: str) -> np.ndarray:
        """(T, K) labels; KNOWN says which of them there are. Streams of longer ids have other ones."""
        if task == "va":
            return cls.truth(id)
        if task == "expr":
            return ((np.arange(T) // 12 + len(id)) % 7)[:, None].astype(np.float64)  # no frame is of the last class
        return ((TIMES[:, None] * np.arange(1, 13) / 4 + 0.3 * len(id)) % 1 < 0.4).astype(np.float64)

    @classmethod
    def outputs(cls, task: str, id: str) -> np.ndarray:
        """(T, O) logits that lag the labels; those of AU1 are always below none, of AU2 above."""
        truth = np.roll(cls.labels(task, id), LAG, axis=0)
        logits = MARGIN * (2 * (truth if task == "au" else np.eye(8)[truth[:, 0].astype(int)]) - 1)
        if task == "au":
            logits[:, :2] = -MARGIN, MARGIN
        return logits.astype(np.float32)

    def _guess(self, task: str, id: str) -> np.ndarray:
        if task == "va":
            return self.truth(id) * 0.5 + 0.1
        logits = self.outputs(task, id)
        return logits.argmax(axis=1)[:, None].astype(np.float64) if task == "expr" else (logits > 0).astype(np.float64)

    @staticmethod
    def truth(id: str) -> np.ndarray:
        return np.stack([np.sin(TIMES + len(id)), 0.3 * np.cos(2 * TIMES)], axis=1).round(4) * 0.9

    @classmethod
    def prediction(cls, model: str, id: str) -> np.ndarray:
        """(T, 2) float32 of valence and arousal that a model's stream holds."""
        off = OFF.get(model, 0.0) * np.stack([np.cos(3 * TIMES + len(model)), np.sin(5 * TIMES)], axis=1)
        return (cls.truth(id) * 0.5 + 0.1 + off).astype(np.float32)

    def _raw(self, model: str, id: str) -> np.ndarray:
        each = [self.prediction(model, id) if task == "va" else self.outputs(task, id) for task in self.plan.tasks]
        return np.concatenate(each, axis=1)

    @staticmethod
    def fold_scores(outputs: int, fold: int | None) -> list[float]:
        """How good a fit is for each output: the best fold changes from one to the next."""
        return [round(0.3 + 0.1 * ((i + (fold or 0)) % 3), 3) for i in range(outputs)]

    def thresholds(self, fold: int | None) -> list[float] | None:
        """Of a fit."""
        return [0.3 + 0.01 * i + 0.1 * (0 if fold is None else fold + 1) for i in range(12)] if "au" in self.plan.tasks else None

    def _random(self, model: str) -> tuple[str, ...]:
        return self.random.get(model, ()) if isinstance(self.random, dict) else self.random

    def _write(self, name: str, item: Item) -> Entry:
        path = self.plan.stream(name, item)
        if name == "labels":
            labels(self.plan.context(name))(self.plan.job(name, item))
            return Entry("done", path.name, T)
        if path.suffix == ".flac":
            header = self.plan.job(name, item).header(Fraction(FPS), sound=self.sounds.get(item.id, Heard(given=1, placed=1)).facts())
            path.parent.mkdir(parents=True, exist_ok=True)
            write_flac(path, [np.zeros(1, np.float32)], 16000, json.dumps(header.attributes()))
            return Entry("done", path.name, 1)
        start, end = (TIMES, ENDS) if name != "speech" else (np.array([0.0, 2.0, 4.0]), np.array([4.0, 6.0, 6.0]))
        rows = {"values": np.zeros((len(start), 2), np.float32), "start_s": start, "end_s": end, "valid": np.ones(len(start), bool)}
        more: dict = {"columns": (), "extra": {}}
        if name == "frames":
            more["extra"] = {
                "video": {"synthetic": item.id in self.demo, "width": 64, "track": self.tracks.get(item.id, Choice("video", 0, 1)).facts()}
            }
        elif name == "faces":  # one in each frame
            count = len(start)
            rows["values"] = np.tile(np.array([0, 0, 32, 32], np.float32), (count, 1))
            rows |= {"frame": np.arange(count, dtype=np.int32), "track": np.zeros(count, np.int32), "score": np.ones(count, np.float32)}
        elif name == "subject":
            rows["valid"] = TIMES >= 1
        elif name == "mouth":
            rows["values"][:, 1] = TIMES % 1 < 0.5
            more["columns"] = ("area", "open")
        elif name == "speech":
            rows["values"] = np.array([[2, 1, 1], [0, 1, 0], [0, 1, 0]], np.float32)
            more["columns"] = ("open_s", "coverage", "retained")
        elif name in self.plan.settings.models:
            rows["prediction"], fold = self._raw(name, item.id), self.plan.fold(name, item)
            rows["source"] = self.sources(name)
            more["extra"] = {"thresholds": self.thresholds(fold)}
            if fold is None and self.plan.settings.cross_validation:
                folds = range(self.plan.folds(name))
                rows["folds"] = np.stack([rows["prediction"]] * len(folds), axis=1)
                more["extra"] |= {
                    "fold_scores": [self.fold_scores(rows["prediction"].shape[1], k) for k in folds],
                    "fold_thresholds": [self.thresholds(k) for k in folds],
                }
            if self.plan.settings.models[name].kind in ("dcmmoe", "raav"):
                rows["gate"] = np.stack([0.25 + 0 * TIMES, 0.75 + 0 * TIMES], axis=1).astype(np.float32)
                more["extra"] |= {"experts": EXPERTS if self.plan.settings.models[name].kind == "dcmmoe" else ["face", "look"]}
        p = self.plan
        own = p.kind(name), p.key(name), item.id, item.identity, p.spec(name), p.revision(name), p.inputs(name)
        header = Header(*own, Fraction(FPS), self._random(name), **more)
        write(path, header, **rows)
        return Entry("done", path.name, len(start))

    def _fit(self, model: str, fold: int | None) -> None:
        plan, tasks = self.plan, self.plan.tasks
        shift = 0.0 if fold is None else 0.01 * (fold + 1)
        curves = [
            {"epoch": e, "training_loss": 1 - 0.2 * e, "validation_score": c, "learning_rate": 1e-3}
            for e, c in enumerate((0.1, 0.4321, 0.3))
        ]
        train = [item for item in plan.items("labels") if item.row.labelled(tasks, "train")]
        held = [item.id for item in train if fold is not None and plan.fold(model, item) == fold]
        outside = [item.id for item in plan.items("labels") if item.row.labelled(tasks, "validation")]
        record = {
            "model": model,
            "fold": fold,
            "random": list(self._random(model)),
            "parameters": 12345,
            "windows": 7,
            "train": [item.id for item in train if item.id not in held],
            "validation": held if fold is not None and plan.settings.cross_validation else outside,
            "thresholds": self.thresholds(fold),
            "scores": {task: 0.4 + 0.1 * i + shift for i, task in enumerate(tasks)},
            "validation_scores": {task: 0.3 + 0.1 * i + 2 * shift for i, task in enumerate(tasks)},
            "by_output": self.fold_scores(width(tasks), fold),
        }
        disk.write_text(Path(plan.fitted(model, fold)), json.dumps(record | {"best": curves[1], "curves": curves}))

    def page(self) -> str:
        return report.render(self.plan, self.entries, self.scores)

    def index(self) -> None:
        """Write the indexes, as jobs do."""
        for name in self.plan.names:
            for shard in self.plan.shards:
                own = {i.id: self.entries[name][i.id] for i in self.plan.items(name, shard)}
                write_index(Path(self.plan.index(name, shard)), own)
