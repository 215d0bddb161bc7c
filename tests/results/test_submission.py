"""What goes to the organisers: the values of the text files in the template's order, something in every row, whole or not at all."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from affpipe import __version__
from affpipe.core.errors import InputError, ManifestError
from affpipe.core.tasks.table import ACTION_UNITS, EXPR, TASKS, VA
from affpipe.data import annotations
from affpipe.results.submission import make_submission
from affpipe.results.submission.make_submission import LONG, Filled, make, numbers, of_run
from affpipe.results.submission.preflight import check

HEADER = {"va": "image_location,valence,arousal", "expr": "image_location,expression", "au": f"image_location,{','.join(ACTION_UNITS)}"}


def draw(task: str, rng: np.random.Generator, frames: int) -> np.ndarray:
    """(frames, K) labels of a task."""
    if task == "va":
        return rng.uniform(-1, 1, (frames, 2))
    return rng.integers(0, 8, (frames, 1)).astype(float) if task == "expr" else rng.integers(0, 2, (frames, 12)).astype(float)


def write_template(folder: Path, task: str, rows: list[tuple[str, int]]) -> Path:
    """Template with rows of (stream, number of the image)."""
    path = folder / "template.txt"
    path.write_text("\n".join([HEADER[task], *(f"{stream}/{number:05d}.jpg," for stream, number in rows)]) + "\n")
    return path


def case(folder: Path, task: str, streams: dict[str, tuple[np.ndarray, np.ndarray]], frames: dict[str, int]) -> tuple[Path, Path]:
    """Text files of streams (values, valid), and a template of the first so many frames of each; returns template and predictions."""
    folder.mkdir(exist_ok=True)
    for name, (values, valid) in streams.items():
        annotations.write_labels(TASKS[task], folder / "pred" / f"{name}.txt", values, valid)
    return write_template(folder, task, [(name, i + 1) for name, count in frames.items() for i in range(count)]), folder / "pred"


def read_flat(path: Path) -> dict[str, list[float]]:
    """Image -> values."""
    rows = (line.split(",") for line in path.read_text().splitlines()[1:])
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows}


def flat_values(path: Path, stream: str) -> np.ndarray:
    return np.array([values for image, values in read_flat(path).items() if image.startswith(f"{stream}/")])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- values -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_predictions_arrive_bit_for_bit(tmp_path, task):
    rng = np.random.default_rng(0)
    streams = {name: (draw(task, rng, n), np.ones(n, bool)) for name, n in {"b": 300, "a_left": 120, "a_right": 121}.items()}
    streams["b"][0][:3] = 0 if task != "va" else [[1, -1], [0, 0], [-1e-9, 1e-9]]
    template, pred = case(tmp_path, task, streams, {"b": 300, "a_left": 120, "a_right": 121})
    made = make(TASKS[task], template, pred, tmp_path / "out")
    assert made.flat == tmp_path / "out" / f"{task}_predictions.txt"
    lines = made.flat.read_text().splitlines()
    assert lines[0] == HEADER[task]
    assert [line.partition(",")[0] for line in lines[1:]] == [
        f"{s}/{i:05d}.jpg" for s, n in {"b": 300, "a_left": 120, "a_right": 121}.items() for i in range(1, n + 1)
    ]
    for name in streams:
        own = (pred / f"{name}.txt").read_text().splitlines()[1:]
        assert [line.partition(",")[2] for line in lines if line.startswith(f"{name}/")] == own  # as written
        written, valid = annotations.read_labels(TASKS[task], pred / f"{name}.txt")
        assert valid.all()
        assert flat_values(made.flat, name).tobytes() == written.tobytes()  # as read
        assert (made.folder / f"{name}.txt").read_bytes() == (pred / f"{name}.txt").read_bytes()
    assert (made.rows, made.filled, made.warnings) == (541, 0, ())
    assert check(TASKS[task], made.flat, template) == []


def test_rows_are_those_of_the_template_in_its_order(tmp_path):
    """Streams in turns, frames backwards and with gaps, more predictions than asked for."""
    rng = np.random.default_rng(1)
    values = {"a": np.round(rng.uniform(-1, 1, (50, 2)), 6), "b": np.round(rng.uniform(-1, 1, (70, 2)), 6)}
    _, pred = case(tmp_path, "va", {name: (v, np.ones(len(v), bool)) for name, v in (*values.items(), ("c", values["a"]))}, {})
    rows = [("b", 70), ("a", 3), ("b", 2), ("a", 50), ("a", 1), ("b", 1)]
    made = make(VA, write_template(tmp_path, "va", rows), pred, tmp_path / "out")
    assert list(read_flat(made.flat).items()) == [(f"{s}/{i:05d}.jpg", values[s][i - 1].tolist()) for s, i in rows]
    assert sorted(path.name for path in made.folder.iterdir()) == ["a.txt", "b.txt"]
    got, valid = annotations.read_labels(VA, made.folder / "a.txt")
    assert valid.all()
    np.testing.assert_array_equal(got, values["a"][[2, 49, 0]])


@pytest.mark.parametrize("task", TASKS)
def test_a_frame_without_prediction_gets_the_nearest_one(tmp_path, task):
    rng = np.random.default_rng(2)
    values, valid = draw(task, rng, 80), rng.random(80) < 0.4
    valid[[0, 1, 79]] = False
    template, pred = case(tmp_path, task, {"a": (values, valid)}, {"a": 90})  # ten frames beyond the end
    made = make(TASKS[task], template, pred, tmp_path / "out")
    values = np.round(values, 6)
    near = [min(np.flatnonzero(valid), key=lambda j: (abs(i - j), j)) for i in range(90)]
    np.testing.assert_array_equal(flat_values(made.flat, "a"), values[near])
    runs = "".join(".x"[i >= 80 or not valid[i]] for i in range(90)).split(".")
    assert made.streams == (Filled("a", 90, 90 - int(valid.sum()), max(map(len, runs))),)


def test_a_tie_goes_to_the_earlier_frame(tmp_path):
    values = np.array([[0.1, -0.1], [0, 0], [0.3, -0.3], [0, 0], [0, 0], [0, 0], [0.7, -0.7]])
    template, pred = case(tmp_path, "va", {"a": (values, np.array([1, 0, 1, 0, 0, 0, 1], bool))}, {"a": 9})
    made = make(VA, template, pred, tmp_path / "out")
    assert flat_values(made.flat, "a")[:, 0].tolist() == [0.1, 0.1, 0.3, 0.3, 0.3, 0.7, 0.7, 0.7, 0.7]


def test_interpolation_is_linear_in_the_frame_and_holds_the_ends(tmp_path):
    rng = np.random.default_rng(3)
    values, valid = np.round(rng.uniform(-1, 1, (60, 2)), 6), rng.random(60) < 0.3
    valid[:2] = valid[55:] = False
    template, pred = case(tmp_path, "va", {"a": (values, valid)}, {"a": 70})
    made = make(VA, template, pred, tmp_path / "out", missing="interpolate")
    known = np.flatnonzero(valid).tolist()
    for i, got in enumerate(flat_values(made.flat, "a")):
        before, after = [j for j in known if j <= i][-1:], [j for j in known if j >= i][:1]
        if not before or not after:
            want = values[(before or after)[0]]
        else:
            lo, hi = before[0], after[0]
            want = values[lo] if lo == hi else (values[lo] * (hi - i) + values[hi] * (i - lo)) / (hi - lo)
        np.testing.assert_allclose(got, want, atol=0 if i in known else 5.1e-7)


@pytest.mark.parametrize(
    ("task", "default", "want"),
    [
        ("va", None, [0.0, 0.0]),
        ("va", [0.25, -1], [0.25, -1.0]),
        ("expr", None, [0.0]),
        ("expr", [7], [7.0]),
        ("au", None, [0.0] * 12),
        ("au", [1] + [0] * 11, [1.0] + [0.0] * 11),
    ],
)
def test_the_default_stands_where_nothing_was_predicted(tmp_path, task, default, want):
    rng = np.random.default_rng(4)
    streams = {"a": (draw(task, rng, 60), rng.random(60) < 0.5), "empty": (draw(task, rng, 40), np.zeros(40, bool))}
    template, pred = case(tmp_path, task, streams, {"a": 62, "absent": 150, "empty": 40})
    made = make(TASKS[task], template, pred, tmp_path / "out", missing="default", default=default)
    values, valid = annotations.fit_length(*streams["a"], 62)
    np.testing.assert_array_equal(flat_values(made.flat, "a"), np.where(valid[:, None], np.round(values, 6), want))
    assert flat_values(made.flat, "absent").tolist() == [want] * 150
    assert flat_values(made.flat, "empty").tolist() == [want] * 40
    assert [(s.stream, s.filled) for s in made.streams] == [("a", int((~valid).sum())), ("absent", 150), ("empty", 40)]
    assert made.warnings[:2] == ("absent: none of 150 frames has a prediction", "empty: none of 40 frames has a prediction")
    assert check(TASKS[task], made.flat, template, constant=["absent", "empty"]) == []
    assert bool(check(TASKS[task], made.flat, template)) == (task == "va")  # a constant video is a fault of va alone


def test_a_long_filled_run_is_worth_a_line(tmp_path):
    rng = np.random.default_rng(5)
    valid = np.ones(600, bool)
    valid[50 : 50 + LONG] = valid[300 : 301 + LONG] = False
    streams = {"long": (draw("va", rng, 600), valid), "short": (draw("va", rng, 600), np.r_[valid[:200], np.ones(400, bool)])}
    template, pred = case(tmp_path, "va", streams, {"long": 600, "short": 600})
    made = make(VA, template, pred, tmp_path / "out")
    assert [(s.filled, s.longest) for s in made.streams] == [(2 * LONG + 1, LONG + 1), (LONG, LONG)]
    assert made.lines() == [
        f"va: 1200 rows of 2 videos, {3 * LONG + 1} filled: nearest",
        f"long: {LONG + 1} frames in a row have no prediction",
    ]


def test_a_constant_video_of_classes_is_said(tmp_path):
    rng = np.random.default_rng(6)
    streams = {"a": (draw("expr", rng, 50), np.ones(50, bool)), "b": (np.full((50, 1), 4.0), np.ones(50, bool))}
    template, pred = case(tmp_path, "expr", streams, {"a": 50, "b": 50})
    made = make(EXPR, template, pred, tmp_path / "out")
    assert [line.partition(";")[0] for line in made.warnings] == ["b: expression is 4 in all its 50 rows"]


# ---- what is written --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path) -> tuple[Path, Path]:
    rng = np.random.default_rng(7)
    streams = {name: (draw("va", rng, 45), rng.random(45) < 0.9) for name in ("b", "a")}
    return case(tmp_path / "in", "va", streams, {"b": 45, "a": 47})


def test_the_archive_holds_the_files_and_says_what_they_are(tmp_path, small):
    made = make(VA, *small, tmp_path / "out", run="ras, key 0123abcd")
    assert sorted(tree(tmp_path / "out")) == ["va/a.txt", "va/b.txt", "va_predictions.txt", "va_submission.zip"]
    with zipfile.ZipFile(made.archive) as file:
        assert file.testzip() is None
        assert file.namelist() == ["README.txt", "va/a.txt", "va/b.txt", "va_predictions.txt"]
        assert {name: file.read(name) for name in file.namelist()[1:]} == {
            name: data for name, data in tree(tmp_path / "out").items() if name != "va_submission.zip"
        }
        readme = file.read("README.txt").decode().splitlines()
    assert f"affpipe {__version__}" in readme[0]
    assert "run: ras, key 0123abcd" in readme
    assert f"frames without a prediction: {made.filled} filled: nearest" in readme
    assert "decimals: 6" in readme
    table = [line.split(",") for line in readme[readme.index("video,rows,filled,longest_run") + 1 :]]
    for (name, rows, filled, _), want in zip(table, {"b": 45, "a": 47}.items(), strict=True):
        valid = annotations.read_labels(VA, small[1] / f"{name}.txt")[1]
        assert ((name, int(rows)), int(filled)) == (want, want[1] - int(valid.sum()))


def test_the_same_predictions_give_the_same_bytes(tmp_path, small, monkeypatch):
    first = make(VA, *small, tmp_path / "one", run="x").archive.read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: pytest.fail("the archive asks for the time"))
    assert make(VA, *small, tmp_path / "two" / "deep", run="x").archive.read_bytes() == first
    assert make(VA, *small, tmp_path / "one", run="x").archive.read_bytes() == first  # over an earlier one
    assert make(VA, *small, tmp_path / "two" / "deep", run="y").archive.read_bytes() != first


def test_a_submission_made_anew_replaces_the_earlier_one(tmp_path, small):
    template, pred = small
    make(VA, template, pred, tmp_path / "out")
    write_template(template.parent, "va", [("b", i) for i in range(1, 46)])
    make(VA, template, pred, tmp_path / "out")
    assert sorted(tree(tmp_path / "out")) == ["va/b.txt", "va_predictions.txt", "va_submission.zip"]
    assert len((tmp_path / "out/va_predictions.txt").read_text().splitlines()) == 46
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["va", "va_predictions.txt", "va_submission.zip"]


def test_what_the_preflight_refuses_does_not_appear(tmp_path, small):
    template, pred = small
    kept = make(VA, template, pred, tmp_path / "out")
    before = tree(tmp_path / "out")
    values, valid = annotations.read_labels(VA, pred / "a.txt")
    values[:, 1] = 0.5
    annotations.write_labels(VA, pred / "a.txt", values, valid)
    for out in (tmp_path / "out", tmp_path / "new"):
        with pytest.raises(ManifestError) as caught:
            make(VA, template, pred, out)
        said = f"{pred}: want predictions that are fit to send, got line 47: want arousal that changes within a, got 0.500000"
        assert str(caught.value).startswith(said)
        assert "nothing was written" in str(caught.value)
    assert tree(tmp_path / "out") == before
    assert kept.archive.exists()
    assert list((tmp_path / "new").iterdir()) == []
    assert make(VA, template, pred, tmp_path / "new", constant=["a"]).archive.exists()


def test_what_fails_on_the_way_leaves_nothing(tmp_path, small, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make_submission, "_zip", broken)
    with pytest.raises(OSError, match="No space left"):
        make(VA, *small, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# ---- what is refused --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["nearest", "interpolate"])
def test_streams_without_any_prediction_are_named(tmp_path, small, missing):
    _, pred = small
    annotations.write_labels(VA, pred / "none.txt", np.zeros((9, 2)), np.zeros(9, bool))
    rows = [(name, 1) for name in ("a", "absent", "none", "x", "y", "b")]
    with pytest.raises(ManifestError) as caught:
        make(VA, write_template(tmp_path, "va", rows), pred, tmp_path / "out", missing=missing)
    assert str(caught.value) == (
        f"{pred}: want predictions of all 6 videos of the template, got none of absent, none, x and 1 more; "
        "predict them, or fill with the default"
    )
    assert not (tmp_path / "out").exists()


def test_a_template_of_which_nothing_was_predicted_is_refused(tmp_path, small):
    template = write_template(tmp_path, "va", [("x", i) for i in range(1, 50)])
    with pytest.raises(ManifestError, match=r"want predictions of all 1 videos of the template, got none of x; predict them$"):
        make(VA, template, small[1], tmp_path / "out", missing="default")


def test_a_fault_of_a_text_file_is_that_of_its_reader(tmp_path, small):
    (small[1] / "a.txt").write_text("valence,arousal\n0.1,0.2\n0.1,nan\n")
    with pytest.raises(ManifestError, match=r"a\.txt: line 3: want a number in \[-1, 1\]"):
        make(VA, *small, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "more", "said"),
    [
        ("expr", {"missing": "interpolate"}, "want numbers to interpolate, got classes of expr; use nearest"),
        ("au", {"missing": "interpolate"}, "want numbers to interpolate, got units of au; use nearest"),
        ("va", {"missing": "mean"}, "want missing one of nearest, interpolate, default, got 'mean'"),
        ("va", {"default": [0, 0]}, "want a default only for missing default, got one for nearest"),
        (
            "va",
            {"missing": "default", "default": [0]},
            r"want a default of 2 cells \(valence,arousal\), each a number in \[-1, 1\], got 0;",
        ),
        ("va", {"missing": "default", "default": [-5, -5]}, "got -5,-5;"),
        ("va", {"missing": "default", "default": [float("nan"), 0]}, "got nan,0;"),
        ("expr", {"missing": "default", "default": [-1]}, "want a default of 1 cells"),
        ("expr", {"missing": "default", "default": [1.5]}, "got 1.5;"),
        ("au", {"missing": "default", "default": [0] * 11 + [2]}, "each 0 or 1, got"),
        ("au", {"missing": "default", "default": [0.5] * 12}, "each 0 or 1, got"),
    ],
)
def test_arguments_that_cannot_be_are_refused(tmp_path, task, more, said):
    with pytest.raises(InputError, match=said):
        make(TASKS[task], tmp_path / "template.txt", tmp_path, tmp_path / "out", **more)
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_a_default_stand_between_commas():
    assert numbers("0.25,-1") == [0.25, -1.0]
    with pytest.raises(InputError, match="want a default of numbers with commas between them, got '0;0'"):
        numbers("0;0")


def test_other_peoples_files_are_not_replaced(tmp_path, small):
    template, pred = small
    out = tmp_path / "out"
    make(VA, template, pred, out)
    (out / "va" / "notes.txt").write_text("mine")
    before = tree(out)
    with pytest.raises(InputError, match="out/va: want a new folder or that of an earlier submission"):
        make(VA, template, pred, out)
    assert tree(out) == before
    (tmp_path / "mine" / "va").mkdir(parents=True)
    (tmp_path / "mine" / "va" / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="mine/va: want a new folder or that of an earlier submission"):
        make(VA, template, pred, tmp_path / "mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file: want a folder to write into, got a file"):
        make(VA, template, pred, tmp_path / "file")


def test_predictions_and_template_are_not_replaced_either(tmp_path, small):
    template, pred = small
    official = tmp_path / "official"
    official.mkdir()
    pred.rename(official / "va")
    with pytest.raises(InputError, match="want a folder apart from template and predictions"):
        make(VA, template, official / "va", official)
    (tmp_path / "va_predictions.txt").write_bytes(template.read_bytes())
    with pytest.raises(InputError, match="want a folder apart from template and predictions"):
        make(VA, tmp_path / "va_predictions.txt", official / "va", tmp_path)
    with pytest.raises(InputError, match="none: want a folder of official text files, got none"):
        make(VA, template, tmp_path / "none", tmp_path / "out")


# ---- runs -------------------------------------------------------------------------------------------------------------------------------


def test_a_run_gives_its_folder_name_and_key(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"run": "0123abcd", "settings": {"name": "ras"}, "models": {}}))
    assert of_run(tmp_path, EXPR) == (tmp_path / "official" / "expr", "ras, key 0123abcd")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"run": "x"}', '{"run": "x", "settings": 3}'])
def test_a_folder_that_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json: want the record of a finished run, got .*; run the workflow first"):
        of_run(tmp_path, VA)
