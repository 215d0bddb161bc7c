"""Record of a weights folder (or single file), and the check that the weights still match it.

The record lies beside the weights: their name, whether they are random (made for trials, so that their outputs mean nothing), their source,
and the SHA-256 of every file. It is written once, when the weights are fetched or made, or at the first use of weights that a person put
there. From then on, other bytes under the same names are an error.

A job would read gigabytes to check that nothing has changed. So jobs that may write there note each file's checksum, and the file system's
facts about the file, in a hidden file beside the record. While the facts stay the same, the file is not read again.
"""

import hashlib
import json
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from affpipe.core.errors import StoreError, WeightsError
from affpipe.system import disk, jsonfile
from affpipe.system.files import sha256

RECORD = "affpipe-weights.json"
SEEN = "affpipe-weights.seen.json"
SETTLED_S = 2.0  # so long after a change, the next one has another time on any file system
Seen = dict[str, tuple[str, ...]]  # file name relative to the folder -> the system's facts about it, then its checksum
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightsRecord:
    """Record of one set of weights.

    Attributes:
        name: what recipes and reports call it.
        random: True if no training ever touched it.
        source: model id, address or program that it came from.
        revision: commit of the source, or whatever pins it; "" if nothing does.
        sha256: file name relative to the folder -> hex digest.
    """

    name: str
    random: bool
    source: str
    revision: str
    sha256: dict[str, str]

    @property
    def digest(self) -> str:
        """One hex digest for all the files: the part of a stream's spec that says which weights made it."""
        return hashlib.sha256(json.dumps(sorted(self.sha256.items())).encode()).hexdigest()

    @property
    def pinned(self) -> str:
        """Value of the setting `weights_revision` that means these weights and no others: their commit, else the first digits of the
        digest.
        """
        return self.revision if COMMIT.fullmatch(self.revision) else self.digest[:12]

    def answers(self, revision: str) -> bool:
        """Return whether `weights_revision` means these weights: it is their commit, or their digest begins with it."""
        return self.revision == revision or self.digest.startswith(revision)


def record_path(weights: Path) -> Path:
    """Return the path of the record of a folder, or of a single file."""
    return weights / RECORD if weights.is_dir() else weights.with_name(f"{weights.name}.{RECORD}")


def read_record(weights: Path) -> WeightsRecord:
    """Read the record of a weights folder or file, not the weights. Raises WeightsError if there is none or it does not parse."""
    _exists(weights)
    path = record_path(weights)
    if not path.exists():
        raise WeightsError(f"weights: {weights} has no {path.name}; record it with its name and source, or fetch it again")
    try:
        return _checked(WeightsRecord(**jsonfile.read(path)))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"weights: {path} does not read as a record ({error}); delete it and record the weights again") from None


def plain(name: object) -> bool:
    """Return whether a name, with slashes or without, leads below the folder that it is joined to, and nowhere else."""
    return isinstance(name, str) and name.isprintable() and bool(name) and not set(name.split("/")) & {"", ".", ".."} and "\\" not in name


def _checked(found: WeightsRecord) -> WeightsRecord:
    """Raise ValueError if no code of this package can have written a record: its names become names of files."""
    if not plain(found.name):
        raise ValueError(f"the name {found.name!r}")
    if not isinstance(found.random, bool) or not isinstance(found.source, str) or not isinstance(found.revision, str):
        raise ValueError(f"random {found.random!r}, source {found.source!r}, revision {found.revision!r}")
    if not isinstance(found.sha256, dict):
        raise ValueError(f"the checksums {found.sha256!r}")
    for file, digest in found.sha256.items():
        if not plain(file) or not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise ValueError(f"the file {file!r} with the checksum {digest!r}")
    return found


def record(weights: Path, *, name: str, source: str, revision: str = "", random: bool = False, remembered: bool = False) -> WeightsRecord:
    """Write the record of weights that have none. If there is one, check the weights against it and return it, see `verify`.

    Raises:
        WeightsError: the weights are absent or empty, or not the ones recorded.
        StoreError: the disk does not take the record.
    """
    _exists(weights)
    path = record_path(weights)
    if path.exists():
        return verify(weights, remembered=remembered)
    digests, _ = _digests(weights)
    if not digests:
        raise WeightsError(f"weights: {weights} holds no file; put the weights there or fetch them")
    made = WeightsRecord(name, random, source, revision, digests)
    disk.write_text(path, json.dumps(asdict(made), indent=1, sort_keys=True) + "\n")
    return made


def used(folder: Path, name: str, who: str, *, remembered: bool = False) -> WeightsRecord:
    """Return the record of the weights `name` below a folder, verified, as at every use. For `remembered` see `verify`.

    A file that a person put there gets its record at first use. A folder without one may be half of a download, and is refused. Raises
    WeightsError; in the name of `who` if the name leads elsewhere or to nothing.
    """
    if not plain(name):  # it names a file in the cache, and a record is written beside the weights
        raise WeightsError(f"{who}: want weights below {folder}, got {name!r}; put them there, or set `weights` to their folder")
    path = folder / name
    if not path.exists():
        raise WeightsError(
            f"{path}: want weights, got nothing; put the file there, run `affpipe weights fetch {name}`, or `affpipe weights tiny {folder}`"
        )
    if path.is_dir():
        return verify(path, remembered=remembered)
    return record(path, name=name, source="put there by hand", remembered=remembered)


def verify(weights: Path, *, remembered: bool = False) -> WeightsRecord:
    """Compute every checksum and return the record.

    Args:
        remembered: use the noted checksums of files that have not changed since, and note those that are computed.

    Raises:
        WeightsError: no record, or a file is missing, altered or was added since; the message names the first such file.
    """
    known = read_record(weights)
    seen = _seen(weights) if remembered else {}
    found, noted = _digests(weights, seen)
    if seen and found != known.sha256:  # a note alone never makes weights bad
        found, noted = _digests(weights)
    remedy = f"fetch {known.name} again, or delete {record_path(weights)} if the change was meant"
    for file in sorted(known.sha256.keys() | found.keys()):
        if file not in found:
            raise WeightsError(f"weights: {weights} lacks {file}, which its record lists; {remedy}")
        if file not in known.sha256:
            raise WeightsError(f"weights: {weights} holds {file}, which its record does not list; remove it, or {remedy}")
        if found[file] != known.sha256[file]:
            raise WeightsError(f"weights: {file} in {weights}: want sha256 {known.sha256[file]}, got {found[file]}; {remedy}")
    if remembered and noted != seen:
        _note(weights, noted)
    return known


def _exists(weights: Path) -> None:
    if not weights.exists():
        raise WeightsError(f"weights: no {weights}; fetch the weights, or correct the path in the settings")


def seen_path(weights: Path) -> Path:
    """Return the path of the noted checksums: a hidden file beside the record, not part of the weights."""
    return record_path(weights).with_name(f".{SEEN}" if weights.is_dir() else f".{weights.name}.{SEEN}")


def _seen(weights: Path) -> Seen:
    """Read the notes of this user or of the weights' owner; empty if there is no such file or it does not parse."""
    path = seen_path(weights)
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (os.geteuid(), weights.stat().st_uid):
            return {}
        return {file: tuple(map(str, facts)) for file, facts in jsonfile.read(path).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _note(weights: Path, noted: Seen) -> None:
    """Note checksums if the folder may be written to; otherwise the next job computes them again."""
    if os.access(seen_path(weights).parent, os.W_OK):
        with suppress(StoreError, OSError):
            disk.write_text(seen_path(weights), json.dumps(noted, indent=1, sort_keys=True) + "\n")


def _facts(path: Path) -> tuple[str, ...]:
    """Return the system's facts about a file. They stay the same only while nobody writes to it or replaces it."""
    found = path.stat()
    return (str(path.resolve()), *map(str, (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)))


def _digests(weights: Path, seen: Seen | None = None) -> tuple[dict[str, str], Seen]:
    """Return the checksum of every file by name, from `seen` if the file is unchanged; and everything that may be noted."""
    files = [weights]
    if weights.is_dir():
        # Hidden files are the download tool's notes; the record cannot list itself.
        inside = ((path, path.relative_to(weights)) for path in weights.rglob("*"))
        files = [path for path, name in inside if path.is_file() and name.name != RECORD and not any(p.startswith(".") for p in name.parts)]
    digests: dict[str, str] = {}
    noted: Seen = {}
    for path in sorted(files):
        name, facts = path.name if path == weights else path.relative_to(weights).as_posix(), _facts(path)
        known = (seen or {}).get(name, ())
        if known[:-1] == facts:
            digests[name], noted[name] = known[-1], known
            continue
        settled = time.time() - path.stat().st_ctime > SETTLED_S  # else it may be written again with the same time
        digests[name] = sha256(path)
        if settled and _facts(path) == facts:
            noted[name] = (*facts, digests[name])
    return digests, noted
