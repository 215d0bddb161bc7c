"""One sequential pass over the video stream of a file. Only this module opens containers; `clock` decides the times of frames.

`probe` and `decode` both iterate `VideoPass`, so the frames that are counted are the frames that are delivered.

Damage is handled as follows:
- A file that does not open, has no video stream, or yields no frame: MediaError.
- A packet that the decoder rejects: skipped and counted (`bad_packets`); decoding goes on.
- A frame that the decoder itself flags as damaged: delivered and counted (`corrupt_frames`).
- A read error of the container, or a change of frame size, pixel shape or orientation mid-way: MediaError that says where.
- Encrypted data, wherever they begin: MediaError, since some decoders make pictures of them.
- A file that ends too early (a broken download whose index stands in front): decoded as far as it goes; `probe` reports the missing seconds
  (`missing_s`).
"""

import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from affpipe.core.axis import LONGEST_S
from affpipe.core.errors import MediaError
from affpipe.media.clock import Stamps
from affpipe.media.opening import WHITELIST, local
from affpipe.media.picture import hdr
from affpipe.media.picture.shown import believed, shown_size

# Most pixels of a frame: twice 8K. A few bytes can declare a picture of gigabytes; FFmpeg's own limit is four times as high.
LARGEST_PIXELS = 1 << 26
LIMITS = {"max_pixels": str(LARGEST_PIXELS)}
# `colorspace` values of H.273 that FFmpeg cannot convert to RGB. Some converters silently treat them as BT.601.
NO_RGB = {8: "YCgCo", 10: "BT.2020 of constant luminance", 11: "SMPTE 2085", 12: "derived ones", 13: "derived ones", 14: "ICtCp"}
# Sample entries of protected tracks in mp4 and mov that name no key (FairPlay). Elsewhere packets or metadata show protection.
LOCKED_TAGS = ("drmi", "drms", "encv", "enca")
LOGGING = threading.Lock()  # the level of FFmpeg's log belongs to the whole process


def unreadable(path: Path, reason: str) -> MediaError:
    return MediaError(f"{path}: want a readable video, got {reason!r}; download or copy the file again")


def words(error: av.FFmpegError) -> str:
    """Return FFmpeg's reason in one line. Its last log line says more ('moov atom not found') than its code ('Invalid data ...')."""
    said = error.log[2] if error.log else error.strerror
    if said.startswith("Format not on whitelist"):
        return "a form that is none of videos"
    return "undecodable data" if said.startswith("Error number ") else " ".join(said.split())  # a decoder's own code has no text


def _open(path: Path) -> InputContainer:
    return av.open(f"file:{local(path)}", metadata_errors="replace", options={**WHITELIST, **LIMITS})


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a media file. Raises MediaError with FFmpeg's reason if that fails."""
    try:
        container = _open(path)
    except av.FFmpegError as error:
        raise unreadable(path, _reason(path, error)) from None
    with container:
        if container.format.name == "tty":  # FFmpeg plays any text as a terminal
            raise MediaError(f"{path}: want a video, got text; name the video itself")
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            if container.format.name == "webp_pipe" and _moves(path):
                raise MediaError(f"{path}: want a video, got an animated WebP, which FFmpeg does not play; convert it to mp4, GIF or APNG")
            raise still(path)
        yield container


def still(path: Path) -> MediaError:
    return MediaError(f"{path}: want a video, got a still picture; name a video, or take images of faces by the column `images`")


def _moves(path: Path) -> bool:
    """Return whether a WebP file declares an animation: bit 1 of the flags of its extended header."""
    with path.open("rb") as file:
        head = file.read(21)
    return head[12:16] == b"VP8X" and len(head) == 21 and bool(head[20] & 2)


def check_length(path: Path, length_s: float) -> None:
    """Raise MediaError for a video longer than LONGEST_S."""
    if length_s > LONGEST_S:
        raise MediaError(f"{path}: want a video of at most {LONGEST_S / 3600:.0f} h, got {length_s / 3600:.0f} h; mend its timestamps")


def _reason(path: Path, error: av.FFmpegError) -> str:
    # Logging stays off while decoding (its callback takes the GIL on decoder threads), so a second try finds out the reason.
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


def locked(path: Path) -> MediaError:
    return MediaError(f"{path}: want a video that may be read, got an encrypted one (DRM); get it without copy protection")


def encrypted(of: av.Packet | av.stream.Stream) -> bool:
    """Return whether a packet, or a whole stream, is encrypted."""
    if isinstance(of, av.Packet):
        return of.has_sidedata("encryption_info")
    try:
        tag = of.codec_context.codec_tag if of.codec_context else ""
    except UnicodeDecodeError:  # PyAV accepts ASCII only
        tag = ""
    return "enc_key_id" in of.metadata or tag.lower() in LOCKED_TAGS


def video_stream(container: InputContainer, path: Path, track: int | None = None) -> av.VideoStream:
    """Return the video stream of a number, see `tracks`; None gives the one that FFmpeg would play.

    The cover picture of an audio file does not count as a video stream.
    """
    stream = container.streams.best("video") if track is None else container.streams.video[track]
    if stream is None or (track is None and stream.disposition & Disposition.attached_pic):
        raise MediaError(f"{path}: want a video, got a file without a video stream; take it out of the manifest or replace it")
    if encrypted(stream) or "ASF_Protection_Type" in container.metadata:
        raise locked(path)
    if stream.codec_context is None:
        raise unreadable(path, "a codec that FFmpeg does not know")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > LARGEST_PIXELS:
        raise MediaError(f"{path}: want frames of at most {LARGEST_PIXELS} pixels, got {width}x{height}; scale the video down")
    stream.codec_context.options = LIMITS  # for frames that are larger than the container says
    return stream


def packets(container: InputContainer, streams: list[av.stream.Stream]) -> Iterator[av.Packet]:
    """Yield the packets of some streams in file order, then an empty one for each stream, to flush its decoder."""
    # PyAV (18.1) may read past its stream list, at the very end of the flush, when a stream appears late in an MPEG file.
    with suppress(IndexError):
        yield from container.demux(streams)


def decoded(packet: av.Packet) -> list | str:
    """Decode a packet: return its frames, or the decoder's reason to reject it.

    Decoders give many reasons for damaged data, "Operation not permitted" among them.
    """
    try:
        return packet.decode()
    except MemoryError:
        raise
    except av.FFmpegError as error:
        return words(error)


def display_matrix(frame: av.VideoFrame, path: Path) -> tuple[int, int, int, int] | None:
    """Return the signs (a, b, c, d) of the display matrix, None if there is none.

    x' = a x + c y and y' = b x + d y in image coordinates.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    signs = tuple(round(x / (abs(a) + abs(b) or 1)) for x in (a, b, c, d))
    if [abs(x) for x in signs] not in ([1, 0, 0, 1], [0, 1, 1, 0]) or min(abs(a), abs(b)) > 0.01 * max(abs(a), abs(b)):
        raise MediaError(f"{path}: want a rotation by a right angle, got the display matrix {(a, b, c, d)}; re-encode the video")
    return signs


def _end_s(packet: av.Packet) -> float:
    """Return the time at which a packet ends, 0 without a time. AVI knows only the order of decoding."""
    stamp = packet.dts if packet.pts is None else packet.pts
    return 0.0 if stamp is None else float((stamp + (packet.duration or 0)) * packet.time_base)


class VideoPass:
    """One pass that decodes the video stream of an open container; iterate only once.

    Attributes (final when the iteration has ended):
        count: number of frames so far.
        stamps: stamps of the frames.
        bad_packets, corrupt_frames: see the module's docstring.
        interlaced: number of frames marked as interlaced.
        high_range: number of frames of high dynamic range (PQ, HLG), by name.
        seen_end_s, own_end_s: latest end of any audio or video packet, and of any packet of this track, to compare with the declared end.
        size, ratio, matrix: of the first frame: (width, height) as stored, aspect ratio of the pixels as the file says (None: not given),
            display matrix. They hold for the whole video.
    """

    def __init__(self, container: InputContainer, path: Path, *, track: int | None = None, threads: int = 1):
        self.container, self.path = container, path
        self.stream = video_stream(container, path, track)
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = threads
        self.count = self.bad_packets = self.corrupt_frames = self.interlaced = 0
        self.high_range: Counter[str] = Counter()
        self.seen_end_s = self.own_end_s = 0.0
        self.stamps = Stamps(self.stream.time_base)
        self.size: tuple[int, int] | None = None
        self._own_matrix: tuple[int, int, int, int] | None = None
        # The container's pixel shape takes precedence over the codec's, which may change with each frame.
        self.ratio, self._own_ratio = self.stream.sample_aspect_ratio, self.stream.codec_context.sample_aspect_ratio
        self._fixed_ratio = self.ratio != self._own_ratio
        self._numbers: dict[int, int] | None = {} if container.format.name == "avi" else None  # guessed pts -> number of a packet

    @property
    def matrix(self) -> tuple[int, int, int, int]:
        return self._own_matrix or (1, 0, 0, 1)

    @property
    def shown(self) -> tuple[int, int]:
        """(width, height) of the pictures as a player shows them."""
        return shown_size(self.size, believed(self.ratio), self.matrix)

    def treated(self, *, deinterlace: bool = True, tone_map: bool = True) -> tuple[str, ...]:
        """List what is done to the pictures seen so far besides turning them, and what could be done and is not."""
        (stored, high), (wide, tall) = self.size, self.shown
        columns, rows = (wide, tall) if self.matrix[0] else (tall, wide)
        out = [f"pixels {self.ratio} as wide as high: {stored}x{high} resampled to {columns}x{rows}"] if columns != stored else []
        out += [f"HDR ({name}) {'mapped to ordinary range' if tone_map else 'left as it is'}" for name in self.high_range]
        if self.interlaced:
            out.append(f"interlaced pictures {'made whole' if deinterlace else 'left as they are'}")
        return tuple(out)

    def __iter__(self) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """Yield (index, time_s, frame) in presentation order. The time is the file's, NaN if it has none."""
        try:
            for packet in packets(self.container, [*self.container.streams.video, *self.container.streams.audio]):
                end_s = _end_s(packet)
                self.seen_end_s = max(self.seen_end_s, end_s)
                if packet.stream is not self.stream:
                    continue
                self.own_end_s = max(self.own_end_s, end_s)
                if encrypted(packet):
                    raise locked(self.path)
                if self._numbers is not None and packet.size:
                    self._numbers[packet.pts] = packet.dts
                found = decoded(packet)
                if isinstance(found, str):
                    self.bad_packets += 1
                    continue
                for frame in found:
                    self._look(frame)
                    own = frame.pts
                    yield self.count, float("nan") if own is None else float(own * self.stamps.tick), frame
                    self.count += 1
        except av.FFmpegError as error:
            raise unreadable(self.path, f"{words(error)} after {self.count} frames") from None
        if self.count == 0:
            raise unreadable(self.path, f"no decodable frame of at most {LARGEST_PIXELS} pixels")

    def _look(self, frame: av.VideoFrame) -> None:
        """Record the properties of a frame."""
        self.corrupt_frames += frame.is_corrupt
        self.interlaced += frame.interlaced_frame
        self.stamps.pts.append(frame.pts)
        self.stamps.dts.append(frame.dts)
        if self._numbers is not None:
            self.stamps.numbers.append(self._numbers.pop(frame.pts, None))
        if frame.color_trc in hdr.NAMES:
            self.high_range[hdr.NAMES[frame.color_trc]] += 1
        if known := NO_RGB.get(frame.colorspace):
            raise MediaError(f"{self.path}: want colours of BT.601, 709 or 2020, got {known}; re-encode the video")
        size, ratio, matrix = (frame.width, frame.height), self.stream.codec_context.sample_aspect_ratio, display_matrix(frame, self.path)
        if self.size is None:
            self.size, self._own_matrix = size, matrix
            if not self._fixed_ratio:
                self.ratio = self._own_ratio = ratio
            self._check_shown()
        elif self.size != size:
            was, now = ("x".join(map(str, s)) for s in (self.size, size))
            raise MediaError(f"{self.path}: want frames of one size, got {was} then {now} at frame {self.count}; re-encode the video")
        elif not self._fixed_ratio and ratio != self._own_ratio:
            was, now = self._own_ratio or "none", ratio or "none"
            raise MediaError(f"{self.path}: want pixels of one shape, got {was} then {now} near frame {self.count}; re-encode the video")
        elif matrix not in (None, self.matrix):  # H.264 gives it at key frames only
            raise MediaError(f"{self.path}: want pictures of one orientation, got another at frame {self.count}; re-encode the video")

    def _check_shown(self) -> None:
        width, height = self.shown
        if width * height > LARGEST_PIXELS:
            raise MediaError(f"{self.path}: want pictures of at most {LARGEST_PIXELS} pixels, got {width}x{height}; scale the video down")
