"""Labels that tell times: ELAN, TextGrid and CSV give one record, which lands on the frames that are shown at those times."""

import codecs
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import InputError, ManifestError
from affpipe.data.annotation_files import on_frames
from affpipe.data.annotation_files.forms import LARGEST, read, read_tiers, tells_times
from affpipe.data.annotation_files.intervals import Intervals
from affpipe.data.annotation_files.timed import Timed
from affpipe.media.probe import probe

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" FORMAT="3.0" VERSION="3.0">\n'
MEDIA = '<HEADER TIME_UNITS="milliseconds"><MEDIA_DESCRIPTOR MEDIA_URL="file:///home/a%20b/clip.mp4"{}/>{}</HEADER>\n'


def slots(**times: object) -> str:
    told = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{id}"{"" if time is None else f" TIME_VALUE={chr(34)}{time}{chr(34)}"}/>' for id, time in times.items()
    )
    return f"<TIME_ORDER>{told}</TIME_ORDER>\n"


def tier(name: str, *annotations: str) -> str:
    own = "\n".join(f"<ANNOTATION>{annotation}</ANNOTATION>" for annotation in annotations)
    return f'<TIER LINGUISTIC_TYPE_REF="t" TIER_ID="{name}">{own}</TIER>\n'


def aligned(id: str, first: str, last: str, value: str) -> str:
    ends = f'TIME_SLOT_REF1="{first}" TIME_SLOT_REF2="{last}"'
    return f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="{id}" {ends}><ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>'


def refers(id: str, to: str, value: str) -> str:
    return f'<REF_ANNOTATION ANNOTATION_ID="{id}" ANNOTATION_REF="{to}"><ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION>'


def eaf(*parts: str, media: str = MEDIA.format("", "")) -> str:
    return HEAD + media + "".join(parts) + "</ANNOTATION_DOCUMENT>\n"


WHOLE = eaf(
    slots(ts1=400, ts2=1200, ts3=2000),
    tier(
        "expr",
        aligned("a2", "ts2", "ts3", " Sadness\n"),
        aligned("a1", "ts1", "ts2", "Happiness &amp; joy"),
        aligned("a3", "ts1", "ts3", " "),
    ),
    tier("sure", refers("a4", "a1", "yes"), refers("a5", "a2", "no")),
    tier("surest", refers("a6", "a5", "no")),
)

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 2.5 
tiers? <exists> 
size = 2 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "expr" 
        xmin = 0 
        xmax = 2.5 
        intervals: size = 4 
        intervals [1]:
            xmin = 0 
            xmax = 0.4 
            text = "" 
        intervals [2]:
            xmin = 0.4 
            xmax = 1.2 
            text = "said ""ah"" 3 ! <x>" 
        intervals [3]:
            xmin = 1.2 
            xmax = 2e0 
            text = "Sadness
" 
        intervals [4]:
            xmin = 2 
            xmax = 2.5 
            text = " " 
    item [2]:
        class = "TextTier" 
        name = "clicks" 
        xmin = 0 
        xmax = 2.5 
        points: size = 1 
        points [1]:
            number = 0.5 
            mark = "click" 
"""
SHORT = '''File type = "ooTextFile"
"TextGrid"

0
2.5
<exists>
2
"IntervalTier"
"expr"
0
2.5
4
0
0.4
""
0.4
1.2
"said ""ah"" 3 ! <x>"
1.2
2e0
"Sadness
"
2
2.5
" "
"TextTier" ! points
"clicks"
0 2.5
1
0.5 "click"
'''  # fmt: skip


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def told(intervals: Intervals) -> list[tuple[float, float, str]]:
    assert intervals.start_s.dtype == intervals.end_s.dtype == np.float64
    return list(zip(intervals.start_s.tolist(), intervals.end_s.tolist(), intervals.values, strict=True))


# ---- intervals --------------------------------------------------------------------------------------------------------------------------


def test_a_tier_of_elan_is_sorted_and_has_no_blanks(tmp_path):
    own = read(file(tmp_path, "a.eaf", WHOLE), "expr")
    assert told(own) == [(0.4, 1.2, "Happiness & joy"), (1.2, 2.0, "Sadness")]
    assert (own.tier, own.where, len(own)) == ("expr", ("annotation a1", "annotation a2"), 2)


@pytest.mark.parametrize(("name", "want"), [("sure", [(0.4, 1.2, "yes"), (1.2, 2.0, "no")]), ("surest", [(1.2, 2.0, "no")])])
def test_an_annotation_that_refers_to_another_has_its_times(tmp_path, name, want):
    assert told(read(file(tmp_path, "a.eaf", WHOLE), name)) == want


@pytest.mark.parametrize("content", [WHOLE.replace("\n", "\r\n"), "\ufeff" + WHOLE, WHOLE.replace("UTF-8", "UTF-16").encode("utf-16")])
def test_elan_in_each_of_its_guises(tmp_path, content):
    assert told(read(file(tmp_path, "a.EAF", content), "expr")) == [(0.4, 1.2, "Happiness & joy"), (1.2, 2.0, "Sadness")]


ONE = (slots(ts1=400, ts2=1200), tier("x", aligned("a1", "ts1", "ts2", "yes")))


@pytest.mark.parametrize(
    ("descriptors", "media", "start_s"),
    [
        ("", "", 0.4),
        (MEDIA.format(' TIME_ORIGIN="1500"', ""), "", 1.9),
        (MEDIA.format(' TIME_ORIGIN="-500"', ""), "another.mp4", -0.1),
        (MEDIA.format(' TIME_ORIGIN="1500"', '<MEDIA_DESCRIPTOR MEDIA_URL="clip.wav"/>'), "clip.wav", 0.4),
        (MEDIA.format(' TIME_ORIGIN="1500"', '<MEDIA_DESCRIPTOR RELATIVE_MEDIA_URL="./clip.wav"/>'), "clip.mp4", 1.9),
        (MEDIA.format(' TIME_ORIGIN="1500"', '<MEDIA_DESCRIPTOR MEDIA_URL="room.wav"/>'), "clip.mkv", 1.9),
    ],
)
def test_times_of_elan_are_those_of_the_media_that_was_shifted(tmp_path, descriptors, media, start_s):
    """ELAN shows a media whose origin is 1500 ms at its second 1.5 where the annotations begin."""
    own = read(file(tmp_path, "a.eaf", eaf(*ONE, media=descriptors)), media=media)
    assert own.start_s.tolist() == pytest.approx([start_s])
    assert own.end_s - own.start_s == pytest.approx(0.8)


@pytest.mark.parametrize("content", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("guise", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "CRLF", "CR", "old short"])
def test_a_textgrid_in_each_of_its_guises(tmp_path, content, guise):
    if guise.startswith("utf-16"):
        content = (codecs.BOM_UTF16_LE if guise.endswith("le") else codecs.BOM_UTF16_BE) + content.encode(guise)
    elif guise.startswith("utf"):
        content = content.encode(guise)
    else:
        content = content.replace("\n", {"CRLF": "\r\n", "CR": "\r"}.get(guise, "\n")).replace(
            "ooTextFile", "ooTextFile" + guise.removeprefix("old") * guise.startswith("old")
        )
    assert told(read(file(tmp_path, "a.TextGrid", content), "expr")) == [(0.4, 1.2, 'said "ah" 3 ! <x>'), (1.2, 2.0, "Sadness")]


TABLES = {
    "plain": "start,end,value\n0.4,1.2,Happiness\n1.2,2,Sadness\n",
    "other names, CRLF, mark": "\ufeff END_S , Start_S,note,Value\r\n1.2,.4,x,Happiness\r\n2e0,1.2,,Sadness\r\n",
    "unsorted, blank rows and values": 'value,start,end,\nSadness,1.2,2,\n,0,9,\n,,,\n"Happiness",0.4,1.2,\n',
    "a tier": "start,end,track,value\n0.4,1.2,expr,Happiness\n1.2,2,expr,Sadness\n",
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_of_intervals_in_each_of_its_guises(tmp_path, case):
    assert told(read(file(tmp_path, "a.csv", TABLES[case]))) == [(0.4, 1.2, "Happiness"), (1.2, 2.0, "Sadness")]


def test_which_tier_is_meant(tmp_path):
    table = file(tmp_path, "a.csv", "start,end,value,tier\n0,1,a,Expr\n0,1,b,other\n0,1,c,e\u0301\n")
    assert read(table, "other").values == ("b",)
    assert read(table, prefer="expr").values == ("a",)
    assert read(table, "é").values == ("c",)  # as one character, or as e and an accent
    with pytest.raises(ManifestError, match=r"a\.csv: want one tier, or one named va, got 'Expr', 'other', .*; name one of them"):
        read(table, prefer="va")
    with pytest.raises(ManifestError, match=r"a\.csv: want the tier 'expr', got 'Expr', 'other', .*; name one of them"):
        read(table, "expr")


def test_several_tiers_of_one_file(tmp_path):
    table = file(tmp_path, "a.csv", "start,end,value,tier\n0,1,1,au12\n0,1,1,AU4\n0,1,x,notes\n0,2,y,notes\n")
    own, others = read_tiers(table, ("AU1", "AU4", "AU12"))
    assert {name: told(tier) for name, tier in own.items()} == {"AU4": [(0, 1, "1")], "AU12": [(0, 1, "1")]}
    assert others == ["notes"]
    with pytest.raises(ManifestError, match=r"a\.csv: want one tier Au4, got AU4 and au4; rename one"):
        read_tiers(file(tmp_path, "b.csv", "start,end,value,tier\n0,1,1,AU4\n0,1,1,au4\n").rename(table), ("Au4",))
    with pytest.raises(ManifestError, match=r"a\.csv: want one tier AU4, got AU4 and au4; rename one"):  # though one is named exactly so
        read_tiers(table, ("AU4",))
    with pytest.raises(ManifestError, match=r"a\.csv: want a tier of AU1, AU2, got 'AU4', 'au4'; give the tiers these names"):
        read_tiers(table, ("AU1", "AU2"))


def test_only_the_tier_that_is_asked_for_is_checked(tmp_path):
    path = file(
        tmp_path, "a.eaf", eaf(slots(a=0, b=None, c=2000), tier("x", aligned("a1", "a", "b", "?")), tier("y", aligned("a2", "a", "c", "!")))
    )
    assert told(read(path, "y")) == [(0, 2, "!")]
    with pytest.raises(ManifestError, match="tier 'x': annotation a1: want times of both ends, got none of its end; give it one"):
        read(path, "x")


# ---- values at a rate of their own ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "time,valence,arousal\n0,0.5,-0.25\n0.1,,nan\n0.3,1e0,-1\n",
        "\ufeffvalence, Time_S ,arousal,\r\n0.5,0,-.25,\r\nNaN,0.1,,\r\n1,0.3,-1,\r\n\r\n",
    ],
    ids=["plain", "mark, CRLF, other order"],
)
def test_timed_values_in_each_of_their_guises(tmp_path, content):
    timed = read(file(tmp_path, "a.csv", content))
    assert (timed.columns, len(timed)) == (("valence", "arousal"), 3)
    assert (timed.times_s.dtype, timed.values.dtype) == (np.float64, np.float64)
    assert timed.times_s.tolist() == [0, 0.1, 0.3]
    np.testing.assert_array_equal(timed.values, [[0.5, -0.25], [np.nan, np.nan], [1, -1]])


def test_columns_of_timed_values_are_taken_by_name(tmp_path):
    path = file(tmp_path, "a.csv", "time,who,Arousal,valence\n0,ann,1,2\n")
    assert read(path, columns=("valence", "arousal")).values.tolist() == [[2, 1]]
    with pytest.raises(ManifestError, match="line 1: want time and anger, got no anger in 'time,who,Arousal,valence'"):
        read(path, columns=("anger",))


def test_what_tells_times_is_known_by_its_suffix_and_a_table_by_its_header(tmp_path):
    contents = {"a.csv": "time,x\n", "b.csv": "Start;End;Value\n", "c.csv": "valence,arousal\n", "d.txt": "time,x\n", "e.csv": ""}
    assert [tells_times(file(tmp_path, name, content)) for name, content in contents.items()] == [True, True, False, False, False]
    assert [tells_times(Path(name)) for name in ("x.EAF", "x.TextGrid", "x.mp4")] == [True, True, False]


# ---- faults -----------------------------------------------------------------------------------------------------------------------------

BROKEN = {  # name -> file name, content, what the line says
    "ELAN, empty": ("a.eaf", "", "line 1: want an ELAN file (XML), got no element found; save or copy it again"),
    "ELAN, truncated": ("a.eaf", WHOLE[:700], "line 7: want an ELAN file (XML), got unclosed token; save or copy it again"),
    "ELAN, binary": ("a.eaf", bytes(range(256)), "line 1: want an ELAN file (XML), got"),
    "ELAN, another encoding": ("a.eaf", WHOLE.replace("UTF-8", "klingon"), "want an ELAN file"),
    "ELAN, another root": ("a.eaf", "<html/>", "want an ELAN file, which begins with ANNOTATION_DOCUMENT, got html; name the .eaf file"),
    "ELAN, no tier": ("a.eaf", eaf(slots(a=1)), "want the tier 'x', got none; save it with its intervals"),
    "ELAN, frames for times": (
        "a.eaf",
        eaf(*ONE, media=MEDIA.format("", "").replace("milliseconds", "PAL-frames")),
        "want times in milliseconds, got PAL-frames; save it in ELAN again",
    ),
    "ELAN, words for a time": (
        "a.eaf",
        eaf(slots(ts1="soon", ts2=2), ONE[1]),
        "want whole milliseconds in TIME_SLOT, got 'soon'; save it in ELAN again",
    ),
    "ELAN, two tiers of a name": (
        "a.eaf",
        eaf(ONE[0], tier("x"), tier("x")),
        "want TIER_ID once, got 'x' a second time; save it in ELAN again",
    ),
    "ELAN, no id": (
        "a.eaf",
        eaf(ONE[1].replace("ANNOTATION_ID", "ID")),
        "want ANNOTATION_ID of each ALIGNABLE_ANNOTATION, got one without;",
    ),
    "ELAN, a slot that is not there": (
        "a.eaf",
        eaf(ONE[1]),
        "want times of annotation a1, got a reference that leads to none; save it in ELAN",
    ),
    "ELAN, references in a circle": (
        "a.eaf",
        eaf(ONE[0], tier("x", refers("a1", "a2", "x"), refers("a2", "a1", "x"))),
        "want times of annotation a1, got a reference that leads to none; save it in ELAN again",
    ),
    "ELAN, reversed": (
        "a.eaf",
        eaf(ONE[0], tier("x", aligned("a7", "ts2", "ts1", "y"))),
        "tier 'x': annotation a7: want an end after its start, got 1.2 to 0.4 s; mend it",
    ),
    "ELAN, overlapping": (
        "a.eaf",
        eaf(slots(a=0, b=1000, c=2000), tier("x", aligned("a1", "a", "c", "y"), aligned("a2", "b", "c", "n"))),
        "tier 'x': annotation a2: want intervals that do not overlap, got 1 to 2 s beside annotation a1, 0 to 2 s; mend one of them",
    ),
    "ELAN, symbols within one annotation": (
        "a.eaf",
        eaf(ONE[0], tier("y", aligned("a1", "ts1", "ts2", "y")), tier("x", refers("a2", "a1", "x"), refers("a3", "a1", "x"))),
        "tier 'x': annotation a3: want intervals that do not overlap, got 0.4 to 1.2 s beside annotation a2, 0.4 to 1.2 s;",
    ),
    "ELAN, media shifted apart": (
        "a.eaf",
        eaf(*ONE, media=MEDIA.format(' TIME_ORIGIN="1500"', '<MEDIA_DESCRIPTOR MEDIA_URL="a.wav"/>')),
        "want one TIME_ORIGIN, got clip.mp4 1.5 s, a.wav 0 s; name its media as the video",
    ),
    "Praat, empty": ("a.TextGrid", "", "line 1: want a TextGrid (ooTextFile), got ''; save it in Praat again, as a text file"),
    "Praat, truncated": ("a.TextGrid", LONG[:480], "line 24: want the start of interval 3 of tier 'expr', got the end of the file;"),
    "Praat, broken within a text": (
        "a.TextGrid",
        LONG[: LONG.index('""ah')],
        "line 22: want the text of interval 2 of tier 'expr', got the end of the file",
    ),
    "Praat, another object": (
        "a.TextGrid",
        LONG.replace("TextGrid", "Sound"),
        "want a TextGrid (ooTextFile), got 'File type = \"ooTextFile\"';",
    ),
    "Praat, binary": (
        "a.TextGrid",
        b"ooBinaryFile\x08TextGrid\0\0",
        "want a TextGrid as text, got a binary one; save it in Praat again, as",
    ),
    "Praat, bytes": ("a.TextGrid", bytes(range(128, 256)), "got bytes in line 1 that are not UTF-8; save it as text in UTF-8"),
    "Praat, half of UTF-16": ("a.TextGrid", LONG.encode("utf-16")[:-1], "want a readable annotation file, got UTF-16 that breaks off;"),
    "Praat, UTF-16 without its mark": ("a.TextGrid", LONG.encode("utf-16-be"), "got UTF-16; save it as text in UTF-8"),
    "Praat, words for a number": (
        "a.TextGrid",
        SHORT.replace("\n0.4\n1.2", '\n"no"\n1.2'),
        "line 16: want the start of interval 2 of tier 'expr', got",
    ),
    "Praat, decimal comma": ("a.TextGrid", SHORT.replace("0.4\n1.2", "0,4\n1.2"), "want the end of interval 2 of tier 'expr', got '"),
    "Praat, points": (
        "a.TextGrid",
        LONG.replace('"clicks"', '"x"'),
        "tier 'x': point 1: want an interval, got a point at 0.5 s; give it a length",
    ),
    "Praat, two tiers of a name": (
        "a.TextGrid",
        LONG.replace('"clicks"', '"expr"'),
        "want tiers of different names, got 'expr' twice; rename one",
    ),
    "Praat, another class": (
        "a.TextGrid",
        SHORT.replace("TextTier", "PitchTier"),
        "tier 2: want an IntervalTier or a TextTier, got 'PitchTier'; save it in Praat again, as a text file",
    ),
    "Praat, a time beyond numbers": (
        "a.TextGrid",
        LONG.replace("2e0", "2e999").replace("expr", "x"),
        "tier 'x': interval 3: want seconds, got 1.2 to inf s; mend it",
    ),
    "Praat, more tiers than there are": (
        "a.TextGrid",
        LONG.replace("size = 2", "size = 1e30"),
        "want the class of tier 3, got the end of the file;",
    ),
    "table, empty": (
        "a.csv",
        "",
        "line 1: want the header start,end,value, or time and columns of values, got neither; name the columns there",
    ),
    "table, no header": ("a.csv", "0,1,x\n", "line 1: want the header start,end,value, or time and columns of values, got neither;"),
    "table, binary": ("a.csv", bytes(range(128, 256)), "got bytes in line 1 that are not UTF-8; save it as text in UTF-8"),
    "table, UTF-16": ("a.csv", TABLES["plain"].encode("utf-16"), "got UTF-16; save it as text in UTF-8"),
    "table, semicolons": (
        "a.csv",
        "start;end;value\n0;1;x\n",
        "line 1: want the header start,end,value, got 'start;end;value'; separate cells by commas, and write decimals with a point",
    ),
    "table, no values": (
        "a.csv",
        "start,end,label\n0,1,x\n",
        "line 1: want start,end,value, got no value in 'start,end,label'; name the columns in line 1",
    ),
    "table, two starts": ("a.csv", "start,start_s,end,value\n", "line 1: want start,end,value, got start and start_s; leave one"),
    "table, decimal comma": ("a.csv", "start,end,value\n0,5,1,0,x\n", "line 2: want 3 cells, got 5; write decimals with a point"),
    "table, decimal comma between quotes": (
        "a.csv",
        'start,end,value\n"0,5",1,x\n',
        "line 2: start: want seconds from 0, got '0,5'; write decimals with a point",
    ),
    "table, a cell less": ("a.csv", "start,end,value\n0,1\n", "line 2: want 3 cells, got 2; give each column its cell"),
    "table, a clock": ("a.csv", "start,end,value\n0:01,0:02,x\n", "line 2: start: want seconds from 0, got '0:01'; mend the line"),
    "table, NaN": ("a.csv", "start,end,value\n0,1,x\n2,nan,x\n", "line 3: end: want seconds from 0, got 'nan'; mend the line"),
    "table, before the beginning": ("a.csv", "start,end,value\n-1,1,x\n", "line 2: start: want seconds from 0, got '-1'; mend the line"),
    "table, reversed": ("a.csv", "start,end,value\n0,1,x\n3,2,x\n", "a.csv: line 3: want an end after its start, got 3 to 2 s; mend it"),
    "table, overlapping": (
        "a.csv",
        "start,end,value\n2,4,x\n0,2.5,y\n",
        "a.csv: line 2: want intervals that do not overlap, got 2 to 4 s beside line 3, 0 to 2.5 s; mend one of them",
    ),
    "table, a quote that is left open": (
        "a.csv",
        'start,end,value\n0,1,"' + "x" * 200_000,
        "want a readable CSV file, got field larger than",
    ),
    "timed, nothing but times": ("a.csv", "time,\n0,\n", "line 1: want time and columns of values, got time alone; add a column of values"),
    "timed, semicolons": (
        "a.csv",
        "time;v\n0;1\n",
        "line 1: want the header time and columns of values, got 'time;v'; separate cells by commas",
    ),
    "timed, words": ("a.csv", "time,v\n0,happy\n", "line 2: v: want a number or an empty cell, got 'happy'; mend the line"),
    "timed, decimal comma": (
        "a.csv",
        'time,v\n0,"-0,5"\n',
        "line 2: v: want a number or an empty cell, got '-0,5'; write decimals with a point",
    ),
    "timed, infinite": ("a.csv", "time,v\n0,1e999\n", "line 2: v: want a number or an empty cell, got '1e999'; mend the line"),
    "timed, no time": ("a.csv", "time,v\n,1\n", "line 2: time: want seconds from 0, got ''; mend the line"),
    "timed, a time twice": (
        "a.csv",
        "time,v\n0,1\n0.5,1\n0.5,2\n",
        "line 4: want times that rise, got 0.5 after 0.5 s; sort the lines, a time once",
    ),
    "timed, backwards": ("a.csv", "time,v\n1,1\n0.5,1\n", "line 3: want times that rise, got 0.5 after 1 s; sort the lines, a time once"),
    "timed, columns of one name": ("a.csv", "time,v,V\n0,1,2\n", "line 1: want time and v, V, got v and V; leave one"),
    "another suffix": ("a.xlsx", b"PK", "want .eaf, .TextGrid or .csv, got '.xlsx'; save it in one of these forms"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_not_as_it_must_be_is_refused_in_one_line(tmp_path, case):
    name, content, said = BROKEN[case]
    path = file(tmp_path, name, content)
    with pytest.raises(ManifestError) as raised:
        read(path, None if name == "a.csv" else "x")
    line = str(raised.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert said in line
    assert ";" in line  # what to do


@pytest.mark.parametrize("name", ["a.eaf", "a.TextGrid", "a.csv"])
def test_a_file_that_is_not_there_or_is_none_is_refused(tmp_path, name):
    with pytest.raises(ManifestError, match="want a readable annotation file, got No such file or directory; check the path"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(ManifestError, match="want a readable annotation file, got Is a directory; check the path"):
        read(tmp_path / name)


def test_a_file_larger_than_any_is_not_read(tmp_path):
    path = tmp_path / "a.eaf"
    with path.open("wb") as empty:
        empty.truncate(LARGEST + (1 << 20))
    with pytest.raises(ManifestError, match=r"a\.eaf: want an annotation file of at most 64 MB, got 65 MB; name the right file"):
        read(path)


SOUND = [
    ("a.eaf", WHOLE.encode()),
    ("a.eaf", WHOLE.replace("UTF-8", "UTF-16").encode("utf-16")),
    ("a.TextGrid", LONG.encode()),
    ("a.TextGrid", SHORT.encode("utf-16")),
    *(("a.csv", content.encode()) for content in TABLES.values()),
    ("a.csv", b"time,v\n0,1\n0.1,nan\n0.2,3\n"),
]
PIECES = [
    *b'"&<>,;\n\r\0\x1d\xff-',
    b"nan",
    b"1e999",
    b"ts1",
    b"a1",
    b"<exists>",
    b"size = 9",
    b"<TIER>",
    b"</TIER>",
    b"<ANNOTATION_VALUE>",
]


def outcome(path: Path) -> Intervals | Timed | str:
    """What is read, or the line that refuses it."""
    try:
        return read(path, prefer="expr")
    except ManifestError as error:
        return str(error)


@pytest.mark.parametrize(("name", "content"), SOUND, ids=range(len(SOUND)))
def test_whatever_a_file_is_changed_to_it_is_read_whole_or_refused_in_one_line(tmp_path, name, content):
    rng, path, kinds = np.random.default_rng(0), tmp_path / name, set()
    for _ in range(200):
        data = bytearray(content)
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            piece = PIECES[rng.integers(len(PIECES))]
            data[at : at + rng.integers(0, 12)] = bytes([piece]) if isinstance(piece, int) else piece
        path.write_bytes(data)
        found = outcome(path)
        kinds.add(type(found))
        if isinstance(found, Intervals):
            assert (found.end_s > found.start_s).all()
            assert (found.start_s[1:] >= found.end_s[:-1] - 0.001).all()
        elif isinstance(found, Timed):
            assert (np.diff(found.times_s) > 0).all()
            assert not np.isinf(found.values).any()
        else:
            assert found.startswith(f"{path}: ")
            assert "\n" not in found
    assert len(kinds) == 2


def test_timed_values_have_no_tiers(tmp_path):
    with pytest.raises(ManifestError, match="want the tier 'x', got timed values, which have none; name no tier"):
        read(file(tmp_path, "a.csv", "time,v\n0,1\n"), "x")


def test_a_table_without_tiers_has_none_of_a_name(tmp_path):
    with pytest.raises(ManifestError, match="want the tier 'x', got a table without a column `tier`; name no tier"):
        read(file(tmp_path, "a.csv", TABLES["plain"]), "x")


def test_a_tier_without_intervals_is_an_empty_one(tmp_path):
    own = read(file(tmp_path, "a.csv", "start,end,value\n"))
    assert (len(own), own.start_s.shape, own.values) == (0, (0,), ())
    assert on_frames.covering(own, np.arange(3.0), zero_s=0).tolist() == [-1, -1, -1]


# ---- on frames --------------------------------------------------------------------------------------------------------------------------

RATES = [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60), Fraction(240)]


def axis(fps: Fraction, start_s: float, frames: int) -> FrameAxis:
    return FrameAxis(np.array([start_s + float(i / fps) for i in range(frames)]), fps)


def intervals(*rows: tuple[float, float], values: str = "") -> Intervals:
    ends = np.array(rows, np.float64).reshape(-1, 2)
    names = tuple(values or "x" * len(rows))
    return Intervals("", ends[:, 0], ends[:, 1], names, names)


def laid(own: Intervals, video: FrameAxis) -> list[int]:
    found = on_frames.covering(own, video.times_s, zero_s=video.start_s)
    assert found.dtype == np.int64
    return found.tolist()


@pytest.mark.parametrize("start_s", [0.0, 1.4, 3600.123, -0.08])
@pytest.mark.parametrize("fps", RATES, ids=str)
@pytest.mark.parametrize("rounding", [np.floor, np.round, np.ceil])
def test_an_event_lands_on_the_frames_on_which_it_was_marked(fps, start_s, rounding):
    """Frames 30 to 74 show it; a tool tells the times of frames 30 and 75 since the first one in milliseconds, rounded in its way."""
    ends = [float(rounding(1000 * float(i / fps)) / 1000) for i in (30, 75)]
    assert laid(intervals(ends), axis(fps, start_s, 100)) == [-1] * 30 + [0] * 45 + [-1] * 25


def test_an_event_lands_by_the_times_of_frames_where_their_rate_varies():
    video = FrameAxis(2.0 + np.array([0, 0.04, 0.08, 0.5, 0.54, 1.0, 1.5]), Fraction(25))
    assert laid(intervals((0.04, 0.1), (0.3, 0.54), (0.54, 1.0)), video) == [-1, 0, 0, 1, 2, -1, -1]


def test_a_frame_belongs_to_the_interval_that_its_timestamp_is_in():
    """[start, end): the frame at an end is not in it; an interval between two frames has none."""
    assert laid(intervals((0, 0.08), (0.1, 0.11), (0.15, 0.17)), axis(Fraction(25), 0, 5)) == [0, 0, -1, -1, 2]


def test_an_interval_of_all_time_has_all_frames_and_one_outside_has_none():
    video = axis(Fraction(25), 7.0, 50)
    assert laid(intervals((0, video.end_s - video.start_s)), video) == [0] * 50
    assert laid(intervals((-5, 0), (2, 9)), video) == [-1] * 50


@pytest.mark.parametrize("at", [0.5, 0.52, 0.533, 0.5333333])
def test_an_interval_cut_in_two_labels_the_same_frames(at):
    video = axis(Fraction(30000, 1001), 1.4, 60)
    whole, parts = intervals((0.2, 1.1), values="a"), intervals((0.2, at), (at, 1.1), values="aa")
    first, second = ([own.values[i] if i >= 0 else "" for i in laid(own, video)] for own in (whole, parts))
    assert first == second
    assert first.count("a") == 27


def test_of_two_that_overlap_by_a_rounded_time_the_later_one_has_the_frame(tmp_path):
    own = read(file(tmp_path, "a.csv", "start,end,value\n0,0.5204,a\n0.52,1,b\n"))
    assert laid(own, axis(Fraction(25), 0, 26)) == [0] * 13 + [1] * 12 + [-1]


@pytest.mark.parametrize("shift_s", [0.3, 12.7, 4000.0])
def test_where_both_clocks_are_shifted_nothing_changes(shift_s):
    video = axis(Fraction(30000, 1001), 1.4, 90)
    own, moved = intervals((0.3, 1.2), (1.2, 2.2)), intervals((0.3 + shift_s, 1.2 + shift_s), (1.2 + shift_s, 2.2 + shift_s))
    assert laid(own, video) == on_frames.covering(moved, video.times_s, zero_s=video.start_s - shift_s).tolist()
    trace = Timed(np.arange(0, 3, 0.1), ("v",), np.sin(np.arange(30.0))[:, None])
    later = Timed(trace.times_s + shift_s, ("v",), trace.values)
    first = on_frames.sampled(trace, video.times_s, zero_s=video.start_s)
    second = on_frames.sampled(later, video.times_s, zero_s=video.start_s - shift_s)
    np.testing.assert_allclose(first, second, atol=1e-9)
    assert np.isnan(first).sum() == 3  # beyond 2.9 s


# ---- values on frames -------------------------------------------------------------------------------------------------------------------


def on(timed: Timed, video: FrameAxis, **how: object) -> np.ndarray:
    return on_frames.sampled(timed, video.times_s, zero_s=video.start_s, **how)


def column(times_s: list[float], values: list[float]) -> Timed:
    return Timed(np.array(times_s, np.float64), ("v",), np.array(values, np.float64)[:, None])


@pytest.mark.parametrize("rate_hz", [1, 10, 24, 100])
@pytest.mark.parametrize("fps", RATES, ids=str)
def test_a_ramp_stays_a_ramp_at_any_two_rates(fps, rate_hz):
    times = np.arange(0, 4.0001, 1 / rate_hz)
    ramp = Timed(times, ("up", "down"), np.stack([times, 1 - 2 * times], axis=1))
    video = axis(fps, 1.4, int(4 * fps))
    since = video.times_s - video.start_s
    np.testing.assert_allclose(on(ramp, video), np.stack([since, 1 - 2 * since], axis=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", ["linear", "nearest"])
@pytest.mark.parametrize("digits", [3, 12])
@pytest.mark.parametrize("fps", RATES[:4], ids=str)
def test_values_at_the_times_of_frames_are_those_of_the_frames(fps, digits, how):
    """Also beside gaps, and where the times were rounded to milliseconds: then a line is off by what a millisecond makes."""
    values = np.random.default_rng(0).normal(size=(80, 2))
    values[10:20, 0] = values[33, 1] = np.nan
    timed = Timed(np.round([float(i / fps) for i in range(80)], digits), ("v", "a"), values)
    found = on(timed, axis(fps, 1.4, 80), how=how)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    np.testing.assert_allclose(found, values, atol=1e-9 if digits == 12 or how == "nearest" else 0.3)


def test_a_line_is_drawn_between_samples_that_are_there_and_near():
    trace = column([0, 0.4, 1.4, 2.6, 3.0], [0, 4, np.nan, 6, 10])
    video = FrameAxis(np.array([0, 0.2, 0.4, 0.6, 1.4, 2.0, 2.6, 2.7, 3.0, 3.1]), Fraction(10))
    np.testing.assert_allclose(on(trace, video)[:, 0], [0, 2, 4, np.nan, np.nan, np.nan, 6, 7, 10, np.nan])


@pytest.mark.parametrize(("gap_s", "known"), [(0.99, False), (1.0, True), (1.5, True)])
@pytest.mark.parametrize("start_s", [0.1, 1.2, 3.9])  # 1 s apart to the last bit, or a bit more
def test_samples_further_apart_than_a_gap_are_not_joined(start_s, gap_s, known):
    video = FrameAxis(np.array([0, start_s + 0.25]), Fraction(25))
    found = on(column([start_s, start_s + 1], [0, 1]), video, gap_s=gap_s)[1, 0]
    assert found == pytest.approx(0.25) if known else np.isnan(found)


def test_nearest_takes_the_value_of_a_sample_and_never_one_between():
    """Of two as near the earlier; the nearer one also where it has no label."""
    trace = column([0, 0.1, 0.2, 0.3], [3, 7, np.nan, 1])
    video = FrameAxis(0.7 + np.array([0, 0.04, 0.05, 0.06, 0.14, 0.16, 0.26, 0.3, 0.34]), Fraction(25))
    np.testing.assert_array_equal(on(trace, video, how="nearest")[:, 0], [3, 3, 3, 7, 7, np.nan, 1, 1, np.nan])


def test_twice_as_many_frames_as_samples_have_each_sample_twice():
    video = axis(Fraction(50), 1.4, 40)
    timed = column([i / 25 for i in range(20)], list(range(20)))
    assert on(timed, video, how="nearest")[:39, 0].tolist() == [i // 2 for i in range(39)]


def test_nothing_is_carried_on_beyond_the_first_and_the_last_sample():
    found = on(column([0.2, 0.3], [1, 2]), FrameAxis(np.array([0, 0.19, 0.1995, 0.25, 0.3005, 0.31]), Fraction(25)))[:, 0]
    np.testing.assert_allclose(found, [np.nan, np.nan, 1, 1.5, 2, np.nan])


def test_one_sample_labels_its_frame_and_none_no_frame():
    video = axis(Fraction(25), 0, 4)
    np.testing.assert_array_equal(on(column([0.04], [5]), video)[:, 0], [np.nan, 5, np.nan, np.nan])
    none = on(Timed(np.zeros(0), ("a", "b"), np.zeros((0, 2))), video)
    assert none.shape == (4, 2)
    assert np.isnan(none).all()


@pytest.mark.parametrize("more", [{"how": "cubic"}, {"gap_s": -1.0}, {"gap_s": float("nan")}])
def test_another_way_or_gap_is_refused(more):
    with pytest.raises(InputError, match="sampled: want linear or nearest and a gap_s of at least 0, got"):
        on(column([0], [1]), axis(Fraction(25), 0, 4), **more)


def test_one_event_in_four_forms_is_one_event(tmp_path):
    """A smile from 0.5 to 1.5 s of the media, on a video whose clock begins at 1.4 s: frames 13 (0.52 s) to 37 (1.48 s)."""
    video = axis(Fraction(25), 1.4, 50)
    want = [-1] * 13 + [0] * 25 + [-1] * 12
    grid = SHORT[: SHORT.index('0\n0.4\n""')].replace("\n2\n", "\n1\n").replace("\n4\n", "\n1\n") + '0.5\n1.5\n"smile"\n'
    for name, content in {
        "a.eaf": eaf(slots(a=500, b=1500), tier("x", aligned("a1", "a", "b", "smile"))),
        "a.TextGrid": grid,
        "a.csv": "start,end,value\n0.5,1.5,smile\n",
    }.items():
        assert laid(read(file(tmp_path, name, content)), video) == want
    times = [i / 100 for i in range(200)]
    trace = column(times, [float(0.5 <= t < 1.5) for t in times])
    assert (on(trace, video, how="nearest")[:, 0] - 1).tolist() == want


CLIPS = {  # file name -> how it is written: 60 frames, of which a player shows 20 to 44 from the start of the one to that of the other
    "a.mp4": {"fps": 25},
    "a.ts": {"fps": 25, "start_s": 1.4},
    "b.mp4": {"fps": Fraction(30000, 1001)},
    "b.mkv": {"fps": Fraction(30000, 1001), "start_s": 0.7},
    "variable.mp4": {"pts": [3600 * i + 700 * (i % 3) + 90000 * (i > 30) for i in range(60)]},
    "variable.mkv": {"pts": [126000 + 3600 * i + 700 * (i % 3) + 90000 * (i > 30) for i in range(60)]},
}


@pytest.mark.parametrize("name", CLIPS)
def test_an_event_of_a_video_lands_on_its_frames_whatever_its_clock_and_rate(tmp_path, name):
    """What ELAN tells is milliseconds since the first picture, whatever time the container gives that one."""
    written = {"count": 60, **CLIPS[name]}
    video = probe(clips.write(tmp_path / name, **written)).axis
    pts = written.get("pts") or [float(90000 * i / written["fps"]) for i in range(60)]
    first, last = (round((pts[i] - pts[0]) / 90) for i in (20, 45))
    own = read(file(tmp_path, "a.eaf", eaf(slots(a=first, b=last), tier("x", aligned("a1", "a", "b", "smile")))))
    assert laid(own, video) == [-1] * 20 + [0] * 25 + [-1] * 15
