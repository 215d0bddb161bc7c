"""How many streams, videos and labels each task has in each partition, and what train and validation share."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from affpipe.importers.collection import FITS, Finding
from affpipe.importers.facts import LabelFacts
from affpipe.manifest import PARTITIONS
from affpipe.tasks import TASKS

ALL = "all"
HEAD = ("task", "partition", "videos", "streams", "label rows", "invalid")


@dataclass(frozen=True)
class Entry:
    """What counts of a stream. partitions: task -> partition, the task "" where it belongs to none. person: "" if not known."""

    id: str
    video: str
    partitions: Mapping[str, str]
    labels: Mapping[str, LabelFacts] = field(default_factory=dict)
    person: str = ""


@dataclass(frozen=True)
class Count:
    """Numbers of a task and partition ("all": of all its partitions). rows: label rows; invalid: those without a label."""

    task: str
    partition: str
    videos: int
    streams: int
    rows: int
    invalid: int

    def cells(self) -> tuple[str, ...]:
        """A row of a table with the head HEAD."""
        share = f"{self.invalid} ({self.invalid / self.rows:.1%})" if self.rows else "-"
        return self.task or "-", self.partition, str(self.videos), str(self.streams), str(self.rows), share


def count(entries: Sequence[Entry]) -> list[Count]:
    """Numbers by task and partition, those without a stream left out. A stream without a video counts as a stream alone."""
    out = []
    for task in (*TASKS, ""):
        own = [entry for entry in entries if task in entry.partitions]
        said = [p for p in PARTITIONS if any(entry.partitions[task] == p for entry in own)]
        for partition in [*said, ALL] if len(said) > 1 else said:
            part = [entry for entry in own if partition in (entry.partitions[task], ALL)]
            labels = [entry.labels[task] for entry in part if task in entry.labels]
            videos = {entry.video for entry in part if entry.video}
            out.append(Count(task, partition, len(videos), len(part), sum(f.rows for f in labels), sum(f.invalid for f in labels)))
    return out


def overlaps(entries: Iterable[Entry]) -> list[Finding]:
    """Videos and persons that one task has in train and in validation."""
    groups: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        for task, partition in entry.partitions.items():
            if partition in FITS:
                groups[task, "video", entry.video].append(entry)
                groups[task, "person", entry.person].append(entry)
    out = []
    for (task, what, name), shared in groups.items():
        said = {p: sorted(entry.id for entry in shared if entry.partitions[task] == p) for p in FITS}
        if name and all(said.values()):
            ids = "; ".join(f"{partition}: {', '.join(ids)}" for partition, ids in said.items())
            text = f"{task}: want a {what} in train or in validation, got it in both ({ids}); move one"
            out.append(Finding("overlap", name, text, tuple(sorted(entry.id for entry in shared))))
    return out
