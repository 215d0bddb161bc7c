"""Which videos and streams exist, and whose face is meant: the one reader of data_manifest.csv and of curation files.

A row is a stream: one subject in one video. Columns: `stream_id, video, subject, partition, annotation`; others are not read. Paths
are relative to `data_root`. `subject` says which face of the video is meant (largest, left, right; empty is largest).
"""

import csv
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from affpipe.errors import ManifestError

COLUMNS = ("stream_id", "video", "subject", "partition", "annotation")
SUBJECTS = ("largest", "left", "right")
PARTITIONS = ("train", "validation", "test", "predict")
STREAM_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ +-]*")
TRACK_DIGITS = 9  # of a track number at most: it is an int64 in the store
ID_BYTES = 180  # of a stream or video id: a file's name is that and a suffix, 255 bytes at most


@dataclass(frozen=True)
class Row:
    """One stream. `video_id` is the video's file name without suffix and names the outputs of media stages."""

    stream_id: str
    video: Path
    subject: str
    partition: str
    annotation: Path | None

    @property
    def video_id(self) -> str:
        return self.video.stem

    @property
    def fits(self) -> bool:
        """Whether models are fitted with this stream (train or validation)."""
        return self.partition in ("train", "validation")


def check_video_name(video: Path) -> None:
    """ManifestError unless the name of a video can name files of the store: printable, UTF-8, neither hidden nor too long."""
    name = video.stem
    if name.startswith(".") or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise ManifestError(
            f"{str(video)!r}: want a file name in UTF-8 without control characters that starts with no dot (it names files); rename it"
        )
    if len(name.encode()) > ID_BYTES:
        raise ManifestError(f"{video}: want a file name of at most {ID_BYTES} bytes (it names files), got {len(name.encode())}; rename it")


def read(path: Path, data_root: Path) -> list[Row]:
    """Rows of a manifest, checked. ManifestError names file, row (the header is row 1) and remedy."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            head = table.fieldnames or []
            wrong = [c for c in COLUMNS if head.count(c) != 1]
            if wrong:
                raise ManifestError(
                    f"{path}: row 1: want the columns {', '.join(COLUMNS)}, each once, got {', '.join(head)}; mend {', '.join(wrong)}"
                )
            rows = [_row(path, table.line_num, cells, data_root) for cells in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = getattr(error, "strerror", None) or error
        raise ManifestError(f"{path}: want a readable CSV file, got {what}; check the setting `manifest`") from None
    if not rows:
        raise ManifestError(f"{path}: want a row per stream, got none; add rows")
    _check_unique(path, rows)
    return [row for _, row in rows]


def _row(path: Path, number: int, cells: dict[str, str], data_root: Path) -> tuple[int, Row]:
    def fault(text: str) -> ManifestError:
        return ManifestError(f"{path}: row {number}: {text}")

    if None in cells or None in cells.values():
        raise fault("want as many cells as row 1; mend the commas")
    cell = {c: cells[c].strip() for c in COLUMNS}
    if any(len(text.splitlines()) > 1 for text in cell.values()):
        raise fault("want cells of one line, got a line break between quotes; mend the quotes")
    if not STREAM_ID.fullmatch(cell["stream_id"]) or len(cell["stream_id"]) > ID_BYTES:
        raise fault(
            f"want a stream_id of at most {ID_BYTES} letters, digits, spaces and . _ + -, the first a letter, digit or _ (it names files), "
            f"got {cell['stream_id']!r}; rename it"
        )
    subject = cell["subject"] or "largest"
    if subject not in SUBJECTS:
        raise fault(f"want subject one of {', '.join(SUBJECTS)}, got {subject!r}; mend the cell")
    if cell["partition"] not in PARTITIONS:
        raise fault(f"want partition one of {', '.join(PARTITIONS)}, got {cell['partition']!r}; mend the cell")
    if not cell["video"]:
        raise fault("want a video, got an empty cell; name a file")
    video = data_root / cell["video"]
    if not video.is_file():
        raise fault(f"want a video file, got no {video}; check the path or the setting `data_root`")
    try:
        check_video_name(video)
    except ManifestError as error:
        raise fault(str(error)) from None
    annotation = data_root / cell["annotation"] if cell["annotation"] else None
    if annotation and not annotation.is_file():
        raise fault(f"want an annotation file, got no {annotation}; check the path or leave the cell empty")
    row = Row(cell["stream_id"], video, subject, cell["partition"], annotation)
    if row.fits and annotation is None:
        raise fault(f"want an annotation for partition {row.partition}, got an empty cell; name one or use partition predict")
    return number, row


def _check_unique(path: Path, rows: Iterable[tuple[int, Row]]) -> None:
    streams: dict[str, int] = {}
    videos: dict[str, tuple[int, Path]] = {}
    faces: dict[tuple[Path, str], int] = {}
    for number, row in rows:
        if row.stream_id in streams:
            raise ManifestError(
                f"{path}: row {number}: stream_id {row.stream_id!r} stands in row {streams[row.stream_id]} already; rename one"
            )
        streams[row.stream_id] = number
        first, video = videos.setdefault(row.video_id, (number, row.video))
        if video != row.video:
            raise ManifestError(f"{path}: row {number}: {row.video.name} and {video.name} of row {first} share a name; rename one file")
        face = (row.video, row.subject)
        if face in faces:
            raise ManifestError(
                f"{path}: row {number}: {row.subject} face of {row.video.name} is the stream of row {faces[face]} already; remove one"
            )
        faces[face] = number


def check_partitions(rows: Sequence[Row], path: Path, folds: int = 0) -> None:
    """ManifestError unless there is something to train on, in each of so many folds, and something to validate with."""
    present = {row.partition for row in rows}
    for partition in ("train", "validation"):
        if partition not in present:
            raise ManifestError(f"{path}: want rows of partition {partition}, got none; models cannot be fitted without them")
    videos = {row.video_id for row in rows if row.partition == "train"}
    if len(videos) < folds:
        raise ManifestError(f"{path}: want a video of partition train for each of cross_fit {folds} folds, got {len(videos)}; set fewer")


@dataclass(frozen=True)
class Decision:
    """A row of a curation file.

    Attributes:
        tracks: numbers of the subject's tracks, rising; empty if nobody is the subject; None if the manifest's rule decides.
        faces: for which faces the tracks are numbered, as `Plan.numbering` has it; "" if the row does not say.
        row: number in the file, the header being row 1.
        cells: all cells of the row.
    """

    tracks: tuple[int, ...] | None
    faces: str
    row: int
    cells: Mapping[str, str]


def read_decisions(path: Path, rows: Iterable[Row]) -> dict[str, Decision]:
    """Rows of a curation file by stream id, checked: CSV of the columns stream_id and tracks; `faces` may be there, others are not read.

    `tracks` holds numbers separated by spaces, the word `none` (nobody is the subject), or nothing (the rule decides).
    """
    known, out = {row.stream_id for row in rows}, {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            head = table.fieldnames or []
            if any(head.count(c) != 1 for c in ("stream_id", "tracks")):
                raise ManifestError(
                    f"{path}: row 1: want columns stream_id, tracks, each once, got {', '.join(head)}; mend row 1, or save with commas"
                )
            for cells in table:
                if not any(text for cell in cells.values() for text in cell or ()):  # as spreadsheets leave it where a row was emptied
                    continue
                where = f"{path}: row {table.line_num}"
                if None in cells or None in cells.values():
                    raise ManifestError(f"{where}: want as many cells as row 1, with spaces and no commas between tracks; mend the commas")
                stream = cells["stream_id"].strip()
                if stream not in known:
                    raise ManifestError(f"{where}: want a stream_id of the manifest, got {stream!r}; remove the row")
                if stream in out:
                    raise ManifestError(f"{where}: want a row a stream, got {stream!r} again; remove one")
                out[stream] = Decision(_tracks(where, cells["tracks"]), cells.get("faces", "").strip(), table.line_num, cells)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = getattr(error, "strerror", None) or error
        raise ManifestError(f"{path}: want a readable curation file, got {what}; check subject.curation, save as CSV in UTF-8") from None
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
    """Decisions of a curation file, stream id -> tracks; streams that are left to the rule are not in it.

    Args:
        numbering: gives what a row's cell `faces` must hold, if it holds anything, for its track numbers to mean today's tracks.
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
