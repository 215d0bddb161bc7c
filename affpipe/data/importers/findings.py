"""Findings for a person to look at, from the collected and measured facts.

Numbers of rows and frames are compared, never made to agree.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from affpipe.data import overlaps
from affpipe.data.annotations import SURPLUS, surplus_fault
from affpipe.data.importers import duplicates
from affpipe.data.importers.collection import FITS, KINDS, Collection, Finding, Stream
from affpipe.data.importers.counts import Entry, count
from affpipe.data.importers.facts import ImageFacts, LabelFacts, VideoFacts
from affpipe.data.importers.listing import stem

MOSTLY = 0.5  # share of rows without a label above which there is a finding


@dataclass
class Measured:
    """Measured facts: videos and folders of images by path, annotations by task and path; quick: frames are packets."""

    videos: dict[str, VideoFacts]
    labels: dict[tuple[str, str], LabelFacts]
    images: dict[str, ImageFacts]
    quick: bool

    def rows(self, stream: Stream, task: str) -> int | None:
        """Return the rows of a stream's annotation, or those that the organisers ask for; None if neither is known."""
        if task in stream.labels:
            found = self.labels[task, stream.labels[task]]
            return None if found.error else found.rows
        return stream.asked.get(task)

    def frames(self, stream: Stream) -> int | None:
        """Return the frames of a stream's video; None if it has none, or one that cannot be read."""
        found = self.videos.get(stream.video)
        return None if found is None or found.error else found.frames

    def surplus(self, stream: Stream, task: str) -> int | None:
        """Return rows minus frames; None if either is unknown."""
        rows, frames = self.rows(stream, task), self.frames(stream)
        return None if rows is None or frames is None else rows - frames


def entries(collection: Collection, measured: Measured) -> list[Entry]:
    """Return the entry of each stream for counts and overlaps."""
    return [
        Entry(
            stream.id,
            stream.video,
            stream.video,
            stream.partitions or {"": stream.otherwise},
            labels={task: measured.labels[task, path] for task, path in stream.labels.items()},
        )
        for stream in collection.streams
    ]


def findings(collection: Collection, measured: Measured) -> list[Finding]:
    """Return all findings, those of the importer included, in the order of KINDS and then of what they are about."""
    out = [
        *collection.findings,
        *_videos(collection, measured),
        *(finding for stream in collection.streams for finding in _stream(collection.root, stream, measured)),
        *_duplicates(collection, measured),
        *_official(collection, measured),
    ]
    return sorted(out, key=lambda finding: (KINDS.index(finding.kind), finding.where, finding.text))


def _users(collection: Collection) -> dict[str, tuple[str, ...]]:
    """Return video -> its streams."""
    out: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for stream in collection.streams:
        out[stream.video] += (stream.id,)
    return out


def _videos(collection: Collection, measured: Measured) -> Iterator[Finding]:
    users, stems = _users(collection), defaultdict(list)
    for video in collection.videos:
        stems[stem(video)].append(video)
    for first, *others in stems.values():
        if others:
            text = f"{first} is taken, not {', '.join(others)}; remove or rename all but one"
            yield Finding("same name", first, text, users.get(first, ()))
        if first not in users:
            yield Finding("unused video", first, "no stream is of this video: not in the manifest")
    for video, found in measured.videos.items():
        if found.error:
            yield Finding("unusable video", video, found.error.removeprefix(f"{collection.root / video}: "), users[video])
        if found.faults:
            yield Finding("damaged video", video, "; ".join(found.faults), users[video])
        if found.told:
            yield Finding("tracks and sound", video, "; ".join(found.told), users[video])


def _stream(root: Path, stream: Stream, measured: Measured) -> Iterator[Finding]:
    for task, path in stream.labels.items():
        found = measured.labels[task, path]
        if found.error:
            yield Finding("label fault", path, found.error.removeprefix(f"{root / path}: "), (stream.id,))
        if stream.partitions[task] in FITS and found.invalid > MOSTLY * found.rows:
            text = f"{task}: {found.invalid} of {found.rows} rows have no label"
            yield Finding("mostly invalid", stream.id, text, (stream.id,))
    frames = measured.frames(stream)
    for task in stream.partitions:
        rows = measured.rows(stream, task)
        if rows is not None and frames is not None and (text := surplus_fault(rows, frames)):
            yield Finding("rows and frames", stream.id, f"{task}: {text}", (stream.id,))
    if stream.images:
        for text in _images(measured.images[stream.images], frames):
            yield Finding("images", stream.images, text, (stream.id,))


def _images(found: ImageFacts, frames: int | None) -> Iterator[str]:
    if not found.count:
        yield "want images, got an empty folder: not in the manifest; unpack it again"
    if found.unnumbered:
        yield f"want numbers of frames as names, as in 00001.jpg, got {found.unnumbered} of other names; rename or remove them"
    if found.count > found.unnumbered and found.first == 0:
        yield "want images numbered from 1, got number 0; number them from 1"
    if frames is not None and found.last > frames + SURPLUS[1]:
        yield f"want images of the video's {frames} frames, got number {found.last}; compare the two"


def _duplicates(collection: Collection, measured: Measured) -> Iterator[Finding]:
    users, canonical = _users(collection), {}
    for group in duplicates.same_bytes(collection.root, collection.videos):
        canonical |= dict.fromkeys(group, group[0])
        streams = tuple(id for video in group for id in users.get(video, ()))
        yield Finding("same content", group[0], f"has the bytes of {', '.join(group[1:])} too; keep one", streams)
    ids = {stream.id for stream in collection.streams}
    for group in duplicates.similar({stem(video) for video in collection.videos} | ids):
        text = f"{' | '.join(group)} differ in no more than case, blanks or the mark of a copy; is it one video?"
        yield Finding("similar name", group[0], text, tuple(name for name in group if name in ids))
    yield from _same_annotations(collection, measured)
    official = collection.official is not None
    one = [replace(e, content=canonical.get(e.video, e.video), official=official) for e in entries(collection, measured)]
    yield from (Finding("overlap", found.where, found.text, found.ids) for found in overlaps.of(one))


def _same_annotations(collection: Collection, measured: Measured) -> Iterator[Finding]:
    labels = [(stream, task, path) for stream in collection.streams for task, path in stream.labels.items()]
    telling = [(stream, task, collection.root / path) for stream, task, path in labels if measured.labels[task, path].telling]
    for task, streams in duplicates.same_annotations(telling):
        found = {stream.video: measured.videos[stream.video] for stream in streams if stream.video}
        looks = {(f.frames, f.width, f.height) for f in found.values()}
        alike = ""
        if len(found) > 1 and len(looks) == 1 and not measured.quick and not any(f.error for f in found.values()):
            frames, width, height = looks.pop()
            alike = f"; their videos have {frames} frames of {width}x{height} each: one video twice?"
        ids = [stream.id for stream in streams]
        yield Finding("same annotation", ids[0], f"{task}: the annotations of {', '.join(ids)} have the same bytes{alike}", tuple(ids))


def _official(collection: Collection, measured: Measured) -> Iterator[Finding]:
    for c in count(entries(collection, measured)):
        said = (collection.official or {}).get((c.task, c.partition))
        if said not in (None, c.videos, c.streams):
            yield Finding(
                "count", f"{c.task} {c.partition}", f"the set is said to have {said} videos, got {c.videos} in {c.streams} streams"
            )
