"""A label file of any form, read for its task: a known event at a known time lies on its frames."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import ManifestError
from affpipe.core.tasks.classes import Classes
from affpipe.core.tasks.dimensions import Dimensions
from affpipe.core.tasks.table import EXPR, TASKS, VA
from affpipe.core.tasks.units import Units
from affpipe.data.annotations import write_labels
from affpipe.data.demo.clips import CLIPS
from affpipe.data.demo.own_labels import MOODS, intervals, own_labels, write_own
from affpipe.data.demo.render import drives
from affpipe.data.demo.signals import frame_ticks
from affpipe.data.importers.manifest_check import check
from affpipe.data.label_files import read

MOOD = Classes("mood", "mood", -1, column="mood", names=("calm", "tense", "none"))
SCALE = Dimensions("dominance", "dominance", -5, ranges={"dominance": (1.0, 9.0)})
PAIN = Units("pain", "pain", -1, names=("brows", "lips"))
RATES = {"25": np.arange(100) / 25, "29.97": np.arange(120) * 1001 / 30000, "late": 1.4 + np.arange(100) / 25}
RATES["variable"] = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.08], 100))
at_any_rate = pytest.mark.parametrize("times_s", RATES.values(), ids=RATES)


def axis_of(times_s: np.ndarray) -> FrameAxis:
    return FrameAxis(times_s, Fraction(25))


def file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@at_any_rate
def test_classes_as_intervals_lie_on_the_frames_that_are_shown_then(tmp_path, times_s):
    path = file(tmp_path, "a.csv", "start,end,value\n0.4,1.2,calm\n1.2,2.0,TENSE\n2.5,2.6,-1\n3,3.2,2\n")
    found = read(MOOD, path)
    values, known = found.on_frames(axis_of(times_s))
    at = times_s - times_s[0] + 0.001
    want = np.select([(at >= 0.4) & (at < 1.2), (at >= 1.2) & (at < 2), (at >= 3) & (at < 3.2)], [0, 1, 2], -1)
    np.testing.assert_array_equal(np.where(known, values[:, 0], -1), want)
    assert (found.rows, found.labelled) == (4, 3)


@at_any_rate
def test_a_ramp_at_a_rate_of_its_own_is_the_ramp_on_frames(tmp_path, times_s):
    samples = np.arange(0, 5, 0.25)
    rows = [f"{t:g},{1 + t:.6f}" if not 2 < t < 3 else f"{t:g}," for t in samples]
    path = file(tmp_path, "a.csv", "\n".join(["time,value", *rows]) + "\n")
    values, known = read(SCALE, path).on_frames(axis_of(times_s))
    at = times_s - times_s[0]
    np.testing.assert_array_equal(known, (at < 2.001) | (at > 2.999))  # nothing is drawn into a gap
    np.testing.assert_allclose(values[known, 0], 1 + at[known], atol=1e-3)


def test_timed_classes_and_units_take_the_nearest_sample(tmp_path):
    axis = axis_of(np.arange(50) / 25)
    values, known = read(MOOD, file(tmp_path, "a.csv", "time,mood\n0,calm\n1,tense\n1.9,none\n")).on_frames(axis)
    assert known[:48].all()
    np.testing.assert_array_equal(values[:48, 0], [0] * 13 + [1] * 24 + [2] * 11)
    values, known = read(PAIN, file(tmp_path, "b.csv", "time,lips,brows\n0,1,0\n0.5,,1\n1,0,1\n")).on_frames(axis)
    np.testing.assert_array_equal(values[:7], [[0, 1]] * 7)
    assert not known[7:19].any()  # a frame needs all of its columns


def test_a_unit_is_absent_where_no_interval_says_that_it_is_there(tmp_path):
    path = file(tmp_path, "a.csv", "start,end,value,tier\n0.4,0.8,x,brows\n0.2,0.4,1,lips\n1,1.2,0,lips\n")
    values, known = read(PAIN, path).on_frames(axis_of(np.arange(50) / 25))
    assert known.all()
    np.testing.assert_array_equal(np.flatnonzero(values[:, 0]), np.arange(10, 20))
    np.testing.assert_array_equal(np.flatnonzero(values[:, 1]), np.arange(5, 10))


def test_an_interval_with_the_mark_says_nothing_of_its_unit_nor_of_the_frame(tmp_path):
    path = file(tmp_path, "a.csv", "start,end,value,tier\n0.4,0.8,-1,brows\n0,2,1,lips\n")
    found = read(PAIN, path)
    values, known = found.on_frames(axis_of(np.arange(50) / 25))
    np.testing.assert_array_equal(np.flatnonzero(~known), np.arange(10, 20))
    assert values[known].tolist() == [[0, 1]] * 40
    assert (found.rows, found.labelled) == (2, 1)


@pytest.mark.parametrize(
    ("value", "there"),
    [("0", 0), ("0.0", 0), ("00", 0), ("No", 0), ("false", 0), ("absent", 0), ("1", 1), ("x", 1), ("nan", None), ("-1.0", None)],
)
def test_what_a_table_writes_for_no_is_no(tmp_path, value, there):
    found = read(PAIN, file(tmp_path, "a.csv", f"start,end,value,tier\n0,1,{value},brows\n"))
    values, known = found.on_frames(axis_of(np.arange(25) / 25))
    assert (values[:, 0].tolist(), known.all()) == ([float(there or 0)] * 25, there is not None)


def test_a_class_may_have_the_name_that_is_otherwise_no_label(tmp_path):
    task = Classes("heard", "heard", -1, column="heard", names=("nan", "yes"))
    axis = axis_of(np.arange(50) / 25)
    for text in ("time,heard\n0,nan\n1,yes\n2,NaN\n", "start,end,value\n0,0.52,nan\n0.52,1.5,yes\n1.5,2,nan\n"):
        values, known = read(task, file(tmp_path, "a.csv", text)).on_frames(axis)
        assert known.all()
        np.testing.assert_array_equal(values[:, 0], [0] * 13 + [1] * 25 + [0] * 12)


@pytest.mark.parametrize(
    ("task", "text", "said"),
    [
        (
            MOOD,
            "start,end,value\n0,400,calm\n400,900,tense\n",
            "want seconds within the video, got 900 s in a video of 2 s; compare the two",
        ),
        (PAIN, "start,end,value,tier\n50,60,1,brows\n", "got 60 s in"),
        (SCALE, "time,dominance\n0,1\n0.5,2\n1,2\n1.5,2\n50,2\n", "got 50 s in"),
        (
            SCALE,
            "time,dominance\n0,1\n1.9,2\n3.8,2\n",
            "want samples at most 1 s apart, got 1.9 s, and frames between without a label; write times in seconds, or set gap_s",
        ),
        (
            VA,
            "time,valence,arousal\n0,1,0\n1.5,0,0\n",
            "got 1.5 s, and frames between without a label; write times in seconds, or give more of them",
        ),
        (SCALE, "time,dominance\n0,1\n1,2\n2,2\n", ""),
        (SCALE, "time,dominance\n0,1\n1,2\n50,\n", ""),
        (MOOD, "start,end,value\n0,4,calm\n", ""),
        (PAIN, "start,end,value,tier\n0,1,,brows\n", ""),
    ],
)
def test_times_that_can_hardly_be_those_of_the_video_are_told(tmp_path, task, text, said):
    odd = read(task, file(tmp_path, "a.csv", text)).odd(50, 2.0)
    assert said in odd
    assert bool(said) == bool(odd)


def test_dimensions_have_a_tier_each_and_a_frame_needs_all(tmp_path):
    path = file(tmp_path, "a.csv", "start,end,value,tier\n0,2,0.5,valence\n1,4,-0.25,arousal\n")
    values, known = read(VA, path).on_frames(axis_of(np.arange(100) / 25))
    np.testing.assert_array_equal(np.flatnonzero(known), np.arange(25, 50))
    np.testing.assert_array_equal(values[30], [0.5, -0.25])


def test_the_tier_is_the_one_that_the_task_names(tmp_path):
    path = file(tmp_path, "a.csv", "start,end,value,tier\n0,1,calm,first\n0,1,tense,second\n")
    named = Classes("mood", "mood", -1, tier="second", column="mood", names=MOODS)
    assert read(named, path).on_frames(axis_of(np.arange(5) / 25))[0].tolist() == [[1]] * 5
    with pytest.raises(ManifestError, match="want one tier, or one named mood, got 'first', 'second'; name one of them"):
        read(MOOD, path)


@pytest.mark.parametrize(
    ("task", "text", "said"),
    [
        (MOOD, "start,end,value\n0,1,angry\n", "line 2: want one of calm, tense, none, got 'angry'; mend it, or name another tier"),
        (MOOD, "start,end,value\n0,1,7\n", "line 2: want one of calm, tense, none, got '7'"),
        (SCALE, "start,end,value\n0,1,9.5\n", r"line 2: want a number in \[1, 9\], got '9.5'"),
        (SCALE, "start,end,value\n0,1,high\n", r"line 2: want a number in \[1, 9\], got 'high'"),
        (SCALE, "time,dominance\n0,3\n0.5,0\n", r"at 0.5 s: want a number in \[1, 9\], -5 or nothing for dominance, got 0; mend the line"),
        (SCALE, "time,dominance\n0,9.0000001\n", r"want a number in \[1, 9\], -5 or nothing for dominance, got 9.0000001; mend"),
        (MOOD, "time,mood\n0,calm\n1,angry\n", "line 3: mood: want calm, tense, none, their number or an empty cell, got 'angry'"),
        (PAIN, "start,end,value,tier\n0,1,x,nose\n", "want a tier of brows, lips, got 'nose'; give the tiers these names"),
        (PAIN, "start,end,value\n0,1,lips\n", "want a tier of brows, lips, got a table without a column `tier`; add one that names them"),
        (
            MOOD,
            "frame,mood\n1,calm\n",
            "want the header calm,tense,none, got 'frame,mood'; name the columns so, or start,end,value, or time and",
        ),
        (MOOD, "calm,tense,none\nTense\n", "line 2: want mood, got 'Tense'; write the number of the class, 1"),
        (
            VA,
            "start,end,value,tier\n0,1,0.5,valence\n",
            "want a tier of each of valence, arousal, as a frame needs all, got none of arousal; add it",
        ),
        (VA, "time,valence\n0,0.5\n", "line 1: want time and valence, arousal, got no arousal in 'time,valence'"),
    ],
)
def test_a_label_that_the_task_does_not_have_is_named_with_its_place(tmp_path, task, text, said):
    with pytest.raises(ManifestError, match=said):
        read(task, file(tmp_path, "a.csv", text))


def test_times_in_a_file_of_another_suffix_are_known(tmp_path):
    with pytest.raises(ManifestError, match=r"want the header calm,tense,none, got 'start,end,value'; save it as \.csv, since"):
        read(MOOD, file(tmp_path, "a.txt", "start,end,value\n0,1,calm\n"))


def test_the_check_tells_what_can_be_read_and_yet_cannot_be_meant(tmp_path):
    clips.write(tmp_path / "a.mp4", count=50)
    file(tmp_path, "mood.csv", "start,end,value\n520,1480,calm\n")
    file(tmp_path, "scale.csv", "time,value\n0,3\n1.5,4\n3,5\n")
    path = file(tmp_path, "m.csv", "stream_id,video,partition,mood,dominance\na,a.mp4,train,mood.csv,scale.csv\n")
    tasks = TASKS | {task.name: task for task in (MOOD, SCALE, PAIN)}
    report = check(path, tmp_path, tasks, media="quick", progress=lambda *_: None)
    assert report.faults == []
    assert [line.removeprefix(f"{path}: ").replace(f"{tmp_path}/", "") for line in report.warnings] == [
        "row 2: scale.csv: want samples at most 1 s apart, got 1.5 s, and frames between without a label; "
        "write times in seconds, or set gap_s of dominance",
        "row 2: mood.csv: want seconds within the video, got 1480 s in a video of 2 s; compare the two, and write times in seconds",
        "want label files in a column `pain`, got none; add it, or take the task out of the settings",
    ]


def test_the_check_tells_which_columns_it_does_not_read_where_a_stream_seems_to_have_no_labels(tmp_path):
    clips.write(tmp_path / "a.mp4", count=5)
    file(tmp_path, "mood.csv", "start,end,value\n0,0.1,calm\n")
    path = file(tmp_path, "m.csv", "stream_id,video,partition,mood,note,\na,a.mp4,train,mood.csv,x,\n")
    report = check(path, tmp_path, progress=lambda *_: None)
    assert ["want an annotation (va, expr, au) for partition train" in line for line in report.faults] == [True]
    assert report.warnings == [f"{path}: columns that are not read: mood, note; if they are tasks of your own, give --config SETTINGS"]
    report = check(path, tmp_path, TASKS | {"mood": MOOD}, progress=lambda *_: None)
    assert (report.faults, report.warnings) == ([], [])


def test_a_line_a_frame_stays_what_it_was(tmp_path):
    values, valid = np.arange(12)[:, None] % 8.0, np.arange(12) != 3
    write_labels(EXPR, tmp_path / "a.txt", values, valid)
    found = read(EXPR, tmp_path / "a.txt")
    laid, known = found.on_frames(axis_of(np.arange(20) / 25))
    np.testing.assert_array_equal(known, np.append(valid, [False] * 8))
    np.testing.assert_array_equal(laid[known], values[valid])
    assert (found.rows, found.labelled, found.odd(12, 0.48)) == (12, 11, "")
    assert found.odd(120, 4.8) == "want a line a frame (-49 to +2), got 12 lines for 120 frames (-108); compare the two"


@pytest.mark.parametrize(
    ("task", "text", "last_s"),
    [
        (MOOD, "start,end,value\n520,1480,calm\n", 1480),
        (PAIN, "start,end,value,tier\n520,1480,x,lips\n0,1,x,brows\n", 1480),
        (SCALE, "time,value\n0,3\n500,4\n", 500),
    ],
)
def test_times_beyond_the_video_are_odd(tmp_path, task, text, last_s):
    """Milliseconds, or frames, in place of seconds."""
    found = read(task, file(tmp_path, "a.csv", text))
    assert found.odd(250, 10.0).startswith(f"want seconds within the video, got {last_s} s in a video of 10 s; ")
    assert "within the video" not in found.odd(250, last_s - 1.9)


def test_samples_too_far_apart_are_odd(tmp_path):
    path = file(tmp_path, "a.csv", "time,value\n0,3\n2,4\n2.1,\n4,5\n6,1\n")
    assert read(SCALE, path).doubt == (
        "want samples at most 1 s apart, got 2 s, and frames between without a label; write times in seconds, or set gap_s of dominance"
    )
    assert read(replace(SCALE, gap_s=2.0), path).doubt == ""
    assert read(SCALE, file(tmp_path, "b.csv", "time,value\n0,3\n1,4\n2,5\n9,5\n")).doubt == ""


@pytest.mark.parametrize("clip", CLIPS[:3], ids=lambda clip: clip.name)
def test_the_demo_says_the_same_in_every_form(tmp_path, clip):
    """Intervals of ELAN, Praat and a table, and the curve that they follow; frames at an edge may lie a step of the curve aside."""
    (stream,), (person,) = clip.streams, drives(clip)
    ticks, tick = frame_ticks(clip, np.random.default_rng(0))
    times_s = ticks * float(tick)
    write_own(tmp_path, stream, person, times_s)
    values, known = read(MOOD, tmp_path / own_labels("mood", stream)).on_frames(axis_of(times_s))
    for start, end, name in intervals(clip, person):
        inside = (times_s > start + 0.002) & (times_s < end - 0.002)
        assert known[inside].all()
        assert (values[inside, 0] == MOODS.index(name)).all()
    arousal, valence = person.at(times_s, "arousal"), person.at(times_s, "valence")
    values, known = read(SCALE, tmp_path / own_labels("dominance", stream)).on_frames(axis_of(times_s))
    np.testing.assert_allclose(values[known, 0], (5 + 2.5 * valence + 1.5 * arousal)[known], atol=0.05)
    values, known = read(PAIN, tmp_path / own_labels("pain", stream)).on_frames(axis_of(times_s))
    np.testing.assert_array_equal(values[known, 0], arousal[known] > 0.2)


def test_a_misspelt_tier_of_a_unit_is_odd(tmp_path):
    """Its unit would be absent in every frame, as one without a tier is."""
    astray = read(PAIN, file(tmp_path, "a.csv", "start,end,value,tier\n0,1,1,brow\n0,2,1,lips\n"))
    assert astray.odd(50, 2.0) == "want tiers named as the units, got none of brows, but 'brow'; rename what is misspelt"
    whole = read(PAIN, file(tmp_path, "b.csv", "start,end,value,tier\n0,1,1,Brows\n0,2,1,lips\n0,2,hello,words\n"))
    assert whole.odd(50, 2.0) == ""  # other tiers may stand beside those of all units
    alone = read(PAIN, file(tmp_path, "c.csv", "start,end,value,tier\n0,2,1,lips\n"))
    assert alone.odd(50, 2.0) == ""  # a unit that is never there needs no tier


def test_a_partition_of_no_task_is_told(tmp_path):
    clips.write(tmp_path / "a.mp4", count=50)
    file(tmp_path, "mood.csv", "start,end,value\n0,1,calm\n")
    head = "stream_id,video,partition,mood,moods_partition,pain,pain_partition,expr_partition\n"
    path = file(tmp_path, "m.csv", head + "a,a.mp4,train,mood.csv,test,,test,\n")
    report = check(path, tmp_path, {"mood": MOOD}, progress=lambda *_: None)  # pain is a task of other settings
    assert report.faults == []
    assert report.warnings == [f"{path}: column `moods_partition` is not read, as there is no task moods; rename it, or remove it"]
