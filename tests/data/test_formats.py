"""The official text form and the prediction table."""

import csv
from pathlib import Path

import numpy as np
import pytest

from affpipe.core.axis import NEAREST, NONE, OBSERVED
from affpipe.core.errors import ManifestError
from affpipe.core.tasks.table import TASKS, VA
from affpipe.data.annotations import fit_length, read_labels, write_labels, write_predictions


def file(folder: Path, content: str | bytes) -> Path:
    path = folder / "one.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---- reading ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "valence,arousal\n0.5,-0.25\n-5,-5\n1,-1\n",
        "valence,arousal\n0.5,-0.25\n-5,-5\n1,-1",
        "valence,arousal\r\n0.5,-0.25\r\n-5,-5\r\n1,-1\r\n",
        "\ufeffvalence,arousal\n0.5,-0.25\n-5.0,-5.0\n1.0,-1.0\n\n \n",
        "Valence, Arousal\n 0.5 , -0.25 \n-5,0.3\n1e0,-1\n",
    ],
    ids=["plain", "no last newline", "CRLF", "BOM and blank end", "spaces"],
)
def test_an_official_file_in_each_of_its_guises(tmp_path, content):
    values, valid = read_labels(VA, file(tmp_path, content))
    assert values.dtype == np.float64
    assert valid.tolist() == [True, False, True]
    assert values.tolist() == [[0.5, -0.25], [0.0, 0.0], [1.0, -1.0]]


def test_a_file_of_a_header_has_no_frames(tmp_path):
    values, valid = read_labels(VA, file(tmp_path, "valence,arousal\n"))
    assert (values.shape, valid.shape) == ((0, 2), (0,))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1: want the header valence,arousal, got an empty file"),
        ("0.1,0.2\n", "line 1: want the header valence,arousal, got '0.1,0.2'"),
        ("arousal,valence\n0.1,0.2\n", "line 1: want the header valence,arousal, got 'arousal,valence'"),
        ("valence,arousal\n0.1,0.2\n0.1\n0.1,0.2\n", "line 3: want valence,arousal, got '0.1'"),
        ("valence,arousal\n0.1,0.2,0.3\n0.1,0.2,0.3\n", "line 2: want valence,arousal, got '0.1,0.2,0.3'"),
        ("valence,arousal\n0.1\n0.2\n", "line 2: want valence,arousal, got '0.1'"),
        ("valence,arousal\n0.1,0.2\n\n0.1,0.2\n", "line 3: want valence,arousal, got ''"),
        ("valence,arousal\n0.1,0.2\n0.1,x\n", "line 3: want valence,arousal, got '0.1,x'"),
        ("valence,arousal\n0.1,0.2\n0.1;0.2\n", "line 3: want valence,arousal"),
        ("valence,arousal\n0.1,0.2 # sure\n", "line 2: want valence,arousal"),
        ("valence,arousal\n# one\n0.1,0.2\n", "line 2: want valence,arousal"),
        ("valence,arousal\n0.1,0_2\n", "line 2: want valence,arousal, got '0.1,0_2'"),
        ("valence,arousal\n0.1,٠\n", "line 2: want valence,arousal"),
        ("valence,arousal\n0.1,0.2\nnan,0.2\n", "line 3: want a number in [-1, 1] or -5 in each cell, got 'nan,0.2'"),
        ("valence,arousal\ninf,0.2\n", "line 2: want a number in [-1, 1] or -5 in each cell"),
        ("valence,arousal\n0.1,0.2\n0.1,1.01\n", "line 3: want a number in [-1, 1] or -5 in each cell, got '0.1,1.01'"),
        ("valence,arousal\n-4,0.2\n", "line 2: want a number in [-1, 1] or -5 in each cell"),
        (b"valence,arousal\n\xff\xfe\n", "want a readable annotation file"),
    ],
)
def test_a_fault_names_its_line(tmp_path, content, said):
    path = file(tmp_path, content)
    with pytest.raises(ManifestError) as caught:
        read_labels(VA, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {said}")
    assert "; " in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n3\n", "it has the labels of expr: name it in that column"),
        ("0.1,0.2\n", "put the header in front of the first row"),
        ("arousal,valence\n", "mend the file"),
        ("valence,arousal\n\n0.1,0.2\n", "give the frame its row, or remove the line"),
        ("valence,arousal\n0,1;0,2\n", "separate cells by commas, and write decimals with a point"),
        ("valence,arousal\n0,1,0,2\n", "write decimals with a point"),
        ("valence,arousal\n0.1\n", "mend the line"),
        ("valence,arousal\n0.1,0.2\n".encode("utf-16"), "save it as text in UTF-8"),
    ],
)
def test_a_fault_has_its_remedy(tmp_path, content, remedy):
    with pytest.raises(ManifestError) as caught:
        read_labels(VA, file(tmp_path, content))
    assert str(caught.value).endswith(f"; {remedy}")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"none\.txt: want a readable annotation file, got No such file"):
        read_labels(VA, tmp_path / "none.txt")


# ---- writing ----------------------------------------------------------------------------------------------------------------------------


def test_reading_what_was_written_gives_it_back_at_six_decimals(tmp_path):
    rng = np.random.default_rng(0)
    values, valid = rng.uniform(-1, 1, (500, 2)), rng.random(500) < 0.8
    values[:3] = [[1, -1], [0, 0], [-1e-9, 1e-9]]
    write_labels(VA, tmp_path / "deep" / "a.txt", values, valid)
    got, ok = read_labels(VA, tmp_path / "deep" / "a.txt")
    np.testing.assert_array_equal(ok, valid)
    np.testing.assert_allclose(got[ok], values[valid], atol=5.1e-7)
    write_labels(VA, tmp_path / "b.txt", got, ok)
    assert (tmp_path / "b.txt").read_bytes() == (tmp_path / "deep" / "a.txt").read_bytes()


def test_the_official_form_is_a_header_and_a_line_a_frame(tmp_path):
    write_labels(VA, tmp_path / "a.txt", np.array([[0.5, -0.25], [9, 9]]), np.array([True, False]))
    assert (tmp_path / "a.txt").read_bytes() == b"valence,arousal\n0.500000,-0.250000\n-5,-5\n"


def test_values_and_mask_must_be_as_long(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        write_labels(VA, tmp_path / "a.txt", np.zeros((3, 2)), np.ones(2, bool))
    assert list(tmp_path.iterdir()) == []


def test_labels_are_cut_or_filled_up_to_the_frames_of_the_video():
    values, valid = np.arange(1.0, 7.0).reshape(3, 2), np.array([True, False, True])
    longer, ok = fit_length(values, valid, 5)
    assert ok.tolist() == [True, False, True, False, False]
    assert longer.tolist() == [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0]]
    shorter, ok = fit_length(values, valid, 2)
    assert (shorter.tolist(), ok.tolist()) == ([[1, 2], [3, 4]], [True, False])
    same, ok = fit_length(values, valid, 3)
    np.testing.assert_array_equal(same, values)
    np.testing.assert_array_equal(ok, valid)


def test_a_prediction_table_numbers_frames_from_one_and_says_how_each_was_had(tmp_path):
    path = tmp_path / "out" / "a.csv"
    values = np.array([[0.5, -0.25], [1, -1], [0, 0]])
    source = np.array([OBSERVED, NEAREST, NONE])
    write_predictions(path, TASKS, np.array([0.08, 0.12, 10.0]), {"va": values}, {}, source, np.array([True, True, False]))
    with path.open(newline="") as table:
        rows = list(csv.reader(table))
    assert rows == [
        ["frame", "time_s", "valence", "arousal", "source"],
        ["1", "0.080000", "0.500000", "-0.250000", "observed"],
        ["2", "0.120000", "1.000000", "-1.000000", "nearest"],
        ["3", "10.000000", "", "", "none"],
    ]
