"""Check a manifest: every row, every annotation, and on request every video, with all faults at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from affpipe.core.errors import ManifestError, MediaError, SettingsError
from affpipe.core.tasks.table import TASKS
from affpipe.data import manifest
from affpipe.data.annotations import surplus_fault
from affpipe.data.importers import contradictions, facts
from affpipe.data.importers.counts import Count, Entry, count, overlaps
from affpipe.data.importers.facts import LabelFacts, Progress, VideoFacts
from affpipe.data.manifest import Row
from affpipe.data.overlaps import OFFICIAL
from affpipe.media.identity import fingerprint

MEDIA = ("", "quick", "full")


@dataclass
class Report:
    """What a check found.

    Attributes:
        faults: one line each, naming file, row and remedy: what keeps a row from being used.
        warnings: one line each: what can be used and should be looked at.
        counts: of the rows without a fault, by task and partition.
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)


def check(path: Path, data_root: Path, *, media: str = "", jobs: int = 1, progress: Progress) -> Report:
    """Check a manifest.

    Args:
        media: "quick" (packets) or "full" (decode) opens every video too and compares rows with frames; "" does not.
        jobs: processes that decode at the same time.

    SettingsError for another `media`.
    """
    if media not in MEDIA:
        raise SettingsError(f"manifest check: want --media {' or '.join(MEDIA[1:])}, got {media!r}")
    report = Report()
    try:
        rows, faults = manifest.scan(path, data_root)
    except ManifestError as error:
        return Report([str(error)])
    report.faults = [str(fault) for fault in faults]
    labels = _labels(rows, progress)
    for number, _ in rows:
        report.faults += [f"{path}: row {number}: {f.error}" for f in labels[number].values() if f.error]
    if media:
        videos = sorted({row.video for _, row in rows})
        tracks = {row.video: (_track(row.video_track), _track(row.audio_track)) for _, row in rows}
        measured = facts.videos(videos, quick=media == "quick", jobs=jobs, progress=progress, tracks=tracks)
        for number, row in rows:
            _media(report, f"{path}: row {number}", row, labels[number], measured[row.video])
    tasks = [task for task in TASKS if any(task in row.labels for _, row in rows)]
    contents = {video: _content(video) for video in {row.video for _, row in rows}}
    entries = [_entry(number, row, labels[number], tasks, contents[row.video]) for number, row in rows]
    for found in overlaps(entries):
        (report.faults if found.refused else report.warnings).append(f"{path}: {found.where}: {found.text}")
    report.warnings += [f"{path}: row {number}: {text}" for number, text in contradictions.of(rows, labels, contents)]
    report.counts = count(entries)
    return report


def _track(cell: int | str | None) -> int | str:
    return "auto" if cell is None else cell


def _labels(rows: list[tuple[int, Row]], progress: Progress) -> dict[int, dict[str, LabelFacts]]:
    """Row number -> task -> facts of its annotation; a file that several rows name is read once."""
    wanted = {(task, path) for _, row in rows for task, path in row.labels.items()}
    read = {}
    for done, (task, path) in enumerate(sorted(wanted), 1):
        read[task, path] = facts.label(task, path)
        progress("annotations", done, len(wanted))
    return {number: {task: read[task, path] for task, path in row.labels.items()} for number, row in rows}


def _media(report: Report, where: str, row: Row, labels: dict[str, LabelFacts], found: VideoFacts) -> None:
    if found.error:
        report.faults.append(f"{where}: {found.error}")
        return
    report.warnings += [f"{where}: {row.video}: {fault}" for fault in (*found.faults, *found.treated, *found.told)]
    for task, label in labels.items():
        if not label.error and (text := surplus_fault(label.rows, found.frames)):
            report.warnings.append(f"{where}: {row.labels[task]}: {text}")


def _entry(number: int, row: Row, labels: dict[str, LabelFacts], tasks: Sequence[str], content: str) -> Entry:
    """What counts of a row: of the tasks of the manifest, those that it has labels of, and those whose test set it belongs to."""
    partitions = {task: row.partition_of(task) for task in tasks if task in row.labels or row.partition_of(task) == "test"}
    own = partitions or {"": row.partition}
    return Entry(f"row {number}", str(row.video), own, labels, row.person, content, row.overlap == OFFICIAL)


def _content(video: Path) -> str:
    """Who a video is; its path where it cannot be read."""
    try:
        return fingerprint(video)
    except MediaError:
        return str(video)
