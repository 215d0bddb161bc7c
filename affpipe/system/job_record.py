"""What a job is doing, and then what it did: one small JSON file beside its log, for `affpipe status`, `affpipe estimate` and scripts.

A job writes it when it starts, twice a minute while it runs, and when it ends. One that was killed leaves it as running; who reads it
asks whether the process is still there.
"""

import json
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from affpipe.core.errors import AffpipeError, PartError, StoreError
from affpipe.system import disk, jsonfile

log = logging.getLogger("affpipe")

BEAT_S = 30.0  # between two signs of life
SILENT_S = 4 * BEAT_S  # a job on another node that was silent for so long is not running any more
STATES = ("running", "done", "failed", "killed")


@dataclass
class JobRecord:
    """How one job stands.

    Attributes:
        job, shard: rule (`apply_<stage>`, `fit_<model>`) and shard, or the fold of a fit.
        key: of the stage or model.
        state: running, done, failed, or (only ever read) killed.
        total, done, unit: items of the job, those dealt with, and what they are (streams, epochs).
        made, there, absent, failed: items that were computed, found in the store, not to be had, at fault.
        seconds, working_s: since the start, and of these spent on items that were computed.
        rows: of the streams that were computed (frames, segments, windows).
        faults: item -> reason, of those at fault.
        reason: of the job's failure.
        host, pid, gpu, slurm_job: where; gpu is CUDA_VISIBLE_DEVICES.
        started, updated: seconds since 1970. peak_mb: of memory.
    """

    job: str
    shard: str = ""
    key: str = ""
    state: str = "running"
    unit: str = "streams"
    total: int = 0
    done: int = 0
    made: int = 0
    there: int = 0
    absent: int = 0
    failed: int = 0
    seconds: float = 0.0
    working_s: float = 0.0
    rows: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    gpu: str | None = field(default_factory=lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    slurm_job: str | None = field(default_factory=lambda: os.environ.get("SLURM_JOB_ID"))
    started: float = field(default_factory=time.time)
    updated: float = 0.0
    peak_mb: float = 0.0

    def write(self, path: Path) -> None:
        """Write how it stands now."""
        self.updated = time.time()
        self.seconds = round(self.updated - self.started, 2)
        self.peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        disk.write_text(path, json.dumps(asdict(self), sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path, key: str | None = None) -> Self | None:
        """The record at a path, its state `killed` where the job is gone without a word; None where there is none that can be read.

        Args:
            key: that it must have; None: any.
        """
        try:
            found: Mapping[str, Any] = jsonfile.read(path)
            record = cls(**found)
        except (OSError, ValueError, TypeError):  # none yet, or of another version: it only informs
            return None
        if key not in (None, record.key):
            return None
        if record.state == "running" and not record.alive():
            record.state = "killed"
        return record

    def alive(self) -> bool:
        """Whether the job's process is there, as far as can be told from here."""
        if self.host != socket.gethostname():
            return time.time() - self.updated < SILENT_S
        return disk.is_running(self.pid)


@contextmanager
def recording(path: Path, record: JobRecord) -> Iterator[JobRecord]:
    """Keep the record at `path` true while a block runs: `done` at its end, `failed` with the reason where it raises."""
    disk.sweep(path.parent)
    record.write(path)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            _try_to_write(path, record)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield record
        record.state = "done"
    except BaseException as error:
        record.state = "failed"
        record.reason = str(error) if isinstance(error, AffpipeError | PartError) else f"{type(error).__name__}: {error}"
        raise
    finally:
        over.set()
        thread.join()
        _try_to_write(path, record)


def _try_to_write(path: Path, record: JobRecord) -> None:
    """A record that cannot be written must not hide what the job itself has to say."""
    try:
        record.write(path)
    except StoreError as error:
        log.warning("%s", error)
