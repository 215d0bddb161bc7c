"""Overlaps: videos and persons that one task has in several of train, validation and test.

The task would be scored on what it was fitted on or chosen by. A video is known by its content: two names of one file are one video.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FITS = ("train", "validation")
APART = (*FITS, "test")
OFFICIAL = "official"  # word in the column `overlap` of a manifest for an overlap in the lists of a data set


@dataclass(frozen=True)
class Member:
    """A stream.

    Attributes:
        video: its file. content: fingerprint of the file.
        partitions: task -> partition. person: "" if unknown. official: see OFFICIAL.
    """

    id: str
    video: str
    content: str
    partitions: Mapping[str, str]
    person: str = ""
    official: bool = False


@dataclass(frozen=True)
class Overlap:
    """A video or a person (`what`) in several partitions of a task, with its streams in each; where: name of the person, or first file."""

    task: str
    what: str
    where: str
    streams: Mapping[str, tuple[Member, ...]]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sorted(member.id for members in self.streams.values() for member in members))

    @property
    def official(self) -> bool:
        """True if the lists of a data set have this overlap: the manifest says so for every stream."""
        return all(member.official for members in self.streams.values() for member in members)

    @property
    def fitted_on(self) -> bool:
        """True if it is in train and in validation, whether in test or not."""
        return all(partition in self.streams for partition in FITS)

    @property
    def refused(self) -> bool:
        """True if no run accepts it. Files do not tell who a person is; and the test set is not scored here."""
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
    """Return all overlaps, in the order in which their streams first come."""
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
