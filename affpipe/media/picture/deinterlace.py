"""Deinterlacing by FFmpeg's bwdif: one whole picture for each stored frame, at its time.

An interlaced frame stores two pictures in alternate lines, half a frame apart. The earlier one stays. Its missing lines are made from the
lines around them and from the frames before and after. Frames that are not marked as interlaced pass unchanged.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import av
from av.filter import Graph

from affpipe.core.errors import MediaError
from affpipe.media.reader import unreadable, words

Numbered = tuple[int, float, av.VideoFrame]
LEAST = (3, 4)  # columns and lines that the filter needs


def deinterlaced(frames: Iterator[Numbered], path: Path) -> Iterator[Numbered]:
    """Yield the frames of a video with their numbers and times; frames marked as interlaced become whole pictures."""
    line: _Line | None = None
    for number, time_s, frame in frames:
        if line and line.form != _form(frame):  # the format changes mid-way: joined files
            yield from line.rest()
            line = None
        if line is None and frame.interlaced_frame and frame.width >= LEAST[0] and frame.height >= LEAST[1]:
            line = _Line(frame, path)
        if line is None:
            yield number, time_s, frame
        else:
            yield from line.put(number, time_s, frame)
    if line:
        yield from line.rest()


def _form(frame: av.VideoFrame) -> tuple:
    return frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range


class _Line:
    """Filter graph for frames of one format, with the frames that it still holds. It gives a frame once it has seen the next."""

    def __init__(self, frame: av.VideoFrame, path: Path):
        self.form, self.path = _form(frame), path
        self.waiting: deque[tuple[int, float]] = deque()
        self.graph = Graph()
        self.graph.threads = 1
        source = self.graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
        whole, sink = self.graph.add("bwdif", "mode=send_frame:deint=interlaced"), self.graph.add("buffersink")
        try:
            self.graph.link_nodes(source, whole, sink).configure()
        except av.FFmpegError as error:
            raise unreadable(path, f"{words(error)} in the de-interlacer") from None

    def put(self, number: int, time_s: float, frame: av.VideoFrame) -> Iterator[Numbered]:
        self.waiting.append((number, time_s))
        yield from self._pass(frame)

    def rest(self) -> Iterator[Numbered]:
        yield from self._pass(None)
        if self.waiting:
            lost = f"want {len(self.waiting)} more pictures of the de-interlacer, got none"
            raise MediaError(f"{self.path}: {lost}; set `frames: {{deinterlace: false}}`")

    def _pass(self, frame: av.VideoFrame | None) -> Iterator[Numbered]:
        try:
            self.graph.vpush(frame)
            while True:
                picture = self.graph.vpull()
                yield *self.waiting.popleft(), picture
        except (av.BlockingIOError, av.EOFError):
            pass
        except av.FFmpegError as error:
            raise unreadable(self.path, f"{words(error)} in the de-interlacer") from None
