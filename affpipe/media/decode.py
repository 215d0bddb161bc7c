"""Frames of a video as RGB, in one sequential pass, turned the way a player shows them.

Backends: "pyav" (default), and "decord", which gives the same frames of mp4, mov, mkv and webm, turned by itself, and nothing of a damaged
file; where it is known to give other frames (edit lists, MPEG streams) it is refused. Its times come from the packets, read by PyAV.
Pixels are not scaled for a non-square pixel shape: boxes and crops live on the stored grid.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from affpipe import memory
from affpipe.errors import InputError, MediaError
from affpipe.media.opening import local
from affpipe.media.reader import VideoPass, open_media, packets, unreadable, video_stream, words

Frames = Iterator[tuple[int, float, np.ndarray]]
BACKENDS = ("pyav", "decord")


def frames(path: Path, *, backend: str = "pyav", wanted: np.ndarray | None = None, threads: int = 1) -> Frames:
    """Yield (index, time_s, rgb (H, W, 3) uint8) in presentation order; never holds more than a few frames.

    Args:
        path: the video.
        backend: "pyav" or "decord".
        wanted: (K,) strictly increasing frame indices; only these are converted and yielded, and the pass stops after the last one.
        threads: of decoder and conversion, 0 for as many as there are cores. On a sound file the frames do not depend on it; with more than
            one, what a decoder makes of damaged data varies from run to run.

    Each image is its own memory: who gets it may keep it. Closing the iterator closes the file.
    Raises MediaError for a video that cannot be read, InputError for a wanted frame that the video does not have.
    """
    if backend not in BACKENDS:
        raise InputError(f"frames: want a backend of {BACKENDS}, got {backend!r}")
    decoder = {"pyav": _pyav, "decord": _decord}[backend]
    if wanted is None:
        return decoder(path, None, threads)
    wanted = np.asarray(wanted)
    if wanted.ndim != 1 or (len(wanted) and (wanted.dtype.kind not in "iu" or wanted[0] < 0 or (np.diff(wanted) <= 0).any())):
        raise InputError(f"frames: want strictly increasing integer indices (K,), got {wanted.dtype} {wanted.shape}; sort and deduplicate")
    return decoder(path, wanted.tolist(), threads) if len(wanted) else iter(())


def orient(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turn and mirror a stored (H, W, 3) image the way the display matrix asks; (W, H, 3) for a quarter turn."""
    a, b, c, d = matrix
    if a == 0:
        image, across, down = image.transpose(1, 0, 2), c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(image[::down, ::across])


def _pyav(path: Path, wanted: list[int] | None, threads: int) -> Frames:
    remaining = iter(wanted or ())
    target = next(remaining, None)
    memory.keep()
    reformatter = VideoReformatter()  # a frame's own one would be set up anew for each
    with open_media(path) as container:
        video = VideoPass(container, path, threads=threads)
        for index, time_s, frame in video:
            if wanted is not None and index != target:
                continue
            try:
                picture = reformatter.reformat(frame, format="rgb24", threads=threads)
            except av.FFmpegError as error:
                raise unreadable(path, f"{words(error)} in the pixels of frame {index}") from None
            yield index, time_s, orient(picture.to_ndarray(), video.matrix)
            target = next(remaining, None)
            if wanted is not None and target is None:
                return
        if target is not None:
            raise _beyond(path, target, video.count)


def _decord(path: Path, wanted: list[int] | None, threads: int) -> Frames:
    import decord

    times = packet_times(path)
    try:
        reader = decord.VideoReader(local(path), num_threads=threads)
        if len(reader) != len(times):
            raise MediaError(f"{path}: decord: want {len(times)} frames, got {len(reader)}; use the pyav backend")
        if wanted and wanted[-1] >= len(times):
            raise _beyond(path, wanted[-1], len(times))
        at = 0
        for index in range(len(times)) if wanted is None else wanted:
            if index > at:
                reader.skip_frames(index - at)
            yield index, times[index], reader.next().asnumpy()
            at = index + 1
    except (decord.DECORDError, decord.DECORDLimitReachedError, StopIteration) as error:
        reason = str(error).partition("\n")[0].rpartition("] ")[2]  # between the time of day and the stack trace
        raise MediaError(f"{path}: decord: want a readable video, got {reason!r}; use the pyav backend") from None


def packet_times(path: Path) -> list[float]:
    """Times of frames for decord, whose own are float32, start at 0 whatever the container says, and count hidden frames."""
    with open_media(path) as container:
        stream = video_stream(container, path)
        kind = container.format.name
        if not kind.startswith(("mov,", "matroska")):  # elsewhere decord may begin at the wrong frame, silently (MPEG: at frame 12)
            raise MediaError(f"{path}: decord: want mp4, mov, mkv or webm, got {kind}; use the pyav backend")
        if not stream.codec_context.width:  # damaged, or too large: decord has no limit
            raise unreadable(path, "frames of no known size")
        try:
            found = [p for p in packets(container, [stream]) if p.size]
        except av.FFmpegError as error:
            raise unreadable(path, words(error)) from None
        pts = sorted({p.pts for p in found if p.pts is not None and not p.is_discard})
        if not pts or len(pts) != len(found):
            raise MediaError(f"{path}: decord: want one time a packet, got an edit list or bad timestamps; use the pyav backend")
        return [float(t * stream.time_base) for t in pts]


def _beyond(path: Path, index: int, count: int) -> InputError:
    return InputError(f"{path}: want frame {index}, got a video of {count} frames; take indices from its frame axis")
