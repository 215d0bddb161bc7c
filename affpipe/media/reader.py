"""One sequential pass over the video stream of a file: the only place that opens containers and decides what a frame's time is.

`probe` and `decode` both iterate `VideoPass`, so the frames that are counted are the frames that are delivered.

What happens to damage:
- a file that does not open, holds no video stream, or yields no frame: MediaError;
- a packet that the decoder rejects: skipped and counted (`bad_packets`), decoding goes on;
- a frame that the decoder itself flags as damaged: delivered and counted (`corrupt_frames`);
- a read error of the container, or a change of the frame size, mid-way: MediaError that says after how many frames;
- a file that just ends too early (a broken download whose index stands in front): decoded as far as it goes; `probe` reports the
  seconds that are missing (`missing_s`).
"""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from affpipe.errors import MediaError
from affpipe.frames import LONGEST_S
from affpipe.media.opening import WHITELIST, local

# A pts that lies further back than this is a new clock (joined files), not jitter.
JUMP_S = 1.0
# Of a frame: twice 8K. A few bytes can declare a picture of gigabytes; FFmpeg's own limit is four times as high.
LARGEST_PIXELS = 1 << 26
LIMITS = {"max_pixels": str(LARGEST_PIXELS)}
LOGGING = threading.Lock()  # the level of FFmpeg's log is that of the whole process


def unreadable(path: Path, reason: str) -> MediaError:
    return MediaError(f"{path}: want a readable video, got {reason!r}; download or copy the file again")


def words(error: av.FFmpegError) -> str:
    """FFmpeg's reason in one line: its last log line says more ('moov atom not found') than its code ('Invalid data ...')."""
    said = error.log[2] if error.log else error.strerror
    if said.startswith("Format not on whitelist"):
        return "a form that is none of videos"
    return "undecodable data" if said.startswith("Error number ") else " ".join(said.split())  # a code of a decoder's own has no words


def _open(path: Path) -> InputContainer:
    return av.open(f"file:{local(path)}", metadata_errors="replace", options={**WHITELIST, **LIMITS})


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a media file; raises MediaError with FFmpeg's reason if that fails."""
    try:
        container = _open(path)
    except av.FFmpegError as error:
        raise unreadable(path, _reason(path, error)) from None
    with container:
        if container.format.name == "tty":  # FFmpeg plays any text as a terminal
            raise MediaError(f"{path}: want a video, got text; name the video itself")
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            raise MediaError(f"{path}: want a video, got a still picture; name a video, or take images of faces by the column `images`")
        yield container


def check_length(path: Path, length_s: float) -> None:
    """MediaError for a video longer than LONGEST_S."""
    if length_s > LONGEST_S:
        raise MediaError(f"{path}: want a video of at most {LONGEST_S / 3600:.0f} h, got {length_s / 3600:.0f} h; mend its timestamps")


def _reason(path: Path, error: av.FFmpegError) -> str:
    # Logging stays off while decoding (its callback takes the GIL on decoder threads), so the reason is asked for by a second try.
    with LOGGING:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            with av.logging.Capture():
                _open(path).close()
        except av.FFmpegError as again:
            return words(again)
        finally:
            av.logging.set_level(level)
    return words(error)


def video_stream(container: InputContainer, path: Path) -> av.VideoStream:
    """The video stream that FFmpeg would play; a cover picture of an audio file is none."""
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        raise MediaError(f"{path}: want a video, got a file without a video stream; take it out of the manifest or replace it")
    if stream.codec_context is None:
        raise unreadable(path, "a codec that FFmpeg does not know")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > LARGEST_PIXELS:
        raise MediaError(f"{path}: want frames of at most {LARGEST_PIXELS} pixels, got {width}x{height}; scale the video down")
    stream.codec_context.options = LIMITS  # for frames that are larger than the container says
    return stream


def packets(container: InputContainer, streams: list[av.stream.Stream]) -> Iterator[av.Packet]:
    """Packets of some streams in file order, then an empty one each to flush the decoder."""
    # PyAV (18.1) may run past its stream list when a stream appears late in an MPEG file: at the very end, when ours are flushed.
    with suppress(IndexError):
        yield from container.demux(streams)


def decoded(packet: av.Packet) -> list | str:
    """Frames of a packet, or the decoder's reason to reject it (it says many things of damaged data, "Operation not permitted" too)."""
    try:
        return packet.decode()
    except MemoryError:
        raise
    except av.FFmpegError as error:
        return words(error)


def display_matrix(frame: av.VideoFrame, path: Path) -> tuple[int, int, int, int]:
    """Signs (a, b, c, d) of the display matrix: x' = a x + c y, y' = b x + d y, image coordinates; the identity if there is none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    signs = tuple(round(x / (abs(a) + abs(b) or 1)) for x in (a, b, c, d))
    if [abs(x) for x in signs] not in ([1, 0, 0, 1], [0, 1, 1, 0]) or min(abs(a), abs(b)) > 0.01 * max(abs(a), abs(b)):
        raise MediaError(f"{path}: want a rotation by a right angle, got the display matrix {(a, b, c, d)}; re-encode the video")
    return signs


class VideoPass:
    """Decode the video stream of an open container once; iterate only once.

    Attributes, final when the iteration has ended:
        count: frames so far.
        repaired_times: frames whose pts was missing or not later than the one before.
        bad_packets, corrupt_frames: see the module's docstring.
        seen_end_s: latest end of any audio or video packet, for comparison with the declared duration.
        size, matrix: (width, height) as stored and display matrix, of the first frame; they hold for the whole video.
    """

    def __init__(self, container: InputContainer, path: Path, *, threads: int = 1):
        self.container, self.path = container, path
        self.stream = video_stream(container, path)
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = threads
        self.count = self.repaired_times = self.bad_packets = self.corrupt_frames = 0
        self.seen_end_s = 0.0
        self._own_s = self._time_s = float("-inf")  # last pts in seconds, last time given out
        self.size: tuple[int, int] | None = None
        self.matrix = (1, 0, 0, 1)

    def __iter__(self) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """Yield (index, time_s, frame) in presentation order."""
        try:
            for packet in packets(self.container, [*self.container.streams.video, *self.container.streams.audio]):
                if packet.pts is not None:
                    self.seen_end_s = max(self.seen_end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is not self.stream:
                    continue
                found = decoded(packet)
                if isinstance(found, str):
                    self.bad_packets += 1
                    continue
                for frame in found:
                    self._look(frame)
                    yield self.count, self._time(frame), frame
                    self.count += 1
        except av.FFmpegError as error:
            raise unreadable(self.path, f"{words(error)} after {self.count} frames") from None
        if self.count == 0:
            raise unreadable(self.path, f"no decodable frame of at most {LARGEST_PIXELS} pixels")

    def _look(self, frame: av.VideoFrame) -> None:
        self.corrupt_frames += frame.is_corrupt
        size = (frame.width, frame.height)
        if self.size is None:
            self.size, self.matrix = size, display_matrix(frame, self.path)
        elif self.size != size:
            was, now = ("x".join(map(str, s)) for s in (self.size, size))
            raise MediaError(f"{self.path}: want frames of one size, got {was} then {now} at frame {self.count}; re-encode the video")

    def _time(self, frame: av.VideoFrame) -> float:
        """Time of a frame: pts * time_base where that advances, else one nominal frame after the time before.

        Half a frame if the pts itself advances yet trails what was given out: so one doubled pts does not delay all frames after it.
        """
        own = None if frame.pts is None else float(frame.pts * frame.time_base)
        if own is not None and own > self._time_s:
            self._time_s = self._own_s = own
            return own
        self.repaired_times += 1
        if self._time_s == float("-inf"):  # the very first frame
            self._time_s = float((self.stream.start_time or 0) * self.stream.time_base)
            return self._time_s
        step = float(1 / self._rate())
        if own is not None and self._own_s < own > self._time_s - JUMP_S:
            step /= 2
        self._own_s = self._own_s if own is None else own
        self._time_s += step
        return self._time_s

    def _rate(self) -> Fraction:
        rate = self.stream.average_rate or self.stream.guessed_rate
        if not rate:
            raise MediaError(f"{self.path}: want timestamps or a frame rate, got neither at frame {self.count}; remux the video")
        return rate
