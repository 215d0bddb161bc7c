"""Own data: every video below a folder is a stream; text files named as a stream are annotations of the task whose header they have.

`talk.txt` annotates `talk.mp4`; `talk_left.txt` and `talk_right.txt` its left and right face. The partition is named by a folder on the way
to the annotation, else to the video: train, validation (val, dev) or test, with or without `_Set`. If no folder names one, labelled videos
are split by a hash of their content. So adding, moving or renaming a video changes no other, and copies stay together.
"""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from affpipe.core.errors import SettingsError
from affpipe.core.tasks.table import TASKS
from affpipe.data.annotations import is_header
from affpipe.data.importers.collection import FITS, Collection, Finding, Stream, place, split_side
from affpipe.data.importers.listing import Tree, look, looks_predicted, stem
from affpipe.data.manifest import PARTITIONS, STREAM_ID
from affpipe.media.identity import fingerprint
from affpipe.system.files import lines

_PARTITION = re.compile(r"(train|valid|val|dev|test)(?:ing|ation|elopment|el)?(?:[ _-]?set)?", re.IGNORECASE)
_WORD = {"train": "train", "test": "test"}  # the others are validation
HEAD_BYTES = 4096  # bytes of a text file that are read for its first line


def collect(root: Path, partition: str = "", validation_share: float = 0.2) -> Collection:
    """Collect the streams of the videos below a folder.

    Args:
        partition: partition of streams whose folders name none; "": predict without annotations, a split with them.
        validation_share: share of the videos in that split, at least 0 and below 1.

    Raises ManifestError if there is no such folder or no video; SettingsError for another partition or share.
    """
    if partition not in ("", *PARTITIONS):
        raise SettingsError(f"manifest folder: want --partition one of {', '.join(PARTITIONS)}, got {partition!r}")
    if not 0 <= validation_share < 1:
        raise SettingsError(f"manifest folder: want --validation-share in [0, 1), got {validation_share}")
    tree = look(root)
    videos = {stem: paths[0] for stem, paths in tree.by_stem().items()}
    streams = _annotated(tree, videos)
    tree.findings += place(streams, videos)
    seen = {stream.video for stream in streams.values()}
    streams |= {stem: Stream(stem, video=video) for stem, video in videos.items() if video not in seen}
    found = [streams[id] for id in sorted(streams)]
    split: dict[str, str] = {}
    for stream in found:
        stream.images = min(tree.images.get(stream.id, ()), default="")
        _partition(tree, stream, partition, validation_share, split)
    if split and validation_share and set(split.values()) != set(FITS):
        text = f"all {len(split)} labelled videos fell into {min(split.values())}; set --validation-share, or use folders `train` and `val`"
        tree.findings.append(Finding("split", ".", text))
    _rename(tree, streams)
    tasks = tuple(task for task in TASKS if any(task in stream.labels for stream in found))
    return Collection(root, tasks, sorted(found, key=lambda stream: stream.id), tree.videos, tree.findings)


def _annotated(tree: Tree, videos: dict[str, str]) -> dict[str, Stream]:
    """Return the streams that have annotations, by name."""
    streams: dict[str, Stream] = {}
    for text in tree.texts:
        id = stem(text)
        named = id in videos or split_side(id)[0] in videos
        head = _head(tree.root / text)
        task = next((name for name in TASKS if is_header(TASKS[name], head)), "")
        if task and named:
            labels = streams.setdefault(id, Stream(id)).labels
            if labels.setdefault(task, text) != text:
                _choose(tree, id, task, labels, text)
        elif task:
            tree.findings.append(Finding("missing video", text, f"want a video {id}.mp4 (or .avi …), got none; rename or remove the file"))
        elif named:
            words = (
                f"want the header of {', '.join(TASKS)} in line 1, as the file is named as a stream, got {head[:80]!r}; mend or rename it"
            )
            tree.findings.append(Finding("not read", text, words))
    return streams


def _choose(tree: Tree, id: str, task: str, labels: dict[str, str], other: str) -> None:
    """Keep the first of two annotations of a stream, unless that one alone looks as if a run had written it."""
    kept, why = labels[task], ""
    if task == "va" and looks_predicted(tree.root / kept) != looks_predicted(tree.root / other):
        kept, other = (kept, other) if looks_predicted(tree.root / other) else (other, kept)
        why = ", whose numbers are as a run of affpipe writes them"
    labels[task] = kept
    tree.findings.append(Finding("two annotations", id, f"{task}: {kept} is taken, not {other}{why}", (id,)))


def _head(path: Path) -> str:
    """Return the first line of a text file; bytes that are no text are escaped."""
    try:
        with path.open("rb") as file:
            start = file.read(HEAD_BYTES)
    except OSError as error:
        return f"({error.strerror})"
    return next(iter(lines(start.decode("utf-8-sig", "backslashreplace"))), "")


def _partition(tree: Tree, stream: Stream, partition: str, share: float, split: dict[str, str]) -> None:
    """Give a stream the partition of each of its tasks; `split` keeps those of videos for which a hash decides."""
    for task, labels in stream.labels.items():
        said = _said(labels) or _said(stream.video) or partition
        if not said:
            said = split.setdefault(stream.video, _drawn(tree.root / stream.video, share))
        stream.partitions[task] = said
    if not stream.labels:
        stream.otherwise = _said(stream.video) or partition or "predict"
        if stream.otherwise in FITS:
            text = f"want annotations for partition {stream.otherwise}, got none: taken as predict; add {stream.id}.txt"
            tree.findings.append(Finding("no annotation", stream.id, text, (stream.id,)))
            stream.otherwise = "predict"


def _said(path: str) -> str:
    """Return the partition named by the last folder of a path that names one; "" if none does."""
    named = (_PARTITION.fullmatch(part) for part in reversed(PurePosixPath(path).parts[:-1]))
    return next((_WORD.get(found[1].lower(), "validation") for found in named if found), "")


def _drawn(video: Path, share: float) -> str:
    """Return the partition by a hash of the video's content."""
    return "validation" if int(fingerprint(video), 16) < share * 16**16 else "train"


def _rename(tree: Tree, streams: dict[str, Stream]) -> None:
    """Turn names into stream ids: characters that an id must not have become _, unless another stream has that name."""
    renamed: dict[str, str] = {}
    for name, stream in sorted(streams.items()):
        id = re.sub(r"[^A-Za-z0-9._ +-]", "_", name.strip())
        id = id if STREAM_ID.fullmatch(id) else f"_{id}"
        if id not in streams and id not in renamed.values():
            stream.id = renamed[name] = id
    tree.findings[:] = [replace(f, streams=tuple(renamed.get(id, id) for id in f.streams)) for f in tree.findings]
