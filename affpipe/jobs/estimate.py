"""Estimate of a run before it starts: hours, GPU memory and disk of each stage, and how much of it is left.

Hours are those of one job at a time, without the seconds in which a job loads its network. They come from the job records of this workspace
with the same key, else from what stages and models declare. Declared costs are rough: a factor of two for stages on a CPU, of five or more
for fits, and for a GPU, on which nothing here was timed.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from affpipe.core.errors import StoreError
from affpipe.core.item import Item
from affpipe.jobs import sizes
from affpipe.jobs.durations import Lengths
from affpipe.models.table import MODELS, takes
from affpipe.plan.plan import Plan
from affpipe.store.index import Entry, read_index
from affpipe.system.job_record import JobRecord

MEASURED, DEFAULT, ARITHMETIC, UNKNOWN = "measured here", "default", "arithmetic", "unknown"

PUBLISH_S = 7e-4  # seconds per frame, by a cold run of the demo
# Operations a second that a network reaches. CPU: A, two cores. GPU: A, a third of the half of the H200's peak that its floors count with.
FLOPS = {("cpu", "float32"): 5e10, ("cpu", "bfloat16"): 1.4e11, ("cuda", "float32"): 1e13, ("cuda", "bfloat16"): 1.6e14}
MODEL_FLOPS = {"cpu": 1e10, "cuda": 2e12}  # A: for the models of a run, whose matrices are small
STEP_S = {"cpu": 0.05, "cuda": 0.03}  # D for the CPU, A for the GPU: an optimiser step, beside what the network computes
RESULT_BYTES = 200  # D, per frame and task: tables, official files, the report


@dataclass(frozen=True)
class Part:
    """Estimate for a stage, the fits of a model, or publishing.

    Attributes:
        items: number of streams, or fits.
        seconds, left_s: time of one job at a time, in all and for what is not done.
        gpu: bytes of GPU memory; None if it runs on the CPU.
        disk, left_disk: bytes.
        time_basis, disk_basis: measured here, default, arithmetic, or unknown: for a stage that declares no cost, whose figures are then 0.
    """

    name: str
    items: int
    seconds: float
    left_s: float
    gpu: float | None
    disk: float
    left_disk: float
    time_basis: str
    disk_basis: str


def of(plan: Plan, lengths: Lengths) -> list[Part]:
    """Return the parts of a run in the order of the plan, publishing last."""
    records = _records(plan)
    out: list[Part] = []
    for name in plan.names:
        own = records[plan.key(name)]
        if name in plan.settings.models:
            out.append(_fits(plan, name, lengths, own))
        out.append(_stage(plan, name, lengths, own))
    return [*out, _publish(plan, lengths)]


def _records(plan: Plan) -> dict[str, list[JobRecord]]:
    """Return the records of the jobs of all runs of this workspace, by key: runs share what they have in common."""
    out = defaultdict(list)
    for path in sorted(plan.logs("").parent.glob("*/*_*/*.json")):
        record = JobRecord.read(path)
        if record is not None:
            out[record.key].append(record)
    return out


def is_new(plan: Plan, name: str) -> bool:
    """Tell whether no cost is declared of a stage or model, or of the feature whose vectors a model reads."""
    stage = plan.stage(name)
    if stage is None:
        model = plan.settings.models[name]
        return MODELS[model.kind].row_s is None or (not model.members and is_new(plan, model.reads))
    return stage.cost is None or (stage.row_bytes is None and name != "audio")


def _stage(plan: Plan, name: str, lengths: Lengths, records: Iterable[JobRecord]) -> Part:
    """Estimate a stage, or a model that is applied. One that declares no cost is measured by the item, if it is measured."""
    new, items = is_new(plan, name), plan.items(name)
    there, entries = _there(plan, name, items), _entries(plan, name)
    settled = {id for id, entry in entries.items() if entry.status != "done"}  # absent, or a fault that was skipped
    left = [item.id for item in items if item.id not in there and item.id not in settled]

    rows = {item.id: 1 if new else sizes.rows(plan, name, lengths.videos[item.row.video_id]) for item in items}
    worked, counted = sum(r.working_s for r in records), sum(r.made if new else r.rows for r in records)
    if counted:
        row_s, time_basis = worked / counted * (1.0 if new else _density(entries, rows)), MEASURED
    else:
        row_s, time_basis = (0.0, UNKNOWN) if new else (_row_s(plan, name), DEFAULT)

    disk = {item.id: 1.0 if new else float(sizes.disk(plan, name, item, lengths.videos[item.row.video_id])) for item in items}
    if expected := sum(disk[id] for id in there):  # existing streams show how far the arithmetic is off for the rest
        factor, disk_basis = sum(there.values()) / expected, MEASURED
    else:
        factor, disk_basis = (0.0, UNKNOWN) if new else (1.0, ARITHMETIC)
    disk = {id: there.get(id, size * factor) for id, size in disk.items()}

    gpu = sizes.gpu(plan, name) if plan.settings.device == "cuda" and not new else None
    times = row_s * sum(rows.values()), row_s * sum(rows[id] for id in left)
    return Part(name, len(items), *times, gpu, sum(disk.values()), sum(disk[id] for id in left), time_basis, disk_basis)


def _there(plan: Plan, name: str, items: list[Item]) -> dict[str, int]:
    """Return item -> bytes of its stream, for those that are in the store."""
    try:
        names = {entry.name: entry for entry in os.scandir(plan.folder(name))}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    files = {item.id: plan.stream(name, item).name for item in items}
    return {id: names[file].stat().st_size for id, file in files.items() if file in names}


def _entries(plan: Plan, name: str) -> dict[str, Entry]:
    """Read the entries in the indexes of a stage."""
    out: dict[str, Entry] = {}
    for index in plan.indexes(name):
        with suppress(StoreError):  # not there yet, or one that the next run drops
            out |= read_index(Path(index))
    return out


def _density(entries: dict[str, Entry], rows: dict[str, int]) -> float:
    """Return rows that streams have over rows by arithmetic: a frame of a video may have no face, or several."""
    done = {id: entry.rows for id, entry in entries.items() if entry.status == "done"}
    wanted = sum(rows[id] for id in done)
    return sum(done.values()) / wanted if wanted else 1.0


def _row_s(plan: Plan, name: str) -> float:
    """Return the seconds per row by what is declared."""
    s, device = plan.settings, plan.settings.device
    if name in s.models:
        model = s.models[name]
        per_row = sizes.window_rows(plan, name) / model.chunks if takes(model) == "windows" else model.window / model.stride
        return MODELS[model.kind].row_s + 2 * sizes.parameters(plan, name) * per_row / _model_speed(plan, name)
    cost, found, context = sizes.cost(plan, name), sizes.encoder(plan, name), plan.context(name)
    if found is None:
        return cost.row_s
    speed = FLOPS[device, getattr(context.settings, "dtype", "float32")]
    return cost.row_s + cost.seconds(context.settings) + 2 * cost.operations(context, found) / speed


def _model_speed(plan: Plan, model: str) -> float:
    """Return the operations a second of a model: one that trains layers of an encoder is a large network."""
    s = plan.settings
    reads = "" if s.models[model].members else s.models[model].reads
    return FLOPS[s.device, "float32"] if getattr(s.features.get(reads), "trained_layers", 0) else MODEL_FLOPS[s.device]


def _fits(plan: Plan, model: str, lengths: Lengths, records: Iterable[JobRecord]) -> Part:
    """Estimate all fits of a model, with all their epochs: one that stops early takes less."""
    new, folds = is_new(plan, model), plan.fits(model)
    missing = sum(not Path(plan.fitted(model, fold)).exists() for fold in folds)
    took = [r.seconds for r in records if r.unit == "epochs" and r.state == "done" and r.done]  # one that found its model has no epochs
    if took:
        each_s, time_basis = sum(took) / len(took), MEASURED
    else:
        each_s, time_basis = (0.0, UNKNOWN) if new else (_fit_s(plan, model, lengths), DEFAULT)
    disk, disk_basis = (0.0, UNKNOWN) if new else (float(sizes.fit_disk(plan, model)), ARITHMETIC)
    gpu = sizes.fit_gpu(plan, model) if plan.settings.device == "cuda" and not new else None
    times = each_s * len(folds), each_s * missing
    return Part(f"fit {model}", len(folds), *times, gpu, disk, disk * missing / len(folds), time_basis, disk_basis)


def _fit_s(plan: Plan, model: str, lengths: Lengths) -> float:
    """Return the seconds of a fit by what is declared."""
    settings = plan.settings.models[model]
    train = [item for item in plan.items(model) if item.row.labelled(plan.tasks, "train")]
    rows = sum(sizes.rows(plan, model, lengths.videos[item.row.video_id]) for item in train)
    windows = rows / (settings.chunks if takes(settings) == "windows" else settings.stride)
    seen = windows * sizes.window_rows(plan, model)
    compute_s = 3 * 2 * sizes.parameters(plan, model) * seen / _model_speed(plan, model)  # the backward pass is twice the forward's work
    return (compute_s + windows / settings.training.batch_size * STEP_S[plan.settings.device]) * settings.training.epochs


def _publish(plan: Plan, lengths: Lengths) -> Part:
    frames = sum(lengths.videos[row.video_id].frames for row in plan.rows)
    seconds, disk = frames * PUBLISH_S, float(frames * RESULT_BYTES * len(plan.tasks))
    left = not Path(plan.published()).exists()
    return Part("publish", len(plan.rows), seconds, seconds * left, None, disk, disk * left, DEFAULT, DEFAULT)
