"""The folders that a run writes to: whether it can write, the free space, and whether clocks and locks are as it expects."""

import fcntl
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from affpipe.core.progress import size
from affpipe.jobs.doctor.finding import Finding, fault, fine, warning
from affpipe.system import disk

NETWORK = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "fuse.sshfs", "fuse.glusterfs")
SKEW_S = 5.0  # difference between the clocks of machine and file system that does no harm
MUCH_SKEW_S = 60.0  # with more, running jobs are taken for killed ones
TIGHT = 1.2  # room that is wanted, as a multiple of the estimate


def check(folders: Mapping[str, Path], need: Mapping[str, float], files: int) -> Iterator[Finding]:
    """Yield findings on the folders of a run.

    Args:
        folders: name -> folder, which need not exist yet. need: name -> bytes that are still to be written there.
        files: number of files still to be written in all.
    """
    for name, folder in folders.items():
        yield from written(name, folder)
    yield from room(folders, need, files)
    yield parts(folders["cache"])


def there(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def written(name: str, folder: Path) -> Iterator[Finding]:
    """Write, lock, flush and rename a file, as for every stream; for the cache also check clock and locks."""
    place, before_s = there(folder), time.time()
    # Names that nobody has or can guess: in a shared folder somebody may have put a link under a known one.
    part, whole = (place / f".affpipe-doctor-{secrets.token_hex(8)}" for _ in range(2))
    try:
        with part.open("xb") as file:
            file.write(b"affpipe")
            os.fsync(file.fileno())
            unlocked = _unlocked(file)
        os.replace(part, whole)
        stamp_s = whole.stat().st_mtime
    except OSError as error:
        yield fault(f"{name} folder", f"{folder}: want to write there, got {error.strerror}", "make it writable, or set another folder")
        return
    finally:
        for path in (part, whole):
            if os.path.lexists(path):
                path.unlink()
    yield fine(f"{name} folder", f"{folder}: writable, {kind(place)}")
    if name == "cache":
        yield clock(folder, max(before_s - stamp_s, stamp_s - time.time(), 0.0))
        yield locking(folder, unlocked)


def _unlocked(file: BinaryIO) -> str:
    """Lock a file; return why it cannot be locked, or ""."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return str(error.strerror)
    return ""


def kind(folder: Path) -> str:
    """Return the type of the file system that a folder lies on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    over = [(len(point), system) for point, system in mounts if folder.resolve().is_relative_to(point.replace("\\040", " "))]
    return max(over)[1] if over else "unknown"


def room(folders: Mapping[str, Path], need: Mapping[str, float], files: int) -> Iterator[Finding]:
    """Compare free space with what the estimate still needs, and check free inodes; folders of one file system share both."""
    systems: dict[int, list[str]] = defaultdict(list)
    for name in need:
        systems[there(folders[name]).stat().st_dev].append(name)
    for names in systems.values():
        what, want = " and ".join(names), sum(need[name] for name in names)
        disk = os.statvfs(there(folders[names[0]]))
        free = disk.f_bavail * disk.f_frsize
        sizes = f"{size(free)} free for {what}, {size(want)} still to be written by the estimate; a quota may allow less"
        free_it = "free space (`affpipe cache gc` shows what no run uses), or set `cache` to a larger disk"
        if free < want:
            yield fault("disk", f"want {size(want)} for {what} by the estimate, got {size(free)} free", free_it)
        elif free < TIGHT * want:
            yield warning("disk", sizes, free_it)
        else:
            yield fine("disk", sizes)
        if disk.f_files and disk.f_favail < files:
            yield fault("files", f"want {files} new files, got {disk.f_favail} free inodes", "remove files, or ask for more")


def clock(folder: Path, skew_s: float) -> Finding:
    """Compare the clock of the file system with this machine's."""
    if skew_s <= SKEW_S:
        return fine("clock", f"file system and machine agree within {SKEW_S:.0f} s")
    found = f"the clocks of the file system of {folder} and of this machine are {skew_s:.0f} s apart"
    remedy = "set the clocks (NTP); till then a job that runs may be shown as killed"
    return (fault if skew_s > MUCH_SKEW_S else warning)("clock", found, remedy)


def locking(folder: Path, unlocked: str) -> Finding:
    """Check locks. A fit locks its folder, so that two runs do not fit one model at once; streams are written and read without locks."""
    system, alone = kind(there(folder)), "run one workflow at a time on this cache"
    if unlocked:
        return warning("file locks", f"{folder} ({system}): none ({unlocked}); two runs may fit one model at once", alone)
    if system in NETWORK:
        return warning("file locks", f"{folder} is on {system}, where locks between nodes may hold nothing or hang", alone)
    return fine("file locks", f"they work ({system})")


def parts(cache: Path) -> Finding:
    """Look for half-written files of jobs that were killed."""
    found = [(path, path.stat().st_size) for path in disk.abandoned(cache.rglob(".*.part"))]
    if not found:
        return fine("half-written files", "none that nobody writes")
    held = size(sum(count for _, count in found))
    remedy = "`affpipe cache verify` deletes them"
    return warning("half-written files", f"{len(found)} of killed jobs, {held}, the first {found[0][0]}", remedy)
