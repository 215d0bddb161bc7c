"""A tiny finished run made by hand, for tests of what comes after the models."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from affpipe import config, evaluate, report, store
from affpipe.frames import NEAREST, OBSERVED
from affpipe.jobs import Context, Job
from affpipe.manifest import Row
from affpipe.plan import Item, Plan
from affpipe.stages.labels import labels
from affpipe.store import Entry

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
OFF = {"face": 0.2, "voice": 0.5, "look": 0.3}  # how far a model's predictions are from half the truth plus 0.1


class Run:
    """A tiny finished run made by hand: every stream done but the audio of p1, and what hangs on it.

    Args:
        streams: stream -> partition; what comes before "_" names the video. demo: videos that are marked as rendered.
        random: checkpoints with random weights behind every model, or behind those named. other: settings.
    """

    def __init__(
        self,
        folder: Path,
        *,
        streams: dict[str, str] = STREAMS,
        demo: tuple[str, ...] = (),
        random: tuple[str, ...] | dict[str, tuple[str, ...]] = (),
        **other: object,
    ):
        settings = config.parse(SETTINGS | other | {"cache": str(folder / "cache"), "results": str(folder / "results")})
        self.demo, self.random = demo, random
        rows = []
        for id, partition in streams.items():
            video, annotation = folder / f"{id.split('_')[0]}.mp4", folder / f"{id}.txt"
            video.write_bytes(video.stem.encode() * 40)
            truth = [f"{v:.4f},{a:.4f}" for v, a in self.truth(id)]
            truth[50:60] = ["-5,-5"] * 10
            annotation.write_text("valence,arousal\n" + "\n".join(truth) + "\n")
            labelled = partition in ("train", "validation")
            rows.append(Row(id, video, "largest", partition, {"va": annotation} if labelled else {}))
        self.plan = Plan(settings, rows)
        self.entries = {name: {i.id: self._write(name, i) for i in self.plan.items(name)} for name in self.plan.names}
        for name in ("audio", "wavlm", "voice"):
            if "p1" in streams and name in self.entries:
                self.entries[name]["p1"] = Entry("absent", reason=EVIL)
        for model in settings.models:
            self._fit(model)
        videos = {v: (self.truth(v), self.truth(v) * 0.5 + 0.1, KNOWN) for v, part in streams.items() if part == "validation"}
        self.scores = {model: {"va": evaluate.score("va", videos)} for model in settings.models}

    @staticmethod
    def truth(id: str) -> np.ndarray:
        return np.stack([np.sin(TIMES + len(id)), 0.3 * np.cos(2 * TIMES)], axis=1).round(4) * 0.9

    @classmethod
    def prediction(cls, model: str, id: str) -> np.ndarray:
        """(T, 2) float32 that a model's stream holds."""
        off = OFF.get(model, 0.0) * np.stack([np.cos(3 * TIMES + len(model)), np.sin(5 * TIMES)], axis=1)
        return (cls.truth(id) * 0.5 + 0.1 + off).astype(np.float32)

    def _random(self, model: str) -> tuple[str, ...]:
        return self.random.get(model, ()) if isinstance(self.random, dict) else self.random

    def _write(self, name: str, item: Item) -> Entry:
        path = self.plan.stream(name, item)
        if name == "labels":
            labels(Context(self.plan, name))(Job(self.plan, name, item))
            return Entry("done", path.name, T)
        if path.suffix == ".flac":  # the report reads no sound
            return Entry("done", path.name, 1)
        start, end = (TIMES, ENDS) if name != "speech" else (np.array([0.0, 2.0, 4.0]), np.array([4.0, 6.0, 6.0]))
        rows = {"values": np.zeros((len(start), 2), np.float32), "start_s": start, "end_s": end, "valid": np.ones(len(start), bool)}
        more: dict = {"columns": (), "extra": {}}
        if name == "frames":
            more["extra"] = {"video": {"synthetic": item.id in self.demo}}
        elif name == "subject":
            rows["valid"] = TIMES >= 1
        elif name == "mouth":
            rows["values"][:, 1] = TIMES % 1 < 0.5
            more["columns"] = ("area", "open")
        elif name == "speech":
            rows["values"] = np.array([[2, 1, 1], [0, 1, 0], [0, 1, 0]], np.float32)
            more["columns"] = ("open_s", "coverage", "retained")
        elif name in self.plan.settings.models:
            rows["prediction"] = self.prediction(name, item.id)
            rows["source"] = np.where(TIMES < 1, NEAREST, OBSERVED).astype(np.uint8)
            more["extra"] = {"thresholds": None}
            if self.plan.settings.models[name].members:
                rows["gate"] = np.stack([0.25 + 0 * TIMES, 0.75 + 0 * TIMES], axis=1).astype(np.float32)
                more["extra"] |= {"experts": EXPERTS if self.plan.settings.models[name].kind == "dcmmoe" else ["face", "look"]}
        p = self.plan
        own = p.kind(name), p.key(name), item.id, item.identity, p.spec(name), p.revision(name), p.inputs(name)
        header = store.Header(*own, Fraction(FPS), self._random(name), **more)
        store.write(path, header, **rows)
        return Entry("done", path.name, len(start))

    def _fit(self, model: str) -> None:
        curves = [
            {"epoch": e, "training_loss": 1 - 0.2 * e, "validation_score": c, "learning_rate": 1e-3}
            for e, c in enumerate((0.1, 0.4321, 0.3))
        ]
        record = {
            "model": model,
            "random": list(self._random(model)),
            "parameters": 12345,
            "windows": 7,
            "train": ["a one"],
            "validation": ["v1", "v2"],
        }
        store.write_text(Path(self.plan.fitted(model)), json.dumps(record | {"best": curves[1], "curves": curves}))

    def page(self) -> str:
        return report.render(self.plan, self.entries, self.scores)

    def index(self) -> None:
        """Write the indexes, as jobs do."""
        for name in self.plan.names:
            for shard in self.plan.shards:
                own = {i.id: self.entries[name][i.id] for i in self.plan.items(name, shard)}
                store.write_index(Path(self.plan.index(name, shard)), own)
