"""The audio track of a video as mono samples on the video's clock, and FLAC files of it.

Container timestamps place the samples (pts * time_base, after FFmpeg dropped codec priming and what edit lists hide), sample counts only
carry them from one packet to the next: so late and early starts, gaps and drift keep sound and picture together.
Mono is the plain mean of the channels (libswresample's own downmix depends on the sample format: 0.5 + 0.5 for integers, 0.71 + 0.71 for
floats, which clips); resampling is libswresample's default, whose delay it compensates itself.
"""

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import soundfile

from affpipe.errors import AbsentError, InputError, MediaError
from affpipe.files import instead_of_file, waits
from affpipe.frames import FrameAxis
from affpipe.media.reader import decoded, open_media, packets, unreadable, words

log = logging.getLogger(__name__)

# Half a frame at 25 fps. Timestamps that stray less from the running sample count are jitter; more is a gap, an overlap or drift.
TOLERANCE_S = 0.02
BLOCK = 1 << 16  # samples that are given out at once: what is held in memory
# libsndfile writes FLAC in blocks of 4096 samples, and no block of one channel is shorter than 10 bytes, silence included.
FLAC_SAMPLES, FLAC_BYTES = 4096, 10


@dataclass
class Heard:
    """What an audio track gave so far: its own samples, samples on the axis, and the reasons why packets were rejected."""

    samples: int = 0
    placed: int = 0
    bad: list[str] = field(default_factory=list)


def length(axis: FrameAxis, sample_rate_hz: int) -> int:
    """Samples of the track of an axis, from its first frame to the end of its last."""
    return round((axis.end_s - axis.start_s) * sample_rate_hz)


def extract(path: Path, axis: FrameAxis, *, sample_rate_hz: int = 16000) -> Iterator[np.ndarray]:
    """Audio of a video in blocks (n,) of at most BLOCK samples, float32 mono in [-1, 1]: sample 0 at axis.start_s, `length` samples in all.

    Silence (zeros) stands before a late start, in gaps and after an early end. Where two packets claim the same time the first keeps it.
    Undecodable packets leave silence and a warning in the log. Raises AbsentError if there is no audio track, or, after the last block,
    if it has no samples on the axis; MediaError if the file or the whole track cannot be read.
    """
    heard = Heard()
    with open_media(path) as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise AbsentError(f"{path}: want an audio track, got a video that has no audio track; leave the audio modality out for it")
        if stream.codec_context is None:
            raise unreadable(path, "an audio codec that FFmpeg does not know")
        frames, samples = _decoded(container, stream, heard), length(axis, sample_rate_hz)
        try:
            yield from lay(frames, heard, start_s=axis.start_s, sample_rate_hz=sample_rate_hz, samples=samples)
        except av.FFmpegError as error:
            raise unreadable(path, f"{words(error)} in the audio track") from None
    if heard.bad and not heard.samples:
        raise unreadable(path, f"{heard.bad[0]} in each of {len(heard.bad)} audio packets")
    if heard.bad:
        log.warning("%s: %d undecodable audio packets left as silence (%s)", path, len(heard.bad), heard.bad[0])
    if not heard.placed:
        what = "lies outside the time of the video" if heard.samples else "is there but holds no samples"
        raise AbsentError(f"{path}: want sound, got an audio track that {what}; leave the audio modality out for it")


def _decoded(container: av.container.InputContainer, stream: av.AudioStream, heard: Heard) -> Iterator[av.AudioFrame]:
    for packet in packets(container, [stream]):
        found = decoded(packet)
        if isinstance(found, str):
            heard.bad.append(found)
        else:
            yield from found


def lay(frames: Iterable[av.AudioFrame], heard: Heard, *, start_s: float, sample_rate_hz: int, samples: int) -> Iterator[np.ndarray]:
    """Yield a track whose sample 0 is at start_s, so many samples in all, in blocks (n <= BLOCK,) float32; counts what is heard and placed.

    It is filled from the left: what claims a time already taken, or lies outside, is cut; where nothing is, there are zeros.
    """
    block, begin, filled = np.zeros(BLOCK, np.float32), 0, 0  # the block's first sample, and the first one that is free
    for position, mono in _placed(frames, heard, start_s, sample_rate_hz):
        first, stop = max(position, filled), min(position + len(mono), samples)
        heard.placed += max(0, stop - first)
        while first < stop:
            while first >= begin + BLOCK:
                yield block
                block, begin = np.zeros(BLOCK, np.float32), begin + BLOCK
            until = min(stop, begin + BLOCK)
            block[first - begin : until - begin] = np.clip(mono[first - position : until - position], -1, 1)
            first = until
        filled = max(filled, position + len(mono))
        if filled >= samples:
            break
    while begin < samples:
        yield block[: samples - begin]
        block, begin = np.zeros(BLOCK, np.float32), begin + BLOCK


class _Run:
    """A stretch of frames whose timestamps agree with its sample count: resampled on its own, put at its own time."""

    def __init__(self, setup: tuple, begin_s: float, position: int, sample_rate_hz: int):
        self.setup, self.begin_s, self.samples = setup, begin_s, 0  # as they are stored
        self.position = position  # of the next sample to come
        self._resampler = av.AudioResampler(format="fltp", rate=sample_rate_hz)

    def take(self, frame: av.AudioFrame | None) -> Iterator[tuple[int, np.ndarray]]:
        """Position and samples (n,) of what comes out; None: the rest."""
        self.samples += frame.samples if frame else 0
        for piece in self._resampler.resample(frame):
            mono = piece.to_ndarray().mean(axis=0)  # (C, n) -> (n,)
            yield self.position, mono
            self.position += len(mono)


def _placed(frames: Iterable[av.AudioFrame], heard: Heard, start_s: float, sample_rate_hz: int) -> Iterator[tuple[int, np.ndarray]]:
    """Resampled pieces (n,) of frames, each with its position on the track.

    A frame without a timestamp continues the run; the first one is taken to start with the video.
    """
    run, expected_s = None, start_s
    for frame in frames:
        if frame.samples == 0:
            continue
        time_s = expected_s if frame.pts is None else float(frame.pts * frame.time_base)
        setup = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if run is None or setup != run.setup or abs(time_s - expected_s) > TOLERANCE_S:
            if run is not None:
                yield from run.take(None)
            run = _Run(setup, time_s, round((time_s - start_s) * sample_rate_hz), sample_rate_hz)
        heard.samples += frame.samples
        yield from run.take(frame)
        expected_s = run.begin_s + run.samples / frame.sample_rate
    if run is not None:
        yield from run.take(None)


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


def write_flac(path: Path, blocks: Iterable[np.ndarray], sample_rate_hz: int, comment: str) -> None:
    """Write blocks (n,) of float samples in [-1, 1] as one 16-bit mono FLAC with a comment, whatever the suffix of the path."""
    with _Disk(path, "w") as disk:
        try:
            with soundfile.SoundFile(disk, "w", samplerate=sample_rate_hz, channels=1, subtype="PCM_16", format="FLAC") as file:
                file.comment = comment
                for samples in blocks:
                    file.write(_coded(path, samples))
        finally:
            if disk.fault is not None:
                raise disk.fault from None


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
