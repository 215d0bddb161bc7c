"""Lengths of the videos of a run: measured if the stage `frames` is done, else declared by their containers, else given by a person."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from affpipe.core.errors import InputError, StoreError
from affpipe.core.item import Item
from affpipe.plan.plan import Plan
from affpipe.store import streams
from affpipe.system import faults

if TYPE_CHECKING:  # it imports PyAV, which a run with measured frames does not need
    from affpipe.media.declared import Declared

USUAL_FPS = 30.0  # rate of a video of which only a duration is known
READERS = 8  # files opened at once: opening one waits for the disk, not for a core


@dataclass(frozen=True)
class Length:
    """Length of a video. source: measured (the stage `frames`), declared (by the container), or given (on the command line)."""

    frames: int
    seconds: float
    audio: bool
    source: str


@dataclass(frozen=True)
class Lengths:
    """Lengths of videos.

    Attributes:
        videos: video id -> its length. A video that does not open gets the mean length of the others.
        faults: one line for each video that does not open.
    """

    videos: dict[str, Length]
    faults: tuple[str, ...] = ()

    @property
    def hours(self) -> float:
        return sum(length.seconds for length in self.videos.values()) / 3600

    @property
    def sources(self) -> dict[str, int]:
        """Source -> number of videos."""
        found = [length.source for length in self.videos.values()]
        return {source: found.count(source) for source in dict.fromkeys(found)}


def of(plan: Plan, hours: float | None = None, *, opened: "Mapping[Path, Declared] | None" = None) -> Lengths:
    """Return the lengths of all videos of a plan.

    Args:
        hours: hours of all videos together; unmeasured ones are then not opened, and share what the others leave.
        opened: what already opened videos declare; no other is opened then.

    Raises InputError if nothing is known of any video.
    """
    items = plan.items("frames")
    found = {item.id: length for item in items if (length := _measured(plan, item))}
    rest = [item for item in items if item.id not in found]
    if hours is not None:
        each_s = max(0.0, hours * 3600 - sum(length.seconds for length in found.values())) / max(1, len(rest))
        return Lengths(found | {item.id: Length(round(each_s * USUAL_FPS), each_s, True, "given") for item in rest})
    said: list[str] = []
    known = _open(rest, said) if opened is None else opened
    for item in rest:
        if item.row.video in known:
            own = known[item.row.video]
            found[item.id] = Length(own.frames, own.duration_s, own.audio, "declared")
    if not found:
        raise InputError(f"estimate: want a video that opens, got none{f' ({said[0]})' if said else ''}; mend them, or say --hours")
    mean_s = sum(length.seconds for length in found.values()) / len(found)
    mean_frames = sum(length.frames for length in found.values()) // len(found)
    found |= {item.id: Length(mean_frames, mean_s, True, "taken for the mean") for item in rest if item.id not in found}
    return Lengths(found, tuple(said))


def _measured(plan: Plan, item: Item) -> Length | None:
    path = plan.stream("frames", item)
    if not path.exists():
        return None
    try:
        with streams.Stream(path, key=plan.key("frames"), identity=item.identity) as stream:
            audio = stream.attributes["extra"].get("video", {}).get("audio") is not None
            return Length(len(stream), float(stream.end_s[-1] - stream.start_s[0]), audio, "measured")
    except StoreError:  # the next run makes it again
        return None


def _open(items: list[Item], said: list[str]) -> "dict[Path, Declared]":
    """Return what videos declare; faults of the others are added to `said`."""
    from affpipe.media.declared import declared

    def one(item: Item) -> "Declared | None":
        try:
            return declared(item.row.video)
        except Exception as error:
            said.append(faults.said(str(item.row.video), error))
            return None

    with ThreadPoolExecutor(READERS) as pool:
        found = zip(items, pool.map(one, items), strict=True)
    return {item.row.video: own for item, own in found if own is not None}
