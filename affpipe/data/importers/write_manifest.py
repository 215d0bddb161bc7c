"""Writing of data_manifest.csv, with the streams of a collection that it can hold, and of their audit.

A file with other content is never overwritten.
"""

import itertools
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from affpipe.core.errors import ManifestError, MediaError
from affpipe.core.progress import Progress
from affpipe.data import manifest, overlaps
from affpipe.data.importers.audit import Audit, audit
from affpipe.data.importers.collection import Collection, Finding, Stream, partition_columns
from affpipe.data.importers.listing import has_images
from affpipe.data.manifest import ID_BYTES, NEEDED, STREAM_ID, own_partitions
from affpipe.data.overlaps import OFFICIAL, Member
from affpipe.media.identity import fingerprint
from affpipe.system import disk, outputs
from affpipe.system.files import folded
from affpipe.system.sheets import table_text


@dataclass(frozen=True)
class Made:
    """Written files.

    Attributes:
        streams: number of rows of the manifest.
        old: path of the kept manifest that was there before; None if there was none.
    """

    manifest: Path
    streams: int
    old: Path | None
    audit_csv: Path
    audit_json: Path
    audit: Audit


def make(collection: Collection, out: Path, *, quick: bool = False, jobs: int = 1, force: bool = False, progress: Progress) -> Made:
    """Write `out`, then the audit beside it: `<stem>_audit.csv`, a row per stream, and `<stem>_audit.json`, numbers and findings.

    The manifest comes first, so a stopped audit leaves it. See `write` for an existing file, `audit` for the other arguments.
    """
    if out.is_dir():
        raise ManifestError(f"{out}: want a file to write, got a folder; give a file name, as in {out / 'data_manifest.csv'}")
    rows, numbers = (out.with_name(f"{out.stem}_audit{suffix}") for suffix in (".csv", ".json"))
    place, *_ = [outputs.place(path) for path in (out, rows, numbers)]  # before videos are looked through
    streams, left_out = sift(collection)
    folders = {stream.images for stream in streams if stream.images and has_images(collection.root / stream.images)}
    official = _overlapping(collection, streams) if collection.official is not None else set()
    old = write(place, text(streams, collection.tasks, folders, official), collection.root, force=force)
    whole = replace(collection, findings=[*collection.findings, *left_out])
    done = audit(whole, quick=quick, jobs=jobs, progress=progress)
    outputs.write_text(rows, done.csv())
    outputs.write_text(numbers, done.json())
    return Made(out, len(streams), old, rows, numbers, done)


def _overlapping(collection: Collection, streams: list[Stream]) -> set[str]:
    """Return the streams whose video the lists of the data set have in several of train, validation and test of one task."""
    members = []
    for stream in streams:
        with suppress(MediaError):
            members.append(Member(stream.id, stream.video, fingerprint(collection.root / stream.video), stream.partitions))
    return {id for found in overlaps.of(members) for id in found.ids}


def sift(collection: Collection) -> tuple[list[Stream], list[Finding]]:
    """Return the streams that a manifest can hold, and a finding on each other one that has a video. ManifestError if it can hold none."""
    why = {stream.id: _unfit(stream) for stream in collection.streams if stream.video}
    _tell_twins([stream for stream in collection.streams if why.get(stream.id) == ""], why)
    out = [stream for stream in collection.streams if why.get(stream.id) == ""]
    if not out:
        raise ManifestError(
            f"{collection.root}: want videos named as the streams, got none for {len(collection.streams)}; fetch or rename them"
        )
    return out, [Finding("left out", id, text, (id,)) for id, text in why.items() if text]


def _tell_twins(streams: Sequence[Stream], why: dict[str, str]) -> None:
    """Note why streams are left out whose name, or whose video's name, equals that of one before them on some file system."""
    ids: dict[str, str] = {}
    videos: dict[str, str] = {}
    for stream in sorted(streams, key=lambda stream: stream.id):
        video = Path(stream.video)
        other = ids.get(folded(stream.id)) or videos.get(folded(video.stem), stream.video)
        if other not in (stream.id, stream.video):
            why[stream.id] = f"want a name that differs in more than case or the form of accents, got one like {other}; rename its files"
            continue
        ids[folded(stream.id)], videos[folded(video.stem)] = stream.id, stream.video


def _unfit(stream: Stream) -> str:
    """Return why a manifest cannot hold a stream; "" if it can."""
    id = stream.id
    if not STREAM_ID.fullmatch(id) or id != id.strip() or len(id) > ID_BYTES:
        return (
            f"want a name of at most {ID_BYTES} letters, digits, spaces and . _ + -, the first no sign but _, got {id!r}; rename its files"
        )
    for path in (stream.video, *stream.labels.values(), stream.images):
        if path != path.strip():
            return f"want a path without blanks at its ends, got {path!r}; rename it"
    try:
        manifest.check_video_name(Path(stream.video))
    except ManifestError as error:
        return str(error)
    return ""


def text(streams: Sequence[Stream], tasks: Sequence[str], folders: set[str], official: Container[str] = ()) -> str:
    """Return the manifest as CSV.

    Args:
        tasks: tasks that have a column. folders: folders of images that hold some.
        official: streams whose video official lists have in several partitions of one task.
    """
    cells = {stream.id: partition_columns(stream, tasks) for stream in streams}
    own = [task for task in tasks if any(task in columns for _, columns in cells.values())]
    images = any(stream.images in folders for stream in streams)
    marks = ["overlap"] if official else []
    head = [*NEEDED[:2], "subject", NEEDED[2], *tasks, *(["images"] if images else []), *own_partitions(own).values(), *marks]
    rows = []
    for stream in sorted(streams, key=lambda stream: stream.id):
        partition, columns = cells[stream.id]
        row = [stream.id, stream.video, stream.subject, partition, *(stream.labels.get(task, "") for task in tasks)]
        row += [stream.images if stream.images in folders else ""] if images else []
        row += [columns.get(task, "") for task in own]
        rows.append([*row, *(OFFICIAL if stream.id in official else "" for _ in marks)])
    return table_text(head, rows)


def write(path: Path, content: str, data_root: Path, *, force: bool) -> Path | None:
    """Write a manifest and read it back; one that has the same content already stays as it is.

    Any other file there may hold a person's work. So it raises ManifestError, or with `force` keeps that file as `<name>.old` beside it,
    and returns its path.
    """
    before = path.read_bytes() if path.exists() else None
    if before == content.encode():
        return None
    if before is not None and not force:
        raise ManifestError(
            f"{path}: want no other file in its place, got one that differs; give another --out, or --force to keep it as .old"
        )
    old = None
    with disk.atomic(path) as part:
        part.write_text(content, encoding="utf-8", newline="")
        manifest.read(part, data_root)
        if before is not None:
            old = _free(path)
            path.rename(old)
    return old


def _free(path: Path) -> Path:
    """Return a free name beside a file: `<name>.old`, `<name>.old2` …"""
    names = (path.with_name(f"{path.name}.old{n if n > 1 else ''}") for n in itertools.count(1))
    return next(name for name in names if not name.exists())
