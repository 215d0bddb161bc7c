"""Facts of a run for the report, read from the store: a line per stream, what is missing and why, and how models were fitted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affpipe.core.errors import StoreError
from affpipe.core.item import Item
from affpipe.data.manifest import PARTITIONS
from affpipe.plan.plan import Plan
from affpipe.store.index import Entry
from affpipe.system import jsonfile

Entries = Mapping[str, Mapping[str, Entry]]


@dataclass(frozen=True)
class Line:
    """A stream in the summary.

    Attributes:
        own: task -> partition, for the run's tasks for which it is in another one.
        faceless: number of frames in which the subject was not seen; None if no stage looked for it.
    """

    id: str
    partition: str
    own: Mapping[str, str]
    frames: int
    seconds: float
    faceless: int | None
    predicted: bool


def done(plan: Plan, entries: Entries, name: str, item: Item) -> bool:
    """Tell whether the run has a stage and the stage has a stream for an item (given as any stage's item)."""
    return name in entries and entries[name][plan.item(name, item).id].status == "done"


def lines(plan: Plan, entries: Entries) -> list[Line]:
    """Return a line per stream, by partition and id."""
    out = []
    for item in plan.items("subject"):
        frames, seconds, faceless = 0, 0.0, None
        if done(plan, entries, "frames", item):
            axis = plan.streams(item).axis()
            frames, seconds = len(axis), axis.end_s - axis.start_s
        if done(plan, entries, "subject", item):
            with plan.streams(item).open("subject") as who:
                faceless = int((~who.valid).sum())
        parts = {task: item.row.partition_of(task) for task in plan.tasks}
        own = {task: part for task, part in parts.items() if part != item.row.partition}
        out.append(Line(item.id, item.row.partition, own, frames, seconds, faceless, done(plan, entries, plan.settings.publish, item)))
    return sorted(out, key=lambda line: (PARTITIONS.index(line.partition), line.id))


def model_streams(plan: Plan, entries: Entries) -> Iterator[dict[str, Any]]:
    """Yield the attributes of every stream that a model wrote."""
    for name in plan.settings.models:
        for item in plan.items(name):
            if done(plan, entries, name, item):
                with plan.streams(item).open(name) as stream:
                    yield stream.attributes


def random_weights(plan: Plan, entries: Entries) -> dict[str, set[str]]:
    """Return model -> checkpoints with random weights behind its fit or any of its streams."""
    out = {model: set(fit_record(plan, model)["random"]) for model in plan.settings.models}
    for attributes in model_streams(plan, entries):
        out[attributes["stage"]] |= set(attributes["random"])
    return out


def fit_record(plan: Plan, model: str, fold: int | None = None) -> dict[str, Any]:
    """Read the record of a model's fit, on all training streams or without a fold of them."""
    path = Path(plan.fitted(model, fold))
    try:
        return jsonfile.read(path)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise StoreError(f"{path}: want the record of a fitted model, got {what}; run the workflow again", damaged=path) from None
