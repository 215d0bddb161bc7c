"""Search and removal of all that a cache, and the results of its runs, hold of a person: `affpipe cache forget`.

Removed are the person's streams, the indexes that name them, models that learned from them or were chosen by them, and the state of stopped
fits that may have learned from them. In a run that predicted the person, the files of these streams are removed, and all that is about the
run as a whole: its next run publishes it again. Streams and predictions of others stay as they are.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from affpipe.core.errors import InputError, StoreError
from affpipe.encoders.table import ENCODERS
from affpipe.plan.plan import STAGES, Plan
from affpipe.results import published, runs
from affpipe.store import cache
from affpipe.store.cache import Folder
from affpipe.store.index import read_index
from affpipe.store.streams import FIT, KEY, MODEL, STATE, attributes
from affpipe.system import disk
from affpipe.system.files import composed
from affpipe.system.job_record import JobRecord

STREAM = re.compile(r"\.?(?P<id>.+)\.[0-9a-f]{8}\.(h5|flac)(\..+\.part)?")  # file of the store, or one that was half written
OF_STREAMS = (
    *("predictions/*.csv", "official/*/*.txt", "models/*/*/*.txt", "late_fusion/*/predictions/*.txt"),
    "late_fusion/predictions/*.txt",  # of a version whose late fusion had one task
)
EITHER = ("video", "stream")  # levels that an id may be of
LOGS = (".log", ".json", ".tsv")


@dataclass(frozen=True)
class Person:
    """The person whose traces are looked for.

    Attributes:
        streams, videos: ids; a video with somebody else in it is not among them, but in `shared` with a stream that stays.
        fits: True if models may have learned from a stream. listed: streams that the manifest still has.
    """

    streams: frozenset[str]
    videos: frozenset[str]
    shared: dict[str, str]
    fits: bool
    listed: tuple[str, ...]

    def mentioned(self, text: bytes) -> bool:
        """Tell whether a text names a stream or video, as a word of its own."""
        names = "|".join(re.escape(name) for name in sorted(self.streams | self.videos))
        return re.search(rf"(?<!\w)(?:{names})(?!\w)", composed(text.decode("utf-8", "replace"))) is not None

    def has(self, id: str, level: str) -> bool:
        """Tell whether an id of a level, "video" or "stream", is the person's."""
        return composed(id) in (self.videos if level == "video" else self.streams)


def person(plan: Plan, names: Iterable[str]) -> Person:
    """Return the person whom streams show.

    A name that is not in the manifest is taken for a stream of an earlier one, and for a video of `affpipe predict`.
    """
    wanted = {composed(name) for name in names}
    rows = {row.stream_id: row for row in plan.rows if row.stream_id in wanted}
    stays = {composed(row.video_id): row.stream_id for row in plan.rows if row.stream_id not in wanted}
    unknown = wanted - set(rows)
    videos = {composed(row.video_id) for row in rows.values()} | unknown
    shared = {video: stays[video] for video in sorted(videos) if video in stays}
    fits = any(row.fits for row in rows.values()) or bool(unknown)
    return Person(frozenset(wanted), frozenset(videos - shared.keys()), shared, fits, tuple(rows))


def forget(plan: Plan, whom: Person, *, really: bool) -> Iterator[tuple[Path, str]]:
    """Yield every removed file and what it is, after its removal; without `really` nothing is removed. Call it again after a kill.

    Raises InputError if a job of a known run is at work, which would write some of it again.
    """
    with runs.alone(plan.cache):
        known = runs.records(plan.cache)
        workspaces = {(Path(), plan.settings.name), *((place, record.run) for record in known for place in record.workspace)}
        logs = {path.resolve() for place, run in workspaces for path in (place / "logs" / run).glob("*/*") if path.suffix in LOGS}
        for path in sorted(logs):
            job = JobRecord.read(path) if path.suffix == ".json" else None
            if job is not None and job.state == "running":
                raise InputError(f"{path}: want no job at work on the cache, got {job.job} {job.shard}; wait for its end, or stop the run")
        for folder in runs.results_of(plan, known):
            yield from _results(folder, whom, really)
        for folder in cache.folders(plan.cache):
            for path, what in (*_fits(folder, whom), *_indexes(folder, whom), *_streams(folder, whom)):
                yield from _go(path, what, really)
        for path in sorted(logs):
            if path.is_file() and whom.mentioned(path.read_bytes()):
                yield from _go(path, "a log that names the stream", really)


def _go(path: Path, what: str, really: bool) -> Iterator[tuple[Path, str]]:
    if really:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    yield path, what


# ---- the store ---------------------------------------------------------------------------------------------------------------------------


def _streams(folder: Folder, whom: Person) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.path.iterdir()):
        found = STREAM.fullmatch(path.name)
        levels = [level for level in EITHER if found and whom.has(found["id"], level)]
        if levels and not set(levels).isdisjoint(_levels(folder.stage, path)):
            yield path, "a stream"
        elif path.suffix == ".part" and not found and any(disk.abandoned([path])):
            yield path, "a file half written, whose name was cut short and does not say whose it is"


def _levels(stage: str, path: Path) -> tuple[str, ...]:
    """Return the level of a file's id: a video or a stream; either, if neither a table nor the file says.

    Faces may be of both. A folder that is no stage's is a model's or an encoder's, as settings in the file tell; the encoder may be of a
    package that is no longer installed. An unreadable file says nothing.
    """
    level: Any = getattr(STAGES.get(stage), "level", None)
    if level is None or stage == "faces":
        try:
            spec = attributes(path)["spec"]
            if stage == "faces":
                return ("stream",) if spec.get("source") == "images" else ("video",)
            if "encoder" not in spec:
                level = "stream" if "kind" in spec else None
            elif "kind" not in spec:
                level = getattr(ENCODERS.get(stage), "level", None)
        except (StoreError, KeyError, AttributeError, TypeError):
            return EITHER
    return {"video": ("video",), "stream": ("stream",), "label": ("stream",)}.get(level, EITHER)


def _indexes(folder: Folder, whom: Person) -> Iterator[tuple[Path, str]]:
    shards = folder.path / "shards"
    for path in (*folder.indexes, *disk.abandoned(shards.glob(".*.part"))):
        try:
            entries = read_index(path)
        except StoreError as error:
            if error.damaged is None:
                raise
            yield path, "an index that does not read"
            continue
        ids = {composed(id) for id in entries}
        if ids & (whom.streams | whom.videos) or any(whom.mentioned(entry.reason.encode()) for entry in entries.values()):
            yield path, "an index that names it; the next run writes it anew"


def _fits(folder: Folder, whom: Person) -> Iterator[tuple[Path, str]]:
    """Yield models fitted with the person, and the state of stopped fits, which do not record what they learned from.

    If one fit of a key used anything of the person, those without a fold go with it: they were mapped into its space.
    """
    places = cache.fits_in(folder.path)
    why = next((found for place in places if (found := cache.use_of(place, whom.streams, unknown=whom.fits))), "")
    for place in places:
        if why:
            yield from ((path, why) for path in (place / FIT, place / MODEL) if path.exists())
        state = place / STATE
        if state.exists() and (why or (whom.fits and not (place / FIT).exists())):
            yield state, "the state of a stopped fit, which may have learned from it"


# ---- results -----------------------------------------------------------------------------------------------------------------------------


def _results(folder: Path, whom: Person, really: bool) -> Iterator[tuple[Path, str]]:
    """Yield files of the person, and all files about a run as a whole if it has any of the person."""
    if not published.known(folder):
        return
    with published.alone(folder):
        listed = published.files(folder)
        of_streams = {name for name in listed if any(PurePosixPath(name).match(form) for form in OF_STREAMS)}
        own = {name for name in of_streams if whom.has(PurePosixPath(name).stem, "stream")}
        states = [path for path in sorted((folder / published.STATES).glob("*.json")) if KEY.fullmatch(path.stem)]
        whole = sorted(listed - of_streams)
        read = (*(folder / name for name in whole), *states)
        if not own and not any(path.is_file() and whom.mentioned(path.read_bytes()) for path in read):
            return
        whole = [name for name in (published.RECORD, *whole) if (folder / name).exists()]
        if really:
            for state in states:
                state.unlink()
            published.withdraw(folder, {*own, *whole} - {published.RECORD})
    for name in sorted(own):
        yield folder / name, "predictions"
    for path in (*(folder / name for name in whole), *states):
        yield path, "of the run as a whole; the next run publishes it anew"
