"""What a weights folder (or single file) is, and whether it is still that.

Beside the weights lies a record: their name, whether they are random (made for trials, so that whatever comes out of them means nothing),
where they came from, and the SHA-256 of every file. It is written once, when the weights are fetched or made, or at first use of weights
that a person put there; from then on other bytes under the same names are an error.

Jobs read gigabytes to see that nothing has changed; so where they may write, they note in a hidden file beside the record what they found a
file's checksum to be, and what the file system said of the file then. As long as it says the same, the file is not read again for that.
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
SETTLED_S = 2.0  # after a change the next one has another time, on any file system
Seen = dict[str, tuple[str, ...]]  # file name relative to the folder -> what the system said of it, then its checksum
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightsRecord:
    """One set of weights.

    Attributes:
        name: what recipes and reports call it.
        random: True if no training ever touched it.
        source: model id, address or program that it came from.
        revision: commit of the source, or whatever pins it; "" where nothing does.
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
        """What the setting `weights_revision` says to mean these weights and no others: their commit, else first digits of the digest."""
        return self.revision if COMMIT.fullmatch(self.revision) else self.digest[:12]

    def answers(self, revision: str) -> bool:
        """Whether `weights_revision` means these weights: it is their commit, or their digest begins with it."""
        return self.revision == revision or self.digest.startswith(revision)


def record_path(weights: Path) -> Path:
    """Where the record of a folder, or of a single file, lies."""
    return weights / RECORD if weights.is_dir() else weights.with_name(f"{weights.name}.{RECORD}")


def read_record(weights: Path) -> WeightsRecord:
    """The record of a weights folder or file; raises WeightsError where there is none or it does not parse. Reads no weights."""
    _exists(weights)
    path = record_path(weights)
    if not path.exists():
        raise WeightsError(f"weights: {weights} has no {path.name}; record it with its name and source, or fetch it again")
    try:
        return _checked(WeightsRecord(**jsonfile.read(path)))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"weights: {path} does not read as a record ({error}); delete it and record the weights again") from None


def plain(name: object) -> bool:
    """Whether a name, with slashes or without, leads below the folder that it is joined to, and nowhere else."""
    return isinstance(name, str) and name.isprintable() and bool(name) and not set(name.split("/")) & {"", ".", ".."} and "\\" not in name


def _checked(found: WeightsRecord) -> WeightsRecord:
    """ValueError where a record says what none of this package does: its names become names of files."""
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
    """Write the record of weights that have none; with one already there, hold them against it instead and return it, see `verify`.

    Raises:
        WeightsError: the weights are absent or empty, or not the ones recorded. StoreError: the disk does not take the record.
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
    """The record of the weights `name` below a folder, verified, as it is whenever they are used; remembered: see `verify`.

    A file that a person put there gets its record at first use. A folder without one may be half of a download, and is refused.
    WeightsError, also in the name of `who` where the name leads elsewhere or to nothing.
    """
    if not plain(name):  # it becomes the name of a file in the cache, and a record is written beside the weights
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
    """Recompute every checksum and return the record.

    Args:
        remembered: take the checksums of files that have not changed since from those that were noted, and note what is computed.

    Raises:
        WeightsError: no record, or a file is missing, altered or was added since; the message names the first such file.
    """
    known = read_record(weights)
    seen = _seen(weights) if remembered else {}
    found, noted = _digests(weights, seen)
    if seen and found != known.sha256:  # what is noted makes no weights bad
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
    """Where checksums are noted: a hidden file, which is no part of the weights, beside the record."""
    return record_path(weights).with_name(f".{SEEN}" if weights.is_dir() else f".{weights.name}.{SEEN}")


def _seen(weights: Path) -> Seen:
    """What was noted, by this user or by whoever owns the weights; nothing where there is no such file or it does not parse."""
    path = seen_path(weights)
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (os.geteuid(), weights.stat().st_uid):
            return {}
        return {file: tuple(map(str, facts)) for file, facts in jsonfile.read(path).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _note(weights: Path, noted: Seen) -> None:
    """Note checksums where the folder may be written to; else the next job computes them again."""
    if os.access(seen_path(weights).parent, os.W_OK):
        with suppress(StoreError, OSError):
            disk.write_text(seen_path(weights), json.dumps(noted, indent=1, sort_keys=True) + "\n")


def _facts(path: Path) -> tuple[str, ...]:
    """What the system says of a file, the same only as long as nobody has written to it or put another in its place."""
    found = path.stat()
    return (str(path.resolve()), *map(str, (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)))


def _digests(weights: Path, seen: Seen | None = None) -> tuple[dict[str, str], Seen]:
    """Checksum of every file by its name, as `seen` has it where the file is as it was then; and all that may be noted."""
    files = [weights]
    if weights.is_dir():
        # Hidden files are the download tool's own notes; the record cannot list itself.
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
        settled = time.time() - path.stat().st_ctime > SETTLED_S  # else it may be written again without another time
        digests[name] = sha256(path)
        if settled and _facts(path) == facts:
            noted[name] = (*facts, digests[name])
    return digests, noted
