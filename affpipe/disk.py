"""Files written whole or not at all, by one process at a time where it matters, and what a disk that takes no more says."""

import errno
import fcntl
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from affpipe.errors import AffpipeError, StoreError
from affpipe.files import instead_of_file, waits

DAY_S = 24 * 3600
PART = re.compile(r"\.(?P<host>\w*)-(?P<pid>\d+)-[0-9a-f]{8}\.part$", re.ASCII)  # ends the name of a file that is being written
FAULTS = {  # of the disk -> what to do
    errno.ENOSPC: "free space (`affpipe cache gc` shows what no run uses), then run again",
    errno.EDQUOT: "free space or ask for more quota (`affpipe cache gc` shows what no run uses), then run again",
    errno.EROFS: "make it writable or choose another folder",
    errno.EACCES: "make it writable or choose another folder",
    errno.EPERM: "make it writable or choose another folder",
    errno.ENOENT: "the folder went away meanwhile: check the disk or mount, then run again",
    errno.ESTALE: "the folder went away meanwhile: check the disk or mount, then run again",
    errno.EIO: "check the disk or mount, then run again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or choose another place",
    errno.EISDIR: "a folder has that name: move it away, or choose another place",
    errno.ENOTDIR: "a file stands where a folder should: move it away, or choose another place",
    errno.EEXIST: "a file stands where a folder should: move it away, or choose another place",
    errno.ENAMETOOLONG: "shorten the name",
    errno.ELOOP: "a link leads to itself: mend it, or choose another place",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), then run again",
    errno.ENFILE: "too many files are open on this machine: close some, then run again",
}
FILLED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # said of a file that is written and never of one that is read
log = logging.getLogger("affpipe")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file while a block runs; wait for whoever has it. It goes with its process, however that ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if waits(path):
            raise StoreError(f"{path}: want a lock file, got {instead_of_file(path)}; remove it")
        file = path.open("a")
    except OSError as error:
        raise mendable(str(path), error) or error from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s: held by another process; waiting for it", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s: this file system has no locks (%s); going on without", path, error.strerror)
        yield


def is_running(pid: int) -> bool:
    """Whether a process of this machine is there, and not merely unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def abandoned(parts: Iterable[Path]) -> Iterator[Path]:
    """Of half-written files, those that nobody writes any more: of a process of this machine that is gone, or a day old."""
    for path in sorted(parts):
        writer = PART.search(path.name)
        try:
            old = time.time() - path.stat().st_mtime > DAY_S
        except FileNotFoundError:  # done meanwhile
            continue
        if old or (writer and writer["host"] == _host() and not is_running(int(writer["pid"]))):
            yield path


def sweep(folder: Path, *, below: bool = False) -> None:
    """Remove what killed jobs left half written in a folder, or in all below it too."""
    for path in abandoned(folder.rglob(".*.part") if below else folder.glob(".*.part")):
        path.unlink(missing_ok=True)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; flush and rename it on success, remove it on any failure.

    Raises StoreError where the disk does not take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = FAULTS.get(error.errno, "check the setting that names it")
        raise StoreError(f"{path.parent}: want a folder to write to, got {error.strerror}; {remedy}") from None
    part = path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part")  # who writes it: see `sweep`
    try:
        with telling(path):
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Where a block that writes `path` fails for the disk's sake, say so with a StoreError; other errors stay as they are."""
    try:
        yield
    except AffpipeError:
        raise
    except Exception as error:  # h5py, safetensors and torch have one of their own for a full disk
        fault = None if _of_reading(error) else _disk_fault(path, error)
        if fault is None:
            raise
        raise fault from None


def _of_reading(error: Exception) -> bool:
    """Whether the error is one of FFmpeg's, which reads while others write, and says "Operation not permitted" of damaged data too."""
    return type(error).__module__.partition(".")[0] == "av" and getattr(error, "errno", None) not in FILLED


def _disk_fault(path: Path, error: Exception) -> StoreError | None:
    """What is wrong with the disk that `path` is written to; None if it is something else that failed."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None:  # libraries hand on a number only sometimes, but the words of the system always
        number = next((n for n in FAULTS if os.strerror(n) in str(error)), None)
    named = getattr(error, "filename", None)
    if number not in FAULTS or (named is not None and Path(os.fsdecode(named)).parent != path.parent):  # another file's
        return None
    return StoreError(f"{path}: want to write it, got {os.strerror(number)}; {FAULTS[number]}")


def mendable(who: str, error: OSError) -> StoreError | None:
    """One line of an error of the system that a person can mend; None for others."""
    remedy = FAULTS.get(error.errno)
    return StoreError(f"{who}: want to use it, got {os.strerror(error.errno)}; {remedy}") if remedy else None


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
