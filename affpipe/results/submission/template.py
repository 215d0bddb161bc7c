"""The organisers' template: the images of the test videos for which they want predictions, and their order.

It is a text file: a header, then one row per image, `video/00001.jpg,`, in the order that the answer must have. Text after the first comma
of a row is not read. A stream is named before the slash; images are numbered from 1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affpipe.core.errors import ManifestError
from affpipe.core.tasks.task import Task, Tasks
from affpipe.data.manifest import ID_BYTES, STREAM_ID
from affpipe.system import files
from affpipe.system.files import read_text

_IMAGE = re.compile(r"(?!0+\.)([0-9]{1,7})\.(?:jpg|jpeg|png)")


@dataclass(frozen=True, eq=False)
class Template:
    """Content of a template.

    Attributes:
        header: first line, as it stands there.
        locations: first cell of each of N rows.
        streams: names, in the order in which they first come.
        stream: (N,) int64, index in `streams` of each row. frame: (N,) int64, 0-based.
    """

    header: str
    locations: list[str]
    streams: list[str]
    stream: np.ndarray
    frame: np.ndarray


def headers(task: Task) -> tuple[str, ...]:
    """Return the headers that a template of a task may have."""
    return tuple(dict.fromkeys(f"image_location,{names}" for names in (task.header, ",".join(task.columns))))


def task_of(path: Path, tasks: Tasks) -> Task:
    """Return the task that a template (or an answer to it) is of, by its header; ManifestError if of none, or of several."""
    lines = _template_lines(path)
    found = [task for task in tasks.values() if lines and _bare(lines[0]) in map(_bare, headers(task))]
    if len(found) == 1:
        return found[0]
    if found:
        names, columns = (" and ".join(own) for own in ([t.name for t in found], [f"image_location,{','.join(t.columns)}" for t in found]))
        raise ManifestError(f"{path}: line 1: want the header of one task, got that of {names}; write {columns.replace(' and ', ' or ')}")
    raise _wrong_header(path, lines, [header for task in tasks.values() for header in headers(task)])


def read_template(task: Task, path: Path) -> Template:
    """Read the template of a task. ManifestError names file and line of the first fault."""
    lines = _template_lines(path)
    if not lines or _bare(lines[0]) not in map(_bare, headers(task)):
        raise _wrong_header(path, lines, headers(task))
    if len(lines) < 2:
        raise ManifestError(f"{path}: want a row an image below the header, got none; take the organisers' file")
    locations = [line.partition(",")[0] for line in lines[1:]]
    streams: dict[str, int] = {}  # name -> number
    images: dict[str, int] = {}  # file name -> frame; most streams have the same ones
    stream, frame = np.empty(len(locations), np.int64), np.empty(len(locations), np.int64)
    for row, location in enumerate(locations):
        name, _, image = location.rpartition("/")
        if name not in streams and STREAM_ID.fullmatch(name) and len(name) <= ID_BYTES:
            streams[name] = len(streams)
        if image not in images and (found := _IMAGE.fullmatch(image)):
            images[image] = int(found[1]) - 1
        if name not in streams or image not in images:
            got = repr(lines[row + 1][:80])
            raise ManifestError(f"{path}: line {row + 2}: want a row like video/00001.jpg, with images from 1 on, got {got}; mend it")
        stream[row], frame[row] = streams[name], images[image]
    template = Template(lines[0], locations, list(streams), stream, frame)
    _check_once(path, template)
    return template


def _template_lines(path: Path) -> list[str]:
    """Read lines without BOM, line ends and blank lines at the end."""
    text = read_text(path, "template", ManifestError, "check the path")
    lines = files.lines(text)
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _bare(header: str) -> str:
    return header.replace(" ", "").lower()


def _wrong_header(path: Path, lines: Sequence[str], wanted: Sequence[str]) -> ManifestError:
    got = repr(lines[0][:80]) if lines else "an empty file"
    remedy = "take the organisers' file of this task, or give --config for one of your own"
    return ManifestError(f"{path}: line 1: want the header {' or '.join(wanted)}, got {got}; {remedy}")


def _check_once(path: Path, template: Template) -> None:
    image = template.stream * 10**7 + template.frame
    order = np.argsort(image, kind="stable")
    again = np.flatnonzero(np.diff(image[order]) == 0)
    if len(again):
        k = again[np.argmin(order[again + 1])]
        first, second = order[k], order[k + 1]
        raise ManifestError(
            f"{path}: line {second + 2}: want each image once, got {template.locations[second]} as in line {first + 2}; remove one"
        )
