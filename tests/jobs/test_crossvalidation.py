"""Cross-validation inside the training set: what each fold's fit sees, and by whom a stream is predicted."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learnable import entries, fit_and_apply, make_plan

from affpipe.core.tasks.table import TASKS
from affpipe.data.manifest import Row
from affpipe.jobs.fitting import fit
from affpipe.models import predictor
from affpipe.models.predictor import model_path
from affpipe.plan.plan import Plan
from affpipe.plan.settings import CrossValidation
from affpipe.results import basis
from affpipe.results.frames import frames_of, outputs
from affpipe.store.streams import Header, Stream, write

CROSS = {"folds": 2}


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    """Face, behaviour, voice and their fusion, each fitted on all and without either of two folds, and applied."""
    made = make_plan(tmp_path_factory.mktemp("cross"), cross_validation=CROSS)
    fit_and_apply(made)
    return made


def records(plan: Plan, model: str) -> list[dict]:
    return [predictor.read_record(model_path(Path(plan.fitted(model, fold)).parent), plan.key(model)) for fold in plan.fits(model)]


def item(plan: Plan, model: str, id: str):
    return next(i for i in plan.items(model) if i.id == id)


# ---- folds ------------------------------------------------------------------------------------------------------------------------------


def test_each_fit_is_validated_with_the_fold_that_it_left_out(plan):
    for model in ("face", "fused"):
        whole, *folds = records(plan, model)
        assert (whole["train"], whole["validation"]) == (["a", "b"], ["c"])
        assert sorted(id for r in folds for id in r["validation"]) == ["a", "b"]
        for record in folds:
            assert set(record["train"]) | set(record["validation"]) == {"a", "b"}
            assert not set(record["train"]) & set(record["validation"])
            assert record["best"]["validation_score"] == pytest.approx(record["scores"]["va"], abs=1e-6)  # on the fold held out
            assert record["validation_scores"] != record["scores"]
            assert len(record["by_output"]) == 2


@pytest.mark.parametrize("use", ["whole", "ensemble", "per_target"])
def test_epochs_are_said_to_be_chosen_on_the_streams_of_the_records(plan, use):
    settings = plan.settings.model_copy(update={"cross_validation": CrossValidation(folds=2, use=use)})
    for model in ("face", "fused"):
        (whole, *folds), read = records(plan, model), [records(plan, member)[0] for member in plan.settings.models[model].members]
        behind = {id for record in [*([whole] if use == "whole" else folds), *read] for id in record["validation"]}
        want = {"reported streams" if id == "c" else "held-out folds" for id in behind}
        found = basis.of(Plan(settings, plan.rows), model, "va", {"c": 200}, {}, [])
        assert found["epoch_chosen_on"] == " and ".join(sorted(want))


def test_every_model_has_folds_also_one_that_nothing_fuses(plan):
    assert [plan.folds(m) for m in ("face", "fused")] == [2, 2]
    assert plan.fits("fused") == [None, 0, 1]
    assert plan.fold("fused", item(plan, "fused", "c")) is None


def test_a_training_stream_is_predicted_by_the_fit_that_never_saw_it(plan):
    for model in ("face", "fused"):
        for id in ("a", "b"):
            with plan.streams(item(plan, model, id)).open(model) as stream:
                fold = stream.attributes["extra"]["fold"]
                assert "folds" not in stream.names
            assert id in records(plan, model)[1 + fold]["validation"]
        with plan.streams(item(plan, model, "c")).open(model) as stream:
            assert stream.attributes["extra"]["fold"] is None
            assert stream.shape_of("folds") == (len(stream), 2, 2)


def test_folds_keep_the_streams_of_a_person_together(tmp_path):
    base = make_plan(tmp_path, cross_validation={"folds": 3})
    rows, text = [], {"va": tmp_path / "va/a.txt"}
    for n in range(12):  # persons 0 to 4 have 4, 3, 2, 2 and 1 videos
        video = tmp_path / f"v{n}.mp4"
        video.write_bytes(bytes([n]) * 9)
        rows.append(Row(f"v{n}", video, "largest", "train", text, person=f"p{[0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4][n]}"))
    plan = Plan(base.settings, [*rows, Row("c", tmp_path / "c.mp4", "largest", "validation", text)])
    fold = {i.row.stream_id: plan.fold("face", i) for i in plan.items("face")}
    assert fold.pop("c") is None
    for row in rows:
        assert {fold[other.stream_id] for other in rows if other.person == row.person} == {fold[row.stream_id]}
    assert sorted(Counter(fold.values()).values()) == [4, 4, 4]
    assert {i.row.stream_id: plan.fold("face", i) for i in Plan(plan.settings, list(reversed(plan.rows))).items("face")} == {
        **fold,
        "c": None,
    }


@pytest.mark.parametrize("way", ["copy", "link", "symlink"])
@pytest.mark.parametrize("cross", [{"cross_validation": {"folds": 3}}, {"cross_fit": 3}])
def test_folds_keep_the_names_of_one_content_together(tmp_path, cross, way):
    base, texts = make_plan(tmp_path, **cross), {"va": tmp_path / "va/a.txt"}
    rows = []
    for n in range(9):
        (tmp_path / f"v{n}.mp4").write_bytes(bytes([n]) * 9)
        rows.append(Row(f"v{n}", tmp_path / f"v{n}.mp4", "largest", "train", texts, person="Ann" if n in (7, 8) else ""))
    alone = Plan(base.settings, rows)
    apart = {i.id: alone.fold("face", i) for i in alone.items("face")}
    first = "v0"
    other = next(row.stream_id for row in rows if apart[row.stream_id] != apart[first])  # the names alone would part them
    (tmp_path / f"{other}.mp4").unlink()
    if way == "copy":
        (tmp_path / f"{other}.mp4").write_bytes((tmp_path / f"{first}.mp4").read_bytes())
    elif way == "link":
        os.link(tmp_path / f"{first}.mp4", tmp_path / f"{other}.mp4")
    else:
        (tmp_path / f"{other}.mp4").symlink_to(f"{first}.mp4")
    rows[int(other[1:])] = replace(rows[int(other[1:])], subject="left", person="Bob")  # a side each, so that it is no row too many
    rows.append(Row("b", tmp_path / "b.mp4", "largest", "train", texts, person="Bob"))
    for order in (rows, rows[::-1]):
        plan = Plan(base.settings, order)
        fold = {i.id: plan.fold("face", i) for i in plan.items("face")}
        assert fold[first] == fold[other] == fold["b"]  # Bob by what he is in
        assert fold["v7"] == fold["v8"]
        assert set(fold.values()) == {0, 1, 2}


def test_what_is_grouped_by_content_has_keys_of_its_own(tmp_path, monkeypatch):
    """Folds that were made by names alone stay in the store under the keys of then: nothing may take them for these."""
    base, texts = make_plan(tmp_path), {"va": tmp_path / "va/a.txt"}
    rows = [Row(f"v{n}", tmp_path / f"v{n}.mp4", "largest", "train", texts) for n in range(5)]
    folds = base.settings.model_copy(update={"cross_fit": 2})

    def keys(same: bool) -> list[dict[str, str]]:
        for n in range(5):
            (tmp_path / f"v{n}.mp4").write_bytes((b"0" if same else bytes([n])) * 9)
        plans = [Plan(settings, rows) for settings in (base.settings, folds)]
        return [{name: plan.key(name) for name in plan.names} | {"run": plan.run} for plan in plans]

    found = {same: keys(same) for same in (True, False)}
    monkeypatch.setattr("affpipe.plan.plan._copies", lambda rows, sources: {})
    before = {same: keys(same) for same in (True, False)}
    assert found[False] == before[False]
    (plain, folded), (plain_before, folded_before) = found[True], before[True]
    assert {name for name in plain if plain[name] != plain_before[name]} == {"run"}
    assert {name for name in folded if folded[name] != folded_before[name]} == {"face", "behaviour", "voice", "fused", "run"}


# ---- what predictions are made of -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(tmp_path):
    """Two rows of all three tasks by three folds, each output of fold f being f + 1; the whole fit's are 10."""
    folds = np.repeat(np.arange(1.0, 4)[None, :, None], 2, axis=0) * np.ones((1, 1, 22), np.float32)
    scores = np.zeros((3, 22))
    scores[[2, 0], [0, 1]] = 1  # valence: the third, arousal: the first
    scores[1, 2:10] = 1  # expressions: the second
    scores[2, 10:] = 1  # units: the third, but for the first unit
    scores[0, 10] = 2
    limits = [[0.1 * (f + 1)] * 12 for f in range(3)]
    extra = {"thresholds": [0.5] * 12, "fold_scores": scores.tolist(), "fold_thresholds": limits}
    rows = {"start_s": np.arange(2.0), "end_s": np.arange(2.0) + 1, "valid": np.ones(2, bool), "folds": folds.astype(np.float32)}
    header = Header("face", "k", "a", "i", {}, 1, {}, 25, extra=extra)
    write(tmp_path / "a.h5", header, values=np.zeros((2, 4), np.float16), prediction=np.full((2, 22), 10, np.float32), **rows)
    with Stream(tmp_path / "a.h5") as found:
        yield found


def test_the_whole_fit_the_mean_of_the_folds_or_the_best_fold_of_each_target(stream):
    raw, thresholds = outputs(stream, TASKS, "whole")
    assert (raw == 10).all()
    assert thresholds.tolist() == [0.5] * 12
    raw, thresholds = outputs(stream, TASKS, "ensemble")
    np.testing.assert_allclose(raw, 2)
    np.testing.assert_allclose(thresholds, 0.2)
    raw, thresholds = outputs(stream, TASKS, "per_target")
    np.testing.assert_allclose(raw, np.array([[3, 1, *[2] * 8, 1, *[3] * 11]] * 2))
    np.testing.assert_allclose(thresholds, [0.1, *[0.3] * 11])


def test_what_is_used_is_no_part_of_the_model_but_of_the_run(plan):
    found = {}
    for use in ("whole", "ensemble", "per_target"):
        own = Plan(plan.settings.model_copy(update={"cross_validation": CrossValidation(folds=2, use=use)}), plan.rows)
        assert own.key("fused") == plan.key("fused")
        found[use] = (own.run, frames_of(own, "fused", item(own, "fused", "d"))[1].values["va"])
        assert frames_of(own, "fused", item(own, "fused", "a"))[1].values["va"].shape == found[use][1].shape
    assert len({run for run, _ in found.values()}) == 3
    assert not np.array_equal(found["whole"][1], found["ensemble"][1])
    with plan.streams(item(plan, "fused", "d")).open("fused") as stream:
        np.testing.assert_allclose(found["ensemble"][1], stream.rows("folds").mean(axis=1).clip(-1, 1), atol=1e-6)


def test_without_it_there_are_no_folds_and_with_another_number_other_models(plan, tmp_path):
    off = make_plan(tmp_path)
    assert off.fits("face") == [None]
    three = Plan(plan.settings.model_copy(update={"cross_validation": CrossValidation(folds=3)}), plan.rows)
    assert three.key("face") != plan.key("face") != off.key("face")


def test_a_fold_is_fitted_once(plan):
    path = model_path(Path(plan.fitted("face", 0)).parent)
    before = path.read_bytes()
    record = fit(plan, "face", entries(plan), 0)
    assert path.read_bytes() == before
    assert json.loads(json.dumps(record)) == record
