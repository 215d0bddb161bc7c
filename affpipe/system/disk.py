"""Files written whole or not at all, locks for one process at a time, and plain messages for disk errors."""

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

from affpipe.core.errors import AffpipeError, StoreError
from affpipe.system.files import instead_of_file, waits

DAY_S = 24 * 3600
PART = re.compile(r"\.(?P<host>\w*)-(?P<pid>\d+)-[0-9a-f]{8}\.part$", re.ASCII)  # end of the name of a file that is being written
NAME_BYTES, HOST_CHARACTERS = 255, 64  # most bytes of a file's name, most characters of the host's name in it
FAULTS = {  # error of the disk -> what to do
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
NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)  # errors of flushing a folder where the system cannot, or may not
FILLED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # errors of writing a file, never of reading one
log = logging.getLogger("affpipe")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file while a block runs. Waits for whoever has it. The lock ends with its process, however that ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if waits(path):
            raise StoreError(f"{path}: want a lock file, got {instead_of_file(path)}; remove it")
        file = _opened(path)
    except PermissionError as error:
        if not os.path.lexists(path):
            raise mendable(str(path), error) or error from None
        log.warning("%s: another user's, who lets nobody read it; going on without the lock", path)
        file = None
    except OSError as error:
        raise mendable(str(path), error) or error from None
    if file is None:
        yield
        return
    with os.fdopen(file, "rb"):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s: held by another process; waiting for it", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s: this file system has no locks (%s); going on without", path, error.strerror)
        yield


def _opened(path: Path) -> int:
    """Open a lock file, made if there is none. Another user's file may be read-only, which is enough for a lock on most file systems."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def is_running(pid: int) -> bool:
    """Return whether a process of this machine exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def abandoned(parts: Iterable[Path]) -> Iterator[Path]:
    """Yield the half-written files that nobody writes any more: their process on this machine is gone, or they are a day old.

    A locked file is not abandoned. A container has its own processes, so a process that seems gone here may live there; its lock shows it.
    Each file is locked while the caller handles it.
    """
    for path in sorted(parts):
        writer = PART.search(path.name)
        try:
            old = time.time() - path.stat().st_mtime > DAY_S
        except FileNotFoundError:  # finished meanwhile
            continue
        if old or (writer and writer["host"] == _host() and not is_running(int(writer["pid"]))):
            with _unlocked(path) as free:
                if free:
                    yield path


@contextmanager
def _unlocked(path: Path) -> Iterator[bool]:
    """Give whether no process holds the lock of a file, and hold it while the block runs. An unreadable file counts as locked."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        yield error.errno == errno.ELOOP  # a link: nobody writes to one by such a name
        return
    with os.fdopen(file, "rb"):
        yield _locked(file)


def _locked(file: int) -> bool:
    """Lock a file. Return False if another process has the lock, True also if the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def sweep(folder: Path, *, below: bool = False) -> None:
    """Remove what killed jobs left half written in a folder, and with `below` in all folders below it."""
    for path in abandoned(folder.rglob(".*.part") if below else folder.glob(".*.part")):
        with suppress(PermissionError):  # another user's file, in a folder set so that only its owner may delete it
            path.unlink(missing_ok=True)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:HOST_CHARACTERS]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, of an empty file; flush and rename it on success, remove it on any failure.

    The file is locked until it has its name, so that nobody sweeps it. Afterwards a loss of power takes neither file nor name. Raises
    StoreError if the disk does not take it.
    """
    try:
        made = _folder(path.parent)
    except OSError as error:
        remedy = FAULTS.get(error.errno, "check the setting that names it")
        raise StoreError(f"{path.parent}: want a folder to write to, got {error.strerror}; {remedy}") from None
    with telling(path):
        part, file = _begun(path)
    try:
        with os.fdopen(file, "rb"), telling(path):
            yield part
            with part.open("rb+") as whole:  # some libraries replace it with a file of their own
                _locked(whole.fileno())
                os.fsync(whole.fileno())
                os.replace(part, path)
            for folder in (path.parent, *made):
                _flush(folder)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _begun(path: Path) -> tuple[Path, int]:
    """Create, open and lock a new file beside `path`. Its name says who writes it and follows no link; a long name is cut."""
    while True:
        end = f".{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part"
        name = os.fsencode(path.name)[: NAME_BYTES - len(end) - 1].decode(errors="ignore")
        part = path.with_name(f".{name}{end}")
        try:
            file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        if _locked(file) and _is_at(part, file):
            return part, file
        os.close(file)  # it was swept before it was locked


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _folder(path: Path) -> list[Path]:
    """Make a folder; return the folders that contain the newly made ones."""
    made = [] if path.is_dir() else [folder.parent for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return made


def _flush(folder: Path) -> None:
    """Flush the names in a folder to the disk, if the file system can."""
    try:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Raise a StoreError if a block that writes `path` fails because of the disk. Other errors pass through."""
    try:
        yield
    except AffpipeError:
        raise
    except Exception as error:  # h5py, safetensors and torch each have their own error for a full disk
        fault = None if _of_reading(error) else _disk_fault(path, error)
        if fault is None:
            raise
        raise fault from None


def _of_reading(error: Exception) -> bool:
    """Return whether an error is one of FFmpeg's while reading. FFmpeg reads while others write, and damaged data may give EPERM."""
    return type(error).__module__.partition(".")[0] == "av" and getattr(error, "errno", None) not in FILLED


def _disk_fault(path: Path, error: Exception) -> StoreError | None:
    """Return the error of the disk that `path` is written to; None if something else failed."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None:  # libraries do not always pass on the error number, but always the system's text
        number = next((n for n in FAULTS if os.strerror(n) in str(error)), None)
    named = getattr(error, "filename", None)
    if number not in FAULTS or (named is not None and Path(os.fsdecode(named)).parent != path.parent):  # an error of another file
        return None
    return StoreError(f"{path}: want to write it, got {os.strerror(number)}; {FAULTS[number]}")


def mendable(who: str, error: OSError) -> StoreError | None:
    """Return a one-line error for a system error that a person can mend; None for others."""
    remedy = FAULTS.get(error.errno)
    return StoreError(f"{who}: want to use it, got {os.strerror(error.errno)}; {remedy}") if remedy else None


def mask(umask: str | None) -> None:
    """Remove the rights that the setting `umask` names from all files that this process and its children will make; grant none."""
    if umask is not None:
        os.umask(os.umask(0o077) | int(umask, 8))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
