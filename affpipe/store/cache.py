"""Care of the whole store: list what it holds, verify it, repair it, find what nobody uses."""

import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from affpipe.core.errors import StoreError
from affpipe.store.index import read_index
from affpipe.store.streams import FIT, KEY, MODEL, REPAIR, attributes, check, file_name, unreadable
from affpipe.system import disk, jsonfile
from affpipe.system.files import composed

log = logging.getLogger("affpipe")
OWN = ("runs", "settings", "weights")  # folders without streams: the runs that use this cache, their settings, the weights it began with


@dataclass(frozen=True)
class Folder:
    """One `<stage>/<key>` folder of a cache."""

    path: Path
    files: tuple[Path, ...]
    indexes: tuple[Path, ...]
    bytes: int
    changed: float  # time of the last change to anything in it, seconds since 1970

    @property
    def stage(self) -> str:
        return self.path.parent.name

    @property
    def key(self) -> str:
        return self.path.name


def folders(cache: Path) -> list[Folder]:
    """List the `<stage>/<key>` folders of a cache by stage, then by age. Links are left out; see `links`."""
    found = []
    for path in (path for stage in _below(cache) for path in _below(stage) if KEY.fullmatch(path.name)):
        files = tuple(sorted(f for f in path.iterdir() if f.suffix in (".h5", ".flac") and not f.name.startswith(".")))
        within = [f.lstat() for f in path.rglob("*") if f.is_symlink() or not f.is_dir()]
        indexes = (index for shards in _below(path) if shards.name == "shards" for index in shards.glob("*.json"))
        changed = max([path.stat().st_mtime, *(f.st_mtime for f in within)])
        found.append(Folder(path, files, tuple(sorted(indexes)), sum(f.st_size for f in within), changed))
    return sorted(found, key=lambda f: (f.stage, f.path.stat().st_mtime))


def links(cache: Path) -> list[Path]:
    """List the folders of a cache that are links.

    They are read and written like any other, but nothing behind them is verified or deleted.
    """
    found: list[Path] = []
    folders = [cache] if cache.is_dir() else []
    for _ in range(3):  # three levels: stages, keys, and what lies in a key's folder
        found += [path for folder in folders for path in sorted(folder.iterdir()) if path.is_symlink() and path.is_dir()]
        folders = [path for folder in folders for path in _below(folder)]
    return found


def _below(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted. Links are left out, since they may lead out of the cache."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()) if folder.is_dir() else []


def verify(cache: Path) -> Iterator[tuple[Path, str]]:
    """Read the whole cache; repair what is damaged and yield (path, fault) for each repair.

    A stream that cannot be read, or that disagrees with its name, is deleted. An index that names a missing stream is dropped. The next run
    of the workflow then makes both again. Files that a killed job left half written are deleted too. Raises StoreError if the disk cannot
    be read; nothing is deleted for that.
    """
    for path in disk.abandoned(cache.rglob(".*.part")):
        path.unlink(missing_ok=True)
        yield path, "deleted: a job was killed while it wrote this"
    for folder in folders(cache):
        for path in folder.files:
            yield from _verify_stream(path)
        yield from _verify_indexes(folder.indexes)


def mend(path: Path) -> list[str]:
    """Remove a file of the store that was found missing or damaged, and return what was done, a line each. A sound file stays.

    A damaged stream is deleted together with the indexes that name it. A damaged index is deleted alone. A damaged model is deleted with
    the record of its fit. The next run of the workflow makes them again.
    """
    if path.name == MODEL:
        record = path.with_name(FIT)
        return [f"{file}: deleted" for file in (path, record) if _removed(file)]
    if path.suffix == ".json":
        return [f"{path}: dropped"] if _removed(path) else []
    found = list(_verify_stream(path)) if path.exists() else []
    return [f"{file}: {what}" for file, what in (*found, *_verify_indexes((path.parent / "shards").glob("*.json")))]


@contextmanager
def mending() -> Iterator[None]:
    """Mend the file that a StoreError in the block names as damaged, log what was done, and raise the error again.

    Running the same command again then makes the file again.
    """
    try:
        yield
    except StoreError as error:
        for done in mend(error.damaged) if error.damaged else ():
            log.error("%s", done)
        raise


def _verify_stream(path: Path) -> Iterator[tuple[Path, str]]:
    try:
        found = attributes(path)
        check(path, key=path.parent.name, identity=found["identity"], deep=True)
        if path.name != file_name(found["id"], found["identity"], path.suffix):
            raise StoreError(f"{path}: want the stream of its name, got {found['id']} {found['identity']}; {REPAIR}", damaged=path)
    except StoreError as error:
        if error.damaged is None:
            raise
        path.unlink(missing_ok=True)
        yield path, f"deleted: {error}"


def _verify_indexes(indexes: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    for index in sorted(indexes):
        folder = index.parent.parent
        try:
            lost = [e.file for e in read_index(index).values() if e.status == "done" and not (folder / e.file).is_file()]
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            fault = f"it names {lost[0]}, which is not there{more}" if lost else ""
        except StoreError as error:
            if error.damaged is None:
                raise
            fault = str(error)
        if fault and _removed(index):
            yield index, f"dropped: {fault}"


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def retry(indexes: Iterable[Path]) -> list[Path]:
    """Drop those indexes that record a fault, so that the next run tries their items again. Return the dropped ones."""
    faulty = [path for path in indexes if path.exists() and any(e.status == "failed" for e in read_index(path).values())]
    for path in faulty:
        path.unlink(missing_ok=True)
    return faulty


def garbage(found: Iterable[Folder], kept: Callable[[Folder], bool], days: float) -> tuple[list[Folder], list[Folder]]:
    """Return the folders that nothing keeps: those to delete, and apart those that changed within the last `days` days."""
    unused = [folder for folder in found if not kept(folder)]
    young = [folder for folder in unused if time.time() - folder.changed < days * disk.DAY_S]
    return [folder for folder in unused if folder not in young], young


def free(folder: Folder) -> None:
    """Delete a folder of the store.

    The indexes and the records of fits go first: they say what the folder holds, so a deletion that stops half-way leaves no damage.
    """
    for path in (*folder.indexes, *folder.path.glob(f"**/{FIT}")):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder.path)


# ---- what the models in it had of streams ----------------------------------------------------------------------------------------------


def fits_in(folder: Path) -> list[Path]:
    """List the folders of a model's fits: its own folder (the fit on all streams), then its folds. Links are left out."""
    return [place for place in (folder, *sorted(folder.glob("fold*"))) if place.is_dir() and not place.is_symlink()]


def use_of(fit: Path, ids: Collection[str], *, unknown: bool) -> str:
    """Describe what a fit learned of some streams, for people to read; "" if nothing, or if there is no fit.

    A record that does not say what the fit used counts as a yes.

    Args:
        unknown: whether a model without a record counts too.
    """
    try:
        found = jsonfile.read(fit / FIT)
        own = {part: {composed(id) for id in found[part]} & {composed(id) for id in ids} for part in ("train", "validation")}
    except FileNotFoundError:
        return "of a model without the record of its fit" if unknown and (fit / MODEL).exists() else ""
    except OSError as error:
        raise unreadable(fit / FIT, error) from None
    except (ValueError, KeyError, TypeError):
        return "of a model whose record does not say what it was fitted on"
    if own["train"]:
        return f"of a model that learned from {', '.join(sorted(own['train']))}"
    return f"of a model that was chosen by {', '.join(sorted(own['validation']))}" if own["validation"] else ""
