"""What `affpipe predict` says of a video, at the terminal and beside its table: damage, a subject that may be two people."""

import json
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
from small_run import SETTINGS, Run
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.item import Item
from affpipe.data.manifest import Row
from affpipe.faces import workers as faces_stages
from affpipe.jobs import predict as newvideo
from affpipe.jobs.predict import Predicted
from affpipe.plan import config
from affpipe.plan.plan import Plan
from affpipe.results import notes
from affpipe.results.notes import Note
from affpipe.store import streams

LEFT, RIGHT = (0.0, 0.0, 20.0, 20.0), (70.0, 0.0, 90.0, 20.0)
PLACE = {"left": LEFT, "right": RIGHT}


def watched(folder: Path, video: Path, faces: list[tuple[int, int, str]]) -> tuple[Plan, Item]:
    """A video to predict up to its subject: the stages `frames` and `subject` over faces (frame, track, place) that are given."""
    settings = config.parse(SETTINGS | {"cache": str(folder / "cache"), "results": str(folder / "results")})
    plan = Plan(settings, [Row("x", video, "largest", "predict")])
    (item,) = plan.items("frames")
    faces_stages.frames(plan.context("frames"))(plan.job("frames", item))
    job = plan.job("faces", item)
    axis = job.axis()
    rows = sorted(face for face in faces if face[0] < len(axis))
    frame = np.array([f for f, _, _ in rows], np.int64)
    job.write(
        job.header(Fraction(25), columns=("left", "top", "right", "bottom")),
        values=np.array([PLACE[place] for *_, place in rows], np.float32).reshape(-1, 4),
        start_s=axis.times_s[frame],
        end_s=axis.ends_s[frame],
        valid=np.ones(len(rows), bool),
        frame=frame,
        track=np.array([track for _, track, _ in rows], np.int64),
        score=np.ones(len(rows), np.float32),
    )
    (stream,) = plan.items("subject")
    faces_stages.subject(plan.context("subject"))(plan.job("subject", stream))
    return plan, stream


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return clips.write(tmp_path_factory.mktemp("clip") / "whole.mkv", count=50, options={"g": "1"})


@pytest.fixture(scope="module")
def short(clip) -> Path:
    """The clip cut off within its frames."""
    path = clip.with_name("short.mkv")
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    return path


ONE = [(f, 0, "left") for f in range(50)]


def test_nothing_is_said_of_a_sound_video_with_one_person(tmp_path, clip):
    assert notes.of(*watched(tmp_path, clip, ONE)) == []


def test_damage_is_said_as_the_stage_knows_it(tmp_path, short):
    plan, item = watched(tmp_path, short, ONE)
    (said,) = notes.of(plan, item)
    faults = streams.attributes(plan.stream("frames", item))["extra"]["video"]["faults"]
    assert faults
    assert said == Note("frames", "; ".join(faults))
    assert "before its declared duration" in said.text


def test_a_subject_of_two_people_is_said(tmp_path, clip):
    two = [(f, 0, "left") for f in range(20)] + [(f, 1, "right") for f in range(20, 50)]
    (said,) = notes.of(*watched(tmp_path, clip, two))
    assert said.kind == "subject"
    assert said.text.startswith("it is joined of 2 pieces that may not be one person (rule largest: took 2 of 2 tracks; doubt 0.80)")


def test_a_second_person_for_a_tenth_of_the_time_is_said_too(tmp_path, clip):
    two = [(f, 0, "left") for f in range(45)] + [(f, 1, "right") for f in range(45, 50)]
    (said,) = notes.of(*watched(tmp_path, clip, two))
    assert said.text == "it is joined of 2 pieces that may not be one person (rule largest: took 2 of 2 tracks; doubt 0.20)"


def test_another_face_beside_the_subject_is_said(tmp_path, clip):
    (said,) = notes.of(*watched(tmp_path, clip, ONE + [(f, 1, "right") for f in range(50)]))
    assert "a face of 100 % of its area is beside it in 100 % of its frames (track 1)" in said.text


def test_what_any_stage_has_in_words_is_said_once_on_one_line():
    extra = {"video": {"faults": ["a", "b\nb"], "treated": ["c"], "width": 3}, "sound": {"said": ["a"]}, "tracks": [1], "reason": "r"}
    assert list(notes._words(extra)) == ["a", "b b", "c", "a"]


# ---- beside the table, and on the terminal ----------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch) -> list[Note]:
    said = [Note("frames", "ends 1.00 s before its declared duration"), Note("subject", "it is joined of 2 pieces")]
    monkeypatch.setattr(notes, "of", lambda plan, item: said)
    return said


def test_what_is_to_be_known_stands_beside_the_table(tmp_path, told):
    run = Run(tmp_path, random=("qwen3vl-tiny",))
    item = next(item for item in run.plan.items("fused") if item.id == "p1")
    done = newvideo._write(run.plan, item, tmp_path / "out", {"voice": "no sound"})
    assert done == Predicted(tmp_path / "out/p1.csv", {"voice": "no sound"}, ("qwen3vl-tiny",), tuple(told))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["p1.csv", "p1.json", "p1.png"]
    found = json.loads((tmp_path / "out/p1.json").read_text())
    assert found["notes"] == {"frames": "ends 1.00 s before its declared duration", "subject": "it is joined of 2 pieces"}
    assert (found["without"], found["random_weights"]) == ({"voice": "no sound"}, ["qwen3vl-tiny"])
    assert (found["video"], found["subject"], found["run"], found["model"]) == (str(tmp_path / "p1.mp4"), "largest", "small", "fused")
    rows = (tmp_path / "out/p1.csv").read_text().splitlines()[1:]
    assert found["frames"] == len(rows)
    assert found["sources"] == {name: sum(row.endswith(f",{name}") for row in rows) for name in ("observed", "nearest", "none")}


def test_a_line_a_video_and_stage_is_told_at_the_terminal(monkeypatch, told):
    def predict(videos, run, out, *, subject, progress, done):
        done += [Predicted(out / "a.csv", {"voice": "no sound"}, (), tuple(told)), Predicted(out / "b.csv", {}, ())]

    monkeypatch.setattr(newvideo, "predict", predict)
    result = CliRunner().invoke(main.app, ["predict", "a.mp4", "b.mp4", "--run", "r", "--out", "o"], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "o/a.csv",
        "  frames: ends 1.00 s before its declared duration",
        "  subject: it is joined of 2 pieces",
        "  without voice: no sound",
        "o/b.csv",
    ]


def test_the_track_that_was_chosen_is_a_note_too():
    extra = {"video": {"faults": ["cut short"], "said": ["video track 1 of 2 taken"], "track": {"index": 1}}, "samples": 3}
    assert list(notes._words(extra)) == ["cut short", "video track 1 of 2 taken"]
