"""Annotations and manifests that are not as they should be: `a.txt` or `data_manifest.csv` in a folder."""

import codecs
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bad_case import FRAMES, HEAD, HEADER, LABELS, ROWS, Case, label, look_through, plan

from affpipe.core.tasks.table import TASKS


def annotation(content: str | bytes) -> Callable[[Path], object]:
    """Make a.txt hold this."""
    return lambda folder: (folder / "a.txt").write_bytes(content if isinstance(content, bytes) else content.encode())


def manifest(content: str | bytes) -> Callable[[Path], object]:
    """Make the manifest hold this."""
    return lambda folder: (folder / "data_manifest.csv").write_bytes(content if isinstance(content, bytes) else content.encode())


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def a_folder(folder: Path) -> None:
    (folder / "a.txt").unlink()
    (folder / "a.txt").mkdir()


def unreadable(folder: Path) -> None:
    """A file whose first byte cannot be read, by root neither: the memory of this process."""
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to("/proc/self/mem")


def a_pipe(folder: Path) -> None:
    (folder / "data_manifest.csv").unlink()
    os.mkfifo(folder / "data_manifest.csv")


MORE = FRAMES + 20
TABLES = [
    Case(name, "annotation or manifest", make, give, *rest)
    for name, make, give, *rest in [
        (
            "a video that is not there",
            gone("a.mp4"),
            plan,
            "refused",
            "data_manifest.csv: row 2: want a video file, got no a.mp4",
            "mend it",
        ),
        ("an annotation that is not there", gone("a.txt"), plan, "refused", "row 2: want an annotation file, got no a.txt", "correct it"),
        ("a folder as annotation", a_folder, plan, "refused", "row 2: want an annotation file, got a folder at a.txt", "name the file"),
        ("an annotation that cannot be read", unreadable, plan, "refused", "a.txt: want a readable annotation file, got", "copy it again"),
        ("an empty annotation", annotation(""), look_through, "refused", "a.txt: line 1: want the header", "get it again"),
        (
            "an annotation of another task",
            annotation(f"{TASKS['expr'].header}\n" + "3\n" * FRAMES),
            look_through,
            "refused",
            "a.txt: line 1: want the header valence,arousal, got",
            "name it in the column `expr`",
        ),
        (
            "words for numbers",
            annotation(f"{HEADER}happy,calm\n"),
            label,
            "failed",
            "a.txt: line 2: want valence,arousal, got",
            "only numbers",
        ),
        (
            "a value out of range",
            annotation(LABELS + "0.1,1.5\n"),
            label,
            "failed",
            f"a.txt: line {FRAMES + 2}: want a number in [-1, 1] or -5 in each cell, got '0.1,1.5'",
            "scale the values, or mark the frame by -5",
        ),
        (
            "a header alone",
            annotation(HEADER),
            label,
            "done",
            "labels: a.txt: want a label of some frame, got none in 0 lines",
            "the stream is left out of fits, and the log says so; `affpipe manifest check` calls it a fault",
        ),
        (
            "twenty rows too many",
            annotation(HEADER + "0,0\n" * MORE),
            label,
            "done",
            f"labels: a.txt: want a line a frame (-49 to +2), got {MORE} lines for {FRAMES} frames (+20)",
            "row i is frame i: rows beyond the last frame are dropped. Look whether both are of one video",
        ),
        (
            "decimal commas",
            annotation(HEADER + "0,1,0,2\n" * FRAMES),
            look_through,
            "refused",
            "a.txt: line 2: want valence,arousal, got '0,1,0,2' (4 cells for 2)",
            "save it with points",
        ),
        (
            "bytes of no text",
            annotation(np.random.default_rng(0).bytes(999)),
            label,
            "failed",
            "a.txt: want a readable annotation file, got bytes in line 1 that are not UTF-8",
            "is it the video that was named in this column?",
        ),
        (
            "an annotation in UTF-16",
            annotation(LABELS.encode("utf-16")),
            look_through,
            "refused",
            "a.txt: want a readable annotation file, got UTF-16",
            "save it as UTF-8; Excel calls UTF-16 “Unicode text”",
        ),
        (
            "Windows line ends and a byte order mark",
            annotation(codecs.BOM_UTF8 + LABELS.replace("\n", "\r\n").encode()),
            label,
            "done",
            f"labels: {FRAMES} of {FRAMES} lines with a label",
            "no fault: read as it is",
        ),
        (
            "an annotation of cells between quotes",
            annotation('"valence","arousal"\n' + '"0.1","-0.2"\n' * FRAMES),
            label,
            "done",
            f"labels: {FRAMES} of {FRAMES} lines with a label",
            "no fault: read as it is",
        ),
        (
            "a comma at the end of every row",
            annotation(HEADER + "0.1,-0.2,\n" * FRAMES),
            look_through,
            "refused",
            "a.txt: line 2: want valence,arousal, got '0.1,-0.2,' (3 cells for 2); save it without commas",
            "has it lost a column? Where the header ends in a comma too it is read as it is",
        ),
        (
            "a manifest whose header is in capitals",
            manifest(HEAD.upper() + ROWS),
            plan,
            "done",
            "planned: 2 streams",
            "no fault: read as it is",
        ),
        ("a manifest that is a pipe", a_pipe, plan, "refused", "data_manifest.csv: want a readable CSV file, got a pipe", "write a file"),
        (
            "a stream id twice",
            manifest(HEAD + ROWS + "a,b.mp4,predict,\n"),
            look_through,
            "refused",
            "data_manifest.csv: row 4: want each stream_id once, got 'a' as in row 2",
            "give it another id",
        ),
        (
            "a stream id that leads out of the store",
            manifest(HEAD + ROWS + "../../a,a.mp4,predict,\n"),
            look_through,
            "refused",
            "data_manifest.csv: row 4: want a stream_id of at most 180 letters",
            "take letters and digits",
        ),
        (
            "semicolons between cells",
            manifest((HEAD + ROWS).replace(",", ";")),
            plan,
            "refused",
            "data_manifest.csv: row 1: want the columns stream_id, video, partition",
            "save it as CSV with commas",
        ),
        (
            "a quote that is never closed",
            manifest(HEAD + ROWS.replace("b,b.mp4", 'b,"b.mp4') + "c,a.mp4,predict,\n"),
            plan,
            "refused",
            "data_manifest.csv: row 4: want as many cells as row 1, got fewer",
            "close the quote; the row is the last one that it swallowed",
        ),
        (
            "no row to train on",
            manifest(HEAD + ROWS.replace("train", "test")),
            plan,
            "refused",
            "data_manifest.csv: want rows of partition train with a cell `va`, got none",
            "each task needs labelled streams of train and validation",
        ),
        (
            "no row to validate with",
            manifest(HEAD + ROWS.replace("validation", "train")),
            plan,
            "refused",
            "want rows of partition validation with a cell `va`, got none; move streams there, or set `cross_validation`",
            "or let folds of the training streams do it: [evaluation.md](evaluation.md#without-a-validation-partition)",
        ),
    ]
]
