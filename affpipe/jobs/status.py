"""The state of a run: which items of each stage are done, missing or at fault, what runs, and how long the rest may take.

It reads names alone: the indexes of the plan, the names of the streams in the store, and the records of jobs. So it may be asked at any
time, for a run on any node that shares the folders.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from affpipe.core.errors import StoreError
from affpipe.plan.plan import Plan
from affpipe.results import ledger
from affpipe.store import streams
from affpipe.store.index import Entry, read_index
from affpipe.system.job_record import JobRecord

FINISHED, UNFINISHED, WITH_FAULTS = 0, 1, 3  # exit statuses


@dataclass
class Stage:
    """State of a stage, or of the fits of a model.

    Attributes:
        unit: what is counted: streams, or fits.
        total: number in the plan; done, absent, failed and missing add up to it.
        running: jobs at work. open: jobs that are not done: shards without an index, missing fits.
        epochs: done and at most, of the running fits.
        seconds_each: measured time of one; None if nothing was measured.
        left_s: measured time of what is missing over the running jobs (at least one); None if nothing was measured.
        stopped: log and reason of each job that failed or was killed and has not been run again.
    """

    name: str
    unit: str
    total: int
    done: int = 0
    absent: int = 0
    failed: int = 0
    running: int = 0
    open: int = 0
    epochs: tuple[int, int] | None = None
    seconds_each: float | None = None
    left_s: float | None = None
    stopped: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Number still to be made, including what runs now."""
        return self.total - self.done - self.absent - self.failed


@dataclass(frozen=True)
class Status:
    """State of a run.

    Attributes:
        published: all is done, results included.
        failures: file that says what is missing and why, if there is one.
        faulty: streams of the manifest that some stage lacks by a fault, each once however many stages that are, as in the file.
    """

    name: str
    stages: tuple[Stage, ...]
    published: bool
    failures: str | None
    faulty: frozenset[str]

    @property
    def percent(self) -> float:
        """Per cent of all streams and fits that need no more work."""
        total = sum(stage.total for stage in self.stages)
        return 100 * (total - sum(stage.missing for stage in self.stages)) / total

    @property
    def left_s(self) -> float:
        """Time of the stages whose time is known, one after another."""
        return sum(stage.left_s or 0 for stage in self.stages)

    @property
    def unknown(self) -> list[str]:
        """Stages with something missing of which nothing was measured."""
        return [stage.name for stage in self.stages if stage.left_s is None]

    @property
    def exit_status(self) -> int:
        """0: finished; 3: finished, and faults were skipped; 1: not finished."""
        if not self.published:
            return UNFINISHED
        return WITH_FAULTS if self.faulty else FINISHED

    def plain(self) -> dict[str, Any]:
        """Return the state in JSON types."""
        stages = [{**asdict(stage), "missing": stage.missing} for stage in self.stages]
        whole = {"percent": round(self.percent, 2), "left_s": self.left_s, "unknown": self.unknown, "exit_status": self.exit_status}
        found = {"published": self.published, "failures": self.failures, "streams_at_fault": len(self.faulty)}
        return {"run": self.name, **found, **whole, "stages": stages}


def of(plan: Plan) -> Status:
    """Return the status of a run."""
    stages: list[Stage] = []
    faulty: set[str] = set()
    for name in plan.names:
        if name in plan.settings.models:
            stages.append(_fits(plan, name))
        stage, failed = _streams(plan, name)
        stages.append(stage)
        if failed:
            faulty |= {s.id for s in plan.items("subject") if (name != "labels" or plan.labelled(s)) and plan.item(name, s).id in failed}
    whole = not any(stage.open or stage.missing for stage in stages) and Path(plan.published()).exists()
    path = ledger.path(plan)
    return Status(plan.settings.name, tuple(stages), whole, str(path) if path.exists() else None, frozenset(faulty))


def _streams(plan: Plan, name: str) -> tuple[Stage, set[str]]:
    """Return the state of a stage's streams, and ids of those at fault: by the index of a shard, or without one by the store."""
    stage, there = Stage(name, "streams", 0), streams.names(plan.folder(name))
    failed: set[str] = set()
    made, working_s = 0, 0.0
    for shard in plan.shards:
        items = plan.items(name, shard)
        if not items:
            continue
        stage.total += len(items)
        files = {item.id: plan.stream(name, item).name for item in items}
        index, path = plan.index(name, shard), plan.record(name, shard)
        record = JobRecord.read(path, plan.key(name))
        entries = _entries(Path(index))
        if entries is not None:
            failed |= _count(stage, entries, files, there)
        else:
            stage.open += 1
            failed |= _count_open(stage, record, files, there)
            _note(stage, path, record)
        if record is not None:
            made, working_s = made + record.made, working_s + record.working_s
    stage.failed = len(failed)
    _time(stage, working_s / made if made else None)
    return stage, failed


def _entries(index: Path) -> dict[str, Entry] | None:
    try:
        return read_index(index)
    except StoreError:  # none yet, or one that the next run drops
        return None


def _count(stage: Stage, entries: dict[str, Entry], files: dict[str, str], there: set[str]) -> set[str]:
    """Count what is done or absent; return ids at fault."""
    for id, file in files.items():
        status = entries[id].status if id in entries else "missing"
        stage.done += status == "done" and file in there
        stage.absent += status == "absent"
    return {id for id in files if id in entries and entries[id].status == "failed"}


def _count_open(stage: Stage, record: JobRecord | None, files: dict[str, str], there: set[str]) -> set[str]:
    """Count as `_count` for a shard without an index: existing streams are done, its job's record tells faults and absent ones."""
    known = record is not None and record.state != "done"  # the index of a finished job was dropped: its streams are to be made again
    faults = set(record.faults) if known else set()
    done = {id for id, file in files.items() if file in there} - faults
    stage.done += len(done)
    failed = faults & files.keys()
    if known:
        stage.absent += min(record.absent, len(files) - len(done) - len(failed))
    return failed


def _note(stage: Stage, path: Path, record: JobRecord | None) -> None:
    """Note whether the job of a shard, or a fit, is at work or was stopped."""
    if record is None:
        return
    stage.running += record.state == "running"
    if record.state in ("failed", "killed"):
        lost = f"gone without a word from {record.host}, after {record.done} of {record.total} {record.unit}"
        stage.stopped[str(path.with_suffix(".log"))] = f"{record.state}: {record.reason or lost}"


def _time(stage: Stage, seconds_each: float | None) -> None:
    stage.seconds_each = seconds_each
    if stage.missing == 0:
        stage.left_s = 0.0
    elif seconds_each is not None:
        stage.left_s = stage.missing * seconds_each / max(1, stage.running)


def _fits(plan: Plan, model: str) -> Stage:
    """Return the state of a model's fits. Time left counts all epochs: a fit that stops early takes less."""
    folds = plan.fits(model)
    stage, epochs, whole_s, running_s = Stage(f"fit {model}", "fits", len(folds)), [], [], 0.0
    for fold in folds:
        path = plan.record_of_fit(model, fold)
        record = JobRecord.read(path, plan.key(model))
        if Path(plan.fitted(model, fold)).exists():
            stage.done += 1
            if record is not None and record.state == "done" and record.done:  # one that found its model there has no epochs
                whole_s.append(record.seconds)
            continue
        stage.open += 1
        _note(stage, path, record)
        if record is not None and record.state == "running" and record.done:
            epochs.append((record.done, record.total))
            whole_s.append(record.seconds / record.done * record.total)
            running_s += record.seconds
    if epochs:
        stage.epochs = sum(done for done, _ in epochs), sum(total for _, total in epochs)
    _time(stage, sum(whole_s) / len(whole_s) if whole_s else None)
    if stage.left_s is not None and stage.missing:
        stage.left_s = max(0.0, stage.left_s - running_s / max(1, stage.running))
    return stage
