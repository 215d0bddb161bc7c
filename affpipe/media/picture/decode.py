"""Frames of a video as RGB of standard dynamic range, in one sequential pass, as a player shows them: whole, upright, in square pixels.

Two backends: "pyav" (default) and "decord". decord gives the same frames of mp4, mov, mkv and webm; it turns pictures by itself and gives
nothing of a damaged file. It is refused where it is known to give other frames: edit lists, MPEG streams, interlaced pictures, high dynamic
range. Its times come from the packets, read by PyAV.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from affpipe.core.errors import InputError, MediaError
from affpipe.media.opening import local
from affpipe.media.picture import hdr
from affpipe.media.picture.deinterlace import deinterlaced
from affpipe.media.picture.shown import orient, resample
from affpipe.media.reader import VideoPass, open_media, packets, unreadable, video_stream, words
from affpipe.media.tracks import video_track
from affpipe.system import memory

Frames = Iterator[tuple[int, float, np.ndarray]]
BACKENDS = ("pyav", "decord")


def frames(
    path: Path,
    *,
    backend: str = "pyav",
    track: int | None = None,
    deinterlace: bool = True,
    tone_map: bool = True,
    wanted: np.ndarray | None = None,
    threads: int = 1,
) -> Frames:
    """Yield (index, time_s, rgb (H, W, 3) uint8) in presentation order; never holds more than a few frames.

    The time is the file's own for that frame, NaN if it has none. The times of streams are those of the axis that `probe` makes.

    Args:
        path: the video.
        backend: "pyav" or "decord".
        track: number of the video track, see `tracks`. None chooses one without looking for faces.
        deinterlace: make whole pictures of frames that are marked as interlaced, see `deinterlace`.
        tone_map: convert high dynamic range to standard range, see `hdr`.
        wanted: (K,) strictly increasing frame indices. Only these are converted and yielded; the pass stops after the last one.
        threads: threads of decoder and conversion, 0 for one a core. For a sound file the frames do not depend on it. With more than one,
            what a decoder makes of damaged data varies from run to run.

    Each image has its own memory, so the caller may keep it. Closing the iterator closes the file. Raises MediaError for a video that
    cannot be read, InputError for a wanted frame that the video does not have.
    """
    if backend not in BACKENDS:
        raise InputError(f"frames: want a backend of {BACKENDS}, got {backend!r}")
    decoder = {"pyav": _pyav, "decord": _decord}[backend]
    ways = {"deinterlace": deinterlace, "tone_map": tone_map, "threads": threads}
    if wanted is None:
        return decoder(path, track, None, **ways)
    wanted = np.asarray(wanted)
    if wanted.ndim != 1 or (len(wanted) and (wanted.dtype.kind not in "iu" or wanted[0] < 0 or (np.diff(wanted) <= 0).any())):
        raise InputError(f"frames: want strictly increasing integer indices (K,), got {wanted.dtype} {wanted.shape}; sort and deduplicate")
    return decoder(path, track, wanted.tolist(), **ways) if len(wanted) else iter(())


def pictures(path: Path, track: int, times_s: Sequence[float]) -> Iterator[np.ndarray]:
    """Yield, for each time, the first picture (H, W, 3) uint8 RGB that decodes from there on, found by seeking.

    Interlaced pictures stay interlaced. A time yields nothing if seeking or decoding fails.
    """
    for time_s in times_s:
        with open_media(path) as container:
            video = VideoPass(container, path, track=track)
            try:
                container.seek(round(time_s / video.stream.time_base), stream=video.stream)
                _, _, frame = next(iter(video))
                yield resample(orient(rgb(frame, path, VideoReformatter(), tone_map=True), video.matrix), video.shown)
            except (MediaError, av.FFmpegError, StopIteration, OverflowError):
                continue


def _pyav(path: Path, track: int | None, wanted: list[int] | None, *, deinterlace: bool, tone_map: bool, threads: int) -> Frames:
    remaining = iter(wanted or ())
    target = next(remaining, None)
    memory.keep()
    reformatter = VideoReformatter()  # a frame's own would be set up again for each frame
    track = chosen(path) if track is None else track
    with open_media(path) as container:
        video = VideoPass(container, path, track=track, threads=threads)
        for index, time_s, frame in deinterlaced(iter(video), path) if deinterlace else video:
            if wanted is not None and index != target:
                continue
            try:
                image = rgb(frame, path, reformatter, tone_map=tone_map, threads=threads)
            except av.FFmpegError as error:
                raise unreadable(path, f"{words(error)} in the pixels of frame {index}") from None
            yield index, time_s, resample(orient(image, video.matrix), video.shown)
            target = next(remaining, None)
            if wanted is not None and target is None:
                return
        if target is not None:
            raise _beyond(path, target, video.count)


def rgb(frame: av.VideoFrame, path: Path, reformatter: VideoReformatter, *, tone_map: bool, threads: int = 1) -> np.ndarray:
    """Convert a frame as stored to an (H, W, 3) uint8 picture."""
    if not tone_map or frame.color_trc not in hdr.NAMES:
        return reformatter.reformat(frame, format="rgb24", threads=threads).to_ndarray()
    if frame.color_primaries not in hdr.PRIMARIES:
        got = f"primaries number {frame.color_primaries}"
        raise MediaError(f"{path}: want HDR of BT.2020, P3 or BT.709, got {got}; re-encode the video")
    signal = reformatter.reformat(frame, format="rgb48le", threads=threads).to_ndarray()
    return hdr.to_sdr(signal, frame.color_trc, frame.color_primaries)


def _decord(path: Path, track: int | None, wanted: list[int] | None, *, deinterlace: bool, tone_map: bool, threads: int) -> Frames:
    import decord

    times = packet_times(path, track)
    with open_media(path) as container:
        video = VideoPass(container, path, track=track)
        next(iter(video))
        check_decord(video, deinterlace=deinterlace, tone_map=tone_map)
        size = video.shown
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
            yield index, times[index], resample(reader.next().asnumpy(), size)
            at = index + 1
    except (decord.DECORDError, decord.DECORDLimitReachedError, StopIteration) as error:
        reason = str(error).partition("\n")[0].rpartition("] ")[2]  # between the time of day and the stack trace
        raise MediaError(f"{path}: decord: want a readable video, got {reason!r}; use the pyav backend") from None


def check_decord(video: VideoPass, *, deinterlace: bool, tone_map: bool) -> None:
    """Raise MediaError if the frames seen so far need something that decord does not do."""
    if deinterlace and video.interlaced:
        raise MediaError(f"{video.path}: decord: want whole pictures, got interlaced ones; use the pyav backend")
    if tone_map and video.high_range:
        raise MediaError(f"{video.path}: decord: want ordinary range, got HDR ({', '.join(video.high_range)}); use the pyav backend")
    form = video.stream.codec_context.format
    if any(part.bits > 8 for part in form.components):  # decord gives other colours at edges for yuv420p10
        raise MediaError(f"{video.path}: decord: want 8 bits a colour, got {form.name}; use the pyav backend")


def chosen(path: Path) -> int | None:
    """Return the video track that is chosen when none is named, without looking for faces; None if there is none."""
    found = video_track(path)
    return found and found.index


def packet_times(path: Path, track: int | None = None) -> list[float]:
    """Read the times of frames for decord. Its own are float32, start at 0 whatever the container says, and count hidden frames.

    decord takes the track that its own FFmpeg would play and cannot be asked for another. So MediaError is raised if the file has several.
    """
    with open_media(path) as container:
        if len(container.streams.video) > 1:
            raise MediaError(f"{path}: decord: want one video track, got {len(container.streams.video)}; use the pyav backend")
        stream = video_stream(container, path, track)
        kind = container.format.name
        if not kind.startswith(("mov,", "matroska")):  # elsewhere decord may begin at the wrong frame, silently (MPEG: at frame 12)
            raise MediaError(f"{path}: decord: want mp4, mov, mkv or webm, got {kind}; use the pyav backend")
        if not stream.codec_context.width:  # damaged or too large: decord has no limit of its own
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
