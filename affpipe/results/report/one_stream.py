"""One stream over time, read from the store: truth and prediction of each task, the gate, and marked stretches."""

from dataclasses import dataclass

import numpy as np

from affpipe.core.axis import SOURCE_NAMES, FrameAxis
from affpipe.core.item import Item
from affpipe.core.tasks.task import Task
from affpipe.models.targets import frame_labels
from affpipe.plan.plan import Plan
from affpipe.results.frames import FramePredictions, frames_of
from affpipe.results.report import series
from affpipe.results.report.views import Entries, done
from affpipe.store.item_streams import ItemStreams
from affpipe.store.streams import Stream

UNIT_POINTS = 300  # points of one row of a unit: there are 24
Marks = dict[str, dict[float, np.ndarray]]  # kind of mark -> share -> spans, see `series.marks`
Spans = dict[int, np.ndarray]  # class -> spans, see `series.modes`


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves of dimensions: times_s (P,); truth, prediction (P, K) with NaN in gaps (a point may stand for several frames)."""

    times_s: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


@dataclass(frozen=True, eq=False)
class Classes:
    """Stretches of each class; there is none where there is no label."""

    truth: Spans
    prediction: Spans


@dataclass(frozen=True, eq=False)
class Units:
    """Stretches of units: for each of truth and prediction those that have a label ("known"), and those of each unit (its name)."""

    truth: Marks
    prediction: Marks


@dataclass(frozen=True, eq=False)
class Gate:
    """Weights of a fusion's experts, or of the modalities that it weighs.

    Attributes:
        times_s: (P,). weights: (P, E), NaN where nothing was present.
        mean: (E,) over all other frames.
    """

    model: str
    experts: tuple[str, ...]
    times_s: np.ndarray
    weights: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True, eq=False)
class View:
    """Series of one stream.

    Attributes:
        tasks: task for which it is scored -> its series.
        strips: name -> its marks; a strip whose stage has no stream is missing.
    """

    id: str
    start_s: float
    end_s: float
    tasks: dict[str, Curves | Classes | Units]
    gate: Gate | None
    strips: dict[str, Marks]


def validated(plan: Plan, item: Item) -> list[str]:
    """Return the tasks of the run for which a stream is in the partition that is scored."""
    return [task for task in plan.tasks if item.row.partition_of(task) == plan.scored]


def view(plan: Plan, entries: Entries, item: Item) -> View:
    """Return the series of a stream that the published model has predicted."""
    streams = plan.streams(item)
    axis, found = frames_of(plan, plan.settings.publish, item)
    labels = frame_labels(streams, plan.tasks) if plan.labelled(item) and done(plan, entries, "labels", item) else {}
    drawn = {}
    for name in validated(plan, item):
        values = found.values[name]
        truth, known = labels.get(name, (np.zeros_like(values), np.zeros(len(axis), bool)))
        drawn[name] = SERIES[plan.tasks[name].kind](plan.tasks[name], axis, truth, known, values, found.valid)
    strips = _strips(plan, entries, streams, item) | {"source": _sources(found, axis)}
    gate = _gate(plan, entries, streams, item)
    return View(item.id, axis.start_s, axis.end_s, drawn, gate, strips)


def _curves(task: Task, axis: FrameAxis, truth: np.ndarray, known: np.ndarray, values: np.ndarray, valid: np.ndarray) -> Curves:
    times_s, prediction = series.thin(axis.times_s, values, valid)
    return Curves(times_s, series.thin(axis.times_s, truth, known)[1], prediction)


def _classes(task: Task, axis: FrameAxis, truth: np.ndarray, known: np.ndarray, values: np.ndarray, valid: np.ndarray) -> Classes:
    times = axis.times_s, axis.ends_s
    return Classes(series.modes(truth[:, 0], known, *times), series.modes(values[:, 0], valid, *times))


def _units(task: Task, axis: FrameAxis, truth: np.ndarray, known: np.ndarray, values: np.ndarray, valid: np.ndarray) -> Units:
    return Units(*({"known": _shares(axis, there)} | _rows(task, axis, of, there) for of, there in ((truth, known), (values, valid))))


SERIES = {"dimensions": _curves, "classes": _classes, "units": _units}


def _rows(task: Task, axis: FrameAxis, values: np.ndarray, there: np.ndarray) -> Marks:
    return {unit: _shares(axis, there & (values[:, i] > 0)) for i, unit in enumerate(task.columns)}


def _shares(axis: FrameAxis, flags: np.ndarray) -> dict[float, np.ndarray]:
    return series.marks(flags, axis.times_s, axis.ends_s, UNIT_POINTS)


def _sources(found: FramePredictions, axis: FrameAxis) -> Marks:
    return {name: series.marks(found.source == code, axis.times_s, axis.ends_s) for code, name in SOURCE_NAMES.items()}


def _strips(plan: Plan, entries: Entries, streams: ItemStreams, item: Item) -> dict[str, Marks]:
    out = {}
    if done(plan, entries, "subject", item):
        with streams.open("subject") as who:
            out["no face"] = {"faceless": series.marks(~who.valid, who.start_s, who.end_s)}
    if done(plan, entries, "mouth", item):
        with streams.open("mouth") as lips:
            open_ = lips.valid & (_column(lips, "open") > 0)
            out["mouth open"] = {"open": series.marks(open_, lips.start_s, lips.end_s)}
    if done(plan, entries, "speech", item):
        with streams.open("speech") as windows:
            out["speech kept"] = {"speech": series.marks(_column(windows, "retained") > 0, windows.start_s, windows.end_s)}
    return out


def _column(stream: Stream, name: str) -> np.ndarray:
    return stream.rows()[:, stream.attributes["columns"].index(name)]


def _gate(plan: Plan, entries: Entries, streams: ItemStreams, item: Item) -> Gate | None:
    """Return the gate of the published model if it has one, else of the first fusion with a gate that has the stream."""
    models = sorted(plan.settings.models, key=lambda m: m != plan.settings.publish)
    for name in models:
        if plan.settings.models[name].members and done(plan, entries, name, item):
            with streams.open(name) as stream:
                if "gate" not in stream.names:
                    continue
                weights, experts = stream.rows("gate"), tuple(stream.attributes["extra"]["experts"])
                begin_s = stream.start_s
            here = weights.sum(axis=1) > 0
            times_s, thinned = series.thin(begin_s, weights, here, series.POINTS // 2)
            return Gate(name, experts, times_s, thinned, weights[here].mean(axis=0) if here.any() else np.zeros(len(experts)))
    return None
