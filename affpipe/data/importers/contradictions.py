"""Annotations of a manifest that cannot all be right: one of several videos, and several of one face.

Who a video is, its content says: two names of one file are one video.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from affpipe.core import alike
from affpipe.data.importers import duplicates
from affpipe.data.importers.facts import LabelFacts
from affpipe.data.manifest import Row
from affpipe.system.files import sha256

Numbered = tuple[int, Row]
Told = Iterator[tuple[int, str]]
Annotation = tuple[Numbered, str, Path]  # its row, its task, the file
SIDES = {"left", "right"}


def of(rows: Sequence[Numbered], labels: Mapping[int, Mapping[str, LabelFacts]], contents: Mapping[Path, str]) -> Told:
    """Numbers of rows, and what is wrong with each beside one before it.

    Args:
        labels: number of a row -> task -> facts of its annotation. contents: video -> who it is.
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
    groups = alike.groups(fitted, lambda own: (own[1], contents[own[0][1].video], own[0][1].subject, own[0][1].partition_of(own[1])))
    for ((first, other), task, there), *rest in groups:
        for (number, row), _, here in rest:
            if row.video != other.video and sha256(here) != sha256(there):
                yield (
                    number,
                    f"{here}: {task}: want one annotation for one face, got another than {there} of row {first}, "
                    f"as {row.video.name} has the content of {other.video.name}; keep one row",
                )
