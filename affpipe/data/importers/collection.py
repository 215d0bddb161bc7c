"""Results of an importer: streams, the video and face of each, and findings for a person to look at."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from affpipe.data.overlaps import FITS

KINDS = (  # of findings, in the order in which they are reported
    "missing video",
    "unusable video",
    "label fault",
    "left out",
    "two partitions",
    "two annotations",
    "no annotation",
    "whose face",
    "overlap",
    "rows and frames",
    "count",
    "same content",
    "same name",
    "similar name",
    "same annotation",
    "images",
    "mostly invalid",
    "damaged video",
    "tracks and sound",
    "tasks differ",
    "split",
    "unused video",
    "not read",
)
SIDES = {"_left": "left", "_right": "right"}
OTHER = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Finding:
    """Something to look at.

    Attributes:
        kind: one of KINDS. where: stream or path that it is about.
        streams: streams whose rows of the audit repeat it.
    """

    kind: str
    where: str
    text: str
    streams: tuple[str, ...] = ()


@dataclass
class Stream:
    """A stream as it was found. Paths are relative to the collection's folder, and empty if there is none.

    Attributes:
        partitions: task -> partition, for the tasks that the stream belongs to.
        labels: task -> annotation file.
        asked: task -> number of rows that the organisers' template has of it.
        otherwise: partition of a stream that belongs to no task.
    """

    id: str
    partitions: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    video: str = ""
    subject: str = "largest"
    images: str = ""
    otherwise: str = "predict"


@dataclass
class Collection:
    """All that an importer found below `root`, streams by id.

    Attributes:
        videos: all videos, used or not.
        official: (task, partition or "all") -> number of videos that the set is said to have.
    """

    root: Path
    tasks: tuple[str, ...]
    streams: list[Stream]
    videos: list[str]
    findings: list[Finding]
    official: Mapping[tuple[str, str], int] | None = None


def split_side(name: str) -> tuple[str, str]:
    """Split a name into its part without `_left` or `_right`, and the side ("" if none)."""
    for suffix, side in SIDES.items():
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix), side
    return name, ""


def whose(names: Iterable[str], videos: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return name of a stream -> path of its video, and whose face of it; names without a video are not in it.

    A video of exactly that name comes first: `a_left.mp4` is the video of `a_left`. Else `a_left` is the left face of `a`. A stream with
    its video's own name is the largest face; if the video has a stream of one side only, it is the face of the other side.

    Args:
        names: streams, and all other names that show faces. videos: file name without suffix -> path.
    """
    found = {name: (name, "") for name in names if name in videos}
    for name in names:
        base, side = split_side(name)
        if name not in found and side and base in videos:
            found[name] = (base, side)
    sides: dict[str, set[str]] = defaultdict(set)
    for video, side in found.values():
        sides[video] |= {side} - {""}
    own = {video: OTHER[min(said)] if len(said) == 1 else "largest" for video, said in sides.items()}
    return {name: (videos[video], side or own[video]) for name, (video, side) in found.items()}


def place(streams: Mapping[str, Stream], videos: Mapping[str, str], others: Iterable[str] = ()) -> list[Finding]:
    """Give each stream its video and subject by `whose`; return findings on those whose face is in doubt.

    Args:
        others: names that show a second face without being streams.
    """
    out, found = [], whose({*streams, *others}, videos)
    faces = set(found.values())
    for stream in streams.values():
        if stream.id not in found:
            continue
        stream.video, stream.subject = found[stream.id]
        if stream.subject == "largest" and {(stream.video, "left"), (stream.video, "right")} <= faces:
            text = f"{stream.video} has streams of its left and right face too, and whose this one is cannot be told: taken as largest"
            out.append(Finding("whose face", stream.id, text, (stream.id,)))
    return out


def partition_columns(stream: Stream, tasks: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the cell `partition`, and the cells `<task>_partition` of the tasks whose own differs.

    `partition` is that of the first task in order for which the stream is in train or validation, else that of the first it belongs to. A
    task that the stream does not belong to gets the same partition, except test: `predict` then keeps the stream out of that task's test
    set. So for each task `Row.labelled` in train and in validation, and the rows whose `Row.partition_of` is test, are the task's own sets.
    """
    own = [stream.partitions[task] for task in tasks if task in stream.partitions]
    if not own:
        return stream.otherwise, {}
    shared = next((partition for partition in own if partition in FITS), own[0])
    absent = "predict" if shared == "test" else shared
    return shared, {task: p for task in tasks if (p := stream.partitions.get(task, absent)) != shared}
