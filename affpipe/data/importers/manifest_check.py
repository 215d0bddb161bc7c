"""Check of a manifest: every row, every annotation, and on request every video, with all faults at once."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from affpipe.core.alike import groups
from affpipe.core.errors import ManifestError, MediaError, SettingsError
from affpipe.core.progress import Progress
from affpipe.core.tasks.table import TASKS
from affpipe.core.tasks.task import Tasks
from affpipe.data import manifest, overlaps
from affpipe.data.annotations import surplus_fault
from affpipe.data.importers import duplicates, facts
from affpipe.data.importers.counts import Count, Entry, count
from affpipe.data.importers.facts import LabelFacts, VideoFacts
from affpipe.data.label_files import beyond_fault
from affpipe.data.manifest import Row
from affpipe.data.overlaps import OFFICIAL
from affpipe.media.identity import fingerprint
from affpipe.system.files import sha256

MEDIA = ("", "quick", "full")
SIDES = {"left", "right"}
Numbered = tuple[int, Row]
Told = Iterator[tuple[int, str]]
Annotation = tuple[Numbered, str, Path]  # its row, its task, the file


@dataclass
class Report:
    """Result of a check.

    Attributes:
        faults: one line each, naming file, row and remedy: they keep a row from being used.
        warnings: one line each: the row can be used but should be looked at.
        counts: those of the rows without a fault, by task and partition.
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)


def check(path: Path, data_root: Path, tasks: Tasks = TASKS, *, media: str = "", jobs: int = 1, progress: Progress) -> Report:
    """Check a manifest.

    Args:
        tasks: tasks whose columns are read.
        media: "quick" (packets) or "full" (decode) opens every video too and compares rows with frames; "" does not.
        jobs: processes that decode at the same time.

    Raises SettingsError for another `media`.
    """
    if media not in MEDIA:
        raise SettingsError(f"manifest check: want --media {' or '.join(MEDIA[1:])}, got {media!r}")
    report = Report()
    try:
        rows, faults = manifest.scan(path, data_root, tasks)
    except ManifestError as error:
        return Report([str(error)])
    report.faults = [str(fault) for fault in faults]
    more = manifest.unread(path, tasks)
    for column in more:
        task = column.removesuffix("_partition")
        if task != column and task not in (*TASKS, *more):
            report.warnings.append(f"{path}: column `{column}` is not read, as there is no task {task}; rename it, or remove it")
    if faults and more:
        report.warnings.append(
            f"{path}: columns that are not read: {', '.join(more)}; if they are tasks of your own, give --config SETTINGS"
        )
    files = facts.labels(((task, path) for _, row in rows for task, path in row.labels.items()), progress, tasks)
    labels = {number: {task: files[task, path] for task, path in row.labels.items()} for number, row in rows}
    for number, row in rows:
        report.faults += [f"{path}: row {number}: {f.error}" for f in labels[number].values() if f.error]
        report.warnings += [f"{path}: row {number}: {row.labels[task]}: {f.doubt}" for task, f in labels[number].items() if f.doubt]
    if media:
        videos = sorted({row.video for _, row in rows})
        tracks = {row.video: (_track(row.video_track), _track(row.audio_track)) for _, row in rows}
        measured = facts.videos(videos, quick=media == "quick", jobs=jobs, progress=progress, tracks=tracks)
        for number, row in rows:
            _media(report, f"{path}: row {number}", row, labels[number], measured[row.video])
    named = [task for task in tasks if any(task in row.labels for _, row in rows)]
    for task in tasks:
        if task not in (*TASKS, *named):
            report.warnings.append(f"{path}: want label files in a column `{task}`, got none; add it, or take the task out of the settings")
    contents = {video: _content(video) for video in {row.video for _, row in rows}}
    entries = [_entry(number, row, labels[number], named, contents[row.video]) for number, row in rows]
    for found in overlaps.of(entries):
        (report.faults if found.refused else report.warnings).append(f"{path}: {found.where}: {found.text}")
    report.warnings += [f"{path}: row {number}: {text}" for number, text in _contradictions(rows, labels, contents)]
    report.counts = count(entries)
    return report


def _track(cell: int | str | None) -> int | str:
    return "auto" if cell is None else cell


def _media(report: Report, where: str, row: Row, labels: dict[str, LabelFacts], found: VideoFacts) -> None:
    if found.error:
        report.faults.append(f"{where}: {found.error}")
        return
    report.warnings += [f"{where}: {row.video}: {fault}" for fault in (*found.faults, *found.treated, *found.told)]
    for task, label in labels.items():
        odd = beyond_fault(label.end_s, _duration_s(found)) if label.timed else surplus_fault(label.rows, found.frames)
        if odd and not label.error:
            report.warnings.append(f"{where}: {row.labels[task]}: {odd}")


def _duration_s(found: VideoFacts) -> float:
    """Seconds of a video by its nominal rate; endless where it has none, or another at times."""
    return float(found.frames / found.fps) if found.fps and not found.variable_rate else math.inf


def _entry(number: int, row: Row, labels: dict[str, LabelFacts], tasks: Sequence[str], content: str) -> Entry:
    """Return the entry of a row: of the tasks of the manifest, those for which it has labels, and those to whose test set it belongs."""
    partitions = {task: row.partition_of(task) for task in tasks if task in row.labels or row.partition_of(task) == "test"}
    own = partitions or {"": row.partition}
    return Entry(f"row {number}", str(row.video), content, own, row.person, row.overlap == OFFICIAL, labels)


def _content(video: Path) -> str:
    """Return the fingerprint of a video's content; its path if it cannot be read."""
    try:
        return fingerprint(video)
    except MediaError:
        return str(video)


# ---- annotations that cannot all be right: one of several videos, several of one face ---------------------------------------------------


def _contradictions(rows: Sequence[Numbered], labels: Mapping[int, Mapping[str, LabelFacts]], contents: Mapping[Path, str]) -> Told:
    """Yield numbers of rows, and the contradiction of each with one before it.

    Args:
        labels: number of a row -> task -> facts of its annotation. contents: video -> fingerprint of its content.
    """
    telling = [((number, row), task, row.labels[task]) for number, row in rows for task, own in labels[number].items() if own.telling]
    yield from _one_of_several(telling, contents)
    yield from _several_of_one(telling, contents)


def _one_of_several(annotations: Sequence[Annotation], contents: Mapping[Path, str]) -> Told:
    for task, ((first, other), *rest) in duplicates.same_annotations(annotations):
        for number, row in rest:
            if contents[row.video] != contents[other.video] or {row.subject, other.subject} == SIDES:
                here, there = (f"{r.video.name} ({r.subject}, {r.partition_of(task)})" for r in (row, other))
                yield (
                    number,
                    f"{row.labels[task]}: {task}: want an annotation of its own for {here}, got the bytes of {other.labels[task]}, "
                    f"which row {first} has for {there}; name its own, or keep one row if both are one video",
                )


def _several_of_one(annotations: Sequence[Annotation], contents: Mapping[Path, str]) -> Told:
    fitted = [own for own in annotations if own[0][1].partition_of(own[1]) != "predict"]
    alike = groups(fitted, lambda own: (own[1], contents[own[0][1].video], own[0][1].subject, own[0][1].partition_of(own[1])))
    for ((first, other), task, there), *rest in alike:
        for (number, row), _, here in rest:
            if row.video != other.video and sha256(here) != sha256(there):
                yield (
                    number,
                    f"{here}: {task}: want one annotation for one face, got another than {there} of row {first}, "
                    f"as {row.video.name} has the content of {other.video.name}; keep one row",
                )
