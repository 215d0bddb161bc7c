"""Labels: from annotation files to the frames of a stream, and from frames to rows of any rate and back, by events at known times."""

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from affpipe.core.align import align
from affpipe.core.axis import FrameAxis
from affpipe.core.tasks import pooling
from affpipe.core.tasks.table import ACTION_UNITS, AU, EXPR, EXPRESSIONS, TASKS, VA
from affpipe.core.tasks.task import slices, width
from affpipe.data.manifest import Row
from affpipe.jobs import apply, workers
from affpipe.models.targets import frame_labels
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.store.index import Entry

FPS = Fraction(30000, 1001)
TIMES = np.arange(300) / float(FPS)  # ten seconds
AXIS = FrameAxis(TIMES, FPS)
EVERY = np.ones(len(TIMES), bool)


# ---- tasks ------------------------------------------------------------------------------------------------------------------------------


def test_tasks_are_those_of_the_challenge():
    assert EXPRESSIONS == ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
    assert [int(unit.removeprefix("AU")) for unit in ACTION_UNITS] == [1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26]
    assert {t.name: (len(t.columns), len(t.outputs), t.invalid, t.measure) for t in TASKS.values()} == {
        "va": (2, 2, -5, "ccc"),
        "expr": (1, 8, -1, "f1"),
        "au": (12, 12, -1, "f1"),
    }


def test_entries_of_several_tasks_stand_one_after_another():
    assert slices(TASKS) == {"va": slice(0, 2), "expr": slice(2, 10), "au": slice(10, 22)}
    assert slices({"expr": EXPR, "au": AU}, "columns") == {"expr": slice(0, 1), "au": slice(1, 13)}
    assert (width(TASKS), width({"va": VA, "au": AU}, "columns")) == (22, 14)


# ---- frames to rows and back ------------------------------------------------------------------------------------------------------------


def test_an_event_at_a_known_time_is_in_the_row_of_that_time_and_in_no_other():
    """At 4.5 s an expression changes, a unit begins and valence jumps; rows of half a second see it from row 9 on."""
    event = TIMES >= 4.5
    start_s = np.arange(20) / 2
    values = {"va": np.stack([event, ~event], axis=1) * 1.0, "expr": np.where(event, 4, 2)[:, None], "au": np.repeat(event[:, None], 12, 1)}
    want = {"va": ([0, 1], [1, 0]), "expr": ([2], [4]), "au": ([0] * 12, [1] * 12)}
    for task, own in values.items():
        rows, known = pooling.to_rows(TASKS[task], own.astype(float), EVERY, TIMES, start_s, start_s + 0.5)
        assert known.all()
        assert rows.dtype == np.float32
        before, after = want[task]
        assert (rows[:9] == before).all()
        assert (rows[9:] == after).all()


def test_rows_of_labels_brought_back_to_frames_are_the_labels_where_they_are_constant_in_a_row():
    rng = np.random.default_rng(0)
    start_s = np.arange(10.0)
    each = rng.integers(0, 8, 10)
    second = np.minimum(TIMES.astype(int), 9)
    rows, known = pooling.to_rows(EXPR, each[second][:, None].astype(float), EVERY, TIMES, start_s, start_s + 1)
    np.testing.assert_array_equal(rows[:, 0], each)
    back, covered = align(np.eye(8)[rows[:, 0].astype(int)], known, start_s, start_s + 1, TIMES)
    assert covered.sum() == len(TIMES) - (TIMES >= 10).sum()
    np.testing.assert_array_equal(back.argmax(axis=1)[covered], each[second][covered])


def test_a_row_has_the_class_of_most_frames_the_share_of_a_unit_and_the_mean_of_values():
    times, valid = np.arange(6.0), np.array([True, True, True, True, False, True])
    one, end = np.array([0.0]), np.array([6.0])
    assert pooling.to_rows(EXPR, np.array([[3.0], [1], [1], [3], [3], [3]]), valid, times, one, end)[0].tolist() == [[3]]
    assert pooling.to_rows(EXPR, np.array([[3.0], [1], [1], [3], [3], [7]]), valid, times, one, end)[0].tolist() == [[1]]  # the first
    au = np.zeros((6, 12))
    au[[0, 4], 2] = 1  # frame 4 has no label
    assert pooling.to_rows(AU, au, valid, times, one, end)[0][0, 2] == pytest.approx(1 / 5)
    assert pooling.to_rows(VA, np.arange(12.0).reshape(6, 2), valid, times, one, end)[0][0] == pytest.approx([22 / 5, 27 / 5])


def test_what_a_frame_without_a_label_holds_does_not_matter():
    rng = np.random.default_rng(1)
    valid = rng.random(len(TIMES)) < 0.5
    start_s = np.arange(0, 12, 0.7)  # the last rows lie beyond the video
    for task, most in {"va": 1, "expr": 7, "au": 1}.items():
        values = rng.integers(0, most + 1, (len(TIMES), len(TASKS[task].columns))).astype(float)
        first = pooling.to_rows(TASKS[task], values, valid, TIMES, start_s, start_s + 0.7)
        second = pooling.to_rows(
            TASKS[task], np.where(valid[:, None], values, -1 if task == "expr" else np.nan), valid, TIMES, start_s, start_s + 0.7
        )
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
        assert not first[1][-1]
        assert (first[0][-1] == 0).all()


# ---- the published rule of second labels ------------------------------------------------------------------------------------------------


def test_bins_begin_and_end_with_the_published_windows(parity: Path):
    """All 833 windows of the authors' table: four seconds every two, at 25, 29.97 and 30 frames a second."""
    with (parity / "windows.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for row in table:
        start_s, end_s, fps = (float(row[c]) for c in ("start_time", "end_time", "fps"))
        first, stop = pooling.second_bins(np.array([start_s]), np.array([end_s]), fps, bins=4, bin_s=1.0, frames=10**6)
        assert (first[0, 0], stop[0, -1]) == (int(row["start_frame"]), int(row["end_frame"]))
        assert (first[0, 1:] == stop[0, :-1]).all()
        cut = [min(int(row["start_frame"]) + round(i * fps), int(row["end_frame"])) for i in range(5)]
        assert [*first[0], stop[0, -1]] == cut
    assert len(table) == 833


def test_bins_of_ntsc_are_thirty_frames_and_end_with_the_video():
    first, stop = pooling.second_bins(np.array([0.0, 50.0, 98.0]), np.array([4.0, 54.0, 100.0]), 29.97, bins=4, bin_s=1.0, frames=2990)
    assert first[0].tolist() == [0, 30, 60, 90]
    assert stop[0, -1] == 120
    assert first[1].tolist() == [1499, 1529, 1559, 1589]  # 1498.5 is rounded up
    assert stop[1, -1] == 1618  # cut at the window's end, 1618.38
    assert (first[2].tolist(), stop[2].tolist()) == ([2937, 2967, 2990, 2990], [2967, 2990, 2990, 2990])


# ---- the stage --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path):
    """One video of 10 frames, two streams: `a` with all three files, one longer, one shorter than the video; `b` without any."""
    (tmp_path / "v.mp4").write_bytes(b"v" * 9)
    (tmp_path / "va.txt").write_text("valence,arousal\n" + "".join(f"0.{i},-0.{i}\n" for i in range(10)) + "0.5,0.5\n0.5,0.5\n")
    (tmp_path / "expr.txt").write_text(TASKS["expr"].header + "\n" + "7\n-1\n3\n3\n3\n")
    (tmp_path / "au.txt").write_text(TASKS["au"].header + "\n" + "1,0,0,0,0,0,0,0,0,0,0,1\n" * 9 + "-1,0,0,0,0,0,0,0,0,0,0,0\n")
    files = {task: tmp_path / f"{task}.txt" for task in TASKS}
    rows = [Row("a", tmp_path / "v.mp4", "left", "train", files), Row("b", tmp_path / "v.mp4", "right", "test")]

    def make(**more) -> Plan:
        model = {"face": {"kind": "transformer", "reads": "mesh", "heads": 2, "hidden": 8}}
        data = {"cache": str(tmp_path / "cache"), "features": {"mesh": {"encoder": "mesh"}}, "models": model, "publish": "face"}
        found = Plan(parse(data | {"tasks": ["va", "expr", "au"]} | more), rows)
        (video,) = found.items("frames")
        job = found.job("frames", video)
        if not job.path.exists():
            times = np.arange(10) / 25
            job.write(
                job.header(Fraction(25)), values=np.zeros((10, 1), np.float32), start_s=times, end_s=times + 0.04, valid=np.ones(10, bool)
            )
        return found

    return make


def run(plan: Plan) -> dict[str, Entry]:
    done = {"frames": {i.id: Entry("done") for i in plan.items("frames")}}
    return apply.apply(plan, "labels", plan.items("labels"), done, workers.start, lambda *_: None)


def test_row_i_of_a_file_is_frame_i(plan):
    own = plan()
    assert {id: e.status for id, e in run(own).items()} == {"a": "done"}  # b has no annotation, and so nothing to do
    (item,) = own.items("labels")
    with own.streams(item).open("labels") as stream:
        values, known = stream.rows(), stream.rows("known")
        assert stream.attributes["columns"] == ["valence", "arousal", "expression", *ACTION_UNITS]
        assert stream.attributes["extra"]["files"] == {
            "va": {"rows": 12, "labelled": 12},
            "expr": {"rows": 5, "labelled": 4},
            "au": {"rows": 10, "labelled": 9},
        }
        assert stream.valid.all()
    assert (values.shape, values.dtype) == ((10, 15), np.float64)
    assert values[7, :2].tolist() == [0.7, -0.7]
    assert values[:, 2].tolist() == [7, 0, 3, 3, 3, 0, 0, 0, 0, 0]
    assert known.sum(axis=0).tolist() == [10, 4, 9]
    assert np.flatnonzero(~known[:, 2]).tolist() == [9]


def test_labels_of_a_run_are_those_of_its_tasks(plan):
    own = plan(tasks=["au"])
    run(own)
    item = next(i for i in own.items("face") if i.id == "a")
    found = frame_labels(own.streams(item), {"au": AU})
    assert list(found) == ["au"]
    assert found["au"][0].shape == (10, 12)
    assert own.key("labels") != plan().key("labels")


def test_a_faulty_annotation_is_an_entry_that_names_file_and_line(plan, tmp_path):
    (tmp_path / "expr.txt").write_text(TASKS["expr"].header + "\n" + "1\n8\n")
    (entry,) = run(plan()).values()
    assert entry.status == "failed"
    assert f"{tmp_path / 'expr.txt'}: line 3: want a whole number from 0 to 7 or -1 in each cell, got '8'" in entry.reason
    assert run(plan(tasks=["va"]))["a"].status == "done"  # which does not read it


def test_a_corrected_annotation_is_another_identity(plan, tmp_path):
    first = plan()
    before, key = first.items("labels")[0].identity, first.key("face")
    (tmp_path / "va.txt").write_text("valence,arousal\n0.1,0.1\n")
    second = plan()
    assert second.items("labels")[0].identity != before
    assert second.key("face") != key
    assert second.key("labels") == first.key("labels")
    assert plan(tasks=["au"]).key("face") == plan(tasks=["au"]).key("face")
