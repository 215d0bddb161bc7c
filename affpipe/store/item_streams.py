"""Streams of one item: those that its stage reads, checked when they are opened, and the one that it writes."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import InputError, MediaError, StoreError
from affpipe.core.item import Item
from affpipe.core.stage import Context
from affpipe.store import streams
from affpipe.store.streams import Stream
from affpipe.store.written import Form, Written
from affpipe.system import disk, files
from affpipe.system.threads import StoppedError


@dataclass(frozen=True)
class Place:
    """Place of an item's stream: its file, and the key and identity that the file must have."""

    path: Path
    key: str
    identity: str


class ItemStreams:
    """Streams of an item, opened by the name of their stage.

    Args:
        place: maps the name of a stage to the place of its stream of this item. Raises for a stage that may not be opened.
    """

    def __init__(self, item: Item, place: Callable[[str], Place]):
        self.item, self._place = item, place
        self._random: set[str] = set()

    def has(self, read: str) -> bool:
        """Return whether stage `read` has a stream of this item."""
        return self._place(read).path.exists()

    def open(self, read: str) -> Stream:
        """Open the stream of stage `read` and check its key and this item's identity."""
        place = self._place(read)
        stream = Stream(place.path, key=place.key, identity=place.identity)
        self._random |= set(stream.attributes["random"])
        return stream

    def sound(self) -> streams.Sound:
        """Open the video's audio track. Sample 0 is at the first frame."""
        place = self._place("audio")
        streams.check(place.path, key=place.key, identity=place.identity)
        return streams.Sound(place.path)

    def axis(self) -> FrameAxis:
        """Read the video's frame axis."""
        with self.open("frames") as frames:
            try:
                return FrameAxis(frames.start_s, frames.fps)
            except InputError as error:
                raise StoreError(f"{frames.path}: want the times of a video, got {error}; {streams.REPAIR}", damaged=frames.path) from None

    def video_track(self) -> int | None:
        """Return the index of the file's track that the frame axis belongs to; None if it is not recorded."""
        with self.open("frames") as frames:
            return frames.attributes["extra"].get("video", {}).get("track", {}).get("index")

    @property
    def random(self) -> tuple[str, ...]:
        """Checkpoints with random weights behind the streams opened so far."""
        return tuple(sorted(self._random))


class Job(ItemStreams):
    """One item of a stage: opens the streams that the stage declares and writes the stage's own.

    Args:
        context: context of the stage.
        own: place of the stream to write.
        facts: what the header says of the stage: `stage`, `spec`, `revision`, `inputs`.
        unchanged: tells whether the item's files are still those that the run was planned with.
        form: form of the rows to write.
        frames: place of the frame axis, if every frame has a row.
        stop: event that ends the job. Once it is set, the next append raises StoppedError and the unfinished stream is dropped.
    """

    def __init__(
        self,
        context: Context,
        item: Item,
        place: Callable[[str], Place],
        own: Place,
        facts: Mapping[str, Any],
        unchanged: Callable[[], bool],
        form: Form,
        frames: Place | None,
        stop: threading.Event | None = None,
    ):
        super().__init__(item, place)
        self.context, self.name, self.stop = context, context.name, stop or threading.Event()
        self.path = own.path
        self._own, self._facts, self._unchanged = own, facts, unchanged
        self._form, self._frames = form, frames
        self._state: files.State | None = None

    @property
    def video(self) -> Path:
        """Path of the media file. From the first use on, the file must not change until the stream is written."""
        self._state = self._state or files.state(self.item.row.video)
        return self.item.row.video

    def header(self, fps: Fraction, *, random: tuple[str, ...] = (), columns: tuple[str, ...] = (), **extra: Any) -> streams.Header:
        """Make the header of the stream that this job writes. It also names the random weights behind the streams opened so far."""
        return streams.Header(
            **self._facts,
            key=self._own.key,
            id=self.item.id,
            identity=self.item.identity,
            fps=fps,
            random=tuple(sorted(self._random | set(random))),
            columns=columns,
            extra=extra,
        )

    @contextmanager
    def atomic(self) -> Iterator[Path]:
        """Give a temporary path for the stream; rename it at the end. Raises MediaError if the item changed since the run was planned."""
        with disk.atomic(self.path) as part:
            yield part
            self._check_unchanged()

    @contextmanager
    def writing(self, header: streams.Header) -> Iterator[streams.Writer]:
        """Write the stream in pieces. Raises MediaError as `atomic` does, PartError for rows that the stage does not declare."""
        written = Written(self.name, self.item.id, self.context.worker, self._form, header.columns)

        def check(rows: Mapping[str, Any]) -> None:
            if self.stop.is_set():
                raise StoppedError(f"{self.name}: {self.item.id}")
            written.check(rows)

        with streams.writing(self.path, header, before_rows=check) as out:
            yield out
            written.end(self._frame_count())
            self._check_unchanged()

    def write(self, header: streams.Header, **rows: Any) -> None:
        """Write the stream at once."""
        with self.writing(header) as out:
            out.append(**rows)

    def _frame_count(self) -> int | None:
        """Return the number of frames of the video, if each has a row and the frames stream exists; else None."""
        place = self._frames
        if place is None or not place.path.exists():
            return None
        with Stream(place.path, key=place.key, identity=place.identity) as frames:
            return len(frames)

    def _check_unchanged(self) -> None:
        """Raise MediaError if the file was replaced or changed while it was read: its values would be stored under the old file's name."""
        if not self._unchanged():
            raise MediaError(f"{self.item.row.video}: want the files that were there when the run was planned, got others; run again")
        if self._state not in (None, files.state(self.item.row.video)):  # the fingerprint does not cover the whole file
            raise MediaError(f"{self.item.row.video}: want a file that nobody writes to, got one that changed; run again once it is whole")


Worker = Callable[[Job], None]


def blank(rows: int, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Return zeros for `rows` rows of a shape, some of which may stay unobserved."""
    return np.zeros((rows, *shape), dtype)


def blocks(rows: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` rows that cover `rows`, so that memory does not grow with the video."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
