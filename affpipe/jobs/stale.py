"""Videos that have changed since they were read, though their identity has not, and removal of what was made of them.

An identity covers some blocks of a file, which is what a plan can afford. The stream `frames` keeps the checksum of the whole file. A video
is found by the settings of a run: the store itself holds no paths.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from affpipe.core.errors import MediaError, StoreError
from affpipe.data import manifest
from affpipe.plan.plan import Plan
from affpipe.plan.settings import Settings
from affpipe.store.cache import Folder, fits_in, folders, free, use_of
from affpipe.store.streams import STATE, attributes, file_name
from affpipe.system.files import sha256


@dataclass(frozen=True)
class Made:
    """A video, and what may have been made of it.

    Attributes:
        frames: file name of its stream `frames`. files: file names of all its streams. ids: ids of the streams of its subjects.
        fits: True if models may have been fitted on it.
    """

    video: Path
    frames: str
    files: frozenset[str]
    ids: frozenset[str]
    fits: bool


def videos(settings: Settings) -> list[Made]:
    """Return the videos of a manifest, by path, without rows that have a fault, such as a missing file."""
    rows, _ = manifest.scan(Path(settings.manifest), Path(settings.data_root), settings.task_table)
    plan = Plan(settings, [row for _, row in rows])
    files: dict[str, set[str]] = {}
    for name in plan.names:
        for item in plan.items(name):
            files.setdefault(item.row.video_id, set()).update(file_name(item.id, item.identity, end) for end in (".h5", ".flac"))
    found = []
    for item in plan.items("frames"):
        own = [row for row in plan.rows if row.video_id == item.id]
        ids, fits = frozenset(row.stream_id for row in own), any(row.fits for row in own)
        found.append(Made(item.row.video, file_name(item.id, item.identity), frozenset(files[item.id]), ids, fits))
    return sorted(found, key=lambda made: made.video)


def read_then(stream: Path) -> str:
    """Return the checksum of the file from which a stream `frames` was made; "" if it is unknown."""
    try:
        return str(attributes(stream)["extra"]["video"]["sha256"])
    except (StoreError, KeyError, TypeError):
        return ""


def changed(video: Path, then: str) -> bool:
    """Tell whether a file has changed; MediaError if it cannot be read. It reads all of it."""
    try:
        return sha256(video) != then
    except OSError as error:
        raise MediaError(f"{video}: want a readable file, got {error.strerror!r}; make it readable") from None


def read_videos(cache: Path, videos: Iterable[Made]) -> list[tuple[Made, str]]:
    """Return the videos from which a stream `frames` of a cache was made, each with its checksum then, for each of its streams."""
    streams: dict[str, list[Path]] = {}
    for folder in folders(cache):
        for path in folder.files if folder.stage == "frames" else ():
            streams.setdefault(path.name, []).append(path)
    return [(made, then) for made in videos for path in streams.get(made.frames, ()) if (then := read_then(path))]


def forget(cache: Path, made: Made) -> Iterator[tuple[Path, str]]:
    """Delete what was made of a video, models that were fitted on it and all that these predicted; yield (path, why)."""
    why = f"deleted: {made.video} has changed since it was read, though its identity has not"
    for folder in folders(cache):
        if made.fits and _learnt(folder, made.ids):
            free(folder)
            yield folder.path, why
            continue
        for path in folder.files:
            if path.name in made.files:
                path.unlink(missing_ok=True)
                yield path, why


def _learnt(folder: Folder, ids: frozenset[str]) -> bool:
    """Tell whether a folder holds a model fitted on one of these streams, or one that does not say on what, as an unfinished fit."""
    return any((fit / STATE).exists() or use_of(fit, ids, unknown=True) for fit in fits_in(folder.path))
