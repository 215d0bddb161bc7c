"""Many that fail alike are one line with a count: in the report, at the end of a run, in checks; failures.csv keeps a row a stream."""

import json
from pathlib import Path

import pytest
from pages import Reader, cells, section
from small_run import Run
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.alike import groups, shape, told
from affpipe.jobs import failures
from affpipe.jobs.doctor import videos
from affpipe.results import ledger
from affpipe.store.index import Entry
from affpipe.system import disk

MANY = 40
STREAMS = {"v1": "train", "v2": "validation", **{f"p{i}": "predict" for i in range(MANY + 2)}}
MOOV = "want a readable video, got 'moov atom not found'; download or copy the file again"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run in which most videos to predict are damaged in one way, and p0 in another."""
    made = Run(tmp_path_factory.mktemp("run"), streams=STREAMS)
    for item in made.plan.items("frames"):
        if item.id[0] == "p":
            reason = f"{item.row.video}: {MOOV if item.id != 'p0' else MOOV.replace('moov atom not found', 'no frame')}"
            for name in (name for name in made.plan.names if name != "labels"):
                made.entries[name][item.id] = Entry("failed", reason=reason)
    ledger.write(made.plan, ledger.of_run(made.plan, made.entries))
    return made


def test_the_ledger_has_a_row_a_stream_and_says_each_cause_once(run):
    failures = ledger.read(run.plan)
    assert len(failures) == MANY + 2
    other, many = ledger.alike(run.plan, failures)
    assert [failure.stream_id for failure in other] == ["p0"]
    assert len(many) == MANY + 1
    assert ledger.lines(run.plan, failures) == [
        f"{MANY + 1} streams, as p1: frames failed: {run.plan.rows[3].video}: {MOOV}",
        f"p0: frames failed: {run.plan.rows[2].video}: {MOOV.replace('moov atom not found', 'no frame')}",
    ]
    assert ledger.lines(run.plan, failures, most=1)[1:] == ["and 1 more causes"]


def test_the_end_of_a_run_says_each_cause_once(run, capsys):
    settings = run.plan.settings
    disk.write_text(Path(run.plan.published()), "{}")
    disk.write_text(Path(settings.results) / settings.name / "scores.json", json.dumps({settings.publish: {}}))
    failures.finished(run.plan)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"affpipe: 2 of {MANY + 4} streams predicted, {MANY + 2} with faults that were skipped")
    assert lines[1].startswith(f"affpipe:   {MANY + 1} streams, as p1: frames failed: ")


def test_the_report_has_a_line_a_cause_with_a_count_and_all_names(run):
    page = run.page()
    rows = [row for row in cells(section(page, "summary")) if len(row) == 6]
    assert [row[1:4] for row in rows] == [["frames", "failed", f"{row[3]}"] for row in rows]
    assert rows[0][0] == "p0"
    assert rows[1][0].startswith(f"{MANY + 1} streams, as p1")
    assert all(f"p{i}" in rows[1][0] for i in range(1, MANY + 2))
    text = Reader(section(page, "summary")).text
    assert f"{MANY + 2} streams without any frame: see above." in text
    files = Reader(section(page, "files")).text
    assert f"{MANY + 2} streams without a prediction, see above" in files
    assert files.count("no prediction, see above") == 0


def test_few_that_fail_are_named_one_by_one(tmp_path):
    made = Run(tmp_path, streams={"v1": "train", "v2": "validation", "p2": "predict", "p3": "predict"})
    for name in (name for name in made.plan.names if name != "labels"):
        made.entries[name]["p2"] = Entry("failed", reason=f"{tmp_path}/p2.mp4: {MOOV}")
    assert [row[0] for row in cells(section(made.page(), "summary")) if len(row) == 6] == ["p2"]
    assert "no prediction, see above" in Reader(section(made.page(), "files")).text


# ---- checks -----------------------------------------------------------------------------------------------------------------------------


def test_a_check_tells_like_faults_once_and_all_on_request(tmp_path):
    rows = [f"s{i},{tmp_path}/lost{i}.mp4,predict" for i in range(MANY)] + [f"t,{tmp_path},predict"]
    (tmp_path / "m.csv").write_text("\n".join(["stream_id,video,partition", *rows]) + "\n")
    words = ["manifest", "check", str(tmp_path / "m.csv")]
    lines = CliRunner().invoke(main.app, words, catch_exceptions=False).stdout.splitlines()
    want = [line for line in lines if "want a video file" in line]
    assert len(want) == 2
    assert want[0].startswith(f"{tmp_path / 'm.csv'}: row 2: want a video file, got no {tmp_path}/lost0.mp4; ")
    assert want[0].endswith(f"(and {MANY - 1} more like it: --all)")
    assert lines[-1] == f"{MANY + 1} faults, 0 warnings"
    every = CliRunner().invoke(main.app, [*words, "--all"], catch_exceptions=False).stdout.splitlines()
    assert sum("want a video file" in line for line in every) == MANY + 1


def test_doctor_tells_like_faults_once(tmp_path):
    paths = [tmp_path / f"{i}.mp4" for i in range(12)]
    for path in paths[:-1]:
        path.write_bytes(b"no video" * 50)
    paths[-1].write_bytes(b"")
    _, found = videos.check(paths, 60)
    faults = [f.found for f in found if f.level == "fault"]
    assert len(faults) == 2
    assert faults[0].startswith(f"{paths[0]}: ")
    assert faults[0].endswith("(and 10 more like it)")
    assert "got an empty one" in faults[1]


# ---- by itself --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "like"),
    [
        ("/x/a.mp4: ends 1.28 s before", "/x/b.mp4: ends 0.5 s before", True),
        ("row 3: c.mp4: want x", "row 17: d.avi: want x", True),
        ("/x/a.mp4: got 'moov atom not found'", "/x/b.mp4: got 'no frame'", False),
        ("want 16000 Hz, got 8000", "want 16000 Hz, got 44100", True),
        ("m.csv: row 2: want x; do y", "m.csv: row 2: want x; do z", False),
        ("/x/it's (1).mp4: want x", "/x/it's (2).mp4: want x", True),
    ],
)
def test_lines_are_alike_but_for_paths_and_numbers(a, b, like):
    assert (shape(a) == shape(b)) is like


def test_names_are_left_out_as_whole_words_alone():
    assert shape("a: a cat and anna", ["a"]) == "*: * cat and anna"
    assert shape("anna b: x", ["anna", "anna b"]) == "*: x"


def test_many_like_lines_are_one_and_few_are_all():
    few = ["row 1: x", "row 2: x", "row 3: x"]
    assert told(few) == few
    assert told([*few, "y", "row 4: x"]) == ["row 1: x (and 3 more like it)", "y"]
    assert told([*few, "row 4: x"], more="--all") == ["row 1: x (and 3 more like it: --all)"]
    assert groups([3, 1, 4, 1, 5], lambda n: n % 2) == [[3, 1, 1, 5], [4]]
