"""A store written by hand, from which the labels can be learned: known signals, known answers."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from affpipe.core.align import pool
from affpipe.core.axis import FrameAxis, frames_in, segments
from affpipe.core.item import Item
from affpipe.core.tasks.table import TASKS
from affpipe.data.annotations import write_labels
from affpipe.data.manifest import read
from affpipe.data.workers import labels
from affpipe.encoders.table import ENCODERS
from affpipe.jobs.fitting import fit
from affpipe.models.workers import stage
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.store.index import Entry

FPS, FRAMES, STREAMS = Fraction(25), 200, ("a", "b", "c", "d")
PARTITION = {"a": "train", "b": "train", "c": "validation", "d": "test"}
SMALL = {"hidden": 16, "dropout": 0.0, "standardise": True, "training": {"epochs": 12, "learning_rate": 1e-2}}
MODELS = {
    "face": {"kind": "transformer", "reads": "mesh", "layers": 1, "heads": 2, "feedforward": 32, "window": 50, "stride": 20, **SMALL},
    "behaviour": {"kind": "mamba", "reads": "qwen3vl", "layers": 1, "window": 4, "stride": 2, "head_hidden": 16, **SMALL},
    "voice": {"kind": "chunk_asp", "reads": "wavlm", "attention_hidden": 8, **SMALL},
    "fused": {
        "kind": "dcmmoe",
        "reads": ["face", "behaviour", "voice"],
        "layers": 1,
        "heads": 2,
        "feedforward": 32,
        "window": 50,
        "stride": 20,
    }
    | {**SMALL, "standardise": False},
}


def truth(stream: str) -> np.ndarray:
    """(T, 2) smooth curves, other ones for each stream."""
    t = np.arange(FRAMES) / float(FPS)
    phase = STREAMS.index(stream)
    return 0.6 * np.stack([np.sin(1.3 * t + phase), np.cos(0.9 * t + 2 * phase)], axis=1)


def classes(stream: str) -> np.ndarray:
    """(T, 1) expression: Neutral, Fear, Happiness or Surprise by the signs of the curves."""
    v, a = truth(stream).T
    return np.array([0, 3, 4, 6])[2 * (v > 0) + (a > 0)][:, None]


def units(stream: str) -> np.ndarray:
    """(T, 12) action units: each is there where valence exceeds a level of its own."""
    return (truth(stream)[:, :1] > np.linspace(-0.4, 0.4, 12)).astype(float)


LABELS = {"va": truth, "expr": classes, "au": units}


def make_plan(tmp_path: Path, **more: Any) -> Plan:
    """A store in which every feature carries the labels, linearly mixed; stream d has no audio.

    more: settings beside the usual ones.
    """
    rng = np.random.default_rng(0)
    mix, tasks = rng.normal(size=(2, 6)), more.get("tasks", ("va",))
    lines = [f"stream_id,video,subject,partition,{','.join(tasks)}"]
    for id in STREAMS:
        (tmp_path / f"{id}.mp4").write_bytes(id.encode() * 9)
        for task in tasks:
            write_labels(TASKS[task], tmp_path / task / f"{id}.txt", LABELS[task](id), np.ones(FRAMES, bool))
        cells = [f"{task}/{id}.txt" if PARTITION[id] != "test" else "" for task in tasks]
        lines.append(f"{id},{id}.mp4,largest,{PARTITION[id]},{','.join(cells)}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    features = {name: {"encoder": name} for name in ("mesh", "qwen3vl", "wavlm")}
    data = {"cache": str(tmp_path / "cache"), "manifest": str(tmp_path / "manifest.csv"), "features": features, "models": MODELS}
    made = Plan(parse(data | {"publish": "fused"} | more), read(tmp_path / "manifest.csv", tmp_path))
    for item in made.items("subject"):
        write_streams(made, item, mix)
    write_labels_of(made)
    return made


def write_labels_of(plan: Plan) -> None:
    """Run the stage `labels`."""
    work = labels(plan.context("labels"))
    for item in plan.items("labels"):
        work(plan.job("labels", item))


def write_streams(plan: Plan, item: Item, mix: np.ndarray) -> None:
    times = np.arange(FRAMES) / float(FPS)
    axis = FrameAxis(times, FPS)
    values = (truth(item.id) @ mix).astype(np.float32)
    every = np.ones(FRAMES, bool)

    def put(name: str, values: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, valid: np.ndarray, **more: np.ndarray) -> None:
        job = plan.job(name, plan.item(name, item))
        columns = ("open_s", "coverage", "retained") if name == "speech" else ()
        more |= dict.fromkeys(ENCODERS[name].offers[1:] if name in ENCODERS else (), values)
        job.write(job.header(FPS, columns=columns), values=values, start_s=start_s, end_s=end_s, valid=valid, **more)

    put("frames", np.zeros((FRAMES, 1), np.float32), times, axis.ends_s, every)
    seen = every.copy()
    seen[60:80] = False
    put("mesh", np.where(seen[:, None], values, 0), times, axis.ends_s, seen)
    cut = segments(0.0, axis.end_s, length_s=4.0, hop_s=2.0)
    pooled, _ = pool(values, every, *frames_in(times, cut[:, 0], cut[:, 1]))
    put("qwen3vl", pooled.astype(np.float16), cut[:, 0], cut[:, 1], np.ones(len(cut), bool))
    retained = np.ones(len(cut), np.float32)
    retained[-1] = 0
    put("speech", np.stack([retained, retained, retained], axis=1), cut[:, 0], cut[:, 1], np.ones(len(cut), bool))
    if item.id != "d":
        steps = np.array([[start + 0.02 * i for i in range(199)] for start in cut[:, 0]])
        states = values[np.clip((steps * float(FPS)).astype(int), 0, FRAMES - 1)].astype(np.float16)
        real = np.round((cut[:, 1] - cut[:, 0]) * 50 - 1).astype(np.int32)
        put("wavlm", states, cut[:, 0], cut[:, 1], np.ones(len(cut), bool), steps=real)


def entries(plan: Plan) -> dict[str, dict[str, Entry]]:
    done = {name: {id: Entry("done") for id in STREAMS} for name in plan.names}
    for name in {"wavlm", "voice"} & done.keys():
        done[name]["d"] = Entry("absent", reason="no audio track")
    return done


def fit_and_apply(plan: Plan, names: Sequence[str] = tuple(MODELS)) -> None:
    for name in names:
        for fold in plan.fits(name):
            fit(plan, name, entries(plan), fold)
        work = stage(plan.context(name))
        for item in plan.items(name):
            if entries(plan)[name][item.id].status == "done":
                work(plan.job(name, item))
