"""The manifest and the curation file: what is read, and every refusal with its row."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from affpipe.core.errors import ManifestError
from affpipe.data.manifest import ID_BYTES, Row, check_partitions, check_video_name, fold_groups, read, read_curation, scan

HEAD = "stream_id,video,subject,partition,va\n"


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "more").mkdir()
    for name in ("a.mp4", "b.mp4", "more/a.mp4", "a.txt", "b.txt", 'it\'s "odd", é.mp4', "-dash.mp4", "a.b.c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def rows(root: Path, text: str | bytes, head: str = HEAD) -> list[Row]:
    path = root / "manifest.csv"
    path.write_bytes(text if isinstance(text, bytes) else (head + text).encode())
    return read(path, root)


def fault(root: Path, text: str | bytes, head: str = HEAD) -> str:
    with pytest.raises(ManifestError) as caught:
        rows(root, text, head)
    message = str(caught.value)
    assert message.startswith(f"{root / 'manifest.csv'}: ")
    assert "\n" not in message
    return message.removeprefix(f"{root / 'manifest.csv'}: ")


# ---- what is read -----------------------------------------------------------------------------------------------------------------------


def test_a_row_is_a_stream(root):
    first, second = rows(root, "one,a.mp4,left,train,a.txt\ntwo,b.mp4,,predict,\n")
    assert first == Row("one", root / "a.mp4", "left", "train", {"va": root / "a.txt"})
    assert (first.video_id, first.fits) == ("a", True)
    assert second == Row("two", root / "b.mp4", "largest", "predict")
    assert second.fits is False


def test_a_stream_with_labels_of_another_task_than_the_runs_is_read_all_the_same(root):
    path, head = root / "manifest.csv", "stream_id,video,partition,va,expr,mood,expr_partition\n"
    path.write_text(head + "one,a.mp4,train,a.txt,,,\ntwo,b.mp4,predict,,b.txt,,train\nthree,a.b.c.mp4,train,,,b.txt,\n")
    other, own = {"va": root / "a.txt"}, {"mood": root / "b.txt"}
    assert [row.labels for row in read(path, root, ["expr", "mood"])] == [other, {"expr": root / "b.txt"}, own]
    assert [row.fits for row in read(path, root, ["mood"])] == [True, True, True]
    with pytest.raises(ManifestError, match=r"row 4: want an annotation \(va, expr, au\) for partition train, got none"):
        read(path, root, ["va"])  # a task of one's own is that of a run


@pytest.mark.parametrize(
    "text",
    [
        (HEAD + "one,a.mp4,left,train,a.txt\n").encode("utf-8-sig"),
        (HEAD + "one,a.mp4,left,train,a.txt\n").replace("\n", "\r\n").encode(),
        (HEAD + "one,a.mp4,left,train,a.txt").encode(),
        (HEAD + '"one","a.mp4","left","train","a.txt"\n\n\n').encode(),
        (HEAD + " one , a.mp4, left ,train , a.txt \n").encode(),
        b"va,partition,subject,video,stream_id,age\na.txt,train,left,a.mp4,one,33\n",
        b",stream_id,video,subject,partition,va\n0,one,a.mp4,left,train,a.txt\n",  # as pandas writes it
    ],
    ids=["BOM", "CRLF", "no last newline", "quotes", "spaces", "other order, extra column", "unnamed column"],
)
def test_tables_as_other_programs_write_them(root, text):
    assert rows(root, text) == [Row("one", root / "a.mp4", "left", "train", {"va": root / "a.txt"})]


def test_a_video_may_have_two_streams(root):
    pair = rows(root, "a_left,a.mp4,left,train,a.txt\na_right,a.mp4,right,validation,b.txt\n")
    assert {row.video_id for row in pair} == {"a"}


def test_a_video_elsewhere_may_be_named_in_full(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk") / "far.mp4"
    elsewhere.write_bytes(b"x")
    assert rows(root, f"far,{elsewhere},,predict,\n")[0].video == elsewhere


@pytest.mark.parametrize(
    ("cell", "video_id"), [('"it\'s ""odd"", é.mp4"', 'it\'s "odd", é'), ("-dash.mp4", "-dash"), ("a.b.c.mp4", "a.b.c")]
)
def test_odd_file_names_are_names(root, cell, video_id):
    assert rows(root, f"one,{cell},,predict,\n")[0].video_id == video_id


# ---- what is not ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one,a.mp4,,predict,\none,b.mp4,,predict,\n", "row 3: want each stream_id once, got 'one' as in row 2; rename one"),
        ("one,a.mp4,,predict,\ntwo,a.mp4,,predict,\n", "row 3: want a row a face, got the largest face of a.mp4 as in row 2; remove one"),
        (
            "one,a.mp4,left,predict,\ntwo,more/a.mp4,right,predict,\n",
            "row 3: want files of different names, got a.mp4 and a.mp4 of row 2; rename one",
        ),
        ("one,a.mp4,,predict,\n\ntwo,lost.mp4,,predict,\n", "row 4: want a video file, got no"),
        ("one,,,predict,\n", "row 2: want a video, got an empty cell"),
        ("one,more,,predict,\n", "row 2: want a video file, got a folder at "),
        ("one,a.mp4,,train,lost.txt\n", "row 2: want an annotation file, got no"),
        ("one,a.mp4,,train,\n", "row 2: want an annotation (va, expr, au) for partition train, got none"),
        ("one,a.mp4,,validation,\n", "row 2: want an annotation (va, expr, au) for partition validation"),
        ("one,a.mp4,centre,predict,\n", "row 2: want subject one of largest, left, right, got 'centre'"),
        ("one,a.mp4,,,\n", "row 2: want partition one of train, validation, test, predict, got ''"),
        ("one,a.mp4,,Train,a.txt\n", "row 2: want partition one of train, validation, test, predict, got 'Train'"),
        ("one,a.mp4,,predict\n", "row 2: want as many cells as row 1, got fewer; mend the commas or quotes"),
        ("one,a.mp4,,predict,,x\n", "row 2: want as many cells as row 1, got more; mend the commas or quotes"),
        ("one,a.mp4,,predict,\n\"two\n\",b.mp4,,predict,\n'three',b.mp4,,predict,\n", "row 5: want a stream_id of"),
        ('one,"a\nb.mp4",,predict,\n', "row 3: want cells of one line"),
        ("one,\0.mp4,,predict,\n", "row 2: want cells without control characters, got '\\x00.mp4'; mend the cell"),
        ("", "want a row per stream, got none; add rows"),
    ],
)
def test_a_fault_names_its_row_and_the_remedy(root, text, said):
    assert said in fault(root, text)


@pytest.mark.parametrize("id", ["", "../up", "a/b", "..", ".hidden", "-x", " ", "a:b", "a*", "ä", "a\\b", "x" * (ID_BYTES + 1)])
def test_a_stream_id_that_cannot_name_a_file_is_refused(root, id):
    assert "row 2: want a stream_id of at most" in fault(root, f"{id},a.mp4,,predict,\n")


@pytest.mark.parametrize("id", ["a", "130-25-1280x720_left", "video59.b", "two words", "a+b", "_x", "7", "x" * ID_BYTES])
def test_a_stream_id_that_can_is_not(root, id):
    assert rows(root, f"{id},a.mp4,,predict,\n")[0].stream_id == id


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("stream_id,video,subject\n", "mend partition"),
        ("Stream_ID,video,stream_id,partition,annotation\n", "mend stream_id"),
        ("stream_id;video;subject;partition;annotation\n", "got 'stream_id;video;subject;partition;annotation'; separate cells by commas"),
        ("stream_id,video,video,subject,partition,annotation\n", "mend video"),
        ("", "want the columns stream_id, video, partition, and those known of subject, va, expr, au, person"),
    ],
)
def test_columns_must_be_there_once(root, head, said):
    message = fault(root, "", head)
    assert message.startswith("row 1: want the columns")
    assert said in message


def test_a_file_that_is_no_table(root):
    assert "want a readable CSV file" in fault(root, b"\xff\xfe\x00s")
    (root / "manifest.csv").unlink()
    with pytest.raises(ManifestError, match=r"want a readable CSV file, got No such file.*check the setting `manifest`"):
        read(root / "manifest.csv", root)


@pytest.mark.parametrize(
    "name", [".hidden.mp4", "a\nb.mp4", "tab\t.mp4", "bad\udcff.mp4", "line\u2028.mp4", "x" * (ID_BYTES + 1) + ".mp4", "é" * 91 + ".m"]
)
def test_a_video_name_that_cannot_name_files_is_refused(name):
    with pytest.raises(ManifestError) as caught:
        check_video_name(Path("videos") / name)
    assert "rename it" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize(
    "name", ["a.mp4", "-a.mp4", 'it\'s "odd", é.mp4', "Screenshot\u202f1.mov", "noext", "x" * ID_BYTES + ".mp4", "a..mp4"]
)
def test_a_video_name_that_can_is_not(name):
    check_video_name(Path("videos") / name)


def test_a_bad_video_name_has_its_row(root):
    (root / ".hidden.mp4").write_bytes(b"x")
    assert "row 2: " in fault(root, "one,.hidden.mp4,,predict,\n")


def test_fitting_needs_both_partitions_of_each_task():
    path = Path("m.csv")
    streams = [Row(p, Path(p), "largest", p, {"va": Path("a"), "expr": Path("b")}) for p in ("train", "validation", "test")]
    check_partitions(streams, path, ["va", "expr"])
    for missing in ("train", "validation"):
        with pytest.raises(ManifestError, match=rf"m\.csv: want rows of partition {missing} with a cell `va`, got none"):
            check_partitions([s for s in streams if s.partition != missing], path, ["va"])
        few = [replace(s, labels={"va": Path("a")}) if s.partition == missing else s for s in streams]
        check_partitions(few, path, ["va"])
        with pytest.raises(ManifestError, match=rf"m\.csv: want rows of partition {missing} with a cell `expr`, got none"):
            check_partitions(few, path, ["va", "expr"])


# ---- tasks, people, images --------------------------------------------------------------------------------------------------------------


def test_a_stream_may_have_labels_of_any_task_each_with_a_partition_of_its_own(root):
    head = "stream_id,video,partition,va,au,expr,au_partition,expr_partition,person,images\n"
    first, second = rows(root, "one,a.mp4,train,a.txt,b.txt,,validation,, Ann ,more\ntwo,b.mp4,test,,,a.txt,,train,,\n", head)
    assert first == Row(
        "one", root / "a.mp4", "largest", "train", {"va": root / "a.txt", "au": root / "b.txt"}, {"au": "validation"}, "Ann", root / "more"
    )
    assert [first.partition_of(t) for t in ("va", "expr", "au")] == ["train", "train", "validation"]
    assert first.labelled(["va", "expr", "au"], "train") == ("va",)
    assert first.labelled(["va", "expr", "au"], "validation") == ("au",)
    assert (second.subject, second.partition, second.partition_of("expr"), second.fits) == ("largest", "test", "train", True)
    assert second.labelled(["expr"], "train") == ("expr",)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("one,a.mp4,train,a.txt,Train,", "row 2: want va_partition one of train, validation, test, predict, got 'Train'"),
        ("one,a.mp4,predict,,,lost", "row 2: want a folder of images, got no"),
        ("one,a.mp4,predict,,,a.mp4", "row 2: want a folder of images, got no"),
        ("one,a.mp4,test,,train,", "row 2: want an annotation (va, expr, au) for partition test, got none"),
    ],
)
def test_faults_of_the_columns_that_may_be_there(root, row, said):
    assert said in fault(root, row + "\n", "stream_id,video,partition,va,va_partition,images\n")


TRACKS = "stream_id,video,partition,subject,video_track,audio_track\n"


def test_a_row_may_name_its_tracks(root):
    (root / "m.csv").write_text(TRACKS + "one,a.mp4,predict,left,1,auto\ntwo,a.mp4,predict,right,1,auto\nthree,b.mp4,predict,,,0\n")
    assert [(row.video_track, row.audio_track) for row in read(root / "m.csv", root)] == [(1, "auto"), (1, "auto"), (None, 0)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("one,a.mp4,predict,,first,\n", "row 2: want video_track the number of a track (0 is the first), auto or nothing, got 'first'"),
        ("one,a.mp4,predict,,,-1\n", "row 2: want audio_track the number of a track"),
        ("one,a.mp4,predict,,,1.0\n", "row 2: want audio_track the number of a track"),
        ("one,a.mp4,predict,left,1,\ntwo,a.mp4,predict,right,,\n", "row 3: want one video_track for a.mp4, got nothing and 1 of row 2"),
        ("one,a.mp4,predict,left,,0\ntwo,a.mp4,predict,right,,1\n", "row 3: want one audio_track for a.mp4, got 1 and 0 of row 2"),
    ],
)
def test_tracks_that_are_none_or_disagree_are_faults(root, rows, said):
    assert said in fault(root, rows, TRACKS)


@pytest.mark.parametrize("column", ["VA", " va", "Va "])
def test_a_column_is_known_whatever_its_letters_and_blanks(root, column):
    (row,) = rows(root, "one,a.mp4,predict,a.txt\n", f"Stream_ID, VIDEO,Partition,{column}\n")
    assert (row.stream_id, row.video, row.labels) == ("one", root / "a.mp4", {"va": root / "a.txt"})
    assert "mend va" in fault(root, "one,a.mp4,predict,,\n", f"stream_id,video,partition,va,{column}\n")


def test_a_row_number_counts_the_line_ends_of_editors_alone(root):
    assert "row 4: want cells without control characters" in fault(root, "one,a.mp4,,predict,\n\ntw\fo,b.mp4,,predict,\n")


def test_all_faults_are_found_in_the_order_of_their_rows(root):
    (root / "m.csv").write_text(HEAD + "one,a.mp4,,predict,\none,b.mp4,,predict,\ntwo,lost.mp4,,predict,\n-x,b.mp4,,predict,\n")
    found, faults = scan(root / "m.csv", root)
    assert [(number, row.stream_id) for number, row in found] == [(2, "one"), (3, "one")]
    assert [str(f).split(": ")[1] for f in faults] == ["row 3", "row 4", "row 5"]
    assert str(faults[0]) == fault_of_read(root / "m.csv", root)


def fault_of_read(path: Path, data_root: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        read(path, data_root)
    return str(caught.value)


def test_what_shares_a_video_or_a_person_stays_in_one_fold():
    def row(video: str, person: str = "", side: str = "largest") -> Row:
        return Row(f"{video}_{side}", Path(f"{video}.mp4"), side, "train", person=person)

    def groups(rows: Iterable[Row], **same: str) -> list[list[str]]:
        return fold_groups(rows, lambda row: same.get(row.video_id, row.video_id))

    assert groups([row("b"), row("a")]) == [["a"], ["b"]]
    assert groups([row("b"), row("a"), row("c")], c="a") == [["a", "c"], ["b"]]
    assert groups([row("b", "x"), row("a"), row("c", "x")], c="a") == [["a", "b", "c"]]
    assert groups([row("a", "x"), row("b", "y"), row("c", "x")]) == [["a", "c"], ["b"]]
    # a duet joins the people of both of its streams, and through them what else they are in
    pair = [row("a", "x", "left"), row("a", "y", "right"), row("b", "x"), row("c", "y"), row("d", "z"), row("e")]
    assert groups(pair) == groups(reversed(pair)) == [["a", "b", "c"], ["d"], ["e"]]
    assert groups([row("a", "video b"), row("b")]) == groups([row("a", "content b"), row("b")]) == [["a"], ["b"]]


# ---- curation ---------------------------------------------------------------------------------------------------------------------------


STREAMS = [Row("one", Path("a.mp4"), "largest", "predict"), Row("two", Path("b.mp4"), "largest", "predict")]


def curation(root: Path, text: str) -> dict[str, tuple[int, ...]]:
    (root / "tracks.csv").write_text(text)
    return read_curation(root / "tracks.csv", STREAMS, lambda row: f"faces/{row.stream_id}")


def test_curation_names_tracks_in_any_order(root):
    assert curation(root, "\ufeffstream_id,note,tracks\r\none,x,7 2  7\r\n two ,,0\r\n") == {"one": (2, 7), "two": (0,)}
    assert curation(root, "stream_id,tracks\n") == {}
    assert curation(root, "Stream_ID, TRACKS\none,1\n") == {"one": (1,)}


def test_rows_that_a_spreadsheet_left_empty_say_nothing(root):
    assert curation(root, "stream_id,tracks,note\r\none,1,\r\n,,\r\n,,,,\r\ntwo,,x\r\n") == {"one": (1,)}
    with pytest.raises(ManifestError, match="row 3: want a stream_id of the manifest, got ''"):
        curation(root, "stream_id,tracks\none,1\n,2\n")


def test_curation_may_leave_a_stream_to_the_rule_or_say_that_nobody_is_meant(root):
    assert curation(root, "stream_id,tracks\none,\ntwo, none\n") == {"two": ()}
    assert curation(root, "stream_id,tracks\none,  \ntwo,NONE\n") == {"two": ()}


def test_numbers_hold_for_the_faces_that_they_name(root):
    head = "stream_id,tracks,chosen,faces\n"
    assert curation(root, f"{head}one,3,0,faces/one\ntwo,1,0,\n") == {"one": (3,), "two": (1,)}
    assert curation(root, f"{head}one,,0,faces/old\ntwo,none,0,faces/old\n") == {"two": ()}  # no numbers, so none of other faces
    with pytest.raises(ManifestError) as caught:
        curation(root, f"{head}one,,0,faces/old\ntwo,1,0,faces/old\n")
    assert str(caught.value).startswith(f"{root / 'tracks.csv'}: row 3: want tracks of two numbered for faces/two, got faces/old ")
    assert str(caught.value).endswith("run `affpipe faces review` again and decide anew")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "row 1: want columns stream_id, tracks"),
        ("stream,tracks\n", "row 1: want columns stream_id, tracks, each once, got stream, tracks; mend row 1"),
        ("stream_id,tracks\none,1\nthree,1\n", "row 3: want a stream_id of the manifest, got 'three'; remove the row"),
        ("stream_id,tracks,tracks\n", "row 1: want columns stream_id, tracks, each once, got stream_id, tracks, tracks"),
        ("stream_id,tracks, Tracks\n", "row 1: want columns stream_id, tracks, each once, got stream_id, tracks, tracks"),
        ("stream_id,tracks\none\n", "row 2: want as many cells as row 1"),
        ("stream_id,tracks\none,1,2\n", "row 2: want as many cells as row 1, with spaces and no commas between tracks"),
        ("stream_id,tracks,why\none,1\n", "row 2: want as many cells as row 1"),
        ('stream_id,tracks\none,"1,2"\n', "row 2: want whole track numbers separated by spaces, `none` or nothing, got '1,2'"),
        ("stream_id,tracks\none,none 1\n", "row 2: want whole track numbers separated by spaces, `none` or nothing, got 'none 1'"),
        (f"stream_id,tracks\none,{'9' * 5000}\n", "row 2: want whole track numbers"),
        ("stream_id,tracks\none,0.0\n", "row 2: want whole track numbers separated by spaces, `none` or nothing, got '0.0'; mend the cell"),
        (
            "stream_id;tracks\none;0\n",
            "row 1: want columns stream_id, tracks, each once, got stream_id;tracks; mend row 1, or save with commas",
        ),
        ("stream_id,tracks\none,-1\n", "row 2: want whole track numbers"),
        ("stream_id,tracks\none,\none,2\n", "row 3: want a row a stream, got 'one' again; remove one"),
        ("stream_id,tracks\none,1\none,2\n", "row 3: want a row a stream, got 'one' again; remove one"),
    ],
)
def test_a_curation_fault_names_its_row(root, text, said):
    with pytest.raises(ManifestError) as caught:
        curation(root, text)
    assert str(caught.value).startswith(f"{root / 'tracks.csv'}: {said}")


def test_a_missing_curation_file_is_named(root):
    with pytest.raises(ManifestError, match=r"none\.csv: want a readable curation file, got No such file.*check subject\.curation"):
        read_curation(root / "none.csv", STREAMS, lambda row: "")


@pytest.mark.parametrize("name", ["curation", "CSV"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(ManifestError, match=rf"x\.csv: want a readable {name} file, got a pipe; check"):
        read(tmp_path / "x.csv", tmp_path) if name == "CSV" else read_curation(tmp_path / "x.csv", STREAMS, lambda row: "")
