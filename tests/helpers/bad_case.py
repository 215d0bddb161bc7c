"""What a bad input is, the folder that it is put into, and the ways in which a user gives it to affpipe.

The folder has a sound run of two short clips, a (train) and b (validation), with annotations: a case spoils one thing in it.
"""

import logging
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import clips

from affpipe.core.errors import AffpipeError
from affpipe.data.importers.manifest_check import check
from affpipe.jobs import apply, start, workers
from affpipe.plan.config import known_tasks
from affpipe.plan.plan import Plan
from affpipe.store import streams
from affpipe.store.index import Entry

FRAMES = 12  # of each clip
HEADER = "valence,arousal\n"
LABELS = HEADER + "0.1,-0.2\n" * FRAMES
HEAD = "stream_id,video,partition,va\n"
ROWS = "a,a.mp4,train,a.txt\nb,b.mp4,validation,b.txt\n"
SETTINGS = """\
manifest: {0}/data_manifest.csv
data_root: {0}
cache: {0}/cache
results: {0}/results
weights: {0}/weights
shards: 1
features: {{mesh: {{encoder: mesh}}}}
models: {{face: {{kind: transformer, reads: mesh}}}}
publish: face
"""
PATIENCE_S = 120  # no bad input may keep anyone waiting for longer, be the machine busy or not


@dataclass(frozen=True)
class Said:
    """What became of a bad input.

    ends: "refused" (an error before any job, or when a job loads its network), "failed", "absent" or "done" (what the index says of it).
    line: the error, the reason in the index, what the log warns of, or what was made.
    """

    ends: str
    line: str


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: what is wrong, in words. group: "media", "annotation or manifest", "settings".
        make: spoils a folder. give: gives the folder to affpipe as a user would.
        ends, says: what must become of it, and words that the line must have, paths shortened.
        todo: what to do, or what becomes of it.
    """

    name: str
    group: str
    make: Callable[[Path], object]
    give: Callable[[Path], Said]
    ends: str
    says: str
    todo: str


def outcome(case: Case, folder: Path) -> Said:
    """What is said of a case made in an empty folder, with the folder's own path left out."""
    for name in "ab":
        (folder / f"{name}.mp4").write_bytes(clips.apart(sound_clip(), name))
        (folder / f"{name}.txt").write_text(LABELS if name == "a" else LABELS.replace("0.1", "0.2"))  # each its own
    (folder / "data_manifest.csv").write_text(HEAD + ROWS)
    (folder / "my.yaml").write_text(SETTINGS.format(folder))
    case.make(folder)
    with _at_most(PATIENCE_S):
        try:
            said = case.give(folder)
        except AffpipeError as error:
            said = Said("refused", str(error))
    return Said(said.ends, said.line.replace(f"{folder}/", ""))


@cache
def sound_clip() -> bytes:
    """A short clip with sound."""
    with tempfile.TemporaryDirectory() as folder:
        return clips.write(Path(folder) / "a.mp4", count=FRAMES, sound=clips.Sound(length_s=FRAMES / 25, click_s=(0.2,))).read_bytes()


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """TimeoutError in a block that takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"want an end within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---- ways in ----------------------------------------------------------------------------------------------------------------------------


def watch(folder: Path) -> Said:
    """clip.mp4 as a stream to predict, through the stages up to the subject."""
    with (folder / "data_manifest.csv").open("a") as file:
        file.write("clip,clip.mp4,predict,\n")
    plan = start.plan_of([folder / "my.yaml"])
    said = _stages(plan, "clip", ("frames", "audio", "faces", "subject"))
    if said.line or said.ends != "done":
        return said
    subject = streams.attributes(plan.stream("subject", next(i for i in plan.items("subject") if i.id == "clip")))
    return Said("done", f"subject: {subject['extra']['reason']}")


def label(folder: Path) -> Said:
    """The annotation of stream a, through the stage `labels`."""
    plan = start.plan_of([folder / "my.yaml"])
    said = _stages(plan, "a", ("frames", "labels"))
    if said.line or said.ends != "done":
        return said
    files = streams.attributes(plan.stream("labels", plan.items("labels")[0]))["extra"]["files"]
    return Said("done", f"labels: {files['va']['labelled']} of {files['va']['rows']} lines with a label")


def plan(folder: Path) -> Said:
    """The settings and the manifest, as a run is planned."""
    made = start.plan_of([folder / "my.yaml"])
    return Said("done", f"planned: {len(made.rows)} streams")


def look_through(folder: Path) -> Said:
    """The manifest, by `affpipe manifest check`: its first fault."""
    report = check(folder / "data_manifest.csv", folder, known_tasks([folder / "my.yaml"]), progress=_quiet)
    return Said("refused", report.faults[0]) if report.faults else Said("done", "no fault")


def find_faces(folder: Path) -> Said:
    """The settings of face detection, when its network is loaded."""
    return _stages(start.plan_of([folder / "my.yaml"]), "a", ("frames", "faces"))


def _stages(plan: Plan, stream: str, names: tuple[str, ...]) -> Said:
    """What the stages' indexes say of one stream: the first that has failed, or else is absent, or else what the log warns of."""
    entries: dict[str, dict[str, Entry]] = {}
    with _log() as warnings:
        for name in names:
            items = [item for item in plan.items(name) if item.row.stream_id == stream]
            entries[name] = apply.apply(plan, name, items, entries, workers.start, _quiet)
    found = [entry for stage in entries.values() for entry in stage.values()]
    for status in ("failed", "absent"):
        reasons = [entry.reason for entry in found if entry.status == status]
        if reasons:
            return Said(status, reasons[0])
    return Said("done", "; ".join(warnings))


@contextmanager
def _log() -> Iterator[list[str]]:
    """The warnings that affpipe logs in a block."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("affpipe")
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


def _quiet(*_: object) -> None:
    """No progress."""
