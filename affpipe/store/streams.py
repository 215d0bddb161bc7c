"""Streams on disk: one HDF5 file each, self-describing, keyed, whole or absent.

`<cache>/<stage>/<key>/<id>.<identity>.h5` has rows over time: `values` (R, ...), `start_s`, `end_s` (R,) float64, `valid` (R,) bool, and
further datasets of R rows (or ragged bytes with an `<name>_offset`). Chunks of `values` without a valid row take no room. Only the audio
track is FLAC, with the same attributes as its comment. A file is written under a temporary name in its folder, flushed and renamed, so a
file that exists under its name is whole. Readers check that a file's attributes agree with its name. `<cache>/<stage>/<key>/shards/*.json`
are the indexes that the workflow tracks.
"""

import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from affpipe import __version__
from affpipe.core.axis import rate, runs
from affpipe.core.errors import AffpipeError, StoreError
from affpipe.store import layout
from affpipe.store.written import ROWS, times_fault, values_fault
from affpipe.system import disk, jsonfile
from affpipe.system.files import instead_of_file, waits

FORMAT = 1
PACKAGES = ("numpy", "h5py", "av", "mediapipe", "torch", "transformers")  # packages whose versions a stream records
MODEL, FIT = "model.safetensors", "fit.json"  # a fitted model, and the record of its fit, which the workflow tracks
STATE = "checkpoints"  # folder with the state of an unfinished fit
KEY = re.compile(r"[0-9a-f]{12}")  # name of the folder of a computation
CHUNK_BYTES = 1 << 18  # most bytes in an HDF5 chunk: small enough for a window, large enough for a disk
CHUNK_ROWS = 256  # fewest rows in a chunk, bytes permitting
CHUNK_BLOB = 1 << 16  # bytes in a chunk of ragged data that is written in blocks
SOUND, CHECKED = 1 << 20, 1 << 14  # samples of sound, and rows of a dataset, that are checked at a time
REPAIR = "run `affpipe cache verify`, then the workflow again"


@dataclass(frozen=True)
class Header:
    """Header of a stream: what the file says of itself.

    Attributes:
        stage, key: the computation that made the stream. The key hashes spec, revision and the keys of the streams read.
        id: stream id, or video id for a stage that works per video.
        identity: digest of the video's content (and, per stream, of the choice of subject).
        spec, revision, inputs: what the key was made of. `inputs` maps the stages read to their keys.
        packages: other packages whose code made the stream, with their versions.
        fps: nominal frame rate of the video.
        random: checkpoints with random weights that had a part in the values.
        columns: names of the columns of 2-D values, where they have names.
        extra: anything else worth keeping, as plain JSON.
    """

    stage: str
    key: str
    id: str
    identity: str
    spec: Mapping[str, Any]
    revision: int
    inputs: Mapping[str, str]
    fps: Fraction
    random: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)

    def attributes(self) -> dict[str, Any]:
        """Return the header as plain JSON, with versions and creation time added."""
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        own = {name: value for name, value in asdict(self).items() if name != "packages"}
        versions = {**_versions(), **self.packages}
        return {**own, "fps": str(self.fps), "format": FORMAT, "affpipe": __version__, "versions": versions, "created": made}


@cache
def _versions() -> dict[str, str]:
    from importlib import metadata  # imported late: it loads the mail parser, 0.05 s that a job without work can do without

    return {package: metadata.version(package) for package in PACKAGES}


def names(folder: Path) -> set[str]:
    """List the names in a folder with one look at it: asking for thousands of single files is slow on a network file system."""
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise unreadable(folder, error) from None


def file_name(id: str, identity: str, suffix: str = ".h5") -> str:
    """Return the name of a stream's file. It contains the identity, so a replaced video never reads the old one's values."""
    return f"{id}.{identity[:8]}{suffix}"


class Writer:
    """Writer of a stream's rows; made by `writing`.

    Attributes:
        extra: plain JSON that is known only when all rows are written. It goes into the header's `extra`.
    """

    def __init__(self, file: h5py.File, before_rows: Callable[[Mapping[str, Any]], None]):
        self.extra: dict[str, Any] = {}
        self._file, self._before_rows = file, before_rows
        self._rows = 0
        self._filled: set[int] | None = None  # chunks of `values` that were written; None if all were

    def append(
        self, *, values: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, valid: np.ndarray, **more: np.ndarray | list[bytes]
    ) -> None:
        """Add n rows; every array has n along its first axis. A list of bytes becomes ragged data."""
        self._before_rows({"values": values, "start_s": start_s, "end_s": end_s, "valid": valid, **more})
        rows: dict[str, Any] = {"values": values, "start_s": np.asarray(start_s, np.float64), "end_s": np.asarray(end_s, np.float64)}
        rows |= {"valid": np.asarray(valid, bool), **more}
        lengths = {name: len(data) for name, data in rows.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"Writer.append: want equally many rows, got {lengths}")
        for name, data in rows.items():
            if isinstance(data, list):
                flat = np.frombuffer(b"".join(data), np.uint8)
                begin = self._extend(name, flat, least=CHUNK_ROWS if len(flat) else CHUNK_BLOB)  # none yet: expect much
                lengths_before = np.cumsum([0, *(len(blob) for blob in data)], dtype=np.int64)[:-1]
                self._extend(f"{name}_offset", begin + lengths_before)
            else:
                self._extend(name, np.asarray(data), seen=rows["valid"] if name == layout.SPARSE else None)
        self._rows += len(values)

    def _extend(self, name: str, data: np.ndarray, least: int = CHUNK_ROWS, seen: np.ndarray | None = None) -> int:
        """Append data along the first axis and return the length before. The first use creates the dataset.

        Args:
            seen: (n,) bool, rows to write even if they are zeros.
        """
        if name not in self._file:
            row_bytes = max(1, int(np.prod(data.shape[1:])) * data.dtype.itemsize)
            rows = max(1, min(CHUNK_BYTES // row_bytes, max(len(data), least)))  # a chunk is stored whole, even with few rows
            chunk = (rows, *data.shape[1:])
            shape, limit = (0, *data.shape[1:]), (None, *data.shape[1:])
            self._file.create_dataset(name, shape, data.dtype, chunks=chunk, maxshape=limit, fletcher32=True)
        dataset = self._file[name]
        if dataset.dtype != data.dtype or dataset.shape[1:] != data.shape[1:]:
            raise ValueError(f"Writer.append: {name} began as {dataset.dtype} {dataset.shape[1:]}, got {data.dtype} {data.shape[1:]}")
        before = len(dataset)
        dataset.resize(before + len(data), axis=0)
        if seen is None or not 0 < layout.row_bytes(dataset) <= layout.SPARSE_BYTES:
            dataset[before:] = data
            return before
        for rows in self._with_something(data, seen, before, dataset.chunks[0]):
            dataset[before + rows.start : before + rows.stop] = data[rows]
        return before

    def finish(self) -> None:
        """Record in the file how many chunks were left out and how many rows there are."""
        dataset = self._file.get(layout.SPARSE)
        if self._filled is not None and dataset is not None:
            blank = -(-len(dataset) // dataset.chunks[0]) - len(self._filled)
            if blank:
                dataset.attrs[layout.BLANK] = blank
        self._file.attrs["rows"] = self._rows

    def _with_something(self, data: np.ndarray, seen: np.ndarray, before: int, side: int) -> list[slice]:
        """Return slices of the rows to write. A chunk that has no valid row and only zeros is left out; it takes no room and reads as
        zeros.

        Args:
            before: number of rows already in the dataset.
            side: number of rows in a chunk.
        """
        some = seen.copy()
        unseen = np.ascontiguousarray(data[~seen])
        some[~seen] = unseen.view(np.uint8).reshape(len(unseen), -1 if len(unseen) else 1).any(axis=1)  # compared as bytes: -0.0 is kept
        chunk = (before + np.arange(len(data))) // side
        self._filled = set() if self._filled is None else self._filled
        self._filled.update(np.unique(chunk[some]).tolist())
        return [slice(start, stop) for start, stop in runs(np.isin(chunk, chunk[some])).tolist()]


@contextmanager
def writing(path: Path, header: Header, *, before_rows: Callable[[Mapping[str, Any]], None] = lambda rows: None) -> Iterator[Writer]:
    """Write a stream in pieces: `with writing(path, header) as out: out.append(...)`. Nothing is left if the block fails.

    Args:
        before_rows: called with rows before they are added. It may raise, to give up the stream.
    """
    # v110 has checksums for metadata. In the oldest format, h5py's default, one flipped bit can send HDF5 into an endless loop.
    # HDF5's own lock is off: `atomic` holds one. The environment says so too, but too late if h5py was imported before affpipe.
    with disk.atomic(path) as part, h5py.File(part, "w", track_order=True, libver="v110", locking=False) as file:
        attributes = header.attributes()
        writer = Writer(file, before_rows)
        yield writer
        attributes["extra"] = {**attributes["extra"], **writer.extra}
        file.attrs["affpipe"] = json.dumps(attributes, sort_keys=True)
        writer.finish()


def write(path: Path, header: Header, **rows: Any) -> None:
    """Write a stream whose rows are all at hand. Arguments as for `Writer.append`."""
    with writing(path, header) as out:
        out.append(**rows)


class Stream:
    """Stored stream, open for reading; a context manager.

    Attributes:
        attributes: the header, as `Header.attributes` gave it.
        start_s, end_s: (R,) float64; valid: (R,) bool.
    """

    def __init__(self, path: Path, *, key: str | None = None, identity: str | None = None):
        self.path = path
        if waits(path):
            raise StoreError(f"{path}: want a stored stream, got {instead_of_file(path)}; {REPAIR}", damaged=path)
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            if error.errno not in (None, errno.ENOENT):  # HDF5's own errors have no number
                raise unreadable(path, error) from None
            what = "no file" if not path.exists() else " ".join(str(error).split("(")[-1].rstrip(")").split())
            raise StoreError(f"{path}: want a stored stream, got {what}; {REPAIR}", damaged=path) from None
        with self._faults():
            shapes = layout.check(self._file)
            self.attributes: dict[str, Any] = jsonfile.parse(self._file.attrs["affpipe"])
            for what, want in (("format", FORMAT), ("id", None), ("key", key), ("identity", identity)):
                if self.attributes[what] != want and want is not None:
                    raise StoreError(f"{path}: want {what} {want}, got {self.attributes[what]}; {REPAIR}", damaged=path)
            lengths = {name: shapes[name][0] for name in ROWS}
            if set(lengths.values()) != {int(self._file.attrs["rows"])}:
                raise StoreError(f"{path}: want {self._file.attrs['rows']} rows, got {lengths}; {REPAIR}", damaged=path)
            self.start_s, self.end_s, self.valid = (self._file[name][:] for name in ROWS[1:])

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # h5py has one for each kind of damage
            self._file.close()
            if getattr(error, "errno", None) is not None:
                raise unreadable(self.path, error) from None
            raise StoreError(f"{self.path}: want a whole stream, got {' '.join(str(error).split())}; {REPAIR}", damaged=self.path) from None
        except StoreError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.valid)

    def check_written(self) -> None:
        """Raise StoreError unless every row was written. Takes longer than opening."""
        with self._faults():
            layout.check_written(self._file)

    def check_rows(self) -> None:
        """Raise StoreError unless every byte can be read and all valid rows are finite. Takes longer still."""
        faults = [("times", times_fault(self.start_s, self.end_s, self.valid))]
        for name in self.names:
            for start in range(0, self.shape_of(name)[0], CHECKED):
                rows = self.rows(name, start, start + CHECKED)
                if name not in ROWS[1:] and self.shape_of(name)[0] == len(self):
                    faults.append((name, values_fault(rows, self.valid[start : start + CHECKED])))
        for name, fault in faults:
            if fault:
                raise StoreError(f"{self.path}: {name}: want finite ones of valid rows, got {fault}; {REPAIR}", damaged=self.path)

    @property
    def names(self) -> list[str]:
        """Names of the file's datasets."""
        return list(self._file)

    @property
    def fps(self) -> Fraction:
        """Nominal frame rate of the video. Raises StoreError if the file has none."""
        with self._faults():
            return rate(self.attributes["fps"])

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the shape of a dataset."""
        return self._file[name].shape

    def rows(self, name: str = "values", start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read rows [start, stop) of a dataset."""
        with self._faults():
            return self._file[name][start:stop]

    def blob(self, name: str, row: int) -> bytes:
        """Read the ragged bytes of one row."""
        return self.blobs(name, [row])[0]

    def blobs(self, name: str, rows: Sequence[int]) -> list[bytes]:
        """Read the ragged bytes of some rows, in the given order. The span from the first to the last of them is read as one piece."""
        if len(rows) == 0:
            return []
        first, stop = int(np.min(rows)), int(np.max(rows)) + 1
        with self._faults():
            offset = self._file[f"{name}_offset"][first : stop + 1]
            if len(offset) == stop - first:  # the last row ends where the data ends
                offset = np.append(offset, len(self._file[name]))
            data = self._file[name][offset[0] : offset[-1]].tobytes()
            return [data[offset[i] - offset[0] : offset[i + 1] - offset[0]] for i in np.asarray(rows) - first]


def unreadable(path: Path, error: OSError) -> StoreError:
    """Return the error for a file that exists and cannot be read."""
    return StoreError(
        f"{path}: want to read it, got {os.strerror(error.errno)}; make it readable, remove it, or check the disk; then run again"
    )


def attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of a stored file, HDF5 or FLAC."""
    if path.suffix == ".flac":
        from affpipe.store.flac import flac_comment

        try:
            found = jsonfile.parse(flac_comment(path))
            if any(name not in found for name in ("key", "id", "identity")):
                raise ValueError("one without key, id and identity")
            return found
        except (AffpipeError, ValueError, TypeError) as error:
            raise StoreError(f"{path}: want a stored audio track, got {error}; {REPAIR}", damaged=path) from None
    with Stream(path) as stream:
        return stream.attributes


def check(path: Path, *, key: str, identity: str, deep: bool = False) -> dict[str, Any]:
    """Return the attributes of a stored file. Raises StoreError unless its key and identity are as wanted; `deep` reads every byte."""
    found = attributes(path)
    for what, want in (("key", key), ("identity", identity)):
        if found[what] != want:
            raise StoreError(f"{path}: want {what} {want}, got {found[what]}; {REPAIR}", damaged=path)
    if deep and path.suffix == ".h5":
        with Stream(path, key=key, identity=identity) as stream:
            stream.check_written()
            stream.check_rows()
    elif deep:
        track = Sound(path)
        for start in range(0, len(track), SOUND):
            track[start : start + SOUND]
    return found


class Sound:
    """Stored audio track, read when it is sliced: `sound[start:stop]` is float32 (n,), as from an array of all samples."""

    def __init__(self, path: Path):
        from affpipe.store.flac import flac_samples

        self.path = path
        with self._faults():
            self._samples = flac_samples(path)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except AffpipeError as error:
            raise StoreError(f"{self.path}: want a whole audio track, got {error}; {REPAIR}", damaged=self.path) from None

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, cut: slice) -> np.ndarray:
        from affpipe.store.flac import read_flac

        start, stop, _ = cut.indices(self._samples)
        with self._faults():
            return read_flac(self.path, start, max(start, stop))
