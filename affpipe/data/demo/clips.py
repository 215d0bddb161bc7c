"""Content of the demo set: sixteen short clips, odd on purpose, and the manifest that lists them.

Every oddity of real collections occurs once: 25, 30000/1001 and 30 fps, a variable rate, two frame sizes, intervals without a face, no
audio track, audio that starts late, two annotated people, a stretch that one task's annotators left out. In all clips of one person the
face is hidden for a while, and labelled: 13 % of the labelled time of train and validation.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from affpipe.core.tasks.table import AU, EXPR, VA

TASKS = {task.name: task for task in (VA, EXPR, AU)}  # the official tasks for which the demo has labels
HEADER = ",".join(("stream_id", "video", "subject", "partition", *TASKS))
_FOLDERS = {"train": "Train_Set", "validation": "Validation_Set"}

PAL, NTSC, WHOLE = Fraction(25), Fraction(30000, 1001), Fraction(30)
WIDE, SQUARE = (640, 360), (480, 480)


@dataclass(frozen=True)
class Absence:
    """A time [start_s, end_s) without the face: it fades out, or slides out of the picture."""

    start_s: float
    end_s: float
    slides: bool = False


@dataclass(frozen=True)
class Hidden:
    """A sheet of paper is before the face during [start_s, end_s). The person is there and talks: only action units have no label."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Unlabelled:
    """A time [start_s, end_s) that the annotators of one task left out although the face is there."""

    task: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Stream:
    """One annotated person of a clip; `subject` says which face (largest, left, right)."""

    stream_id: str
    subject: str
    clip: "Clip"

    def labels(self, task: str) -> str:
        """Return the path of the task's label file relative to the set's folder; for the test partition that is the hidden truth."""
        if self.clip.partition == "test":
            return f"truth/{task}/{self.stream_id}.txt"
        return f"{annotations(task)}/{_FOLDERS[self.clip.partition]}/{self.stream_id}.txt"


@dataclass(frozen=True)
class Clip:
    """One video.

    Attributes:
        fps: nominal rate; with `variable` the frames have irregular timestamps around it.
        size: (width, height) in pixels.
        audio_start_s: first timestamp of the audio track; the sound is in step with the picture.
    """

    name: str
    partition: str
    duration_s: float
    fps: Fraction = WHOLE
    size: tuple[int, int] = WIDE
    variable: bool = False
    audio: bool = True
    audio_start_s: float = 0.0
    people: int = 1
    absences: tuple[Absence, ...] = field(default=())
    hidden: tuple[Hidden, ...] = field(default=())
    unlabelled: tuple[Unlabelled, ...] = field(default=())

    @property
    def video(self) -> str:
        """Path of the video relative to the set's folder."""
        return f"videos/{self.name}.mp4"

    @property
    def streams(self) -> tuple[Stream, ...]:
        if self.people == 1:
            return (Stream(self.name, "largest", self),)
        return tuple(Stream(f"{self.name}_{side}", side, self) for side in ("left", "right"))


CLIPS = (
    Clip("clip01", "train", 16, PAL, hidden=(Hidden(9.0, 11.2),)),
    Clip("clip02", "train", 15, NTSC, SQUARE, hidden=(Hidden(4.0, 6.2),)),
    Clip("clip03", "train", 16, WHOLE, absences=(Absence(6.0, 8.0),), hidden=(Hidden(11.0, 13.2),)),
    Clip("clip04", "train", 16, PAL, SQUARE, audio_start_s=0.8, hidden=(Hidden(5.5, 7.7),)),
    Clip("clip05", "train", 16, PAL, people=2),
    Clip("clip06", "train", 15, NTSC, absences=(Absence(3.5, 5.0, slides=True), Absence(11.0, 12.2)), hidden=(Hidden(7.0, 9.2),)),
    Clip("clip07", "train", 16, WHOLE, SQUARE, unlabelled=(Unlabelled("expr", 5.0, 6.0),), hidden=(Hidden(10.0, 12.2),)),
    Clip("clip08", "train", 15, PAL, unlabelled=(Unlabelled("au", 9.0, 10.0),), hidden=(Hidden(3.0, 5.2),)),
    Clip("clip09", "train", 16, WHOLE, SQUARE, absences=(Absence(9.0, 12.0, slides=True),), hidden=(Hidden(4.0, 6.2),)),
    Clip("clip10", "train", 15, NTSC, hidden=(Hidden(8.0, 10.2),)),
    Clip("clip11", "validation", 16, PAL, SQUARE, absences=(Absence(5.0, 6.5),), hidden=(Hidden(1.5, 3.7),)),
    Clip("clip12", "validation", 15, WHOLE, variable=True, hidden=(Hidden(6.0, 8.2),)),
    Clip("clip13", "validation", 16, NTSC, hidden=(Hidden(7.5, 9.7),)),
    Clip("clip14", "test", 16, PAL, absences=(Absence(8.0, 10.0, slides=True),), hidden=(Hidden(3.0, 5.2),)),
    Clip("clip15", "test", 15, NTSC, SQUARE, audio=False, hidden=(Hidden(6.0, 8.2),)),
    Clip("clip16", "test", 16, WHOLE, hidden=(Hidden(9.0, 11.2),)),
)


def annotations(task: str) -> str:
    """Return the folder of the task's label files relative to the set's folder."""
    return f"annotations/{TASKS[task].folder}"


def template(task: str) -> str:
    """Return the path of the task's test template relative to the set's folder."""
    return f"{annotations(task)}/test_template.txt"


def manifest_text(clips: tuple[Clip, ...] = CLIPS) -> str:
    """Return the manifest as CSV: a row per stream, paths relative to the set's folder, no annotations for the test partition."""
    rows = [HEADER]
    for stream in (s for clip in clips for s in clip.streams):
        labels = ["" if stream.clip.partition == "test" else stream.labels(task) for task in TASKS]
        rows.append(",".join([stream.stream_id, stream.clip.video, stream.subject, stream.clip.partition, *labels]))
    return "\n".join(rows) + "\n"
