"""The template is read with care, and each fault of an answer is refused with its place."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affpipe.core.errors import ManifestError
from affpipe.core.tasks.classes import Classes
from affpipe.core.tasks.table import ACTION_UNITS, EXPR, EXPRESSIONS, TASKS, VA
from affpipe.results.submission.preflight import CONSTANT_ROWS, Fault, _rising, check
from affpipe.results.submission.template import read_template, task_of

HEADER = {
    "va": "image_location,valence,arousal",
    "expr": "image_location,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
    "au": "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
}
ROWS = {"one": 40, "two_left": 35, "three": 5}  # lines 2 to 41, 42 to 76, 77 to 81 of the answer
LOCATIONS = [f"{stream}/{frame:05d}.jpg" for stream, rows in ROWS.items() for frame in range(1, rows + 1)]
Lines = list[str]


def answer(task: str) -> Lines:
    """A file that is fit to send, as lines without ends."""
    rng = np.random.default_rng(0)
    cells = {
        "va": lambda: ",".join(f"{x:.6f}" for x in rng.uniform(-1, 1, 2)),
        "expr": lambda: str(rng.integers(0, len(EXPRESSIONS))),
        "au": lambda: ",".join(map(str, rng.integers(0, 2, len(ACTION_UNITS)))),
    }[task]
    return [HEADER[task], *(f"{location},{cells()}" for location in LOCATIONS)]


def found(folder: Path, task: str, content: Lines | bytes, **more) -> list[Fault]:
    """What the check finds in an answer; lines get ends."""
    template, file = folder / "template.txt", folder / "answer.txt"
    template.write_text("\n".join([HEADER[task], *(f"{location}," for location in LOCATIONS)]) + "\n")
    file.write_bytes(content if isinstance(content, bytes) else "".join(f"{line}\n" for line in content).encode())
    faults = check(TASKS[task], file, template, **more)
    assert all(fault.file == file for fault in faults)
    return faults


def cell(line: int, text: str) -> Callable[[Lines], Lines]:
    """Puts text after the image of a line."""

    def change(lines: Lines) -> Lines:
        lines[line - 1] = f"{lines[line - 1].partition(',')[0]},{text}"
        return lines

    return change


def without(first: int, last: int) -> Callable[[Lines], Lines]:
    return lambda lines: lines[: first - 1] + lines[last:]


def moved(line: int, to: int) -> Callable[[Lines], Lines]:
    """Takes a line out; afterwards it is line `to`."""

    def change(lines: Lines) -> Lines:
        lines.insert(to - 1, lines.pop(line - 1))
        return lines

    return change


def again(line: int, at: int) -> Callable[[Lines], Lines]:
    return lambda lines: [*lines[: at - 1], lines[line - 1], *lines[at - 1 :]]


def head(text: str) -> Callable[[Lines], Lines]:
    return lambda lines: [text, *lines[1:]]


def column(k: int, text: str, first: int, last: int) -> Callable[[Lines], Lines]:
    """One value in a column (1: the first after the image) of some lines."""

    def change(lines: Lines) -> Lines:
        for i in range(first - 1, last):
            cells = lines[i].split(",")
            lines[i] = ",".join([*cells[:k], text, *cells[k + 1 :]])
        return lines

    return change


def renamed(old: str, new: str) -> Callable[[Lines], Lines]:
    return lambda lines: [line.replace(f"{old}/", f"{new}/") for line in lines]


def ended(lines: Lines, end: str = "\n") -> bytes:
    return "".join(line + end for line in lines).encode()


# ---- answers ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", HEADER)
def test_a_fit_file_has_no_fault(tmp_path, task):
    warnings: list[Fault] = []
    assert found(tmp_path, task, answer(task), warnings=warnings) == []
    assert warnings == []


@pytest.mark.parametrize("edges", ["1.000000,-1.000000", "-0.000000,0.000000", "0.999999,-0.999999"])
def test_the_edges_of_the_range_are_in_it(tmp_path, edges):
    assert found(tmp_path, "va", cell(9, edges)(answer("va"))) == []


@pytest.mark.parametrize("decimals", [1, 3, 6])
def test_fewer_decimals_are_fit_if_all_have_as_many(tmp_path, decimals):
    rng = np.random.default_rng(1)
    values = rng.uniform(-1, 1, (len(LOCATIONS), 2))
    lines = [HEADER["va"], *(f"{x},{v:.{decimals}f},{a:.{decimals}f}" for x, (v, a) in zip(LOCATIONS, values, strict=True))]
    assert found(tmp_path, "va", lines) == []


ORDER = [  # whatever the task: name, change, places, what is said of the first
    ("row missing", without(11, 11), [(10, 10)], "want one/00010.jpg after this line, got no such row"),
    ("first row missing", without(2, 2), [(1, 1)], "want one/00001.jpg after this line"),
    ("last row missing", without(81, 81), [(80, 80)], "want three/00005.jpg after this line"),
    ("rows missing", without(40, 43), [(39, 39)], "want one/00039.jpg to two_left/00002.jpg (4 rows) after this line"),
    ("two holes", lambda lines: without(5, 5)(without(9, 10)(lines)), [(4, 4), (7, 7)], "want one/00004.jpg after this line"),
    ("no rows", without(2, 81), [(1, 1)], "want one/00001.jpg to three/00005.jpg (80 rows) after this line"),
    ("doubled", again(7, 8), [(8, 8)], "want each row once, got one/00006.jpg as in line 7"),
    ("doubled far off", again(7, 60), [(60, 60)], "want each row once, got one/00006.jpg as in line 7"),
    ("reordered, later", moved(7, 12), [(12, 12)], "want the template's order, got one/00006.jpg, line 7 of the template"),
    ("reordered, earlier", moved(12, 7), [(7, 7)], "want the template's order, got one/00011.jpg, line 12 of the template"),
    (
        "videos in another order",
        lambda x: [x[0], *x[41:76], *x[1:41], *x[76:]],
        [(2, 36)],
        "want the template's order, got two_left/00001.jpg",
    ),
    ("wrong video", renamed("three", "four"), [(76, 76), (77, 81)], "want three/00001.jpg to three/00005.jpg (5 rows) after this line"),
    (
        "wrong image",
        lambda x: [*x, x[-1].replace("00005", "00006")],
        [(82, 82)],
        "want an image of three that the template has, got 00006.jpg",
    ),
    ("wrong padding", lambda x: [line.replace("one/00003", "one/3") for line in x], [(3, 3), (4, 4)], "want one/00003.jpg after this line"),
    ("no image", lambda x: [*x[:9], "0.5,0.5", *x[9:]], [(10, 10)], "want a row like video/00001.jpg, got '0.5'"),
    ("blank line", lambda x: [*x[:9], "", *x[9:]], [(10, 10)], "want a row, got a line without an image"),
    ("blank line at the end", lambda x: [*x, ""], [(82, 82)], "want a row, got a line without an image"),
    ("two headers", lambda x: [*x, x[0]], [(82, 82)], "want one header, got it again"),
    ("header", head("image,valence,arousal"), [(1, 1)], "want the header image_location,"),
    ("header in another case", lambda x: head(x[0].upper())(x), [(1, 1)], "want the header image_location,"),
    ("header with a space", lambda x: head(x[0] + " ")(x), [(1, 1)], "want the header image_location,"),
    ("no header", without(1, 1), [(1, 1)], "want the header image_location,"),
    ("BOM", lambda x: b"\xef\xbb\xbf" + ended(x), [(1, 1)], "want UTF-8 without a byte order mark"),
    ("CRLF", lambda x: ended(x, "\r\n"), [(1, 81)], "want lines that end in LF, got CR LF"),
    ("one CRLF", lambda x: [*x[:9], x[9] + "\r", *x[10:]], [(10, 10)], "want lines that end in LF, got CR LF"),
    ("no last line end", lambda x: ended(x)[:-1], [(81, 81)], "want a line end after the last row"),
    ("empty", lambda x: b"", [(1, 1)], "got an empty file"),
    ("only a line end", lambda x: b"\n", [(1, 1), (1, 1)], "want one/00001.jpg to three/00005.jpg (80 rows) after this line"),
    ("no UTF-8", lambda x: ended(x).replace(b"three/00002", b"thr\xe9e/00002"), [(77, 77), (78, 78), (78, 78)], "want three/00002.jpg"),
]


@pytest.mark.parametrize("task", HEADER)
@pytest.mark.parametrize(("change", "places", "said"), [case[1:] for case in ORDER], ids=[case[0] for case in ORDER])
def test_a_fault_of_rows_is_refused_with_its_place(tmp_path, task, change, places, said):
    faults = found(tmp_path, task, change(answer(task)))
    assert [(fault.line, fault.last) for fault in faults] == places
    assert said in faults[0].text
    assert "; " in faults[0].text  # and what to do


UNITS = ",".join("01" * 6)
VALUES = [  # task, name, change, places, what is said of the first
    ("va", "NaN", cell(20, "nan,0.500000"), [(20, 20)], "want for valence a finite number in plain notation, got 'nan'"),
    ("va", "infinite", cell(20, "0.500000,-inf"), [(20, 20)], "want for arousal a finite number in plain notation, got '-inf'"),
    ("va", "1.01", cell(20, "0.500000,1.010000"), [(20, 20)], "want for arousal a number in [-1, 1], got '1.010000'"),
    ("va", "just above", cell(20, "-1.000001,0.500000"), [(20, 20)], "want for valence a number in [-1, 1], got '-1.000001'"),
    ("va", "the mark", cell(20, "-5,-5"), [(20, 20)], "want a prediction, got the mark -5 of a frame without one"),
    ("va", "the mark with decimals", cell(20, "-5.000000,0.500000"), [(20, 20)], "got the mark -5"),
    ("va", "fewer decimals", cell(20, "0.50,0.500000"), [(20, 20)], "want for valence 6 decimals as most rows have, got '0.50'"),
    ("va", "more decimals", cell(20, "0.500000,0.5000001"), [(20, 20)], "want for arousal at most 6 decimals, got '0.5000001'"),
    ("va", "no decimals", cell(20, "0,0.500000"), [(20, 20)], "want for valence 6 decimals as most rows have, got '0'"),
    ("va", "too many everywhere", lambda x: [x[0], *(line + "1" for line in x[1:])], [(2, 81)], "want for arousal at most 6 decimals"),
    ("va", "exponent", cell(20, "5.000000e-01,0.500000"), [(20, 20)], "in plain notation, got '5.000000e-01'"),
    ("va", "plus", cell(20, "+0.500000,0.500000"), [(20, 20)], "in plain notation, got '+0.500000'"),
    ("va", "space", cell(20, "0.500000, 0.500000"), [(20, 20)], "in plain notation, got ' 0.500000'"),
    ("va", "no zero", cell(20, ".500000,0.500000"), [(20, 20)], "in plain notation, got '.500000'"),
    ("va", "two zeros", cell(20, "00.500000,0.500000"), [(20, 20)], "in plain notation, got '00.500000'"),
    ("va", "foreign digits", cell(20, "0.٥00000,0.500000"), [(20, 20)], "in plain notation"),
    ("va", "comma decimals", cell(20, "0,500000,0,500000"), [(20, 20)], "want the cells valence,arousal after the image, got 4:"),
    ("va", "extra column", cell(20, "0.500000,0.500000,"), [(20, 20)], "want the cells valence,arousal after the image, got 3:"),
    ("va", "column missing", cell(20, "0.500000"), [(20, 20)], "want the cells valence,arousal after the image, got 1: '0.500000'; add"),
    ("va", "not filled in", cell(20, ""), [(20, 20)], "want the cells valence,arousal after the image, got 0:"),
    ("va", "both cells", cell(20, "nan,1.010000"), [(20, 20), (20, 20)], "want for arousal a number in [-1, 1], got '1.010000'"),
    (
        "va",
        "constant valence",
        column(1, "0.250000", 2, 41),
        [(2, 2)],
        "want valence that changes within one, got 0.250000 in all its 40 rows",
    ),
    ("va", "constant arousal", column(2, "0.250000", 42, 76), [(42, 42)], "want arousal that changes within two_left, got 0.250000"),
    (
        "va",
        "constant zero",
        lambda x: column(1, "-0.000000", 9, 20)(column(1, "0.000000", 2, 41)(x)),
        [(2, 2)],
        "want valence that changes",
    ),
    ("va", "all constant", column(1, "0.250000", 2, 81), [(2, 2), (42, 42)], "want valence that changes within one"),
    ("va", "a run of marks", lambda x: column(1, "-5", 20, 29)(column(2, "-5", 20, 29)(x)), [(20, 29)], "got the mark -5"),
    ("expr", "NaN", cell(20, "nan"), [(20, 20)], "want for expression a finite number in plain notation, got 'nan'"),
    ("expr", "8", cell(20, "8"), [(20, 20)], "want for expression a whole number from 0 to 7, got '8'"),
    ("expr", "the mark", cell(20, "-1"), [(20, 20)], "want a prediction, got the mark -1"),
    ("expr", "negative", cell(20, "-2"), [(20, 20)], "want for expression a whole number from 0 to 7, got '-2'"),
    ("expr", "decimals", cell(20, "3.0"), [(20, 20)], "want for expression a whole number without decimals, got '3.0'"),
    ("expr", "minus zero", cell(20, "-0"), [(20, 20)], "want for expression a whole number without decimals, got '-0'"),
    ("expr", "two zeros", cell(20, "03"), [(20, 20)], "in plain notation, got '03'"),
    ("expr", "a name", cell(20, "Happiness"), [(20, 20)], "in plain notation, got 'Happiness'"),
    ("expr", "one hot", cell(20, "0,0,0,1,0,0,0,0"), [(20, 20)], "want the cells expression after the image, got 8:"),
    ("expr", "extra column", cell(20, "3,"), [(20, 20)], "want the cells expression after the image, got 2:"),
    ("expr", "constant", column(1, "4", 2, 81), [(2, 2)], "want more than one value in the file, got 4 in all rows"),
    ("au", "NaN", cell(20, UNITS.replace("1", "nan", 1)), [(20, 20)], "want for AU2 a finite number in plain notation, got 'nan'"),
    ("au", "2", cell(20, UNITS[:-1] + "2"), [(20, 20)], "want for AU26 0 or 1, got '2'"),
    ("au", "the mark", cell(20, UNITS.replace("1", "-1", 1)), [(20, 20)], "want a prediction, got the mark -1"),
    ("au", "decimals", cell(20, UNITS[:-1] + "1.0"), [(20, 20)], "want for AU26 a whole number without decimals, got '1.0'"),
    ("au", "a probability", cell(20, UNITS[:-1] + "0.7"), [(20, 20)], "want for AU26 a whole number without decimals, got '0.7'"),
    ("au", "extra column", cell(20, UNITS + ",1"), [(20, 20)], "after the image, got 13:"),
    ("au", "column missing", cell(20, UNITS[2:]), [(20, 20)], "after the image, got 11:"),
    (
        "au",
        "constant",
        lambda x: [x[0], *(f"{at},{UNITS}" for at in LOCATIONS)],
        [(2, 2)],
        f"want more than one value in the file, got {UNITS}",
    ),
]


@pytest.mark.parametrize(("task", "change", "places", "said"), [(c[0], *c[2:]) for c in VALUES], ids=[f"{c[0]} {c[1]}" for c in VALUES])
def test_a_fault_of_values_is_refused_with_its_place(tmp_path, task, change, places, said):
    faults = found(tmp_path, task, change(answer(task)))
    assert [(fault.line, fault.last) for fault in faults] == places
    assert said in faults[0].text
    assert "; " in faults[0].text


def test_all_faults_are_said_each_with_its_place(tmp_path):
    lines = cell(30, "nan,0.500000")(answer("va"))
    lines = cell(31, "0.500000,2.000000")(lines)
    lines = without(50, 50)(again(60, 61)(lines))
    faults = found(tmp_path, "va", b"\xef\xbb\xbf" + ended(head("a,b")(lines))[:-1])
    assert [fault.line for fault in faults] == [1, 1, 30, 31, 49, 60, 81]
    assert [str(fault).startswith(f"{tmp_path / 'answer.txt'}: line {fault.line}: want ") for fault in faults] == [True] * 7


def test_lines_of_one_fault_are_one_fault(tmp_path):
    """Ten NaN, a good row, then one more: two faults, however long the first is."""
    lines = answer("va")
    for line in (*range(10, 20), 21):
        lines = cell(line, "nan,0.500000")(lines)
    faults = found(tmp_path, "va", lines)
    assert [fault.place for fault in faults] == ["lines 10 to 19", "line 21"]


def test_a_short_video_may_be_constant_and_so_may_one_that_is_excused(tmp_path):
    lines = column(1, "0.250000", 77, 81)(answer("va"))
    assert ROWS["three"] < CONSTANT_ROWS <= ROWS["two_left"]
    assert found(tmp_path, "va", lines) == []
    lines = column(1, "0.250000", 42, 76)(lines)
    assert len(found(tmp_path, "va", lines)) == 1
    assert found(tmp_path, "va", lines, constant=["two_left"]) == []
    assert len(found(tmp_path, "va", lines, constant=["one"])) == 1


@pytest.mark.parametrize(("task", "cells"), [("expr", "4"), ("au", UNITS)])
def test_a_constant_video_of_classes_is_a_warning(tmp_path, task, cells):
    lines = answer(task)
    for line in range(42, 77):
        lines = cell(line, cells)(lines)
    warnings: list[Fault] = []
    assert found(tmp_path, task, lines, warnings=warnings) == []
    assert [(w.line, w.text.partition(";")[0]) for w in warnings] == [
        (42, f"two_left: {'expression' if task == 'expr' else 'action units'} is {cells} in all its 35 rows")
    ]


def test_a_file_that_is_not_there_is_named(tmp_path):
    found(tmp_path, "va", answer("va"))
    with pytest.raises(ManifestError, match=r"none\.txt: want a readable file of predictions, got No such file"):
        check(VA, tmp_path / "none.txt", tmp_path / "template.txt")


def test_fewest_rows_are_said_to_be_out_of_order():
    """What is left rises, and no larger rising choice exists (the quadratic recurrence)."""
    rng = np.random.default_rng(2)
    for _ in range(200):
        values = rng.permutation(rng.integers(1, 25)).tolist()
        kept = np.array(values)[_rising(values)]
        assert (np.diff(kept) > 0).all()
        longest: list[int] = []
        for i, value in enumerate(values):
            longest.append(1 + max((longest[j] for j in range(i) if values[j] < value), default=0))
        assert len(kept) == max(longest)
    assert _rising([]).tolist() == []


# ---- templates --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "{h}\na/00001.jpg,\na/00002.jpg,\nb_left/00001.jpg,\n",
        "{h}\na/00001.jpg\na/00002.jpg\nb_left/00001.jpg",
        "{h}\r\na/00001.jpg,\r\na/00002.jpg,\r\nb_left/00001.jpg,\r\n",
        "\ufeff{h}\na/00001.jpg,0,0\na/00002.jpg,-5,-5\nb_left/00001.jpg,,\n\n \n",
    ],
    ids=["plain", "no comma", "CRLF", "BOM, dummy values, blank end"],
)
@pytest.mark.parametrize("task", HEADER)
def test_a_template_in_each_of_its_guises(tmp_path, task, content):
    path = tmp_path / "template.txt"
    path.write_bytes(content.format(h=HEADER[task]).encode())
    found = read_template(TASKS[task], path)
    assert found.header == HEADER[task]
    assert found.locations == ["a/00001.jpg", "a/00002.jpg", "b_left/00001.jpg"]
    assert found.streams == ["a", "b_left"]
    assert (found.stream.tolist(), found.frame.tolist()) == ([0, 0, 1], [0, 1, 0])
    assert task_of(path, TASKS) is TASKS[task]


def test_rows_of_a_template_keep_the_organisers_order(tmp_path):
    (tmp_path / "t.txt").write_text("image_location,expression\nb/00012.jpg,\na/00003.png,\nb/00002.jpg,\n")
    found = read_template(EXPR, tmp_path / "t.txt")
    assert found.header == "image_location,expression"
    assert (found.streams, found.stream.tolist(), found.frame.tolist()) == (["b", "a"], [0, 1, 0], [11, 2, 1])
    assert task_of(tmp_path / "t.txt", TASKS) is EXPR


def test_a_header_of_two_tasks_is_of_neither(tmp_path):
    two = {name: Classes(name, name, -1, column=name, names=("low", "high")) for name in ("calm", "tired")}
    (tmp_path / "t.txt").write_text("image_location,low,high\na/00001.jpg,\n")
    said = "t.txt: line 1: want the header of one task, got that of calm and tired; write image_location,calm or image_location,tired"
    with pytest.raises(ManifestError, match=said):
        task_of(tmp_path / "t.txt", two)
    (tmp_path / "t.txt").write_text("image_location,tired\na/00001.jpg,\n")
    assert task_of(tmp_path / "t.txt", two) is two["tired"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1: want the header image_location,valence,arousal, got an empty file"),
        ("a/00001.jpg,\n", "line 1: want the header image_location,valence,arousal, got 'a/00001.jpg,'"),
        (f"{HEADER['expr']}\na/00001.jpg,\n", "line 1: want the header image_location,valence,arousal, got 'image_location,Neutral"),
        (f"{HEADER['va']}\n\n", "want a row an image below the header, got none"),
        (f"{HEADER['va']}\na/00001.jpg,\n\na/00002.jpg,\n", "line 3: want a row like video/00001.jpg, with images from 1 on, got ''"),
        (f"{HEADER['va']}\na/00001.jpg,\n00002.jpg,\n", "line 3: want a row like video/00001.jpg, with images from 1 on, got '00002.jpg,'"),
        (f"{HEADER['va']}\na/00000.jpg,\n", "line 2: want a row like video/00001.jpg"),
        (f"{HEADER['va']}\na/frame1.jpg,\n", "line 2: want a row like video/00001.jpg"),
        (f"{HEADER['va']}\na/00001.txt,\n", "line 2: want a row like video/00001.jpg"),
        (f"{HEADER['va']}\na/٠٠٠٠١.jpg,\n", "line 2: want a row like video/00001.jpg"),
        (f"{HEADER['va']}\n../00001.jpg,\n", "line 2: want a row like video/00001.jpg"),
        (f"{HEADER['va']}\nx/../a/00001.jpg,\n", "line 2: want a row like video/00001.jpg"),
        (f"{HEADER['va']}\n/00001.jpg,\n", "line 2: want a row like video/00001.jpg"),
        (f"{HEADER['va']}\n{'a' * 181}/00001.jpg,\n", "line 2: want a row like video/00001.jpg"),
        (f"{HEADER['va']}\na/12345678.jpg,\n", "line 2: want a row like video/00001.jpg"),
        (
            f"{HEADER['va']}\na/00001.jpg,\nb/00001.jpg,\na/00001.jpg,\nb/1.jpg,\n",
            "line 4: want each image once, got a/00001.jpg as in line 2",
        ),
        (f"{HEADER['va']}\na/00001.jpg,\nb/00001.jpg,\nb/1.jpg,\n", "line 4: want each image once, got b/1.jpg as in line 3"),
    ],
)
def test_a_fault_of_a_template_names_file_and_line(tmp_path, content, said):
    path = tmp_path / "template.txt"
    path.write_text(content)
    with pytest.raises(ManifestError) as caught:
        read_template(VA, path)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "; " in str(caught.value)


def test_a_template_that_is_not_there_or_of_no_task_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"none\.txt: want a readable template, got No such file"):
        read_template(VA, tmp_path / "none.txt")
    (tmp_path / "t.txt").write_text("image_location,laughter\na/00001.jpg,\n")
    with pytest.raises(
        ManifestError, match=r"t\.txt: line 1: want the header image_location,valence,arousal or .*, got 'image_location,la"
    ):
        task_of(tmp_path / "t.txt", TASKS)
