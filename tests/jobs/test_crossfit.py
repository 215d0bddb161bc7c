"""Cross-fit: no training stream is embedded by a fit that saw it, and all embeddings lie in one space."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from learnable import MODELS, entries, fit_and_apply, make_plan

from affpipe.core.errors import ManifestError, StoreError
from affpipe.core.item import Item
from affpipe.data.manifest import Row
from affpipe.models import crossfit
from affpipe.models.predictor import read_record
from affpipe.models.workers import fitted, stage
from affpipe.plan.plan import Plan

CPU = torch.device("cpu")


def ridge(*pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In pieces of unequal length, as streams come."""
    moments = crossfit.Moments(pair[0].shape[1])
    for x, y in zip(*(np.array_split(side, [3, 4]) for side in pair), strict=True):
        moments.add(x, y)
    return moments.ridge()


def test_the_map_recovers_an_affine_relation():
    rng = np.random.default_rng(0)
    x, true = rng.normal(size=(5000, 6)) * np.linspace(0.5, 2, 6) + 3, rng.normal(size=(6, 6))
    weight, bias = ridge(x, x @ true + 0.7)
    left = x @ weight + bias - (x @ true + 0.7)
    assert np.sqrt(np.square(left).mean()) < 0.002 * (x @ true).std()


def test_the_map_of_a_constant_is_the_constant():
    weight, bias = ridge(np.full((10, 3), 2.0), np.full((10, 3), -1.0))
    np.testing.assert_allclose(np.full((1, 3), 2.0) @ weight + bias, -1.0)


def test_the_map_has_the_least_penalised_error():
    """Against least squares on centred rows with the penalty as further rows, in one piece."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 4)) + np.array([5, 0, -3, 1]), rng.normal(size=(200, 4)) - 2
    weight, bias = ridge(x, y)
    centred = x - x.mean(axis=0)
    penalty = np.sqrt(crossfit.RIDGE * np.square(centred).sum(axis=0).mean()) * np.eye(4)
    expected = np.linalg.lstsq(np.vstack([centred, penalty]), np.vstack([y - y.mean(axis=0), np.zeros((4, 4))]), rcond=None)[0]
    np.testing.assert_allclose(weight, expected, atol=1e-10)
    np.testing.assert_allclose(bias, y.mean(axis=0) - x.mean(axis=0) @ expected, atol=1e-10)


# ---- folds ------------------------------------------------------------------------------------------------------------------------------


def plan_of(tmp_path: Path, videos: int, folds: int) -> Plan:
    """Videos with two streams each, for training, and one for validation."""
    base = make_plan(tmp_path)
    rows = []
    for n in range(videos + 1):
        video, text = tmp_path / f"v{n}.mp4", tmp_path / "a.txt"
        video.write_bytes(bytes([n]) * 9)
        rows += [Row(f"v{n}_{side}", video, side, "train" if n < videos else "validation", {"va": text}) for side in ("left", "right")]
    return Plan(base.settings.model_copy(update={"cross_fit": folds}), rows)


def folds_of(plan: Plan) -> dict[str, int | None]:
    return {i.id: plan.fold("face", i) for i in plan.items("face")}


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_each_training_video_is_in_one_fold_with_all_its_streams(tmp_path, folds):
    found = folds_of(plan_of(tmp_path, 7, folds))
    train = {id: fold for id, fold in found.items() if not id.startswith("v7")}
    assert set(train.values()) == set(range(folds))
    assert all(found[f"v{n}_left"] == found[f"v{n}_right"] for n in range(7))
    sizes = np.bincount(list(train.values()))
    assert sizes.max() - sizes.min() <= 2  # one video of two streams
    assert {found["v7_left"], found["v7_right"]} == {None}


def test_a_fusion_has_no_folds_and_neither_has_a_model_that_none_reads(tmp_path):
    plan = plan_of(tmp_path, 4, 2)
    assert {name: plan.fits(name) for name in MODELS} == {n: [None, 0, 1] if n != "fused" else [None] for n in MODELS}
    alone = plan.settings.model_copy(update={"models": {"face": plan.settings.models["face"]}})
    assert Plan(alone, plan.rows).fits("face") == [None]


def test_folds_are_in_the_key_of_what_they_change_and_of_nothing_else(tmp_path):
    off, on = make_plan(tmp_path), make_plan(tmp_path, cross_fit=2)
    same = {name for name in off.names if off.key(name) == on.key(name)}
    assert same == set(off.names) - set(MODELS)


def test_more_folds_than_videos_are_refused_before_anything_is_made(tmp_path):
    plan_of(tmp_path, 2, 2).check_folds()
    text = r"manifest\.csv: want a video \(or person\) of partition train for each of 3 folds, got 2; set fewer"
    with pytest.raises(ManifestError, match=text):
        plan_of(tmp_path, 2, 3).check_folds()
    copies = plan_of(tmp_path, 3, 3)
    (tmp_path / "v1.mp4").write_bytes((tmp_path / "v0.mp4").read_bytes())
    with pytest.raises(ManifestError, match=text):
        copies.check_folds()


# ---- fits -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    made = make_plan(tmp_path_factory.mktemp("crossfit"), cross_fit=2)
    fit_and_apply(made, ("face", "behaviour", "voice", "fused"))
    return made


@pytest.mark.parametrize("model", ["face", "behaviour", "voice"])
def test_no_training_stream_is_embedded_by_a_fit_that_saw_it(plan, model):
    seen = {
        fold: set(read_record(Path(plan.fitted(model, fold)).parent / "model.safetensors", plan.key(model))["train"]) for fold in (0, 1)
    }
    assert seen[0] | seen[1] == {"a", "b"}
    assert not seen[0] & seen[1]
    for item in plan.items(model):
        if not plan.job(model, item).path.exists():  # no audio
            continue
        with plan.streams(item).open(model) as stream:
            fold = stream.attributes["extra"]["fold"]
        if item.row.partition == "train":
            assert item.id not in seen[fold]
        else:
            assert fold is None


def test_a_fit_that_saw_a_stream_does_not_predict_it(plan, monkeypatch):
    """Folds hang on the names of videos, which are in no key: after a rename a fit may have learned from a stream of its fold."""
    fold = Plan.fold
    monkeypatch.setattr(Plan, "fold", lambda self, model, item: None if (own := fold(self, model, item)) is None else 1 - own)
    plan.context.cache_clear()
    (item,) = [i for i in plan.items("face") if i.id == "a"]
    with pytest.raises(
        StoreError, match=r"want the fit without fold \d, got one that learned from a, as its folds were others; run the"
    ) as found:
        stage(plan.context("face"))(plan.job("face", item))
    assert found.value.damaged == plan.folder("face") / f"fold{1 - fold(plan, 'face', item)}/model.safetensors"


def test_the_fold_is_what_the_stream_was_made_with(plan):
    """The stored prediction of a training stream is that of the fit that left it out, and not that of the fit on all."""
    (item,) = [i for i in plan.items("face") if i.id == "a"]
    answers = {fold: answer(plan, item, fold) for fold in (None, plan.fold("face", item))}
    with plan.streams(item).open("face") as stream:
        stored = stream.rows("prediction")
    np.testing.assert_allclose(stored, answers[plan.fold("face", item)], atol=1e-6)
    assert np.abs(stored - answers[None]).max() > 1e-3


def answer(plan: Plan, item: Item, fold: int | None) -> np.ndarray:
    from affpipe.models import inputs, predictor

    model, _ = fitted(plan.context("face"), fold, device=CPU)
    sequence = inputs.read(plan.job("face", item), plan.settings.models["face"])
    return predictor.run(model, sequence, CPU).prediction.reshape(-1, 2)


@pytest.mark.parametrize("model", ["face", "behaviour", "voice"])
def test_embeddings_of_a_fold_lie_in_the_space_of_the_fit_on_all(plan, model):
    """On streams that a fold's fit saw, mapped embeddings are near those of the fit on all; unmapped ones are not."""
    from affpipe.models import inputs, predictor

    whole, _ = fitted(plan.context(model), None, device=CPU)
    for fold in (0, 1):
        part, _ = fitted(plan.context(model), fold, device=CPU)
        (item,) = [i for i in plan.items(model) if i.row.partition == "train" and plan.fold(model, i) != fold]
        sequence = inputs.read(plan.job(model, item), plan.settings.models[model])
        target = predictor.run(whole, sequence, CPU).embedding[sequence.usable]
        mapped = predictor.run(part, sequence, CPU).embedding[sequence.usable]
        part.space = None
        bare = predictor.run(part, sequence, CPU).embedding[sequence.usable]
        assert np.square(mapped - target).mean() < 0.2 * np.square(bare - target).mean()


def test_rows_with_nothing_behind_them_have_no_part_in_the_map(plan):
    from affpipe.models import inputs

    (whole, _), (part, _) = (fitted(plan.context("voice"), fold, device=CPU) for fold in (None, 0))
    (item,) = [i for i in plan.items("voice") if i.id == "a"]
    sequence = inputs.read(plan.job("voice", item), plan.settings.models["voice"])
    assert not sequence.usable.all()
    maps = []
    for rows in (np.ones(len(sequence), bool), sequence.usable.any(axis=1)):
        part.space = None
        crossfit.join(part, whole, [sequence.only(rows)], CPU)
        maps.append(part.space.weight.clone())
    torch.testing.assert_close(*maps)


def test_a_fold_without_the_fit_on_all_is_an_error_that_says_so(tmp_path):
    from affpipe.core.errors import StoreError
    from affpipe.jobs.fitting import fit

    plan = make_plan(tmp_path, cross_fit=2)
    with pytest.raises(StoreError, match="want a fitted model, got no file"):
        fit(plan, "behaviour", entries(plan), 0)


def test_records_say_which_fold_was_left_out(plan):
    record = read_record(Path(plan.fitted("voice", 1)).parent / "model.safetensors", plan.key("voice"))
    assert record["fold"] == 1
    assert json.loads(json.dumps(record)) == record
