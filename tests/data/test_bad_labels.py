"""Annotation files as they come broken: each is refused in one line that names file, line and remedy, all of them at once.

Files that only look odd are read.
"""

import codecs
import os
from pathlib import Path

import affwild2_tree as tree
import clips
import pytest

from affpipe.core.errors import ManifestError, SettingsError
from affpipe.core.tasks.table import TASKS, VA
from affpipe.data.annotations import read_labels
from affpipe.data.importers.counts import Count
from affpipe.data.importers.manifest_check import Report, check

HEAD = {task: t.header for task, t in TASKS.items()}
UNITS = HEAD["au"]
BROKEN = {  # name -> task, content, what the line says after the file's name
    "wrong header": ("va", "arousal,valence\n0,0\n", "line 1: want the header valence,arousal, got 'arousal,valence'; mend the file"),
    "another task": (
        "va",
        f"{HEAD['expr']}\n3\n",
        f"line 1: want the header valence,arousal, got '{HEAD['expr']}'; it has the labels of expr: name it in that column",
    ),
    "no header": (
        "va",
        "0.1,0.2\n0.1,0.2\n",
        "line 1: want the header valence,arousal, got '0.1,0.2'; put the header in front of the first row",
    ),
    "no header, classes": ("expr", "3\n3\n", f"line 1: want the header {HEAD['expr']}, got '3'; put the header in front of the first row"),
    "empty": ("va", "", "line 1: want the header valence,arousal, got an empty file; mend the file"),
    "header alone": ("va", "valence,arousal\n", "line 2: want a line a frame, got the header alone; fetch the file again or remove it"),
    "ragged": ("va", "valence,arousal\n0,0\n0\n0,0\n", "line 3: want valence,arousal, got '0' (1 cell for 2); mend the line"),
    "a cell more": (
        "va",
        "valence,arousal\n0,0,\n",
        "line 2: want valence,arousal, got '0,0,' (3 cells for 2); save it without commas at the end of lines",
    ),
    "a cell less, and a comma": ("va", "valence,arousal,\n0,\n", "line 2: want valence,arousal, got '0,'; mend the line"),
    "a row between quotes": (
        "va",
        'valence,arousal\n"0,0"\n',
        "line 2: want valence,arousal, got '\"0,0\"'; save it without quotes",
    ),
    "words between quotes": ("va", 'valence,arousal\n"happy","0"\n', 'line 2: want valence,arousal, got \'"happy","0"\'; mend the line'),
    "decimal commas between quotes": (
        "va",
        'valence,arousal\n"0,1","0,2"\n',
        'line 2: want valence,arousal, got \'"0,1","0,2"\' (4 cells for 2); save it without quotes, and write decimals with a point',
    ),
    "a header between quotes as a whole": (
        "va",
        '"valence,arousal"\n0,0\n',
        "line 1: want the header valence,arousal, got '\"valence,arousal\"'; save it without quotes",
    ),
    "letters after lines that Python would end elsewhere": (
        "va",
        "valence,arousal\n0,0\f\n0,0\x85\n\v0,0\n0\u2028,0\n0,\u20290\n0,0\nx,0\n",
        "line 8: want valence,arousal, got 'x,0'; mend the line",
    ),
    "blank line": (
        "va",
        "valence,arousal\n0,0\n\n0,0\n",
        "line 3: want valence,arousal, got ''; give the frame its row, or remove the line",
    ),
    "UTF-16": ("va", "valence,arousal\n0,0\n".encode("utf-16"), "want a readable annotation file, got UTF-16; save it as text in UTF-8"),
    "Latin-1": (
        "va",
        "valence,arousal\n0,0\n0,é\n".encode("latin-1"),
        "want a readable annotation file, got bytes in line 3 that are not UTF-8; save it as text in UTF-8",
    ),
    "NUL bytes": ("va", "valence,arousal\n0,0\n0,\0\0\n", r"line 3: want valence,arousal, got '0,\x00\x00'; mend the line"),
    "letters": ("va", "valence,arousal\nhappy,calm\n", "line 2: want valence,arousal, got 'happy,calm'; mend the line"),
    "semicolons": (
        "va",
        "valence,arousal\n0,1;0,2\n",
        "line 2: want valence,arousal, got '0,1;0,2' (3 cells for 2); separate cells by commas, and write decimals with a point",
    ),
    "decimal commas": (
        "va",
        "valence,arousal\n0,1,0,2\n",
        "line 2: want valence,arousal, got '0,1,0,2' (4 cells for 2); write decimals with a point",
    ),
    "out of range": (
        "va",
        "valence,arousal\n1,-1\n0,1.01\n",
        "line 3: want a number in [-1, 1] or -5 in each cell, got '0,1.01'; mend the line",
    ),
    "nan": ("va", "valence,arousal\nnan,0\n", "line 2: want a number in [-1, 1] or -5 in each cell, got 'nan,0'; mend the line"),
    "inf": ("va", "valence,arousal\n0,-inf\n", "line 2: want a number in [-1, 1] or -5 in each cell, got '0,-inf'; mend the line"),
    "class 8": ("expr", f"{HEAD['expr']}\n7\n8\n", "line 3: want a whole number from 0 to 7 or -1 in each cell, got '8'; mend the line"),
    "class 1.5": ("expr", f"{HEAD['expr']}\n1.5\n", "line 2: want a whole number from 0 to 7 or -1 in each cell, got '1.5'; mend the line"),
    "class by name": ("expr", f"{HEAD['expr']}\nHappiness\n", "line 2: want expression, got 'Happiness'; write the number of the class, 4"),
    "-5 in expr": ("expr", f"{HEAD['expr']}\n-5\n", "line 2: want a whole number from 0 to 7 or -1 in each cell, got '-5'; mend the line"),
    "AU 2": (
        "au",
        f"{UNITS}\n0,0,0,0,0,0,0,0,0,0,0,2\n",
        "line 2: want 0 or 1 or -1 in each cell, got '0,0,0,0,0,0,0,0,0,0,0,2'; mend the line",
    ),
    "eleven units": (
        "au",
        f"{UNITS}\n0,0,0,0,0,0,0,0,0,0,0\n",
        f"line 2: want {UNITS}, got '0,0,0,0,0,0,0,0,0,0,0' (11 cells for 12); mend the line",
    ),
    "thirteen units": (
        "au",
        f"{UNITS}\n{'0,' * 12}0\n",
        f"line 2: want {UNITS}, got '{'0,' * 12}0' (13 cells for 12); mend the line",
    ),
    "-5 in AU": (
        "au",
        f"{UNITS}\n{'-5,' * 11}-5\n",
        f"line 2: want 0 or 1 or -1 in each cell, got '{'-5,' * 11}-5'; mend the line",
    ),
    "one long line": (
        "va",
        "valence,arousal\n" + "0,0 " * 9999,
        f"line 2: want valence,arousal, got '{'0,0 ' * 20}' (10000 cells for 2); mend the line",
    ),
}
ODD = {  # name -> task, content, rows that are valid
    "BOM": ("va", codecs.BOM_UTF8 + b"valence,arousal\n0,0\n", [True]),
    "CRLF": ("va", b"valence,arousal\r\n0,0\r\n-5,-5\r\n", [True, False]),
    "CR": ("va", b"valence,arousal\r0,0\r1,1", [True, True]),
    "cells between quotes": ("va", b'"valence", "Arousal"\n"0","-0.5"\n"-5", "-5"\n', [True, False]),
    "a third column that is empty": ("va", b"valence,arousal,\r\n0,0,\r\n-5,-5\r\n0,1,\r\n,,\r\n", [True, False, True]),
    "form feeds and separators": ("va", "valence,arousal\n0,0\f\n0,0\x85\n\v0,0\n0\u2028,0\n-5,\u2029-5\n".encode(), [True] * 4 + [False]),
    "blank end": ("au", f"{UNITS}\n{'0,' * 11}1\n\n  \n".encode(), [True]),
    "-1 in va": ("va", b"valence,arousal\n-1,-1\n-1,0.5\n", [True, True]),
    "-5 in one cell": ("va", b"valence,arousal\n-5,0.5\n", [False]),
    "-1 in one unit": ("au", f"{UNITS}\n{'1,' * 11}-1\n".encode(), [False]),
    "whole numbers with a point": ("expr", f"{HEAD['expr']}\n7.0\n-1.0\n".encode(), [True, False]),
    "header in small letters": ("au", f"{UNITS.lower().replace(',', ', ')}\n{'0,' * 11}0\n".encode(), [True]),
}


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def one_line(message: str) -> bool:
    return len(message.splitlines()) == 1 and message.isprintable()


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "header alone"])
def test_a_broken_file_is_refused_in_one_line(tmp_path, name):
    task, content, said = BROKEN[name]
    path = write(tmp_path / f"{name}.txt", content)
    with pytest.raises(ManifestError) as caught:
        read_labels(TASKS[task], path)
    assert str(caught.value) == f"{path}: {said}"
    assert one_line(str(caught.value))


@pytest.mark.parametrize("name", ODD)
def test_a_file_that_looks_odd_is_read(tmp_path, name):
    task, content, valid = ODD[name]
    assert read_labels(TASKS[task], write(tmp_path / "a.txt", content))[1].tolist() == valid


def test_what_is_no_file_that_can_be_read_is_refused(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    os.symlink("round.txt", tmp_path / "round.txt")
    for name, reason in {
        "folder": "Is a directory",
        "round": "Too many levels of symbolic links",
        "none": "No such file or directory",
    }.items():
        with pytest.raises(ManifestError) as caught:
            read_labels(VA, tmp_path / f"{name}.txt")
        assert str(caught.value) == f"{tmp_path / name}.txt: want a readable annotation file, got {reason}; check the path"


# ---- check ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return tree.video(tmp_path_factory.mktemp("clip") / "clip.mp4", count=60)


def look(root: Path, rows: list[str], head: str = "stream_id,video,partition,va,expr,au", **options) -> Report:
    path = root / "m.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return check(path, root, progress=quiet, **options)


def test_a_check_names_every_broken_file_and_its_row(tmp_path, clip):
    rows, wanted = [], []
    for number, (name, (task, content, said)) in enumerate(BROKEN.items(), 2):
        os.link(clip, tmp_path / f"v{number}.mp4")
        write(tmp_path / f"{name.replace(',', '')}.txt", content)
        cells = {t: "" for t in TASKS} | {task: f"{name.replace(',', '')}.txt"}
        rows.append(f"s{number},v{number}.mp4,train,{','.join(cells.values())}")
        wanted.append(f"{tmp_path / 'm.csv'}: row {number}: {tmp_path / name.replace(',', '')}.txt: {said}")
    report = look(tmp_path, rows)
    assert report.faults == wanted
    assert len(wanted) > 20
    assert all(map(one_line, report.faults))


@pytest.fixture
def good(tmp_path, clip) -> Path:
    """Videos a to e, no two of them one file; annotations a of 60 rows, 3 of them invalid, b of 11 and c of 63, all for all tasks."""
    for name in "abcde":
        (tmp_path / f"{name}.mp4").write_bytes(clips.apart(clip.read_bytes(), name))
    for task in TASKS:
        for name, rows in {"a": 60, "b": 11, "c": 63}.items():
            tree.labels(tmp_path / f"{name}.{task}.txt", task, rows, invalid=3 * (name == "a"))
    return tmp_path


def test_a_check_tells_times_that_can_hardly_be_those_of_the_video(good):
    """Two seconds of video: labels in milliseconds, samples too far apart, and a unit that no interval says is there."""
    texts = {
        "ms.csv": "start,end,value\n0,400,Anger\n400,1900,Fear\n",
        "slow.csv": "time,valence,arousal\n0,0,0\n1.5,0.1,0\n3,0,0\n",
        "none.csv": "start,end,value\n",
        "never.csv": "start,end,value,tier\n0,1,,AU1\n",
    }
    for name, text in texts.items():
        (good / name).write_text(text)
    rows = ["a,a.mp4,train,slow.csv,ms.csv,never.csv", "b,b.mp4,train,,none.csv,"]
    report = look(good, rows, media="quick")
    assert report.faults == [
        f"{good}/m.csv: row 3: {good}/none.csv: want intervals or values over time, got none; fetch the file again or remove it"
    ]
    slow, ms = sorted(report.warnings, key=lambda text: "ms.csv" in text)
    assert f"row 2: {good}/slow.csv: want samples at most 1 s apart" in slow
    assert f"row 2: {good}/ms.csv: want seconds within the video, got 1900 s in a video of 2.4 s" in ms


def test_a_check_counts_by_task_and_partition(good):
    report = look(
        good,
        [
            "a_left,a.mp4,left,train,a.va.txt,a.expr.txt,,,",
            "a_right,a.mp4,right,train,b.va.txt,,,,",
            "b,b.mp4,,train,c.va.txt,c.expr.txt,a.au.txt,validation,",
            "c,c.mp4,,test,,,,,predict",  # of the test sets of va and expr
            "d,d.mp4,,predict,,,,,",
        ],
        "stream_id,video,subject,partition,va,expr,au,expr_partition,au_partition",
    )
    assert (report.faults, report.warnings) == ([], [])
    assert report.counts == [
        Count("va", "train", 2, 3, 60 + 11 + 63, 3),
        Count("va", "test", 1, 1, 0, 0),
        Count("va", "all", 3, 4, 134, 3),
        Count("expr", "train", 1, 1, 60, 3),
        Count("expr", "validation", 1, 1, 63, 0),
        Count("expr", "test", 1, 1, 0, 0),
        Count("expr", "all", 3, 3, 123, 3),
        Count("au", "train", 1, 1, 60, 3),
        Count("", "predict", 1, 1, 0, 0),
    ]
    assert report.counts[0].cells() == ("va", "train", "2", "3", "134", "3 (2.2%)")
    assert report.counts[-1].cells() == ("-", "predict", "1", "1", "0", "-")


def test_a_check_tells_what_train_and_validation_share(good):
    report = look(
        good,
        [
            "a_left,a.mp4,left,train,a.va.txt,,Ann,,",
            "a_right,a.mp4,right,validation,a.va.txt,,Bob,,",
            "b,b.mp4,,validation,a.va.txt,,Ann,,",
            "c,c.mp4,,train,a.va.txt,a.expr.txt,Cid,,validation",  # another task: no leak
            "d,d.mp4,,train,a.va.txt,,,,",
            "e,e.mp4,,validation,a.va.txt,,,,",  # nobody knows who these are
        ],
        "stream_id,video,subject,partition,va,expr,person,va_partition,expr_partition",
    )
    m = good / "m.csv"
    text = "in train or in validation, got it in both"
    assert report.faults == [f"{m}: {good / 'a.mp4'}: va: want a video {text} (train: row 2; validation: row 3); move one"]
    assert report.warnings[0] == f"{m}: Ann: va: want a person {text} (train: row 2; validation: row 4); move one"
    assert [line.split(": ")[1] for line in report.warnings[1:]] == ["row 3", "row 4", "row 5", "row 6", "row 7"]  # one file for all


@pytest.mark.parametrize("media", ["quick", "full"])
def test_a_check_of_the_media_compares_rows_with_frames(good, media):
    (good / "d.mp4").unlink()
    (good / "d.mp4").write_bytes(b"no video" * 99)
    rows = [f"{name},{name}.mp4,train,{name}.va.txt,," for name in "abc"]
    report = look(good, [*rows, "d,d.mp4,predict,,,", "e,e.mp4,train,,a.va.txt,"], media=media)
    m = good / "m.csv"
    assert len(report.faults) == 2
    assert report.faults[0].startswith(f"{m}: row 6: {good / 'a.va.txt'}: line 1: want the header Neutral,")
    assert report.faults[1].startswith(f"{m}: row 5: {good / 'd.mp4'}: want a readable video, got ")
    frames = "want a line a frame (-49 to +2), got 63 lines for 60 frames (+3); compare the two"
    assert report.warnings == [f"{m}: row 4: {good / 'c.va.txt'}: {frames}"]
    assert look(good, [*rows, "d,d.mp4,predict,,,"]).faults == []  # nobody opened it


def test_a_check_has_the_faults_of_all_rows_and_those_of_the_file(good):
    report = look(
        good, ["a,lost.mp4,predict,,,", "b,b.mp4,trian,,,", "c,c.mp4,train,d.txt,,", "-,d.mp4,predict,,,", "e,e.mp4,train,e.txt,,"]
    )
    assert [fault.split(": ")[1] for fault in report.faults] == [f"row {n}" for n in (2, 3, 4, 5, 6)]
    assert all(map(one_line, report.faults))
    (good / "m.csv").write_text("stream_id,video\n")
    assert [fault.split(": ")[1] for fault in check(good / "m.csv", good, progress=quiet).faults] == ["row 1"]
    assert "want a readable CSV file, got No such file" in check(good / "no.csv", good, progress=quiet).faults[0]
    with pytest.raises(SettingsError, match="want --media quick or full, got 'decode'"):
        look(good, [], media="decode")
