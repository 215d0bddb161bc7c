"""Videos and persons that one task has in several of train, validation and test: it would be scored on what it was fitted on or chosen by.

Who a video is, its content says: two names of one file are one video.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FITS = ("train", "validation")
APART = (*FITS, "test")
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
    """A video or a person (`what`) in several partitions of a task, by its streams in each. where: name of the person, or first file."""

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
    def fitted_on(self) -> bool:
        """Whether it is in train and in validation, beside what it may be in test."""
        return all(partition in self.streams for partition in FITS)

    @property
    def refused(self) -> bool:
        """Whether no run takes it. Who a person is, files do not say; and what is tested is not scored here."""
        return self.what == "video" and self.fitted_on and not self.official

    @property
    def text(self) -> str:
        files = {Path(member.video).name for members in self.streams.values() for member in members}
        several = self.what == "video" and len(files) > 1
        names = {p: ", ".join(m.id + (f" ({Path(m.video).name})" if several else "") for m in own) for p, own in self.streams.items()}
        said = "; ".join(f"{partition}: {text}" for partition, text in names.items())
        rest = "as official lists have it" if self.official else "move one"
        got = "both" if len(self.streams) == 2 else "all"
        return f"{self.task}: want a {self.what} in {' or in '.join(self.streams)}, got it in {got} ({said}); {rest}"


def of(members: Iterable[Member]) -> list[Overlap]:
    """All overlaps, in the order of the streams that they are first met in."""
    groups: dict[tuple[str, str, str], list[Member]] = defaultdict(list)
    for member in members:
        for task, partition in member.partitions.items():
            if partition in APART:
                groups[task, "video", member.content].append(member)
                groups[task, "person", member.person].append(member)
    out = []
    for (task, what, name), shared in groups.items():
        own = {p: members for p in APART if (members := tuple(m for m in shared if m.partitions[task] == p))}
        if name and len(own) > 1:
            out.append(Overlap(task, what, name if what == "person" else min(member.video for member in shared), own))
    return out
