"""Aff-Wild2 as it is distributed: videos in any folders, one folder of annotations per task, templates or lists for the test set.

A challenge folder (`VA_Estimation_Challenge`, `EXPR_Recognition_Challenge`, `AU_Detection_Challenge`, or the spellings of other years, at
any depth) holds `Train_Set`, `Validation_Set` and perhaps `Test_Set`, one text file per stream. The streams of the test set are known from:

- files of `Test_Set`: a label file or an empty file, named as the stream, or a list of names;
- a template (`image_location,...`, then `stream/00001.jpg,...`), below a challenge folder or named `*test_set*.txt` anywhere;
- a list of names, one a line, named `*test_set*.txt`.

A task's labels elsewhere are not read. If a stream is in two partitions of one task, the one further from training counts: nothing is
trained on that was to be held out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from affpipe.core.errors import ManifestError, SettingsError
from affpipe.core.tasks.table import TASKS
from affpipe.data.annotations import is_header
from affpipe.data.importers.collection import Collection, Finding, Stream, place, split_side
from affpipe.data.importers.duplicates import alike, similar_to
from affpipe.data.importers.listing import Tree, look, stem
from affpipe.data.manifest import STREAM_ID
from affpipe.media.containers import VIDEOS
from affpipe.system import files

OFFICIAL = {  # videos, 10th ABAW; the parts of expr, and au, are unknown
    ("va", "train"): 356,
    ("va", "validation"): 76,
    ("va", "test"): 162,
    ("va", "all"): 594,
    ("expr", "all"): 548,
}
HELD_OUT = ("test", "validation", "train")  # the first of them counts for a stream in several
_CHALLENGE = re.compile(r"(va|expr|au)[ _-](?:set|(?:\w+[ _-])?challenge)", re.IGNORECASE)
_PARTITION = re.compile(r"(train|valid|val|test)(?:ing|ation)?(?:[ _-]?set)?", re.IGNORECASE)
_WORDS = {"va": {"va", "valence", "arousal"}, "expr": {"expr", "expression"}, "au": {"au", "action"}}
_OTHERS = {"mtl", "ce", "compound"}  # challenges whose test sets are none of ours


@dataclass
class _Found:
    """Results so far, for some tasks.

    Attributes:
        videos: file name without suffix -> path.
        claims: each place that names a stream: (task, stream) -> (partition, annotation file or "").
        others: streams of other tasks, which show that there are second faces.
    """

    tree: Tree
    tasks: tuple[str, ...]
    videos: dict[str, str]
    findings: list[Finding]
    streams: dict[str, Stream] = field(default_factory=dict)
    claims: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)

    def add(self, task: str, id: str, partition: str, labels: str = "") -> Stream:
        if task not in self.tasks:
            self.others.add(id)
            return Stream(id)
        self.claims.setdefault((task, id), []).append((partition, labels))
        return self.streams.setdefault(id, Stream(id))

    def lines(self, text: str) -> list[str] | None:
        """Read the lines of a text file without blank ones at the end; None, and a finding, if it is no text."""
        try:
            lines = files.lines((self.tree.root / text).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            what = getattr(error, "strerror", None) or error
            self.findings.append(Finding("not read", text, f"want a text file in UTF-8, got {what}; mend or remove it"))
            return None
        while lines and not lines[-1].strip():
            lines.pop()
        return lines


def collect(root: Path, tasks: Sequence[str] = ()) -> Collection:
    """Collect the streams of Aff-Wild2 below a folder.

    Args:
        tasks: tasks to collect; all that are found if empty.

    Raises ManifestError if there is no such folder, no video, or no annotation of a task; SettingsError for an unknown task.
    """
    for task in tasks:
        if task not in TASKS:
            raise SettingsError(f"manifest affwild2: want --task one of {', '.join(TASKS)}, got {task!r}")
    tree = look(root)
    tree.videos = [video for video in tree.videos if not _challenge(video)[0]]
    videos = {stem: paths[0] for stem, paths in tree.by_stem().items()}
    found = _Found(tree, tuple(tasks or TASKS), videos, tree.findings)
    for text in tree.texts:
        _text(found, text)
    here = {task for task, _ in found.claims}
    missing = [task for task in tasks or TASKS if task not in here]
    if missing and (tasks or not here):
        folders = ", ".join(TASKS[task].folder for task in missing)
        raise ManifestError(f"{root}: want annotations below {folders}, got none; give the folder that holds videos and annotations")
    wanted = tuple(task for task in TASKS if task in here)
    _settle(found)
    found.findings += place(found.streams, videos, {*tree.images, *found.others})
    found.findings += _without_video(found)
    _images(found)
    streams = sorted(found.streams.values(), key=lambda stream: stream.id)
    return Collection(root, wanted, streams, tree.videos, found.findings, OFFICIAL)


def _challenge(path: str) -> tuple[str, str]:
    """Return the task and partition that the folders of a path name, "" if they name none."""
    task = ""
    for part in PurePosixPath(path).parts[:-1]:
        if named := _CHALLENGE.fullmatch(part):
            task = named[1].lower()
        elif task and (named := _PARTITION.fullmatch(part)):
            return task, {"train": "train", "test": "test"}.get(named[1].lower(), "validation")
    return task, ""


def _text(found: _Found, text: str) -> None:
    """Use the content of a text file."""
    task, partition = _challenge(text)
    path = PurePosixPath(text)
    listed = "test_set" in path.name.lower()
    if not (task or listed):
        return
    if partition in ("train", "validation"):
        found.add(task, stem(text), partition, text)
        return
    lines = found.lines(text)
    if lines is None:
        return
    if lines and lines[0].partition(",")[0].strip().lower() in ("image", "image_location"):
        _template(found, text, _task_of_template(lines[0]) or task or _task_named(path.stem), lines)
    elif partition == "test":
        _test_file(found, task, text, lines)
    elif listed:
        _names(found, text, task or _task_named(path.stem), lines)
    elif lines and is_header(TASKS[task], lines[0]):
        words = "want annotations in Train_Set, Validation_Set or Test_Set, got one outside of them; move it"
        found.findings.append(Finding("not read", text, words))


def _test_file(found: _Found, task: str, text: str, lines: list[str]) -> None:
    """Use a file of Test_Set: a stream's labels, an empty file named as a stream, or a list of names."""
    id = stem(text)
    if not lines:
        found.add(task, id, "test")
    elif id in found.videos or split_side(id)[0] in found.videos or any("," in line for line in lines):
        found.add(task, id, "test", text)
    else:
        _names(found, text, task, lines)


def _template(found: _Found, text: str, task: str, lines: list[str]) -> None:
    """Use a template: its streams, and the number of rows that it asks of each."""
    if not task:
        found.findings.append(Finding("not read", text, f"want a template of {', '.join(TASKS)}, got {lines[0][:80]!r}"))
        return
    asked: dict[str, int] = {}
    for line in lines[1:]:
        stream = line.partition(",")[0].strip().rpartition("/")[0].rpartition("/")[2]
        asked[stream] = asked.get(stream, 0) + 1
    if wrong := asked.pop("", 0):
        found.findings.append(
            Finding("not read", text, f"want rows `stream/00001.jpg,...`, got {wrong} of another form; mend the template")
        )
    for id, rows in asked.items():
        stream = found.add(task, id, "test")
        if stream.asked.setdefault(task, rows) != rows:
            words = f"{task}: {text} asks for {rows} rows, another template for {stream.asked[task]}: the latter is taken"
            found.findings.append(Finding("two annotations", id, words, (id,)))


def _names(found: _Found, text: str, task: str, lines: list[str]) -> None:
    """Use a list of streams, one a line, with or without suffix."""
    if not task:
        found.findings.append(
            Finding("not read", text, f"want a file name that says the task ({', '.join(TASKS)}), got another; rename it")
        )
        return
    for number, line in enumerate(lines, 1):
        name = line.strip()
        name = name[: name.rindex(".")] if name.lower().endswith((*VIDEOS, ".txt")) else name
        if STREAM_ID.fullmatch(name):
            found.add(task, name, "test")
        elif name:
            found.findings.append(Finding("not read", text, f"line {number}: want the name of a stream, got {name[:80]!r}; mend the line"))


def _bare(header: str) -> str:
    return header.replace(" ", "").lower()


def _task_of_template(head: str) -> str:
    """Return the task whose columns a template's first line has after its first cell; "" if none."""
    columns = _bare(head).partition(",")[2].rstrip(",")
    return next((name for name, t in TASKS.items() if columns in (_bare(t.header), ",".join(t.columns).lower())), "")


def _task_named(name: str) -> str:
    """Return the task that a file's name mentions; "" if it mentions none, several or other challenges."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    said = [task for task, own in _WORDS.items() if words & own]
    return said[0] if len(said) == 1 and not words & _OTHERS else ""


def _settle(found: _Found) -> None:
    """Settle on one partition and at most one annotation file for each stream and task."""
    for (task, id), claims in found.claims.items():
        stream = found.streams[id]
        said = {partition for partition, _ in claims}
        partition = next(p for p in HELD_OUT if p in said)
        if len(said) > 1:
            others = ", ".join(p for p in reversed(HELD_OUT) if p in said)
            words = f"{task}: want one partition, got {others}: taken as {partition}; remove it from the other"
            found.findings.append(Finding("two partitions", id, words, (id,)))
        stream.partitions[task] = partition
        files = sorted({labels for p, labels in claims if p == partition and labels})
        if files:
            stream.labels[task] = files[0]
        if len(files) > 1:
            same = "the same" if alike(found.tree.root, files) else "other"
            words = f"{task}: {files[0]} is taken, not {', '.join(files[1:])} ({same} bytes)"
            found.findings.append(Finding("two annotations", id, words, (id,)))
    for stream in found.streams.values():
        if len(set(stream.partitions.values())) > 1:
            words = ", ".join(f"{task} {stream.partitions[task]}" for task in TASKS if task in stream.partitions)
            found.findings.append(Finding("tasks differ", stream.id, words, (stream.id,)))


def _without_video(found: _Found) -> list[Finding]:
    out = []
    for stream in found.streams.values():
        if not stream.video:
            near = similar_to(stream.id, found.videos)
            hint = f"rename it if it is {found.videos[near]}" if near else "fetch it"
            files = ", ".join(sorted(stream.labels.values())) or "the test set"
            text = f"want a video {stream.id}.mp4 (or .avi …) for {files}, got none: not in the manifest; {hint}"
            out.append(Finding("missing video", stream.id, text, (stream.id,)))
    return out


def _images(found: _Found) -> None:
    """Give each stream the first folder of images with its name."""
    for stream in found.streams.values():
        folders = sorted(found.tree.images.get(stream.id, ()))
        stream.images = folders[0] if folders else ""
        if len(folders) > 1:
            words = f"{folders[0]} is taken, not {', '.join(folders[1:])}"
            found.findings.append(Finding("images", stream.id, words, (stream.id,)))
