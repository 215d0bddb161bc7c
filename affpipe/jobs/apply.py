"""An apply job: one stage over one shard, each stream written when done.

A stage is a module function `stage(context) -> worker`; the context loads what is heavy once, the worker makes one stream. Streams that are
in the store under the right key and identity are skipped, so a killed job loses what is in progress.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import AbsentError, AffpipeError, InputError, MediaError, StoreError
from affpipe.media import identity
from affpipe.plan.plan import Item, Plan
from affpipe.store import streams
from affpipe.store.index import Entry
from affpipe.store.streams import Stream
from affpipe.system import disk, faults
from affpipe.system.job_record import JobRecord
from affpipe.system.threads import StoppedError, each

log = logging.getLogger("affpipe")
Progress = Callable[[str, int, int], None]  # stage, items done, items in all


@dataclass(frozen=True)
class Context:
    """What a stage may know: the plan, its own name, and where the weights are."""

    plan: Plan
    name: str

    @property
    def settings(self) -> Any:
        """Settings section of the stage."""
        s = self.plan.settings
        return s.features.get(self.name) or s.models.get(self.name) or getattr(s, self.name)


class Job:
    """One item of a stage: opens what the stage reads, writes what it makes.

    Args:
        stop: once it is set, what is being written is dropped at the next rows with StoppedError.
    """

    def __init__(self, plan: Plan, name: str, item: Item, stop: threading.Event | None = None):
        self.plan, self.name, self.item, self.stop = plan, name, item, stop or threading.Event()
        self.path = plan.stream(name, item)
        self._random: set[str] = set()
        self._state: identity.State | None = None

    @property
    def video(self) -> Path:
        """The media file. From now on it must stay as it is, till the stream is written."""
        self._state = self._state or identity.state(self.item.row.video)
        return self.item.row.video

    def has(self, read: str) -> bool:
        """Whether stage `read` has a stream for this item."""
        return self.plan.stream(read, self.item).exists()

    def open(self, read: str) -> Stream:
        """The stream of stage `read`, checked against its key and this item's identity."""
        own = self.plan.item(read, self.item)
        stream = Stream(self.plan.stream(read, self.item), key=self.plan.key(read), identity=own.identity)
        self._random |= set(stream.attributes["random"])
        return stream

    def video_track(self) -> int | None:
        """Which track of the file the frame axis is of; None if that was not said."""
        with self.open("frames") as frames:
            return frames.attributes["extra"].get("video", {}).get("track", {}).get("index")

    def sound(self) -> streams.Sound:
        """The video's audio track, sample 0 at its first frame."""
        item = self.plan.item("audio", self.item)
        path = self.plan.stream("audio", item)
        streams.check(path, key=self.plan.key("audio"), identity=item.identity)
        return streams.Sound(path)

    @property
    def random(self) -> tuple[str, ...]:
        """Checkpoints with random weights behind what was opened so far."""
        return tuple(sorted(self._random))

    def axis(self) -> FrameAxis:
        """The video's frame axis."""
        with self.open("frames") as frames:
            try:
                return FrameAxis(frames.start_s, frames.fps)
            except InputError as error:
                raise StoreError(f"{frames.path}: want the times of a video, got {error}; {streams.REPAIR}", damaged=frames.path) from None

    def header(self, fps: Fraction, *, random: tuple[str, ...] = (), columns: tuple[str, ...] = (), **extra: Any) -> streams.Header:
        """Header of the stream that this job writes; random weights of what it opened are carried along."""
        p, n = self.plan, self.name
        return streams.Header(
            stage=p.kind(n),
            key=p.key(n),
            id=self.item.id,
            identity=self.item.identity,
            spec=p.spec(n),
            revision=p.revision(n),
            inputs=p.inputs(n),
            fps=fps,
            random=tuple(sorted(self._random | set(random))),
            columns=columns,
            extra=extra,
        )

    @contextmanager
    def atomic(self) -> Iterator[Path]:
        """A temporary path for the stream, which takes its name in the end; MediaError if the item is not what it was when planned."""
        with disk.atomic(self.path) as part:
            yield part
            self._check_unchanged()

    @contextmanager
    def writing(self, header: streams.Header) -> Iterator[streams.Writer]:
        """Write the stream in pieces; MediaError as for `atomic`."""
        with streams.writing(self.path, header, before_rows=self._check_going_on) as out:
            yield out
            self._check_unchanged()

    def write(self, header: streams.Header, **rows: Any) -> None:
        """Write the stream at once."""
        with self.writing(header) as out:
            out.append(**rows)

    def _check_going_on(self) -> None:
        if self.stop.is_set():
            raise StoppedError(f"{self.name}: {self.item.id}")

    def _check_unchanged(self) -> None:
        """A file replaced while it was read must not give its values to the name of the one before."""
        if self.plan.identity_now(self.name, self.item) != self.item.identity:
            raise MediaError(f"{self.item.row.video}: want the files that were there when the run was planned, got others; run again")
        if self._state not in (None, identity.state(self.item.row.video)):  # its fingerprint does not see all of it
            raise MediaError(f"{self.item.row.video}: want a file that nobody writes to, got one that changed; run again once it is whole")


Worker = Callable[[Job], None]


def present(plan: Plan, name: str, item: Item) -> Entry | None:
    """The entry of a stream that is in the store already, or None. A damaged file counts as missing and is said so."""
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
    """The reason why this item cannot be made, taken from what it reads; None if it can.

    A fault anywhere below is passed on. What is absent is passed on too, except to a fusion, which does with the modalities that are there,
    and hears nothing where no mouth was found.

    Args: reads: stages, if others than those that applying `name` reads.
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
    """Apply a stage to items and return what became of each, in their order; faults of one item never lose another.

    An exception of a library counts as a fault of its item too. At once raised are StoreError, where a stream that is read has to be made
    again or the disk takes no more, other faults of the machine (memory, a GPU), and an exception in which the first items all end.

    Args:
        entries: for each stage that this one reads, its items' entries.
        stage: loads what is heavy, once, and only if there is anything to make.
        record: kept up to date.
        threads: each makes an item at a time; what becomes of the items does not depend on it. With more than one, the worker is called by
            several at once.
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
        """Items that are to be made; those that need not be are settled on the way."""
        nonlocal worker
        for item in items:
            progress(name, record.done, record.total)
            entry = inherited(plan, name, item, entries) or present(plan, name, item)
            if entry is None:
                worker = worker or stage(Context(plan, name))
                yield item
            else:
                record.there += entry.status == "done"
                settle(item, entry)

    def make(item: Item) -> tuple[Entry, Exception | None]:
        return _make(Job(plan, name, item, stop), worker)

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


def _make(job: Job, worker: Worker) -> tuple[Entry, Exception | None]:
    """What became of an item, and the exception of a library that ended it."""
    try:
        worker(job)
        return Entry("done", job.path.name, _rows(job.path, streams.attributes(job.path))), None
    except AbsentError as error:
        return Entry("absent", reason=str(error)), None
    except (StoreError, StoppedError):  # no fault of the item: what it reads must be made again, or the disk mended; or the job stops
        raise
    except AffpipeError as error:
        return Entry("failed", reason=str(error)), None
    except Exception as error:
        return Entry("failed", reason=blame(job.plan, job.name, job.item, error)), error


def blame(plan: Plan, name: str, item: Item, error: Exception) -> str:
    """The reason of an item that an exception of a library has ended. One of the machine's is raised again, a disk's as StoreError."""
    if not faults.of_machine(error, plan.cache):
        log.info("%s: %s: what ended it:", name, item.id, exc_info=error)
        return faults.reason(f"{item.row.video}: {name}", error)
    if isinstance(error, OSError) and (told := disk.mendable(f"{name}: {item.id}", error)):
        raise told from error
    error.add_note(f"{name}: {item.id}")  # of several items at once a traceback would not say which it was
    raise error


def blank(rows: int, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Zeros for rows that may stay unobserved."""
    return np.zeros((rows, *shape), dtype)


def blocks(rows: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover `rows`, so that memory does not grow with the video."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
