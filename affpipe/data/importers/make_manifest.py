"""Make a manifest and its audit of what an importer found."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from affpipe.core.errors import ManifestError, MediaError
from affpipe.data import overlaps
from affpipe.data.importers import write_manifest
from affpipe.data.importers.audit import Audit, audit
from affpipe.data.importers.collection import Collection, Stream
from affpipe.data.importers.facts import Progress
from affpipe.data.importers.listing import has_images
from affpipe.data.overlaps import Member
from affpipe.media.identity import fingerprint
from affpipe.system import outputs


@dataclass(frozen=True)
class Made:
    """Files written. streams: rows of the manifest; old: where the manifest that was there before is kept."""

    manifest: Path
    streams: int
    old: Path | None
    audit_csv: Path
    audit_json: Path
    audit: Audit


def make(collection: Collection, out: Path, *, quick: bool = False, jobs: int = 1, force: bool = False, progress: Progress) -> Made:
    """Write `out`, then the audit beside it: `<stem>_audit.csv`, a row a stream, and `<stem>_audit.json`, numbers and findings.

    The manifest comes first: an audit that is stopped leaves it. See `write_manifest.write` for a file that is there, `audit` for the rest.
    """
    if out.is_dir():
        raise ManifestError(f"{out}: want a file to write, got a folder; give a file name, as in {out / 'data_manifest.csv'}")
    rows, numbers = (out.with_name(f"{out.stem}_audit{suffix}") for suffix in (".csv", ".json"))
    place, *_ = [outputs.place(path) for path in (out, rows, numbers)]  # before videos are looked through
    streams, left_out = write_manifest.sift(collection)
    folders = {stream.images for stream in streams if stream.images and has_images(collection.root / stream.images)}
    official = _overlapping(collection, streams) if collection.official is not None else set()
    old = write_manifest.write(place, write_manifest.text(streams, collection.tasks, folders, official), collection.root, force=force)
    whole = replace(collection, findings=[*collection.findings, *left_out])
    done = audit(whole, quick=quick, jobs=jobs, progress=progress)
    outputs.write_text(rows, done.csv())
    outputs.write_text(numbers, done.json())
    return Made(out, len(streams), old, rows, numbers, done)


def _overlapping(collection: Collection, streams: list[Stream]) -> set[str]:
    """Streams whose video is in several of train, validation and test of one task: the lists of the data set have it so."""
    members = []
    for stream in streams:
        with suppress(MediaError):
            members.append(Member(stream.id, stream.video, fingerprint(collection.root / stream.video), stream.partitions))
    return {id for found in overlaps.of(members) for id in found.ids}
