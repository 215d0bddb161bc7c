"""In place of `affpipe.jobs.fitting`: a fit that reads all that the real one reads, and writes files of the same names and form."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fake_events
from fake_workers import numbers, read
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from affpipe.core.item import Item
from affpipe.core.tasks.task import width
from affpipe.jobs.apply import inherited
from affpipe.plan.plan import Plan
from affpipe.store.index import Entry
from affpipe.system import disk


def fit(
    plan: Plan, name: str, entries: Mapping[str, Mapping[str, Entry]], fold: int | None = None, progress: object = None
) -> dict[str, Any]:
    """A model whose weights are a function of its key, of all streams and labels that it is fitted on, and of what its fold leaves out."""
    path = plan.model(name, fold)
    if found := _record(path, plan.key(name)):
        return found
    fake_events.log("fits", name, *(() if fold is None else (fold,)))
    tasks = plan.tasks
    labelled = {part: [i for i in plan.items(name) if i.row.labelled(tasks, part)] for part in ("train", "validation")}
    train = [i for i in labelled["train"] if fold is None or plan.fold(name, i) != fold]
    judge = (
        [i for i in labelled["train"] if i not in train] if plan.settings.cross_validation and fold is not None else labelled["validation"]
    )
    seed = hashlib.sha256(plan.key(name).encode())
    for item in [*train, *judge, *labelled["validation"]]:
        seed.update(_input(plan, name, item, entries))
    if fold is not None and plan.fused(name):  # a fold's embedding is brought into the space of the fit on all
        seed.update(plan.model(name).read_bytes())
    fake_events.amid(f"fit/{name}" + ("" if fold is None else f"/{fold}"))
    score = [round(float(x), 4) for x in numbers(seed.digest(), width(tasks))]
    curve = {"epoch": 0, "training_loss": 1.0, "validation_score": score[0], "learning_rate": 1e-3}
    record = {
        "model": name,
        "key": plan.key(name),
        "fold": fold,
        "spec": plan.spec(name),
        "code": plan.code(name),
        "inputs": plan.inputs(name),
        "packages": plan.packages(name),
        "random": [],
        "backbone": None,
        "parameters": 8,
        "windows": len(train),
        "train": [i.id for i in train],
        "validation": [i.id for i in judge],
        "best": curve,
        "curves": [curve],
        "thresholds": [0.5] * width(tasks, "thresholded") or None,
        "scores": dict.fromkeys(tasks, score[0]),
        "validation_scores": dict.fromkeys(tasks, score[0]),
        "by_output": score,
    }
    with disk.atomic(path) as part:
        save_file({"weights": numbers(seed.digest(), 8)}, part, metadata={"affpipe": json.dumps(record, sort_keys=True)})
    return record


def _input(plan: Plan, name: str, item: Item, entries: Mapping[str, Mapping[str, Entry]]) -> bytes:
    """Digest of all that a fit reads of a stream; of one that it has to leave out, of its id."""
    seed = hashlib.sha256(item.id.encode())
    if not inherited(plan, name, item, entries) and entries["labels"][item.id].status == "done":
        for part in read(plan.job(name, item), plan.learns(name)):
            seed.update(part)
    return seed.digest()


def _record(path: Path, key: str) -> dict[str, Any] | None:
    """Record of a fit that is in the store already, None if there is none under this key."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="np") as file:
            found = json.loads(file.metadata()["affpipe"])
    except SafetensorError:
        return None
    return found if found["key"] == key else None
