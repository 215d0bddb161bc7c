"""What the report shows of a run, read from the store: a line per stream, what is missing and why, and the series behind a figure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affpipe import jobs, predict, sequences
from affpipe.errors import StoreError
from affpipe.frames import SOURCE_NAMES
from affpipe.plan import Item, Plan
from affpipe.predict import FramePredictions
from affpipe.report import series
from affpipe.store import Entry, Stream

Entries = Mapping[str, Mapping[str, Entry]]
Marks = dict[str, dict[float, np.ndarray]]  # kind of mark -> share -> spans, see `series.marks`


@dataclass(frozen=True)
class Line:
    """A stream in the summary. faceless: frames in which the subject was not seen, None where that was never looked at."""

    id: str
    partition: str
    frames: int
    seconds: float
    faceless: int | None
    predicted: bool


@dataclass
class Missing:
    """A stage that has nothing for a stream, and what else the stream therefore lacks."""

    id: str
    partition: str
    stage: str
    status: str
    reason: str
    also: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Gate:
    """Weights of a fusion's experts, or of the modalities that it weighs: times_s (P,), weights (P, E) with NaN where nothing was
    present, mean (E,) over all other frames."""

    model: str
    experts: tuple[str, ...]
    times_s: np.ndarray
    weights: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True, eq=False)
class View:
    """Series of one stream. A strip whose stage has no stream is absent from `strips`.

    Attributes:
        times_s: (P,); truth, prediction: (P, 2) with NaN in gaps (a strip of P points may stand for more frames).
        strips: name -> its marks.
    """

    id: str
    start_s: float
    end_s: float
    times_s: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    gate: Gate | None
    strips: dict[str, Marks]


def done(plan: Plan, entries: Entries, name: str, item: Item) -> bool:
    """Whether a stage has a stream for an item (given as any stage's item)."""
    return entries[name][plan.item(name, item).id].status == "done"


def lines(plan: Plan, entries: Entries) -> list[Line]:
    """A line per stream, by partition and id."""
    out = []
    for item in plan.items("subject"):
        frames, seconds, faceless = 0, 0.0, None
        if done(plan, entries, "frames", item):
            axis = jobs.Job(plan, "subject", item).axis()
            frames, seconds = len(axis), axis.end_s - axis.start_s
        if done(plan, entries, "subject", item):
            with jobs.Job(plan, "subject", item).open("subject") as who:
                faceless = int((~who.valid).sum())
        out.append(Line(item.id, item.row.partition, frames, seconds, faceless, done(plan, entries, plan.settings.publish, item)))
    return sorted(out, key=lambda line: (("train", "validation", "test", "predict").index(line.partition), line.id))


def missing(plan: Plan, entries: Entries) -> list[Missing]:
    """What is not there, one line for each first cause; stages that lack only what they read are named in its `also`."""
    out = []
    for item in plan.items("subject"):
        causes: dict[str, list[Missing]] = {}
        for name in plan.names:
            if name == "labels" and not plan.labelled(item):
                continue
            own = plan.item(name, item)
            entry = entries[name][own.id]
            if entry.status == "done":
                continue
            above = [cause for read in plan.reads(name) for cause in causes.get(read, ())]
            if above and jobs.inherited(plan, name, own, entries) is not None:
                causes[name] = list({id(cause): cause for cause in above}.values())  # once each
                for cause in causes[name]:
                    cause.also.append(name)
            else:
                causes[name] = [Missing(item.id, item.row.partition, name, entry.status, entry.reason)]
                out += causes[name]
    return out


def model_streams(plan: Plan, entries: Entries) -> Iterator[dict[str, Any]]:
    """Attributes of every stream that a model wrote."""
    for name in plan.settings.models:
        for item in plan.items(name):
            if done(plan, entries, name, item):
                with jobs.Job(plan, name, item).open(name) as stream:
                    yield stream.attributes


def random_weights(plan: Plan, entries: Entries) -> dict[str, set[str]]:
    """Model -> checkpoints with random weights behind its fit or any of its streams."""
    out = {model: set(fit_record(plan, model)["random"]) for model in plan.settings.models}
    for attributes in model_streams(plan, entries):
        out[attributes["stage"]] |= set(attributes["random"])
    return out


def fit_record(plan: Plan, model: str) -> dict[str, Any]:
    """How a model was fitted."""
    path = Path(plan.fitted(model))
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise StoreError(f"{path}: want the record of a fitted model, got {what}; delete the folder and run the workflow again") from None


def view(plan: Plan, entries: Entries, item: Item) -> View:
    """The series of a stream that the published model has predicted."""
    job = jobs.Job(plan, plan.settings.publish, item)
    axis, found = predict.frames_of(plan, plan.settings.publish, item)
    truth, known = np.zeros((len(axis), 2)), np.zeros(len(axis), bool)
    if plan.labelled(item) and done(plan, entries, "labels", item):
        truth, known = sequences.frame_labels(job)["va"]
    times_s, prediction = series.thin(axis.times_s, found.values["va"], found.valid)
    _, truth = series.thin(axis.times_s, truth, known)
    strips = _strips(plan, entries, job, item) | {"source": _sources(found, axis.times_s, axis.ends_s)}
    return View(item.id, axis.start_s, axis.end_s, times_s, truth, prediction, _gate(plan, entries, job, item), strips)


def _sources(found: FramePredictions, start_s: np.ndarray, end_s: np.ndarray) -> Marks:
    return {name: series.marks(found.source == code, start_s, end_s) for code, name in SOURCE_NAMES.items()}


def _strips(plan: Plan, entries: Entries, job: jobs.Job, item: Item) -> dict[str, Marks]:
    out = {}
    if done(plan, entries, "subject", item):
        with job.open("subject") as who:
            out["no face"] = {"faceless": series.marks(~who.valid, who.start_s, who.end_s)}
    if done(plan, entries, "mouth", item):
        with job.open("mouth") as lips:
            open_ = lips.valid & (_column(lips, "open") > 0)
            out["mouth open"] = {"open": series.marks(open_, lips.start_s, lips.end_s)}
    if done(plan, entries, "speech", item):
        with job.open("speech") as windows:
            out["speech kept"] = {"speech": series.marks(_column(windows, "retained") > 0, windows.start_s, windows.end_s)}
    return out


def _column(stream: Stream, name: str) -> np.ndarray:
    return stream.rows()[:, stream.attributes["columns"].index(name)]


def _gate(plan: Plan, entries: Entries, job: jobs.Job, item: Item) -> Gate | None:
    """Gate of the published model if it is a fusion, else of the first fusion that has the stream."""
    models = sorted(plan.settings.models, key=lambda m: m != plan.settings.publish)
    for name in models:
        if plan.settings.models[name].members and done(plan, entries, name, item):
            with job.open(name) as stream:
                weights, experts = stream.rows("gate"), tuple(stream.attributes["extra"]["experts"])
                begin_s = stream.start_s
            here = weights.sum(axis=1) > 0
            times_s, thinned = series.thin(begin_s, weights, here, series.POINTS // 2)
            return Gate(name, experts, times_s, thinned, weights[here].mean(axis=0) if here.any() else np.zeros(len(experts)))
    return None
