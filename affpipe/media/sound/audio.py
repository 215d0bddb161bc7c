"""The audio track of a video as mono samples on the video's clock.

`tracks` chooses among several tracks, `soundclock` finds the times of the samples, `laying` puts them into one row.
"""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import AbsentError
from affpipe.media.picture.decode import chosen
from affpipe.media.reader import VideoPass, decoded, encrypted, locked, open_media, packets, unreadable, words
from affpipe.media.sound.heard import Heard
from affpipe.media.sound.laying import lay
from affpipe.media.sound.soundclock import JUMP_S
from affpipe.media.tracks import QUIET, Wanted, audio_track

log = logging.getLogger(__name__)


def length(axis: FrameAxis, sample_rate_hz: int) -> int:
    """Return the number of samples on an axis, from its first frame to the end of its last."""
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
    """Yield the sound of a video in blocks (n,) of at most BLOCK samples, float32 mono in [-1, 1].

    Sample 0 is at axis.start_s; there are `length` samples in all. Silence (zeros) fills a late start, gaps and an early end. If two
    packets claim the same time, the first keeps it.

    Args:
        offset_s: seconds added to the track's timestamps.
        track: audio track, see `tracks`.
        video_track: video track of the axis. None: the one that is chosen when none is named.
        heard: counts what is found. Without it the log says what a person should know.

    Raises AbsentError if there is no audio track, or, after the last block, if it has no samples on the axis or is digitally silent. Raises
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
    """Return why there is no sound; "" if there is."""
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
    """Find where the video's clock starts again: (timestamp, time of the frame) for each place. Costs a decode, for such files only.

    Empty if the axis is not that of the whole video.
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


def windows(track: Sequence | np.ndarray, begin_s: np.ndarray, *, length_s: float, sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut (R, S) windows of the track's dtype, zero beyond its end. Return them and (R,) int32, the number of real samples in each.

    Args:
        track: (N,) samples, or something sliced like them. It is read only from the first window to the last.
        begin_s: (R,) seconds from sample 0, not decreasing.
        length_s: seconds of every window.
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
