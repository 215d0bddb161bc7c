"""A folder of results, `<results>/<name>`: which of its files a run published, and how a new state replaces the old one.

`files.txt` lists what was published, one path per line under HEAD; `run.json` exists while all of it does. Nothing else in the folder is
replaced or removed. A new state is written aside, then moved into place. The record of the run is removed first and written last, so a
folder without it is half published, or no folder of results at all.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from affpipe.core.errors import InputError
from affpipe.core.tasks.task import Task
from affpipe.data.settings import parse_tasks
from affpipe.system import disk, jsonfile
from affpipe.system.files import read_text

RECORD, FILES = "run.json", "files.txt"
HEAD = "# files that affpipe published here, and replaces when it publishes again"
STATES = "published"  # folder in it for the files that Snakemake tracks, and for the lock
ASIDE = ".publishing"  # folder in it to which a new state is written
LAYOUT = ("predictions", "official", "models", "late_fusion", "by_video")  # a version without a list published files below these
LOOSE = ("scores.json", "scores.csv", "table.csv", "failures.csv", "report.html")  # and these
AGAIN = "run the workflow, which publishes it anew"


def read(folder: Path) -> dict[str, Any]:
    """Read the record of a published run, checked for its form only; InputError if there is none, or only a part of the run is there."""
    path = folder / RECORD
    try:
        found = jsonfile.read(path)
        if not isinstance(found, dict):
            raise ValueError("something else")
    except FileNotFoundError:
        if _list(folder) is not None:
            raise InputError(f"{path}: want the record of a finished run, got a run that is not published whole; {AGAIN}") from None
        raise unreadable(folder, "No such file or directory") from None
    except (OSError, ValueError) as error:
        raise unreadable(folder, getattr(error, "strerror", None) or error) from None
    return found


def tasks(folder: Path) -> dict[str, Task]:
    """Return the tasks of a published run."""
    try:
        return parse_tasks(read(folder)["settings"]["tasks"])
    except (LookupError, TypeError, ValueError) as error:
        raise unreadable(folder, error) from None


def unreadable(folder: Path, got: object) -> InputError:
    """Return the error for a folder whose record is not a proper one."""
    return InputError(f"{folder / RECORD}: want the record of a finished run, got {got}; run the workflow first")


def steady(folder: Path) -> Callable[[], None]:
    """Return a check to call after the files of a run were read: InputError if the run was published again meanwhile."""
    before = read(folder)

    def check() -> None:
        if read(folder) != before:
            raise InputError(f"{folder}: want one state of the run, got another while it was read; run the same command again")

    return check


def known(folder: Path) -> bool:
    """Tell whether a run of affpipe published to a folder, whole or in part: others have files of such names too."""
    return _list(folder) is not None or _recorded(folder)


def _list(folder: Path) -> list[str] | None:
    """Return the lines of the list; None if there is none that affpipe wrote."""
    path = folder / FILES
    if not path.is_file():
        return None
    head, *names = read_text(path, "list of published files", InputError, "move the folder away").splitlines() or [""]
    return names if head == HEAD else None


def _recorded(folder: Path) -> bool:
    try:
        found = jsonfile.read(folder / RECORD)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"affpipe", "settings", "models"} <= found.keys()


def files(folder: Path) -> set[str]:
    """Return the paths of the files in a folder that were published there; if a version without a list did, of those where it put its own.

    Raises InputError if the folder holds files and nothing was ever published there, or its list names files elsewhere.
    """
    path, names = folder / FILES, _list(folder)
    if names is not None:
        for name in names:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or PurePosixPath(name).is_absolute():
                raise InputError(f"{path}: want paths of files below this folder, got {name!r}; remove the line")
        return set(names)
    if _recorded(folder):
        found = (path for name in LAYOUT if not (folder / name).is_symlink() for path in (folder / name).rglob("*"))
        return {path.relative_to(folder).as_posix() for path in (*found, *(folder / name for name in LOOSE)) if path.is_file()}
    others = [p.name for p in sorted(folder.iterdir()) if not p.name.startswith(".") and p.name != STATES] if folder.is_dir() else []
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(
            f"{folder}: want a new folder for results, or that of a run, got one that holds {others[0]}{more}; choose another `name` or "
            "`results`, or move the folder away"
        )
    return set()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a folder, so that nobody else publishes to it while a block runs."""
    with disk.alone(folder / STATES / "lock"):
        yield


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield a folder to write a new state of results to, RECORD included; when the block ends, it replaces the old state.

    Raises InputError, before anything is replaced or removed, if a file that was not published here is in the way, or a link leads away.
    """
    files(folder)  # faults of the folder are reported before the work
    aside = folder / ASIDE
    _remove(aside)
    aside.mkdir(parents=True)
    try:
        yield aside
        _replace(folder, aside)
    finally:
        _remove(aside)


def _replace(folder: Path, aside: Path) -> None:
    new = {path.relative_to(aside).as_posix() for path in aside.rglob("*") if path.is_file()} - {RECORD}
    old = files(folder)
    for name in sorted(new | old):
        _check_place(folder, name, published=name in old)
    _write_list(folder, new | old)
    (folder / RECORD).unlink(missing_ok=True)
    remove(folder, old - new)
    for name in sorted(new):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(aside / name, folder / name)
    _write_list(folder, new)
    os.replace(aside / RECORD, folder / RECORD)


def write(folder: Path, name: str, text: str) -> None:
    """Write one more file of a run to its folder; InputError if one that was not published stands there, or in the folder."""
    listed = files(folder)
    _check_place(folder, name, published=name in listed)
    _write_list(folder, listed | {name})
    disk.write_text(folder / name, text)


def withdraw(folder: Path, names: Collection[str]) -> None:
    """Remove files of a run, its record first: the rest counts as a part of it until it is published again."""
    listed = files(folder)
    for name in names:
        _check_place(folder, name, published=True)
    _write_list(folder, listed)
    (folder / RECORD).unlink(missing_ok=True)
    _remove(folder / ASIDE)
    remove(folder, names)
    _write_list(folder, listed - set(names))


def remove(folder: Path, names: Collection[str]) -> None:
    """Remove files of a folder, and the folders in it that are empty then; of a link only the link."""
    for name in sorted(names):
        path = folder / name
        path.unlink(missing_ok=True)
        for above in path.parents:
            if above == folder or not above.is_dir() or any(above.iterdir()):
                break
            above.rmdir()


def _check_place(folder: Path, name: str, *, published: bool) -> None:
    """Raise InputError unless a file of a run may be put to, or removed from, a place."""
    path = folder / name
    for above in path.relative_to(folder).parents[:-1]:
        if (folder / above).is_symlink():
            raise InputError(
                f"{folder / above}: want a folder of the results, got a link, in which other files would be removed; take the link away"
            )
        if os.path.lexists(folder / above) and not (folder / above).is_dir():
            raise InputError(f"{folder / above}: want a folder of the results, got a file; move it away")
    if path.is_dir() and not path.is_symlink():
        raise InputError(f"{path}: want a place for a file of the results, got a folder; move it away")
    if os.path.lexists(path) and not published:
        raise InputError(f"{path}: want a place for a file of the results, got one that no run published; move it away")


def _write_list(folder: Path, names: Collection[str]) -> None:
    disk.write_text(folder / FILES, "".join(f"{line}\n" for line in (HEAD, *sorted(names))))


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it exists; of a link only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
