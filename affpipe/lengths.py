"""How long the videos of a run are: measured where the stage `frames` is done, else as their containers say, else as a person says."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from affpipe import store
from affpipe.errors import InputError, MediaError, StoreError
from affpipe.plan import Item, Plan

USUAL_FPS = 30.0  # of a video of which nothing but a duration is known
READERS = 8  # files opened at once: opening one waits for the disk, not for a core


@dataclass(frozen=True)
class Length:
    """Of a video. source: measured (the stage `frames`), declared (by the container), or given (on the command line)."""

    frames: int
    seconds: float
    audio: bool
    source: str


@dataclass(frozen=True)
class Lengths:
    """Video id -> its length. faults: one line for each video that could not be opened, which is taken to be as long as the mean."""

    videos: dict[str, Length]
    faults: tuple[str, ...] = ()

    @property
    def hours(self) -> float:
        return sum(length.seconds for length in self.videos.values()) / 3600

    @property
    def sources(self) -> dict[str, int]:
        """Source -> videos."""
        found = [length.source for length in self.videos.values()]
        return {source: found.count(source) for source in dict.fromkeys(found)}


def of(plan: Plan, hours: float | None = None) -> Lengths:
    """Lengths of all videos of a plan.

    Args:
        hours: of all videos together; those that are not measured are then not opened, and share what the others leave.

    InputError where no video can be opened.
    """
    items = plan.items("frames")
    found = {item.id: length for item in items if (length := _measured(plan, item))}
    rest = [item for item in items if item.id not in found]
    if hours is not None:
        each_s = max(0.0, hours * 3600 - sum(length.seconds for length in found.values())) / max(1, len(rest))
        return Lengths(found | {item.id: Length(round(each_s * USUAL_FPS), each_s, True, "given") for item in rest})
    faults: list[str] = []
    for item, length in _declared(rest):
        if isinstance(length, Length):
            found[item.id] = length
        else:
            faults.append(str(length))
    if not found:
        raise InputError(f"estimate: want a video that opens, got none ({faults[0]}); mend them, or say --hours")
    mean_s = sum(length.seconds for length in found.values()) / len(found)
    mean_frames = sum(length.frames for length in found.values()) // len(found)
    found |= {item.id: Length(mean_frames, mean_s, True, "mean of the others") for item in rest if item.id not in found}
    return Lengths(found, tuple(faults))


def _measured(plan: Plan, item: Item) -> Length | None:
    path = plan.stream("frames", item)
    if not path.exists():
        return None
    try:
        with store.Stream(path, key=plan.key("frames"), identity=item.identity) as stream:
            audio = stream.attributes["extra"].get("video", {}).get("audio") is not None
            return Length(len(stream), float(stream.end_s[-1] - stream.start_s[0]), audio, "measured")
    except StoreError:  # the next run makes it anew
        return None


def _declared(items: list[Item]) -> Iterable[tuple[Item, Length | MediaError]]:
    if not items:
        return []
    from affpipe.media.declared import declared

    def one(item: Item) -> Length | MediaError:
        try:
            found = declared(item.row.video)
        except MediaError as error:
            return error
        return Length(found.frames, found.duration_s, found.audio, "declared")

    with ThreadPoolExecutor(READERS) as pool:
        return list(zip(items, pool.map(one, items), strict=True))
