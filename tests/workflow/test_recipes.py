"""Further recipes on the streams of a finished run: Team RAS whole, and other tasks."""

import json
import re
import shutil

import numpy as np
import pytest
from small_workspace import ROOT, Workspace, finished, rows, times_of

from affpipe.store.streams import Stream

TASKS = """
name: tasks
tasks: [va, expr, au]
cross_validation: {folds: 2}
models: {behaviour: null, voice: null, fused: null}
publish: face
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return finished(tmp_path_factory)


# ---- Team RAS whole ---------------------------------------------------------------------------------------------------------------------

RAS = """
name: whole
shards: 1
cross_fit: 2
vad: {model: silero}
late_fusion: {largest: 2, draws: 20}
models:
"""
SYSTEMS = [
    *("grada_transformer", "qwen_visual_mamba", "qwen_multimodal_mamba", "wavlm_chunks"),
    *("dcmmoe_face_audio", "dcmmoe_face_visual_audio", "dcmmoe_face_multimodal_audio", "raav_face_multimodal_audio"),
]


@pytest.fixture(scope="module")
def whole(workspace) -> Workspace:
    """The workspace after a run of the recipe's graph, with all that is optional turned on."""
    folder = workspace.folder
    shutil.copy(ROOT / "recipes/ras-demo.yaml", folder)
    one = "training: {epochs: 1}"
    quick = "".join(f"  {name}: {{{one}{', speech_only: false' * (name == 'wavlm_chunks')}}}\n" for name in SYSTEMS)
    (folder / "whole.yaml").write_text(RAS + quick)
    workspace.run("-m", "snakemake", "--cores", "2", "--configfile", "config.yaml", "ras-demo.yaml", "whole.yaml")
    return workspace


def test_all_eight_systems_are_fitted_scored_and_published(whole):
    folder = whole.folder / "results/whole"
    assert set(json.loads((folder / "scores.json").read_text())) == set(SYSTEMS)  # one validation video: late fusion has no figure
    weights = json.loads((folder / "late_fusion/va/weights.json").read_text())["outside_validation"]["weights"]
    assert {channel: pytest.approx(1) for channel in ("valence", "arousal")} == {c: sum(w.values()) for c, w in weights.items()}
    for stream, clip in {"one": "one", "pair_left": "pair", "three": "three", "four": "four"}.items():
        table = rows(folder / "predictions" / f"{stream}.csv")
        assert len(table) == len(times_of(whole.folder / f"demo/videos/{clip}.mp4"))
        assert all(abs(float(r["valence"])) <= 1 for r in table)
    others = {path.name for path in (folder / "models").iterdir()}
    assert others == set(SYSTEMS) - {"raav_face_multimodal_audio"}


def test_what_two_recipes_share_is_made_once(whole):
    made = (whole.folder / "logs/whole").glob("apply_*/*.log")
    text = "".join(path.read_text() for path in made)
    assert re.findall(r" (?:frames|audio|faces|subject|landmarks): [1-9]\d* made", text) == []
    assert set(re.findall(r" (\w+): [1-9]\d* made", text)) >= {
        "grada",
        "qwen",
    }  # what the first recipe does not read, or in shorter segments


def test_training_streams_are_embedded_by_fits_that_left_them_out(whole):
    for system in SYSTEMS[:4]:
        (key,) = (whole.folder / "cache" / system).iterdir()
        left_out = {n: set(json.loads((key / f"fold{n}/fit.json").read_text())["train"]) for n in (0, 1)}
        for path in key.glob("*.h5"):
            with Stream(path) as stream:
                fold, id = stream.attributes["extra"]["fold"], stream.attributes["id"]
            assert (fold is not None) is (id in ("one", "pair_left", "pair_right"))
            assert fold is None or id not in left_out[fold]


def test_gates_are_streams_and_sum_to_one(whole):
    for system, entries in {"dcmmoe_face_visual_audio": 6, "dcmmoe_face_audio": 2, "raav_face_multimodal_audio": 2}.items():
        (path,) = whole.folder.glob(f"cache/{system}/*/three.*.h5")
        with Stream(path) as stream:
            gate = stream.rows("gate")
            assert gate.shape[1] == len(stream.attributes["extra"]["experts"]) == entries
            np.testing.assert_allclose(gate[stream.valid].sum(axis=1), 1, atol=1e-5)


def test_the_published_table_stands_beside_figures_that_say_they_are_the_demos(whole):
    table = rows(whole.folder / "results/whole/table.csv")
    assert len(table) == 8
    assert [r["published_mean"] for r in table][:2] == ["0.6189", "0.4007"]
    assert {r["data"] for r in table} == {"demo"}
    assert all("tiny" in r["weights"] for r in table)
    page = (whole.folder / "results/whole/report.html").read_text()
    assert "2 folds" in page


def test_a_curation_file_as_it_is_written_changes_nothing(whole):
    settings = ("--config", "config.yaml", "--config", "small.yaml")
    whole.run("-m", "affpipe", "faces", "review", *settings, "--out", "review")
    assert {r["stream_id"] for r in rows(whole.folder / "review/curation.csv")} == {"one", "pair_left", "pair_right", "three", "four"}
    assert whole.planned("--config", "subject={curation: review/curation.csv}") == whole.planned()


# ---- other tasks ------------------------------------------------------------------------------------------------------------------------


def test_other_tasks_are_learned_from_the_same_streams(workspace):
    """All tasks by one model, with two folds: nothing is extracted again, and each task has its files and scores."""
    (workspace.folder / "tasks.yaml").write_text(TASKS)
    plan = {"apply_labels": 1, "fit_face": 1, "fit_face_fold0": 1, "fit_face_fold1": 1, "apply_face": 2, "publish": 1}
    assert workspace.planned(over=("tasks.yaml",)) == plan
    workspace.snakemake(over=("tasks.yaml",))
    assert workspace.planned(over=("tasks.yaml",)) == {}
    out = workspace.folder / "results/tasks"
    for task, (header, cells) in {"va": ("valence,arousal", 2), "expr": ("Neutral,Anger", 1), "au": ("AU1,AU2", 12)}.items():
        assert sorted(p.stem for p in (out / "official" / task).iterdir()) == ["four", "one", "pair_left", "pair_right", "three"]
        text = (out / "official" / task / "four.txt").read_text().splitlines()
        assert text[0].startswith(header)
        assert {len(line.split(",")) for line in text[1:]} == {cells}
    (row, *_) = rows(out / "predictions/four.csv")
    assert {"valence", "expression", "p_Neutral", "AU26", "p_AU26", "source"} <= set(row)
    assert sum(float(v) for k, v in row.items() if k.startswith("p_") and not k.startswith("p_AU")) == pytest.approx(1, abs=1e-5)
    scores = json.loads((out / "scores.json").read_text())["face"]
    assert set(scores) == {"va", "expr", "au"}
    assert list(scores["expr"]["videos"]) == ["three"]
    assert scores["expr"]["majority"]["f1"] < 1
    folds = [json.loads(p.read_text()) for p in (workspace.folder / "cache/face").glob("*/fold*/fit.json")]
    assert sorted(id for f in folds for id in f["validation"]) == ["one", "pair_left", "pair_right"]
    assert "Cross-validation" in (out / "report.html").read_text()
