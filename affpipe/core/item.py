"""What a job works on: a video, a stream of one, or the labels of a stream."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One stream. `video_id` is the video's file name without suffix and names the outputs of media stages.

    Attributes:
        labels: task -> annotation file. partitions: task -> its partition, of the tasks whose own differs from `partition`.
        person: who it is, where that is known: folds keep a person's streams together. images: folder of cropped, aligned faces.
        video_track, audio_track: number of a track of the file, from 0, or "auto"; None where the settings decide.
        overlap: OFFICIAL where a data set's lists have its video in several of train, validation and test of one task.
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
        """Whether models may be fitted with this stream: it is in train or validation, for a task at least."""
        return any(partition in ("train", "validation") for partition in (self.partition, *self.partitions.values()))

    def partition_of(self, task: str) -> str:
        """The stream's partition for a task: in Aff-Wild2 one video may train one task and validate another."""
        return self.partitions.get(task, self.partition)

    def labelled(self, tasks: Iterable[str], partition: str) -> tuple[str, ...]:
        """Of these tasks, those that have an annotation of the stream which belongs to a partition."""
        return tuple(task for task in tasks if task in self.labels and self.partition_of(task) == partition)


@dataclass(frozen=True)
class Item:
    """What a worker processes: a video, a stream of a video, or the labels of a stream.

    id, identity: of the video for a stage of level "video", else of the stream, with its annotation files for level "label". A row's
        `video_track` is part of it, `audio_track` too for stages that sound has a part in.
    row: its (first) manifest row.
    tracks: the curated tracks, None where the manifest's rule decides.
    """

    id: str
    identity: str
    row: Row
    tracks: tuple[int, ...] | None = None
