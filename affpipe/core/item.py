"""Items of jobs: a video, a stream of one, or the labels of a stream."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One stream. `video_id` is the video's file name without suffix and names the outputs of media stages.

    Attributes:
        labels: task -> annotation file.
        partitions: task -> its partition, for the tasks whose partition differs from `partition`.
        person: the person, where known: folds keep a person's streams together. images: folder of cropped, aligned faces.
        video_track, audio_track: number of a track of the file, from 0, or "auto"; None if the settings decide.
        overlap: OFFICIAL if a data set's lists have its video in several of train, validation and test of one task.
    """

    stream_id: str
    video: Path
    subject: str
    partition: str
    labels: Mapping[str, Path] = field(default_factory=dict, hash=False)
    partitions: Mapping[str, str] = field(default_factory=dict, hash=False)
    person: str = ""
    images: Path | None = None
    overlap: str = ""
    video_track: int | str | None = None
    audio_track: int | str | None = None

    @property
    def video_id(self) -> str:
        return self.video.stem

    @property
    def fits(self) -> bool:
        """True if models may be fitted with this stream: it is in train or validation for at least one task."""
        return any(partition in ("train", "validation") for partition in (self.partition, *self.partitions.values()))

    def partition_of(self, task: str) -> str:
        """Return the stream's partition for a task: in Aff-Wild2 one video may train one task and validate another."""
        return self.partitions.get(task, self.partition)

    def labelled(self, tasks: Iterable[str], partition: str) -> tuple[str, ...]:
        """Return those of these tasks for which the stream has an annotation and is in the partition."""
        return tuple(task for task in tasks if task in self.labels and self.partition_of(task) == partition)


@dataclass(frozen=True)
class Item:
    """One item that a worker processes: a video, a stream of a video, or the labels of a stream.

    Attributes:
        id, identity: those of the video for a stage of level "video", else of the stream; for level "label" the identity includes its
            annotation files. A row's `video_track` is part of the identity, and `audio_track` too for stages that depend on sound.
        row: its (first) manifest row.
        tracks: the curated tracks; None if the manifest's rule decides.
    """

    id: str
    identity: str
    row: Row
    tracks: tuple[int, ...] | None = None
