"""Models of tasks of one's own, fitted for real: they learn, in the range that labels have, and fits without a validation partition are
honest.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learnable import FRAMES, MODELS, entries, make_plan, truth, write_labels_of

from affpipe.core.errors import ManifestError
from affpipe.core.tasks import metrics
from affpipe.data.annotations import write_labels
from affpipe.jobs.fitting import fit
from affpipe.models import predictor
from affpipe.models.predictor import model_path
from affpipe.models.workers import stage
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.results.frames import frames_of

MOOD = {"name": "mood", "classes": ["calm", "tense", "none"]}
PAIN = {"name": "pain", "units": ["brows", "lips"]}


def scale(low: float, high: float) -> dict:
    return {"name": "dominance", "dimensions": {"dominance": [low, high]}, "invalid": -99}


def labels(stream: str, low: float, high: float) -> dict[str, np.ndarray]:
    """Task -> (T, K) labels of a stream, functions of its curves."""
    v, a = truth(stream).T
    return {
        "mood": np.where(a < -0.2, 0, np.where(a > 0.2, 1, 2))[:, None].astype(float),
        "dominance": ((low + high) / 2 + v * (high - low) / 2)[:, None].round(6),
        "pain": np.stack([a > 0.1, v < 0], axis=1).astype(float),
    }


def plan_of(folder: Path, *tasks: dict, low: float = 1, high: float = 9, epochs: int = 40, **more) -> Plan:
    """The streams of `learnable` with other labels, and one model of all tasks."""
    folder.mkdir(exist_ok=True)
    base = make_plan(folder)
    face = MODELS["face"] | {"training": {"epochs": epochs, "learning_rate": 1e-2}}
    settings = base.settings.model_dump(mode="json") | {"tasks": list(tasks), "models": {"face": face}, "publish": "face"} | more
    found = parse(settings)
    rows = []
    for row in base.rows:
        files = {}
        for name, task in found.task_table.items() if row.labels else ():
            files[name] = folder / name / f"{row.stream_id}.txt"
            write_labels(task, files[name], labels(row.stream_id, low, high)[name], np.ones(FRAMES, bool))
        rows.append(replace(row, labels=files))
    plan = Plan(found, rows)
    write_labels_of(plan)
    return plan


def fitted(plan: Plan, *folds: int | None) -> dict:
    """Fit and apply the model; return the record of the fit on all."""
    for fold in folds or (None,):
        fit(plan, "face", entries(plan), fold)
    work = stage(plan.context("face"))
    for item in plan.items("face"):
        work(plan.job("face", item))
    return predictor.read_record(model_path(plan.folder("face")), plan.key("face"))


def values(plan: Plan, id: str) -> dict[str, np.ndarray]:
    (item,) = [item for item in plan.items("face") if item.id == id]
    return frames_of(plan, "face", item)[1].values


def test_a_model_of_own_tasks_learns_each(tmp_path):
    plan = plan_of(tmp_path, MOOD, scale(1, 9), PAIN)
    record = fitted(plan)
    every = np.ones(FRAMES, bool)
    own = {name: metrics.scores(plan.tasks[name], labels("c", 1, 9)[name], found, every) for name, found in values(plan, "c").items()}
    assert own["dominance"]["ccc"] > 0.9
    assert own["mood"]["f1"] > 0.75
    assert own["pain"]["f1"] > 0.8
    assert (len(record["thresholds"]), len(record["by_output"]), record["outputs"]) == (2, 6, 6)
    assert set(record["scores"]) == {"dominance", "mood", "pain"}
    found = values(plan, "d")["dominance"]
    assert (found >= 1).all()
    assert (found <= 9).all()


@pytest.mark.parametrize(("low", "high"), [(1, 9), (999998, 1000000)], ids=["1 to 9", "far from zero"])
def test_another_range_of_a_dimension_is_the_same_fit(tmp_path, low, high):
    """Labels of a range and the same on [-1, 1]: predictions differ by that map alone."""
    wide = plan_of(tmp_path / "wide", scale(low, high), low=low, high=high, epochs=3)
    usual = plan_of(tmp_path / "usual", scale(-1, 1), low=-1, high=1, epochs=3)
    records = [fitted(plan) for plan in (wide, usual)]
    assert records[0]["scores"]["dominance"] == pytest.approx(records[1]["scores"]["dominance"], abs=1e-4)
    for id in ("c", "d"):
        np.testing.assert_allclose(
            values(wide, id)["dominance"] - (low + high) / 2, (high - low) / 2 * values(usual, id)["dominance"], atol=1e-3
        )


@pytest.mark.parametrize("blank", ["mood", "dominance", "pain"])
def test_a_task_without_any_label_in_training_is_refused(tmp_path, blank):
    """Its files have a line a frame, all of them the mark: a model would publish what its first weights give."""
    plan = plan_of(tmp_path, MOOD, scale(1, 9), PAIN, epochs=1)
    task = plan.tasks[blank]
    for row in plan.rows:
        if row.labels and row.partition == "train":
            write_labels(task, row.labels[blank], np.zeros((FRAMES, len(task.columns))), np.zeros(FRAMES, bool))
    plan = Plan(plan.settings, plan.rows)
    write_labels_of(plan)
    with pytest.raises(ManifestError, match=f"face: want a label of {blank} on a frame that it can learn from, got none in training; look"):
        fit(plan, "face", entries(plan))


def test_a_fold_whose_other_videos_lack_a_task_is_refused(tmp_path):
    """Only one training video has labels of mood: the fit without its fold would be scored on what it never learned."""
    plan = plan_of(tmp_path, MOOD, scale(1, 9), epochs=1, cross_validation={"folds": 2})
    ids = [row.stream_id for row in plan.rows if row.labels and row.partition == "train"]
    rows = [replace(r, labels={"dominance": r.labels["dominance"]}) if r.stream_id in ids[1:] else r for r in plan.rows]
    plan = Plan(plan.settings, rows)
    write_labels_of(plan)
    (item,) = [item for item in plan.items("face") if item.id == ids[0]]
    fold = plan.fold("face", item)
    with pytest.raises(
        ManifestError, match=f"got none in training outside of fold {fold}; label more videos, or set cross_validation.folds"
    ):
        fit(plan, "face", entries(plan), fold)


def test_without_a_validation_partition_each_fold_is_judged_on_what_it_left_out(tmp_path):
    plan = plan_of(tmp_path, MOOD, epochs=2, cross_validation={"folds": 3})
    plan = Plan(plan.settings, [replace(row, partition="train") if row.labels else row for row in plan.rows])
    write_labels_of(plan)
    assert plan.scored == "train"
    record = fitted(plan, None, 0, 1, 2)
    assert record["validation"] == record["train"] == ["a", "b", "c"]  # there is nothing else to choose the epoch by
    assert record["validation_scores"] == {}
    for item in plan.items("face"):
        fold = plan.fold("face", item)
        own = predictor.read_record(plan.model("face", fold), plan.key("face"))
        assert (item.id in own["train"]) is False
        assert (own["validation"] == [item.id]) is (fold is not None)
        with plan.streams(item).open("face") as stream:
            assert stream.attributes["extra"]["fold"] == fold
