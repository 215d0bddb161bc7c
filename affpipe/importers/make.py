"""Make a manifest and its audit of what an importer found."""

from dataclasses import dataclass, replace
from pathlib import Path

from affpipe import disk
from affpipe.errors import ManifestError
from affpipe.importers import table
from affpipe.importers.audit import Audit, audit
from affpipe.importers.collection import Collection
from affpipe.importers.facts import Progress
from affpipe.importers.files import has_images


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

    The manifest comes first: an audit that is stopped leaves it. See `table.write` for a file that is there, `audit` for the rest.
    """
    if out.is_dir():
        raise ManifestError(f"{out}: want a file to write, got a folder; give a file name, as in {out / 'data_manifest.csv'}")
    streams, left_out = table.sift(collection)
    folders = {stream.images for stream in streams if stream.images and has_images(collection.root / stream.images)}
    old = table.write(out, table.text(streams, collection.tasks, folders), collection.root, force=force)
    whole = replace(collection, findings=[*collection.findings, *left_out])
    done = audit(whole, quick=quick, jobs=jobs, progress=progress)
    rows, numbers = (out.with_name(f"{out.stem}_audit{suffix}") for suffix in (".csv", ".json"))
    disk.write_text(rows, done.csv())
    disk.write_text(numbers, done.json())
    return Made(out, len(streams), old, rows, numbers, done)
