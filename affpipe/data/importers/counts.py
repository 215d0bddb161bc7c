"""Counts of the streams, videos and labels of each task in each partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from affpipe.core.tasks.table import TASKS
from affpipe.data.importers.facts import LabelFacts
from affpipe.data.manifest import PARTITIONS
from affpipe.data.overlaps import Member

ALL = "all"
HEAD = ("task", "partition", "videos", "streams", "label rows", "invalid")


@dataclass(frozen=True)
class Entry(Member):
    """A stream and its annotations.

    Attributes:
        partitions: the task is "" if it belongs to none.
        labels: task -> facts of its annotation.
    """

    labels: Mapping[str, LabelFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class Count:
    """Numbers of a task and partition ("all": all its partitions).

    Attributes:
        rows: label rows. invalid: those without a label.
    """

    task: str
    partition: str
    videos: int
    streams: int
    rows: int
    invalid: int

    def cells(self) -> tuple[str, ...]:
        """Return a row of a table with the head HEAD."""
        share = f"{self.invalid} ({self.invalid / self.rows:.1%})" if self.rows else "-"
        return self.task or "-", self.partition, str(self.videos), str(self.streams), str(self.rows), share


def count(entries: Sequence[Entry]) -> list[Count]:
    """Count by task and partition, without those that have no stream. A stream without a video counts as a stream alone."""
    out = []
    for task in dict.fromkeys((*TASKS, *sorted(task for entry in entries for task in entry.partitions if task), "")):
        own = [entry for entry in entries if task in entry.partitions]
        said = [p for p in PARTITIONS if any(entry.partitions[task] == p for entry in own)]
        for partition in [*said, ALL] if len(said) > 1 else said:
            part = [entry for entry in own if partition in (entry.partitions[task], ALL)]
            labels = [entry.labels[task] for entry in part if task in entry.labels]
            videos = {entry.video for entry in part if entry.video}
            out.append(Count(task, partition, len(videos), len(part), sum(f.rows for f in labels), sum(f.invalid for f in labels)))
    return out
