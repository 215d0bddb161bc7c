"""The review of faces: it writes the sheet and the file to decide in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from affpipe.core.errors import InputError
from affpipe.core.item import Item
from affpipe.core.progress import Progress
from affpipe.data import manifest
from affpipe.faces.settings import Subject
from affpipe.plan.plan import Plan
from affpipe.plan.settings import Settings
from affpipe.results.review import collect, decisions
from affpipe.results.review.collect import Missing
from affpipe.results.review.sheet import Sheet
from affpipe.system import disk, outputs

SHEET, DECISIONS = "review.html", "curation.csv"


@dataclass(frozen=True)
class Outcome:
    """Outcome of a review: numbers of streams, and lines on faults. `in_force`: the settings name the written file."""

    sheet: Path
    decisions: Path
    streams: int
    ambiguous: int
    decided: int
    missing: int
    faults: list[str]
    in_force: bool


def review(settings: Settings, out: Path, *, streams: Sequence[str] = (), command: str = "", progress: Progress) -> Outcome:
    """Collect the faces in the store and write `out`/review.html and `out`/curation.csv.

    Decisions are taken from `out`/curation.csv, or if there is none from the file that the settings name. Those that are numbered for other
    faces are left out and reported; the file that had them stays as curation.csv.old.

    Args:
        streams: stream ids to look at; all if empty.
        command: command that makes the missing streams, for people.
    """
    if settings.faces.source == "images":
        raise InputError(
            "faces review: want faces found in videos, got faces.source: images, one face a stream; there is nothing to decide"
        )
    disk.mask(settings.umask)
    rows = manifest.read(Path(settings.manifest), Path(settings.data_root), settings.task_table)
    plan = Plan(settings.model_copy(update={"subject": Subject()}), rows)  # a decision at fault must not keep one from mending it
    if "faces" not in plan.names:
        what = "want a run that looks for faces, got one whose models read none"
        raise InputError(f"faces review: {what}; review with the settings of one that does")
    path = out / DECISIONS
    for file in (path, out / SHEET):
        outputs.place(file)  # before faces are looked at
    named = settings.subject.curation and Path(settings.subject.curation)
    in_force = named is not None and named.resolve() == path.resolve()
    before = path if path.exists() or in_force else named
    found = manifest.read_decisions(before, rows) if before and (before != path or path.exists()) else {}
    kept = decisions.still_valid(plan, found)
    if kept.dropped and before == path:
        before = out / f"{DECISIONS}.old"
        outputs.write_text(before, path.read_text(encoding="utf-8-sig"))
    videos = _videos(plan, streams)
    sheet, absent, views = Sheet(), [], []
    for done, items in enumerate(videos):
        progress("faces review", done, len(videos))
        if reason := collect.missing(plan, items[0]):
            absent += [Missing(item.row, reason) for item in items]
            continue
        video = collect.video(plan, items, kept.decisions)
        views += video.streams
        sheet.add(video)
    progress("faces review", len(videos), len(videos))
    out.mkdir(parents=True, exist_ok=True)
    outputs.write_text(out / SHEET, sheet.html(settings.name, absent, kept.dropped, decisions=str(path), command=command))
    decisions.write(outputs.place(path), plan, views, found, kept.decisions)
    count = {status: sum(view.status == status for view in views) for status in ("ambiguous", "decided")}
    faults = [f"{line}: not carried over, decide anew (they are in {before})" for line in kept.dropped]
    faults += [f"{view.id}: {view.reason}" for view in views if view.choice is None]
    return Outcome(out / SHEET, path, len(views), count["ambiguous"], count["decided"], len(absent), faults, in_force)


def _videos(plan: Plan, streams: Sequence[str]) -> list[list[Item]]:
    """Return items of the wanted streams and of those that share a video with them, by video."""
    known = {row.stream_id for row in plan.rows}
    unknown = [id for id in streams if id not in known]
    if unknown:
        raise InputError(f"faces review: want streams of {plan.settings.manifest}, got {', '.join(unknown)}; correct --stream")
    out: dict[str, list[Item]] = {}
    for item in plan.items("subject"):
        out.setdefault(item.row.video_id, []).append(item)
    return [items for items in out.values() if not streams or any(item.id in streams for item in items)]
