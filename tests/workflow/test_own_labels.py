"""Tasks of one's own, and an official one that is a row more, through the whole workflow: labels in, scores, files, pages, a submission
out.

Fits are fakes: what is shown is that every stage asks the task, and no list of names is left over. tests/jobs/test_own_tasks.py fits for
    real.
"""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fakes.workspace import FRAMES, Workspace

from affpipe.core.tasks.classes import Classes
from affpipe.core.tasks.dimensions import Dimensions
from affpipe.core.tasks.units import Units
from affpipe.data.annotations import read_labels

VIDEOS = {"c1": "train", "c2": "train", "c3": "train", "c4": "validation", "c5": "validation", "c6": "test"}
TASKS = """
tasks:
- {name: mood, classes: [calm, tense, none]}
- {name: dominance, dimensions: {dominance: [1, 9]}}
- {name: pain, units: [brows, lips]}
"""
LATE = "late_fusion: {members: [face, voice], draws: 10}\n"
MOOD = Classes("mood", "mood", -1, column="mood", names=("calm", "tense", "none"))
OWN = {
    "mood": MOOD,
    "dominance": Dimensions("dominance", "dominance", -5, ranges={"dominance": (1.0, 9.0)}),
    "pain": Units("pain", "pain", -1, names=("brows", "lips")),
}


def label_files(work: Workspace, video: str, n: int) -> list[str]:
    """Write label files of a video, intervals, samples and lines, and return their names."""
    rng, end = np.random.default_rng(n), FRAMES / 25
    texts = {
        f"{video}.mood.csv": f"start,end,value\n0,0.32,calm\n0.32,{0.4 + 0.1 * n:g},tense\n{0.4 + 0.1 * n:g},{end:g},none\n",
        f"{video}.dominance.csv": "time,dominance\n" + "".join(f"{t:g},{rng.uniform(1, 9):.3f}\n" for t in np.arange(0, 1.01, 0.1)),
        f"{video}.pain.txt": "brows,lips\n" + "".join(f"{a},{b}\n" for a, b in rng.integers(2, size=(FRAMES, 2))),
    }
    for name, text in texts.items():
        (work.folder / "data" / name).write_text(text)
    return list(texts)


def workspace(folder: Path, recipe: str, videos: dict[str, str] = VIDEOS) -> Workspace:
    work = Workspace(folder, videos, recipe=recipe)
    rows = ["stream_id,video,partition,mood,dominance,pain"]
    for n, (video, partition) in enumerate(videos.items()):
        files = label_files(work, video, n) if partition in ("train", "validation") else ["", "", ""]
        rows.append(",".join([video, f"{video}.mp4", partition, *files]))
    (work.folder / "data_manifest.csv").write_text("\n".join(rows) + "\n")
    return work


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Workspace:
    work = workspace(tmp_path_factory.mktemp("own") / "work", TASKS + LATE)
    work.snakemake()
    return work


def test_every_task_is_scored_for_every_system(done):
    scores = json.loads((done.folder / "results/run/scores.json").read_text())
    assert set(scores) == {"face", "behaviour", "voice", "fused", "late_fusion"}
    for own in scores.values():
        assert list(own) == sorted(OWN)
        assert set(own["mood"]) >= {"f1", "accuracy", "f1_calm", "confusion", "majority", "constant"}
        assert set(own["dominance"]) >= {"ccc", "ccc_dominance", "constant"}
        assert {len(own["dominance"]["distributions"]["truth"]["dominance"]), own["mood"]["frames"]} == {20, 48}
        assert set(own["pain"]) >= {"f1_brows", "f1_lips", "majority"}
    assert (done.folder / "results/run/by_video/pain.csv").read_text().startswith("system,video,frames,f1,accuracy,f1_brows,f1_lips\n")


def test_files_hold_the_values_of_their_task_in_its_range(done):
    out = done.folder / "results/run"
    rows = list(csv.DictReader((out / "predictions/c6.csv").read_text().splitlines()))
    assert list(rows[0]) == [
        *("frame", "time_s", "dominance", "mood", "p_mood_calm", "p_mood_tense", "p_mood_none", "brows", "lips"),
        *("p_pain_brows", "p_pain_lips", "source"),
    ]
    assert {row["mood"] for row in rows} <= {"0", "1", "2"}
    assert all(1 <= float(row["dominance"]) <= 9 for row in rows)
    for name, task in OWN.items():
        official, known = read_labels(task, out / f"official/{name}/c6.txt")
        fused, there = read_labels(task, out / f"late_fusion/{name}/predictions/c6.txt")
        assert known.all()
        assert there.all()
        assert fused.shape == official.shape
        np.testing.assert_allclose(official, [[float(row[c]) for c in task.columns] for row in rows], atol=1e-6)


def test_the_report_shows_every_task(done):
    page = (done.folder / "results/run/report.html").read_text()
    for name in OWN:
        assert f'<div id="scores-{name}">' in page
        assert f'<div id="late-{name}">' in page
    assert "the mean of the F1 of the 3 classes, over all valid frames together." in page
    assert re.search(r">tense</text>|>tense</li>", page)
    assert "Team RAS" not in page.split("<main>")[0]


def test_a_run_is_evaluated_and_handed_in_by_its_own_tasks(done):
    table = done.run("-m", "affpipe", "evaluate", "--run", "results/run")
    assert [line for line in table.splitlines() if "scored streams" in line and "run:" in line] != []
    assert "dominance, results/run: scored streams" in table
    one = done.run("-m", "affpipe", "evaluate", "--run", "results/run", "--task", "mood")
    assert "mood, results/run: scored streams" in one
    assert "pain" not in one
    assert "want --task one of dominance, mood, pain, got 'va'" in done.run(
        "-m", "affpipe", "evaluate", "--run", "results/run", "--task", "va", fails=True
    )
    (done.folder / "t.txt").write_text("image_location,mood\n" + "".join(f"c6/{i:05d}.jpg,\n" for i in range(1, FRAMES + 1)))
    said = done.run("-m", "affpipe", "submit", "--run", "results/run", "--template", "t.txt", "--out", "sent", "--constant", "c6")
    assert f"mood: {FRAMES} rows of 1 videos, 0 filled" in said
    config = ("--config", "config.yaml", "--config", "recipe.yaml")
    checked = ("submit-check", "sent/mood_predictions.txt", "--template", "t.txt", *config, "--constant", "c6")
    assert "fit to send" in done.run("-m", "affpipe", *checked)
    table = done.run("-m", "affpipe", "manifest", "check", "--data-root", "data", *config)
    assert "0 faults, 0 warnings" in table
    assert re.search(r"mood\W+train\W+3\b", table)


def test_without_a_validation_partition_the_folds_are_scored(tmp_path):
    """Each labelled stream is then predicted by a fit that did not see it, and what figures rest on says so."""
    videos = {video: partition.replace("validation", "train") for video, partition in VIDEOS.items()}
    work = workspace(tmp_path / "work", TASKS + LATE + "cross_validation: {folds: 3}\n", videos)
    assert "on 5 of 5 labelled training streams" in work.snakemake()
    out = work.folder / "results/run"
    scores = json.loads((out / "scores.json").read_text())
    for system, own in scores.items():
        for task, figures in own.items():
            assert set(figures["videos"]) == {"c1", "c2", "c3", "c4", "c5"}, (system, task)
            assert figures["basis"]["epoch_chosen_on"] == "reported streams"
    records = [json.loads(path.read_text()) for path in work.folder.glob("cache/face/*/fold*/fit.json")]
    assert len(records) == 3
    assert sorted(id for record in records for id in record["validation"]) == ["c1", "c2", "c3", "c4", "c5"]
    assert not any(set(record["train"]) & set(record["validation"]) for record in records)
    page = (out / "report.html").read_text()
    assert "scored are the streams of training, each predicted by the fit without its fold" in page
    assert "validation streams of one task that train another" not in page
    work.settings(TASKS + "cross_validation: {folds: 3, use: per_target}\n")
    assert "by which use: per_target chooses, got none; move streams there, or set use: ensemble" in work.snakemake("--dry-run", fails=True)
    work.settings(TASKS)
    assert "want rows of partition validation with a cell" in work.snakemake("--dry-run", fails=True)


def test_a_new_official_task_is_a_row_of_the_table(tmp_path):
    """The package gets the row, and nothing else; manifest, settings, labels, scores, pages and files follow."""
    work = Workspace(tmp_path / "work", VIDEOS, recipe="tasks: [va, pose]\n" + LATE)
    package = work.copy_package()
    table = package / "core/tasks/table.py"
    row = '        Classes("pose", "pose", -1, "Pose_Challenge", column="pose", names=("up", "down")),\n'
    table.write_text(table.read_text().replace("        AU,\n", f"        AU,\n{row}"))
    rows = ["stream_id,video,partition,va,pose"]
    for n, (video, partition) in enumerate(VIDEOS.items()):
        work.annotate(video)
        (work.folder / f"data/{video}.pose.txt").write_text("up,down\n" + "".join(f"{int(i % (n + 2) > 1)}\n" for i in range(FRAMES)))
        files = [f"{video}.txt", f"{video}.pose.txt"] if partition in ("train", "validation") else ["", ""]
        rows.append(",".join([video, f"{video}.mp4", partition, *files]))
    (work.folder / "data_manifest.csv").write_text("\n".join(rows) + "\n")
    schema = work.run("-m", "affpipe", "schema")
    assert '"pose"' in schema
    (work.folder / "workflow/schemas/config.schema.json").write_text(schema)
    work.snakemake()
    out = work.folder / "results/run"
    scores = json.loads((out / "scores.json").read_text())
    assert set(scores["fused"]["pose"]) >= {"f1", "f1_up", "f1_down", "confusion", "majority"}
    assert set(scores["late_fusion"]) == {"va", "pose"}
    head = (out / "predictions/c6.csv").read_text().splitlines()[0]
    assert head == "frame,time_s,valence,arousal,pose,p_up,p_down,source"
    assert (out / "official/pose/c6.txt").read_text().startswith("up,down\n")
    assert '<div id="scores-pose">' in (out / "report.html").read_text()


def test_a_task_that_nothing_scores_is_left_out_of_late_fusion_and_said(tmp_path):
    work = workspace(tmp_path / "work", TASKS + LATE)
    for video in ("c4", "c5"):  # those of partition validation
        (work.folder / f"data/{video}.pain.txt").write_text("brows,lips\n" + "-1,-1\n" * FRAMES)
    work.snakemake()
    scores = json.loads((work.folder / "results/run/scores.json").read_text())
    assert set(scores["late_fusion"]) == {"mood", "dominance"}
    assert "f1" not in scores["fused"]["pain"]
    said = "".join(path.read_text() for path in work.folder.glob("logs/run/**/*.log"))
    assert "late_fusion: pain: want a labelled stream to score that a model predicted, got none; it is left out" in said
    assert "None: no model predicted a labelled stream of partition validation." in (work.folder / "results/run/report.html").read_text()
