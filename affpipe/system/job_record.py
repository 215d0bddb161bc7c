"""Record of a job's progress and result: one small JSON file beside its log, for `affpipe status`, `affpipe estimate` and scripts.

A job writes it when it starts, twice a minute while it runs, and when it ends. A killed job leaves it as running, so readers check whether
the process still exists.
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

BEAT_S = 30.0  # seconds between two updates
SILENT_S = 4 * BEAT_S  # a job on another node without an update for so long is no longer running
STATES = ("running", "done", "failed", "killed")


@dataclass
class JobRecord:
    """Progress of one job.

    Attributes:
        job, shard: rule (`apply_<stage>`, `fit_<model>`) and shard, or the fold of a fit.
        key: key of the stage or model.
        state: running, done, failed, or (only ever read) killed.
        total, done, unit: number of items, of those finished, and what they are (streams, epochs).
        made, there, absent, failed: number of items that were computed, found in the store, have nothing to compute, or are faulty.
        seconds, working_s: since the start, and of these spent on computed items.
        rows: rows of the computed streams (frames, segments, windows).
        faults: faulty item -> reason.
        reason: reason of the job's failure.
        host, pid, gpu, slurm_job: where it runs; gpu is CUDA_VISIBLE_DEVICES.
        started, updated: seconds since 1970.
        peak_mb: most memory used.
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
        """Write the present state."""
        self.updated = time.time()
        self.seconds = round(self.updated - self.started, 2)
        self.peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        disk.write_text(path, json.dumps(asdict(self), sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path, key: str | None = None) -> Self | None:
        """Read the record at a path; None if there is none that can be read. Its state is `killed` if the job is gone without an end.

        Args:
            key: that it must have; None: any.
        """
        try:
            found: Mapping[str, Any] = jsonfile.read(path)
            record = cls(**found)
        except (OSError, ValueError, TypeError):  # none yet, or another version's: it only informs
            return None
        if key not in (None, record.key):
            return None
        if record.state == "running" and not record.alive():
            record.state = "killed"
        return record

    def alive(self) -> bool:
        """Return whether the job's process is alive, as far as can be told from here."""
        if self.host != socket.gethostname():
            return time.time() - self.updated < SILENT_S
        return disk.is_running(self.pid)


@contextmanager
def recording(path: Path, record: JobRecord) -> Iterator[JobRecord]:
    """Keep the record at `path` up to date while a block runs. It ends as `done`, or as `failed` with the reason if the block raises."""
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
    """Write the record; only log a failure, which must not hide the job's own error."""
    try:
        record.write(path)
    except StoreError as error:
        log.warning("%s", error)
