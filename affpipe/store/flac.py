"""Sound on disk: one 16-bit mono FLAC file per video. Its comment holds the attributes of the stream."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile

from affpipe.core.errors import InputError, MediaError
from affpipe.system.files import instead_of_file, waits

RESERVED = 1 << 12  # bytes by which a comment may grow while its FLAC file is being written
# libsndfile writes FLAC in blocks of 4096 samples, and no block of one channel is shorter than 10 bytes, silence included.
FLAC_SAMPLES, FLAC_BYTES = 4096, 10


class _Disk(io.FileIO):
    """File for libsndfile, which reports a full disk only as "System error". `fault` keeps what the operating system said."""

    fault: OSError | None = None

    def write(self, data: bytes) -> int:
        done = 0
        try:
            while done < len(data):
                done += super().write(data[done:])
        except OSError as error:  # libsndfile calls this from C, and no exception can pass through C
            self.fault = error
        return done


def write_flac(path: Path, blocks: Iterable[np.ndarray], sample_rate_hz: int, comment: str | Callable[[], str]) -> None:
    """Write blocks (n,) of float samples in [-1, 1] as one 16-bit mono FLAC with a comment, whatever the suffix of the path.

    A comment that is a function is called before the blocks are written and again after them; the second result is stored. It may be at
    most RESERVED bytes longer than the first.
    """
    late = len(comment().encode()) + RESERVED if callable(comment) else 0
    with _Disk(path, "w") as disk:
        try:
            with soundfile.SoundFile(disk, "w", samplerate=sample_rate_hz, channels=1, subtype="PCM_16", format="FLAC") as file:
                file.comment = "#" * late if late else comment
                for samples in blocks:
                    file.write(_coded(path, samples))
        finally:
            if disk.fault is not None:
                raise disk.fault from None
    if late:
        _fill(path, comment().encode(), late)


def _fill(path: Path, comment: bytes, kept: int) -> None:
    """Write a comment into the `kept` bytes reserved for it. It is padded with blanks, which JSON allows at its end."""
    if len(comment) > kept:
        raise ValueError(f"{path}: want a comment of at most {kept} bytes, got {len(comment)}")
    with path.open("r+b") as file:
        file.seek(file.read(2 * kept).index(b"#" * kept))
        file.write(comment.ljust(kept))


def _coded(path: Path, samples: np.ndarray) -> np.ndarray:
    if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise InputError(f"{path}: want finite float samples (N,), got {samples.dtype} {samples.shape}")
    # Rounded here: libsndfile would scale by 32767 on the way in and by 32768 on the way out.
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def read_flac(path: Path, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Read samples [start, stop) of a FLAC file as (stop - start,) float32; stop None reads to the end."""
    with _flac(path) as file:
        stop = file.frames if stop is None else stop
        if not 0 <= start <= stop <= file.frames:
            raise InputError(f"{path}: want 0 <= start <= stop <= {file.frames}, got [{start}, {stop})")
        file.seek(start)
        try:
            samples = file.read(stop - start, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise _bad_flac(path, error.error_string) from None
    if len(samples) != stop - start:
        raise _bad_flac(path, f"{len(samples)} of {stop - start} samples")
    return samples


def flac_samples(path: Path) -> int:
    """Return the number of samples of a FLAC file."""
    with _flac(path) as file:
        return file.frames


def flac_comment(path: Path) -> str:
    """Return the comment that write_flac stored."""
    with _flac(path) as file:
        return file.comment


def _flac(path: Path) -> soundfile.SoundFile:
    if waits(path):
        raise _bad_flac(path, instead_of_file(path))
    try:
        file = soundfile.SoundFile(path.absolute())
    except soundfile.LibsndfileError as error:
        raise _bad_flac(path, error.error_string) from None
    longest = path.stat().st_size // FLAC_BYTES * FLAC_SAMPLES
    if file.frames > longest:
        file.close()
        raise _bad_flac(path, f"{file.frames} samples declared in a file that holds at most {longest}")
    return file


def _bad_flac(path: Path, reason: str) -> MediaError:
    return MediaError(f"{path}: want a readable FLAC file, got {reason!r}; delete it and make it again")
