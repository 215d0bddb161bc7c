"""The audio track of a video as mono samples on the video's clock, and FLAC files of it.

Container timestamps place the samples (pts * time_base, after FFmpeg dropped codec priming and what edit lists hide), sample counts only
carry them from one packet to the next: so late and early starts, gaps and drift keep sound and picture together.
Mono is the plain mean of the channels (libswresample's own downmix depends on the sample format: 0.5 + 0.5 for integers, 0.71 + 0.71 for
floats, which clips); resampling is libswresample's default, whose delay it compensates itself.
"""

import io
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import soundfile

from affpipe.errors import AbsentError, InputError, MediaError
from affpipe.frames import FrameAxis
from affpipe.media.reader import check_length, decoded, open_media, packets, unreadable, words

log = logging.getLogger(__name__)

# Half a frame at 25 fps. Timestamps that stray less from the running sample count are jitter; more is a gap, an overlap or drift.
TOLERANCE_S = 0.02
# libsndfile writes FLAC in blocks of 4096 samples, and no block of one channel is shorter than 10 bytes, silence included.
FLAC_SAMPLES, FLAC_BYTES = 4096, 10


def extract(path: Path, axis: FrameAxis, *, sample_rate_hz: int = 16000) -> np.ndarray:
    """Audio of a video, (N,) float32 mono in [-1, 1]: sample 0 at axis.start_s, N = round((axis.end_s - axis.start_s) * sample_rate_hz).

    Silence (zeros) stands before a late start, in gaps and after an early end. Where two packets claim the same time the first keeps it.
    Undecodable packets leave silence and a warning in the log. Raises AbsentError if there is no audio track, or none with samples on
    the axis; MediaError if the file or the whole track cannot be read.
    """
    check_length(path, axis.end_s - axis.start_s)
    out = np.zeros(round((axis.end_s - axis.start_s) * sample_rate_hz), np.float32)
    bad = []
    with open_media(path) as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise AbsentError(f"{path}: want an audio track, got a video that has no audio track; leave the audio modality out for it")
        if stream.codec_context is None:
            raise unreadable(path, "an audio codec that FFmpeg does not know")
        try:
            heard, placed = lay(_decoded(container, stream, bad), out, start_s=axis.start_s, sample_rate_hz=sample_rate_hz)
        except av.FFmpegError as error:
            raise unreadable(path, f"{words(error)} in the audio track") from None
    if bad and not heard:
        raise unreadable(path, f"{bad[0]} in each of {len(bad)} audio packets")
    if bad:
        log.warning("%s: %d undecodable audio packets left as silence (%s)", path, len(bad), bad[0])
    if not placed:
        what = "lies outside the time of the video" if heard else "is there but holds no samples"
        raise AbsentError(f"{path}: want sound, got an audio track that {what}; leave the audio modality out for it")
    return out


def _decoded(container: av.container.InputContainer, stream: av.AudioStream, bad: list[str]) -> Iterator[av.AudioFrame]:
    for packet in packets(container, [stream]):
        found = decoded(packet)
        if isinstance(found, str):
            bad.append(found)
        else:
            yield from found


class _Track:
    """Output of known length that is filled from the left: what claims a time already taken, or lies outside, is cut."""

    def __init__(self, out: np.ndarray):
        self.out = out
        self.position = self.filled = self.placed = 0  # of the next sample to come; first free one; samples kept so far

    def put(self, pieces: list[av.AudioFrame]) -> None:
        for piece in pieces:
            mono = piece.to_ndarray().mean(axis=0)  # (C, n) -> (n,)
            first, stop = max(self.position, self.filled), min(self.position + len(mono), len(self.out))
            if stop > first:
                self.out[first:stop] = np.clip(mono[first - self.position : stop - self.position], -1, 1)
                self.placed += stop - first
            self.position += len(mono)
            self.filled = max(self.filled, self.position)


def lay(frames: Iterable[av.AudioFrame], out: np.ndarray, *, start_s: float, sample_rate_hz: int) -> tuple[int, int]:
    """Resample frames into out (N,) float32, zeros at call, whose sample 0 is at start_s; stops once out is full.

    A run is a stretch of frames whose timestamps agree with its sample count; each run is resampled on its own and put at its own time.
    A frame without a timestamp continues the run; the first one is taken to start with the video.

    Returns the number of input samples heard, and of output samples placed.
    """
    track, heard = _Track(out), 0
    resampler = setup = None
    begin_s = expected_s = start_s
    in_run = 0
    for frame in frames:
        if frame.samples == 0:
            continue
        time_s = expected_s if frame.pts is None else float(frame.pts * frame.time_base)
        now = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if now != setup or abs(time_s - expected_s) > TOLERANCE_S:
            if resampler is not None:
                track.put(resampler.resample(None))
            resampler = av.AudioResampler(format="fltp", rate=sample_rate_hz)
            setup, begin_s, in_run = now, time_s, 0
            track.position = round((begin_s - start_s) * sample_rate_hz)
        heard += frame.samples
        in_run += frame.samples
        expected_s = begin_s + in_run / frame.sample_rate
        track.put(resampler.resample(frame))
        if track.filled >= len(out):
            return heard, track.placed
    if resampler is not None:
        track.put(resampler.resample(None))
    return heard, track.placed


def write_flac(path: Path, samples: np.ndarray, sample_rate_hz: int, comment: str) -> None:
    """Write (N,) float samples in [-1, 1] as 16-bit mono FLAC with a comment, whatever the suffix of the path."""
    if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise InputError(f"{path}: want finite float samples (N,), got {samples.dtype} {samples.shape}")
    # Rounded here: libsndfile would scale by 32767 on the way in and by 32768 on the way out.
    coded = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    # By way of memory: of a full disk libsndfile only says "System error".
    whole = io.BytesIO()
    with soundfile.SoundFile(whole, "w", samplerate=sample_rate_hz, channels=1, subtype="PCM_16", format="FLAC") as file:
        file.comment = comment
        file.write(coded)
    path.write_bytes(whole.getbuffer())


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


def windows(track: np.ndarray, begin_s: np.ndarray, *, length_s: float, sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut (R, S) windows of the track's dtype, zero beyond its end, and (R,) int32 how many samples of each are real.

    begin_s: (R,) seconds from sample 0; length_s: of every window.
    """
    out = np.zeros((len(begin_s), round(length_s * sample_rate_hz)), track.dtype)
    samples = np.zeros(len(begin_s), np.int32)
    for row, first in enumerate(np.round(begin_s * sample_rate_hz).astype(int)):
        piece = track[first : first + out.shape[1]]
        out[row, : len(piece)], samples[row] = piece, len(piece)
    return out, samples


def flac_comment(path: Path) -> str:
    """The comment that write_flac put there."""
    with _flac(path) as file:
        return file.comment


def _flac(path: Path) -> soundfile.SoundFile:
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise _bad_flac(path, error.error_string) from None
    longest = path.stat().st_size // FLAC_BYTES * FLAC_SAMPLES
    if file.frames > longest:
        file.close()
        raise _bad_flac(path, f"{file.frames} samples declared in a file that holds at most {longest}")
    return file


def _bad_flac(path: Path, reason: str) -> MediaError:
    return MediaError(f"{path}: want a readable FLAC file, got {reason!r}; delete it and make it again")
