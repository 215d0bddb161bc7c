"""Tables as spreadsheets, other countries and other machines write them: read as meant, or one line says what is wrong."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from affpipe.core.errors import ManifestError, MediaError
from affpipe.core.tasks.table import VA
from affpipe.data import annotations, manifest
from affpipe.data.importers import folder as folders
from affpipe.encoders.grada import network as grada
from affpipe.faces import mouth_files
from affpipe.faces.yolo import detector
from affpipe.jobs import predict
from affpipe.results import evaluate
from affpipe.results.submission import make_submission
from affpipe.system.files import composed, left_by_mac, named, on_disk, read_text
from affpipe.system.sheets import rows

HEAD = "stream_id,video,partition"
NFC, NFD = (unicodedata.normalize(form, "Zoé") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "a.mp4").write_bytes(b"1")
    return tmp_path


def read(root: Path, text: str | bytes) -> list[str]:
    path = root / "m.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [row.stream_id for row in manifest.read(path, root)]


# ---- spreadsheets -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}\na,a.mp4,predict\n,,\n",
        f"{HEAD}\n,,\n\n  , ,\t\na,a.mp4,predict\n",
        f"{HEAD},,\na,a.mp4,predict,,\n,,,,\n",
        f"{HEAD}\na,a.mp4,predict,,,\n,,,,,,,,\n",
        f"\ufeff{HEAD}\r\na,a.mp4,predict\r\n,,\r\n",
        '"stream_id","video","partition"\n"a","a.mp4","predict"\n"","",""\n',
        f"{HEAD},va\na,a.mp4,predict,\n,,,\n",
    ],
)
def test_empty_rows_and_cells_beyond_the_header_say_nothing(root, text):
    assert read(root, text) == ["a"]


def test_rows_keep_their_numbers_below_an_empty_one(root):
    with pytest.raises(ManifestError, match=r"m\.csv: row 4: want a video file, got no .*b\.mp4"):
        read(root, f"{HEAD}\na,a.mp4,predict\n,,\nb,b.mp4,predict\n")


def test_a_cell_beyond_the_header_that_says_something_is_refused(root):
    with pytest.raises(ManifestError, match="row 2: want as many cells as row 1, got more; mend the commas or quotes"):
        read(root, f"{HEAD}\na,a.mp4,predict,,note\n")


def test_a_row_with_a_note_alone_is_no_empty_one(root):
    with pytest.raises(ManifestError, match="row 3: want a stream_id"):
        read(root, f"{HEAD},note\na,a.mp4,predict,\n,,,half done\n")


def test_a_table_of_empty_rows_is_one_of_none(root):
    with pytest.raises(ManifestError, match="want a row per stream, got none; add rows"):
        read(root, f"{HEAD}\n,,\n,,\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_text_of_a_spreadsheet_is_named(root, encoding):
    with pytest.raises(ManifestError, match=r"m\.csv: want a readable CSV file, got UTF-16; save it as text in UTF-8"):
        read(root, f"{HEAD}\na,a.mp4,predict\n".encode(encoding))


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_marks_between_cells_are_named(root, mark):
    with pytest.raises(ManifestError, match="separate cells by commas"):
        read(root, f"{HEAD}\na,a.mp4,predict\n".replace(",", mark))


def test_a_curation_file_may_have_empty_rows_and_cells(root):
    path = root / "c.csv"
    path.write_text("stream_id,tracks\n,\na,0 2,,\n , \n")
    row = manifest.Row("a", root / "a.mp4", "largest", "predict")
    assert {id: (d.tracks, d.row) for id, d in manifest.read_decisions(path, [row]).items()} == {"a": ((0, 2), 3)}


def test_rows_are_numbered_by_their_lines():
    head, table = rows('x,y\n1,2\n\n,\n"3\n3",4\n5\n6,7,8\n')
    assert head == ["x", "y"]
    assert list(table) == [
        (2, {"x": "1", "y": "2"}),
        (6, {"x": "3\n3", "y": "4"}),
        (7, {"x": "5", "y": None}),
        (8, {"x": "6", "y": "7", None: ["8"]}),
    ]


def test_empty_rows_at_the_end_of_labels_are_none(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("valence,arousal\n0.5,0.25\n-5,-5\n,\n , \n\n")
    values, valid = annotations.read_labels(VA, path)
    np.testing.assert_array_equal(values, [[0.5, 0.25], [0, 0]])
    np.testing.assert_array_equal(valid, [True, False])
    path.write_text("valence,arousal\n0.5,0.25\n,\n0.5,0.25\n")  # a row in the middle is a frame
    with pytest.raises(ManifestError, match="line 3: want valence,arousal, got ','"):
        annotations.read_labels(VA, path)


def test_empty_rows_of_mouth_masks_are_none(tmp_path):
    (tmp_path / "s.csv").write_text("frame,mouth_open\n" + "".join(f"{i},1\n" for i in range(1, 101)) + ",\n")
    (tmp_path / "w.csv").write_text("stream,start_frame,end_frame,fps\ns,0,100,25\n,,,\n")
    (row,) = mouth_files.parity_windows(tmp_path, tmp_path / "w.csv", "none")
    assert (row["coverage_ratio"], row["use_for_audio"]) == (1.0, True)


def test_a_template_in_utf16_is_named(tmp_path):
    (tmp_path / "t.txt").write_text("image_location,valence,arousal\n", encoding="utf-16")
    with pytest.raises(ManifestError, match="want a readable template, got UTF-16; save it as text in UTF-8"):
        make_submission.read_template(VA, tmp_path / "t.txt")


# ---- what macOS leaves ------------------------------------------------------------------------------------------------------------------


def truth(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.txt").write_text("valence,arousal\n" + "".join(f"{v},{-v}\n" for v in (0.1, 0.2, 0.5)))
    return folder


def test_resource_forks_are_no_labels(tmp_path):
    a, b = truth(tmp_path / "truth", "x", "y"), truth(tmp_path / "pred", "x", "y")
    for name in ("._x.txt", ".DS_Store"):
        (a / name).write_bytes(b"\0\5\26\7")
    assert list(evaluate.folders(VA, a, b)) == ["x", "y"]


def test_resource_forks_are_no_checkpoints(tmp_path):
    for name in ("face.pt", "face.pth", "._face.pt", "._face.pth"):
        (tmp_path / name).write_bytes(b"1")
    assert grada._file(tmp_path) == tmp_path / "face.pth"
    assert detector._file(tmp_path) == tmp_path / "face.pt"


def test_only_what_macos_leaves_is_passed_over():
    assert [name for name in ("._a.txt", ".DS_Store", "a.txt", ".a.txt", "_.txt") if left_by_mac(name)] == ["._a.txt", ".DS_Store"]


# ---- accents in two forms ---------------------------------------------------------------------------------------------------------------


FORMS = pytest.mark.parametrize(("here", "there"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])


@FORMS
def test_a_manifest_finds_what_the_file_system_writes_otherwise(tmp_path, here, there):
    (tmp_path / there).mkdir()
    for name in (f"{there}.mp4", f"{there}.txt"):
        (tmp_path / there / name).write_bytes(b"1")
    (tmp_path / there / there).mkdir()
    (tmp_path / "m.csv").write_text(f"{HEAD},va,images\na,{here}/{here}.mp4,train,{here}/{here}.txt,{here}/{here}\n")
    (row,) = manifest.read(tmp_path / "m.csv", tmp_path)
    assert (row.video, row.labels["va"], row.images) == tuple(tmp_path / there / name for name in (f"{there}.mp4", f"{there}.txt", there))


@FORMS
def test_files_that_are_named_are_found(tmp_path, here, there):
    (tmp_path / f"{there}.csv").write_text("text")
    assert read_text(tmp_path / f"{here}.csv", "file", ManifestError, "mend it") == "text"
    (tmp_path / f"{there}.mp4").write_bytes(b"1")
    assert predict._row(tmp_path / f"{here}.mp4", "largest").video == tmp_path / f"{there}.mp4"


@FORMS
def test_a_prediction_is_found_for_its_truth(tmp_path, here, there):
    a, b = truth(tmp_path / "truth", here), truth(tmp_path / "pred", there)
    assert list(evaluate.folders(VA, a, b)) == [here]


@FORMS
def test_an_annotation_is_that_of_the_video_of_its_name(tmp_path, here, there):
    (tmp_path / f"{here}.mp4").write_bytes(b"1")
    (tmp_path / f"{there}.txt").write_text("valence,arousal\n0,0\n")
    found = folders.collect(tmp_path, validation_share=0)
    (stream,) = found.streams
    assert (stream.id, stream.video, stream.labels) == ("Zo_", f"{here}.mp4", {"va": f"{there}.txt"})
    assert found.findings == []


def test_two_forms_of_one_name_side_by_side_are_told(tmp_path):
    for name in (NFC, NFD):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    found = folders.collect(tmp_path)
    assert [stream.video for stream in found.streams] == [f"{NFD}.mp4"]  # e comes before é
    assert on_disk(tmp_path / f"{NFC}.mp4") == tmp_path / f"{NFC}.mp4"


def test_a_name_that_is_not_there_in_any_form_stays_as_it_is(tmp_path):
    path = tmp_path / f"{NFC}.mp4"
    assert on_disk(path) == path
    with pytest.raises(MediaError, match="want a video file, got nothing"):
        predict._row(path, "largest")


def test_the_very_name_comes_first_and_a_doubtful_one_is_none():
    assert named(NFC, [NFD, NFC]) == NFC
    assert named(NFC, [NFD, "Zoe"]) == NFD
    assert named(NFC, ["Zoe", "zoé"]) is None
    assert named("q\u0323\u0307", ["q\u0307\u0323"]) == "q\u0307\u0323"
    assert composed(NFD) == NFC
