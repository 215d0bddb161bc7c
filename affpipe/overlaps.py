"""Videos and persons that one task has both in train and in validation: it would be scored on what it was fitted on.

Who a video is, its content says: two names of one file are one video.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FITS = ("train", "validation")
OFFICIAL = "official"  # what the column `overlap` of a manifest says where the lists of a data set have it so


@dataclass(frozen=True)
class Member:
    """A stream. video: its file; content: who that is; partitions: task -> partition; person: "" if not known; official: see OFFICIAL."""

    id: str
    video: str
    content: str
    partitions: Mapping[str, str]
    person: str = ""
    official: bool = False


@dataclass(frozen=True)
class Overlap:
    """A video or a person (`what`) in both partitions of a task, by its streams in each. where: name of the person, or first file."""

    task: str
    what: str
    where: str
    streams: Mapping[str, tuple[Member, ...]]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sorted(member.id for members in self.streams.values() for member in members))

    @property
    def official(self) -> bool:
        """Whether the lists of a data set have it so: the manifest says it of every stream."""
        return all(member.official for members in self.streams.values() for member in members)

    @property
    def text(self) -> str:
        files = {Path(member.video).name for members in self.streams.values() for member in members}
        several = self.what == "video" and len(files) > 1
        names = {p: ", ".join(m.id + (f" ({Path(m.video).name})" if several else "") for m in own) for p, own in self.streams.items()}
        said = "; ".join(f"{partition}: {text}" for partition, text in names.items())
        rest = "as official lists have it" if self.official else "move one"
        return f"{self.task}: want a {self.what} in train or in validation, got it in both ({said}); {rest}"


def of(members: Iterable[Member]) -> list[Overlap]:
    """All overlaps, in the order of the streams that they are first met in."""
    groups: dict[tuple[str, str, str], list[Member]] = defaultdict(list)
    for member in members:
        for task, partition in member.partitions.items():
            if partition in FITS:
                groups[task, "video", member.content].append(member)
                groups[task, "person", member.person].append(member)
    out = []
    for (task, what, name), shared in groups.items():
        own = {p: tuple(sorted((m for m in shared if m.partitions[task] == p), key=lambda m: m.id)) for p in FITS}
        if name and all(own.values()):
            out.append(Overlap(task, what, name if what == "person" else min(member.video for member in shared), own))
    return out
