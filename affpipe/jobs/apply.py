"""An apply job: one stage over one shard, each stream written when done, and the shard's index last.

A stage is a module function `stage(context) -> worker`. The context loads what is heavy once; the worker makes one stream. Streams that are
in the store under the right key and identity are skipped, so a killed job loses only the streams in progress.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from affpipe.core.errors import AbsentError, AffpipeError, PartError, StoreError
from affpipe.core.item import Item
from affpipe.core.progress import Progress
from affpipe.core.stage import Context
from affpipe.jobs import resources, workers
from affpipe.jobs.failures import check_failures
from affpipe.jobs.start import frozen
from affpipe.plan.plan import Plan
from affpipe.store import cache, streams
from affpipe.store.index import Entry, read_index, write_index
from affpipe.store.item_streams import Job, Worker
from affpipe.store.streams import Stream
from affpipe.system import device, disk, faults
from affpipe.system.job_record import JobRecord, recording
from affpipe.system.threads import StoppedError, each, limit_threads

log = logging.getLogger("affpipe")


def apply_shard(settings: Path, index: Path, *, threads: int, progress: Progress) -> None:
    """Apply the stage to the shard that an index is named after, and write the index.

    With `on_error: stop` a fault of any stream fails the job after the other streams are done; with `skip` the index records it.
    """
    plan = frozen(settings)
    stage, shard = plan.of_index(index)
    need = resources.of_apply(plan, stage)
    abreast = threads if need.threads > 1 else 1  # videos; then one thread each
    limit_threads(threads // abreast)
    disk.sweep(index.parent)
    disk.sweep(index.parent.parent)
    record = JobRecord(f"apply_{stage}", shard, plan.key(stage))
    with recording(plan.record(stage, shard), record), cache.mending():
        if need.gpu:
            record.gpu = device.claim()
        entries = read_entries(plan, plan.reads(stage), [shard])
        made = apply(plan, stage, plan.items(stage, shard), entries, workers.start, progress, record, threads=abreast)
        check_failures(plan, stage, made)
        write_index(index, made)


def read_entries(plan: Plan, reads: Iterable[str], shards: list[str]) -> dict[str, dict[str, Entry]]:
    """Read the outcome of the items of each of the stages `reads`, in the given shards.

    Raises StoreError if an index does not hold these items, or a stream that it names is missing.
    """
    out: dict[str, dict[str, Entry]] = {}
    for read in reads:
        out[read], there = {}, streams.names(plan.folder(read))
        for shard in shards:
            if items := plan.items(read, shard):
                out[read] |= _checked(plan, read, items, Path(plan.index(read, shard)), there)
    return out


def _checked(plan: Plan, read: str, items: list[Item], index: Path, there: set[str]) -> dict[str, Entry]:
    entries = read_index(index)
    if entries.keys() != {item.id for item in items}:
        raise StoreError(f"{index}: want the items of its shard, got {', '.join(entries)}; {streams.REPAIR}", damaged=index)
    for item in items:
        path, entry = plan.stream(read, item), entries[item.id]
        if entry.status == "done" and path.name not in there and not path.is_file():  # a listing over a network may be late
            raise StoreError(f"{path}: want the stream that {index.name} names, got no file; {streams.REPAIR}", damaged=path)
    return entries


def present(plan: Plan, name: str, item: Item) -> Entry | None:
    """Return the entry of a stream that is in the store already, or None. A damaged file counts as missing, with a warning."""
    path = plan.stream(name, item)
    if not path.exists():
        return None
    try:
        found = streams.check(path, key=plan.key(name), identity=item.identity)
    except StoreError as error:
        if error.damaged is None:
            raise
        log.warning("%s; made anew", error)
        return None
    return Entry("done", path.name, _rows(path, found))


def _rows(path: Path, attributes: dict[str, Any]) -> int:
    if path.suffix == ".flac":
        return int(attributes["extra"]["samples"])
    with Stream(path) as stream:
        return len(stream)


def inherited(
    plan: Plan, name: str, item: Item, entries: Mapping[str, Mapping[str, Entry]], reads: Iterable[str] | None = None
) -> Entry | None:
    """Return the reason why this item cannot be made, taken from what it reads; None if it can.

    A fault anywhere below is passed on. Absence is passed on too, except to a fusion, which works with the present modalities, and uses no
    audio if no mouth was found.

    Args:
        reads: stages, if others than those that applying `name` reads.
    """
    states = {read: entries[read][plan.item(read, item).id] for read in reads or plan.reads(name)}
    for entry in states.values():
        if entry.status == "failed":
            return entry
    optional = plan.settings.models[name].members if name in plan.settings.models else ()
    absent = {read: entry for read, entry in states.items() if entry.status == "absent"}
    for read, entry in absent.items():
        if not optional or read not in (*optional, "speech"):
            return entry
    if optional and all(m in absent for m in optional):
        return Entry("absent", reason="; ".join(dict.fromkeys(e.reason for e in absent.values())))
    return None


def apply(
    plan: Plan,
    name: str,
    items: list[Item],
    entries: dict[str, dict[str, Entry]],
    stage: Callable[[Context], Worker],
    progress: Progress,
    record: JobRecord | None = None,
    *,
    threads: int = 1,
) -> dict[str, Entry]:
    """Apply a stage to items and return the outcome of each, in their order; a fault of one item never loses another.

    An exception of a library counts as a fault of its item too. Raised at once are StoreError, if a stream that is read has to be made
    again or the disk cannot be written, other faults of the machine (memory, a GPU), PartError, and an exception in which all first items
    end.

    Args:
        entries: for each stage that this one reads, its items' entries.
        stage: loads what is heavy, once, and only if there is anything to make.
        record: kept up to date.
        threads: each makes one item at a time; the outcome does not depend on their number. With several, the worker is called by several
            at once.
    """
    out: dict[str, Entry] = {}
    worker: Worker | None = None
    stop = threading.Event()
    record = record or JobRecord(f"apply_{name}")
    record.total = len(items)
    beginning = faults.Beginning(len(items))

    def settle(item: Item, entry: Entry) -> None:
        if entry.status != "done":
            log.warning("%s: %s: %s: %s", name, item.id, entry.status, entry.reason)
            record.absent += entry.status == "absent"
        if entry.status == "failed":
            record.failed += 1
            record.faults[item.id] = entry.reason
        out[item.id] = entry
        record.done += 1

    def missing() -> Iterator[Item]:
        """Yield the items that must be made; the others are settled on the way."""
        nonlocal worker
        for item in items:
            progress(name, record.done, record.total)
            entry = inherited(plan, name, item, entries) or present(plan, name, item)
            if entry is None:
                worker = worker or stage(plan.context(name))
                yield item
            else:
                record.there += entry.status == "done"
                settle(item, entry)

    def make(item: Item) -> tuple[Entry, Exception | None]:
        return _make(plan, plan.job(name, item, stop), worker)

    with closing(each(make, missing(), threads, stop)) as made:
        for item, (entry, error), seconds in made:
            if beginning.is_bug(error):
                error.add_note(
                    f"{name}: {item.id}: the first {faults.FIRST} items all ended so, and no file is at fault: {faults.words(error)}"
                )
                raise error
            record.working_s += seconds
            record.made += entry.status == "done"
            record.rows += entry.rows
            settle(item, entry)
    progress(name, record.total, record.total)
    log.info(
        "%s: %d made, %d there already, %d not to be had, %d failed; %.1f s of work, %d rows, in %s",
        *(name, record.made, record.there, record.absent, record.failed, record.working_s, record.rows, plan.folder(name)),
    )
    return {item.id: out[item.id] for item in items}


def _make(plan: Plan, job: Job, worker: Worker) -> tuple[Entry, Exception | None]:
    """Return the outcome of an item, and the exception of a library that ended it."""
    try:
        worker(job)
        if not job.path.exists():
            code = job.context.worker
            raise PartError(
                f"{job.name}: {job.item.id}: want a stream, got none as the worker returned; write it in {code}, or raise AbsentError"
            )
        return Entry("done", job.path.name, _rows(job.path, streams.attributes(job.path))), None
    except AbsentError as error:
        return Entry("absent", reason=str(error)), None
    except (StoreError, StoppedError, PartError):  # no fault of the item: its inputs, the disk or code must be mended; or a stop
        raise
    except AffpipeError as error:
        return Entry("failed", reason=str(error)), None
    except Exception as error:
        return Entry("failed", reason=blame(plan, job.name, job.item, error)), error


def blame(plan: Plan, name: str, item: Item, error: Exception) -> str:
    """Return the reason of an item that an exception of a library has ended.

    An exception of the machine is raised again, one of a disk as StoreError.
    """
    if not faults.of_machine(error, plan.cache):
        log.info("%s: %s: what ended it:", name, item.id, exc_info=error)
        return faults.reason(f"{item.row.video}: {name}", error)
    if isinstance(error, OSError) and (told := disk.mendable(f"{name}: {item.id}", error)):
        raise told from error
    error.add_note(f"{name}: {item.id}")  # with several items at once a traceback would not say which it was
    raise error
