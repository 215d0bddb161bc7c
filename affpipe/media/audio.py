"""The audio track of a video as mono samples on the video's clock, and FLAC files of it.

Which of several tracks it is, see `tracks`; when its samples sound, `soundclock`; how they become one row of samples, `laying`.
"""

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
import soundfile

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import AbsentError, InputError, MediaError
from affpipe.media.decode import chosen
from affpipe.media.heard import Heard
from affpipe.media.laying import lay
from affpipe.media.reader import VideoPass, decoded, encrypted, locked, open_media, packets, unreadable, words
from affpipe.media.soundclock import JUMP_S
from affpipe.media.tracks import QUIET, Wanted, audio_track
from affpipe.system.files import instead_of_file, waits

log = logging.getLogger(__name__)

RESERVED = 1 << 12  # bytes by which a comment may grow while its FLAC file is written
# libsndfile writes FLAC in blocks of 4096 samples, and no block of one channel is shorter than 10 bytes, silence included.
FLAC_SAMPLES, FLAC_BYTES = 4096, 10


def length(axis: FrameAxis, sample_rate_hz: int) -> int:
    """Samples of the track of an axis, from its first frame to the end of its last."""
    return round((axis.end_s - axis.start_s) * sample_rate_hz)


def extract(
    path: Path,
    axis: FrameAxis,
    *,
    sample_rate_hz: int = 16000,
    offset_s: float = 0.0,
    track: Wanted = "auto",
    video_track: int | None = None,
    heard: Heard | None = None,
) -> Iterator[np.ndarray]:
    """Audio of a video in blocks (n,) of at most BLOCK samples, float32 mono in [-1, 1]: sample 0 at axis.start_s, `length` samples in all.

    Silence (zeros) stands before a late start, in gaps and after an early end. Where two packets claim the same time the first keeps it.

    Args:
        offset_s: added to the track's timestamps.
        track: which audio track, see `tracks`. video_track: that of the axis; None: the one that is chosen by itself.
        heard: counts what is found; without it the log says what a person should know.

    Raises AbsentError if there is no audio track, or, after the last block, if it has no samples on the axis or is digitally silent;
    MediaError if the file or the whole track cannot be read.
    """
    told, heard = heard is not None, heard or Heard()
    heard.track = audio_track(path, track)
    if heard.track is None:
        raise AbsentError(f"{path}: want an audio track, got a video that has no audio track; leave the audio modality out for it")
    with open_media(path) as container:
        stream = container.streams.audio[heard.track.index]
        if encrypted(stream):
            raise locked(path)
        if stream.codec_context is None:
            raise unreadable(path, "an audio codec that FFmpeg does not know")
        frames, samples = _decoded(container, stream, heard, path), length(axis, sample_rate_hz)
        joins = partial(_joins, path, video_track, axis)
        try:
            yield from lay(frames, heard, start_s=axis.start_s - offset_s, sample_rate_hz=sample_rate_hz, samples=samples, joins=joins)
        except av.FFmpegError as error:
            raise unreadable(path, f"{words(error)} in the audio track") from None
    if heard.bad and not heard.samples:
        raise unreadable(path, f"{heard.bad[0]} in each of {len(heard.bad)} audio packets")
    if what := _nothing(heard):
        raise AbsentError(f"{path}: want sound, got an audio track that {what}; leave the audio modality out for it")
    for fault in () if told else heard.faults:
        log.warning("%s: %s", path, fault)


def _nothing(heard: Heard) -> str:
    """Why there is no sound; "" if there is."""
    if not heard.samples:
        return "is there but holds no samples"
    if not heard.placed:
        return "lies outside the time of the video"
    mended = f" but for {heard.mended} samples that are no number" if heard.mended else ""
    return f"is digitally silent{mended}" if not heard.sounds or heard.swing < QUIET else ""


def _decoded(container: av.container.InputContainer, stream: av.AudioStream, heard: Heard, path: Path) -> Iterator[av.AudioFrame]:
    for packet in packets(container, [stream]):
        if encrypted(packet):
            raise locked(path)
        found = decoded(packet)
        if isinstance(found, str):
            heard.bad.append(found)
        else:
            yield from found


def _joins(path: Path, track: int | None, axis: FrameAxis) -> list[tuple[float, float]]:
    """Where the video's clock starts anew: timestamp and time of the frame; costs a decode, for such files alone.

    None where the axis is not that of the whole video.
    """
    out, before_s, count = [], float("-inf"), 0
    track = chosen(path) if track is None else track
    with open_media(path) as container:
        for index, _, frame in VideoPass(container, path, track=track):
            count = index + 1
            own_s = before_s if frame.pts is None else float(frame.pts * frame.time_base)
            if own_s < before_s - JUMP_S and count <= len(axis):
                out.append((own_s, float(axis.times_s[index])))
            before_s = own_s
    return out if count == len(axis) else []


class _Disk(io.FileIO):
    """A file for libsndfile, which of a full disk only says "System error": `fault` keeps what the system said."""

    fault: OSError | None = None

    def write(self, data: bytes) -> int:
        done = 0
        try:
            while done < len(data):
                done += super().write(data[done:])
        except OSError as error:  # libsndfile calls from C, which no exception leaves
            self.fault = error
        return done


def write_flac(path: Path, blocks: Iterable[np.ndarray], sample_rate_hz: int, comment: str | Callable[[], str]) -> None:
    """Write blocks (n,) of float samples in [-1, 1] as one 16-bit mono FLAC with a comment, whatever the suffix of the path.

    Where the comment is a function, it is what that gives when all blocks are written: at most RESERVED bytes more than before.
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
    """Put a comment where so many bytes were kept for it; JSON may end in blanks."""
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
    """Samples [start, stop) of a FLAC file as (stop - start,) float32; stop None reads to the end."""
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


def windows(track: Sequence | np.ndarray, begin_s: np.ndarray, *, length_s: float, sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut (R, S) windows of the track's dtype, zero beyond its end, and (R,) int32 how many samples of each are real.

    track: (N,) samples, or what is cut like them; only from the first window to the last is it read.
    begin_s: (R,) seconds from sample 0, not decreasing; length_s: of every window.
    """
    first = np.round(begin_s * sample_rate_hz).astype(int)
    size = round(length_s * sample_rate_hz)
    piece = track[first[0] : first[-1] + size]
    out = np.zeros((len(begin_s), size), piece.dtype)
    samples = np.zeros(len(begin_s), np.int32)
    for row, at in enumerate(first - first[0]):
        cut = piece[at : at + size]
        out[row, : len(cut)], samples[row] = cut, len(cut)
    return out, samples


def flac_samples(path: Path) -> int:
    """Samples of a FLAC file."""
    with _flac(path) as file:
        return file.frames


def flac_comment(path: Path) -> str:
    """The comment that write_flac put there."""
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
