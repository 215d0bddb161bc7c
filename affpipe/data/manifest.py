"""The videos and streams that exist, and whose face is meant: the one reader of data_manifest.csv and of curation files.

A row is a stream: one subject in one video. Columns `stream_id, video, partition` are required. Optional are `subject`, one column per task
for its annotation file (`va`, `expr`, `au`, and those of the run's own), `person`, `images`, `va_partition` …, `video_track`, `audio_track`
and `overlap`; others are not read. Paths are relative to `data_root`. `subject` says which face of the video is meant (largest, left,
right; empty is largest).
"""

import csv
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from affpipe.core.errors import ManifestError
from affpipe.core.item import Row
from affpipe.core.tasks.table import TASKS
from affpipe.data.overlaps import OFFICIAL
from affpipe.system import sheets
from affpipe.system.files import folded, instead_of_file, lines, on_disk, read_text

NEEDED = ("stream_id", "video", "partition")
TRACKS = ("video_track", "audio_track")  # which of several tracks of a file; empty: by the settings
SUBJECTS = ("largest", "left", "right")
PARTITIONS = ("train", "validation", "test", "predict")
STREAM_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ +-]*")
TRACK_DIGITS = 9  # digits of a track number at most: it is an int64 in the store
ID_BYTES = 180  # of a stream or video id: a file's name is that and a suffix, 255 bytes at most


def columns(tasks: Iterable[str] = TASKS) -> tuple[str, ...]:
    """Return the columns of a manifest that are read for these tasks."""
    return (*NEEDED, "subject", *tasks, "person", "images", *own_partitions(tasks).values(), "overlap", *TRACKS)


def own_partitions(tasks: Iterable[str] = TASKS) -> dict[str, str]:
    """Return task -> the column of its own partition."""
    return {task: f"{task}_partition" for task in tasks}


def check_video_name(video: Path) -> None:
    """Raise ManifestError unless the name of a video can name files of the store: printable, UTF-8, neither hidden nor too long."""
    name = video.stem
    if name.startswith(".") or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise ManifestError(
            f"{str(video)!r}: want a file name in UTF-8 without control characters that starts with no dot (it names files); rename it"
        )
    if len(name.encode()) > ID_BYTES:
        raise ManifestError(f"{video}: want a file name of at most {ID_BYTES} bytes (it names files), got {len(name.encode())}; rename it")


def read(path: Path, data_root: Path, tasks: Iterable[str] = TASKS) -> list[Row]:
    """Read the rows of a manifest, checked. ManifestError names file, row (the header is row 1) and remedy of the first fault."""
    rows, faults = scan(path, data_root, tasks)
    if faults:
        raise faults[0]
    return [row for _, row in rows]


def scan(path: Path, data_root: Path, tasks: Iterable[str] = TASKS) -> tuple[list[tuple[int, Row]], list[ManifestError]]:
    """Read the rows of a manifest with their numbers (the header is row 1), and all faults in them, by number.

    Args:
        tasks: names of the run's tasks. Columns of the official ones are always read: a stream with labels of another task alone may be
            predicted, and is no fault.

    Raises ManifestError if the file is no table with the required columns, or has no row.
    """
    rows: list[tuple[int, Row]] = []
    faults: list[tuple[int, ManifestError]] = []
    tasks = tuple(dict.fromkeys((*TASKS, *tasks)))
    text = read_text(path, "CSV file", ManifestError, "check the setting `manifest`")
    try:
        head, table = sheets.rows(text, columns(tasks))
        _check_head(path, head, columns(tasks))
        for number, cells in table:
            try:
                rows.append((number, _row(cells, data_root, tasks)))
            except ManifestError as error:
                faults.append((number, ManifestError(f"{path}: row {number}: {error}")))
    except csv.Error as error:
        raise ManifestError(f"{path}: want a readable CSV file, got {error}; mend its quotes") from None
    if not rows and not faults:
        raise ManifestError(f"{path}: want a row per stream, got none; add rows")
    faults += [(number, ManifestError(f"{path}: row {number}: {text}")) for number, text in _twice(rows)]
    return rows, [error for _, error in sorted(faults, key=lambda fault: fault[0])]


def unread(path: Path, tasks: Iterable[str] = TASKS) -> list[str]:
    """Return the columns of a manifest that are not read, as the first row names them."""
    known = columns(tasks)
    head, _ = sheets.rows(read_text(path, "CSV file", ManifestError, "check the setting `manifest`"), known)
    return [name for name in head if name.strip() and name not in known]


def _check_head(path: Path, head: Sequence[str], columns: Sequence[str]) -> None:
    wrong = [c for c in NEEDED if head.count(c) != 1] + [c for c in columns if c not in NEEDED and head.count(c) > 1]
    if wrong:
        other = len(head) == 1 and re.search("[;\t]", head[0])  # as spreadsheets save it in some countries
        got = repr(head[0]) if other else ", ".join(head) or "an empty file"
        remedy = "separate cells by commas" if other else f"mend {', '.join(wrong)}"
        raise ManifestError(
            f"{path}: row 1: want the columns {', '.join(NEEDED)}, and those known of {', '.join(columns[len(NEEDED) :])}, each once, "
            f"got {got}; {remedy}"
        )


def _row(cells: dict[str, str], data_root: Path, tasks: tuple[str, ...]) -> Row:
    """Return the stream of a row; ManifestError says what is wrong with it."""
    if None in cells or None in cells.values():
        got = "more" if None in cells else "fewer"
        raise ManifestError(f"want as many cells as row 1, got {got}; mend the commas or quotes")
    cell = {c: cells.get(c, "").strip() for c in columns(tasks)}
    if any(len(lines(text)) > 1 for text in cell.values()):
        raise ManifestError("want cells of one line, got a line break between quotes; mend the quotes")
    for text in cell.values():
        if any(unicodedata.category(c) == "Cc" for c in text):
            raise ManifestError(f"want cells without control characters, got {text!r}; mend the cell")
    if not STREAM_ID.fullmatch(cell["stream_id"]) or len(cell["stream_id"]) > ID_BYTES:
        raise ManifestError(
            f"want a stream_id of at most {ID_BYTES} letters, digits, spaces and . _ + -, the first a letter, digit or _ (it names files), "
            f"got {cell['stream_id']!r}; rename it"
        )
    subject = cell["subject"] or "largest"
    if subject not in SUBJECTS:
        raise ManifestError(f"want subject one of {', '.join(SUBJECTS)}, got {subject!r}; mend the cell")
    partitions = {task: cell[column] for task, column in own_partitions(tasks).items() if cell[column]}
    own = {f"{task}_partition": partition for task, partition in partitions.items()}
    for column, partition in {"partition": cell["partition"], **own}.items():
        if partition not in PARTITIONS:
            raise ManifestError(f"want {column} one of {', '.join(PARTITIONS)}, got {partition!r}; mend the cell")
    if cell["overlap"] not in ("", OFFICIAL):
        raise ManifestError(f"want overlap {OFFICIAL} or nothing, got {cell['overlap']!r}; mend the cell")
    if not cell["video"]:
        raise ManifestError("want a video, got an empty cell; name a file")
    video = on_disk(data_root / cell["video"])
    if got := _no_file(video):
        raise ManifestError(f"want a video file, got {got}; check the path or the setting `data_root`")
    check_video_name(video)
    labels = {task: on_disk(data_root / cell[task]) for task in tasks if cell[task]}
    for annotation in labels.values():
        if got := _no_file(annotation):
            raise ManifestError(f"want an annotation file, got {got}; check the path or leave the cell empty")
    images = on_disk(data_root / cell["images"]) if cell["images"] else None
    if images and not os.path.isdir(images):
        raise ManifestError(f"want a folder of images, got no {images}; check the path or leave the cell empty")
    tracks = {column: _track_cell(column, cell[column]) for column in TRACKS}
    row = Row(cell["stream_id"], video, subject, cell["partition"], labels, partitions, cell["person"], images, cell["overlap"], **tracks)
    if row.fits and not labels:
        raise ManifestError(
            f"want an annotation ({', '.join(tasks)}) for partition {row.partition}, got none; name one or use partition predict"
        )
    return row


def _track_cell(column: str, text: str) -> int | str | None:
    if text in ("", "auto"):
        return text or None
    if not (text.isascii() and text.isdecimal() and len(text) <= TRACK_DIGITS):
        raise ManifestError(f"want {column} the number of a track (0 is the first), auto or nothing, got {text!r}; mend the cell")
    return int(text)


def _no_file(path: Path) -> str:
    """Return what stands at the path of a file instead of it; "" if it is a file."""
    got = instead_of_file(path)
    return f"no {path}" if got == "nothing" else got and f"{got} at {path}"


def _twice(rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, str]]:
    """Yield row number and fault of what must be unique and occurs again."""
    streams: dict[str, tuple[int, str]] = {}
    videos: dict[str, tuple[int, Path]] = {}
    faces: dict[tuple[Path, str], int] = {}
    tracks: dict[Path, tuple[int, Row]] = {}
    for number, row in rows:
        first, id = streams.setdefault(folded(row.stream_id), (number, row.stream_id))
        if first != number:
            less = "" if id == row.stream_id else f" ({id!r} there: one name where case is ignored)"
            yield number, f"want each stream_id once, got {row.stream_id!r} as in row {first}{less}; rename one"
            continue
        first, video = videos.setdefault(folded(row.video_id), (number, row.video))
        if video != row.video:
            less = "" if video.stem == row.video_id else " (one name where case and the form of accents are ignored)"
            yield number, f"want files of different names, got {row.video.name} and {video.name} of row {first}{less}; rename one"
        first, other = tracks.setdefault(row.video, (number, row))
        for column in TRACKS:
            if (own := getattr(row, column)) != (there := getattr(other, column)):
                shown = " and ".join("nothing" if track is None else str(track) for track in (own, there))
                yield number, f"want one {column} for {row.video.name}, got {shown} of row {first}; make them agree"
        face = (row.video, row.subject)
        if face in faces:
            yield number, f"want a row a face, got the {row.subject} face of {row.video.name} as in row {faces[face]}; remove one"
        faces[face] = number


def check_partitions(rows: Sequence[Row], path: Path, tasks: Iterable[str], *, folds: bool = False) -> None:
    """Raise ManifestError unless each task has something to train on, and something to validate with.

    Args:
        folds: True if models are cross-validated, which needs no validation partition; then either all tasks have one, or none.
    """
    tasks = list(tasks)
    without = folds and not any(row.labelled(tasks, "validation") for row in rows)
    for task in tasks:
        for partition in ("train",) if without else ("train", "validation"):
            if not any(row.labelled([task], partition) for row in rows):
                other = "take the rows of other tasks out of it" if folds else "set `cross_validation`, which needs none"
                if partition == "train":
                    other = "predict with an earlier run by `affpipe predict`"
                raise ManifestError(
                    f"{path}: want rows of partition {partition} with a cell `{task}`, got none; move streams there, or {other}"
                )


def check_images(rows: Iterable[Row], path: Path) -> None:
    """Raise ManifestError unless every stream has its own folder of images."""
    streams: dict[Path, str] = {}
    for row in rows:
        if row.images is None:
            raise ManifestError(
                f"{path}: stream {row.stream_id}: want a folder of images, as faces.source is images, got none; "
                "name one in the column `images`, or set faces.source: video"
            )
        first = streams.setdefault(row.images, row.stream_id)
        if first != row.stream_id:
            raise ManifestError(f"{path}: stream {row.stream_id}: {row.images} has the images of stream {first} already; name its own")


def fold_groups(rows: Iterable[Row], source: Callable[[Row], str]) -> list[list[str]]:
    """Group video ids that must stay together: those of one content, and those of a named person. Groups are sorted, also by their first.

    Args:
        source: one name for all videos of a content, as in `Plan.sources`.
    """
    group: dict[str, set[str]] = {}  # video, content or person -> all that is connected with it
    for row in rows:
        names = [f"video {row.video_id}", f"content {source(row)}", *([f"person {row.person}"] if row.person else [])]
        whole = set(names).union(*(group.get(name, set()) for name in names))
        group |= dict.fromkeys(whole, whole)
    found = {id(members): sorted(m.removeprefix("video ") for m in members if m.startswith("video ")) for members in group.values()}
    return sorted(found.values())


@dataclass(frozen=True)
class Decision:
    """A row of a curation file.

    Attributes:
        tracks: numbers of the subject's tracks, rising; empty if nobody is the subject; None if the manifest's rule decides.
        faces: the faces for which the tracks are numbered, as in `Plan.numbering`; "" if the row does not say.
        row: number in the file, the header being row 1.
        cells: all cells of the row.
    """

    tracks: tuple[int, ...] | None
    faces: str
    row: int
    cells: Mapping[str, str]


def read_decisions(path: Path, rows: Iterable[Row]) -> dict[str, Decision]:
    """Read the rows of a curation file by stream id, checked.

    It is CSV with the columns stream_id and tracks; `faces` is optional, others are not read. `tracks` holds numbers separated by spaces,
    the word `none` (nobody is the subject), or nothing (the rule decides).
    """
    known, out = {row.stream_id for row in rows}, {}
    text = read_text(path, "curation file", ManifestError, "check subject.curation")
    try:
        head, table = sheets.rows(text, ("stream_id", "tracks"))
        if any(head.count(c) != 1 for c in ("stream_id", "tracks")):
            raise ManifestError(
                f"{path}: row 1: want columns stream_id, tracks, each once, got {', '.join(head)}; mend row 1, or save with commas"
            )
        for number, cells in table:
            where = f"{path}: row {number}"
            if None in cells or None in cells.values():
                raise ManifestError(f"{where}: want as many cells as row 1, with spaces and no commas between tracks; mend the commas")
            stream = cells["stream_id"].strip()
            if stream not in known:
                raise ManifestError(f"{where}: want a stream_id of the manifest, got {stream!r}; remove the row")
            if stream in out:
                raise ManifestError(f"{where}: want a row a stream, got {stream!r} again; remove one")
            out[stream] = Decision(_tracks(where, cells["tracks"]), cells.get("faces", "").strip(), number, cells)
    except csv.Error as error:
        raise ManifestError(f"{path}: want a readable curation file, got {error}; save as CSV in UTF-8") from None
    return out


def _tracks(where: str, cell: str) -> tuple[int, ...] | None:
    numbers = cell.split()
    if not numbers:
        return None
    if cell.strip().lower() == "none":
        return ()
    if not all(n.isdecimal() and len(n) <= TRACK_DIGITS for n in numbers):
        raise ManifestError(f"{where}: want whole track numbers separated by spaces, `none` or nothing, got {cell!r}; mend the cell")
    return tuple(sorted({int(n) for n in numbers}))


def read_curation(path: Path, rows: Iterable[Row], numbering: Callable[[Row], str]) -> dict[str, tuple[int, ...]]:
    """Read the decisions of a curation file, stream id -> tracks; streams that are left to the rule are not in it.

    Args:
        numbering: returns what a row's cell `faces` must hold, if it holds anything, for its track numbers to mean the present tracks.
    """
    streams, out = {row.stream_id: row for row in rows}, {}
    for stream, found in read_decisions(path, streams.values()).items():
        if found.tracks and found.faces and found.faces != (wanted := numbering(streams[stream])):
            raise ManifestError(
                f"{path}: row {found.row}: want tracks of {stream} numbered for {wanted}, got {found.faces} (settings or video changed); "
                "run `affpipe faces review` again and decide anew"
            )
        if found.tracks is not None:
            out[stream] = found.tracks
    return out
