"""Models of several tasks, from labels to decoded frames: what one task's labels can and cannot change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from learnable import FRAMES, LABELS, classes, entries, make_plan, truth, units, write_labels_of

from affpipe.core.axis import OBSERVED
from affpipe.core.tasks import smoothing
from affpipe.core.tasks.metrics import scores
from affpipe.core.tasks.table import AU, EXPR, TASKS, VA
from affpipe.core.tasks.thresholds import best_thresholds
from affpipe.core.tasks.units import sigmoid
from affpipe.data.annotations import write_labels, write_predictions
from affpipe.jobs.fitting import fit
from affpipe.models import inputs, predictor, selection
from affpipe.models.predictor import model_path
from affpipe.models.settings import Decode
from affpipe.models.targets import row_labels
from affpipe.models.terms.build import training_loss
from affpipe.models.training_settings import Loss
from affpipe.models.workers import stage
from affpipe.plan.plan import Plan
from affpipe.results.frames import frames_of, outputs

ALL = ("va", "expr", "au")
CPU = torch.device("cpu")


def apply(plan: Plan, name: str) -> None:
    work = stage(plan.context(name))
    for item in plan.items(name):
        work(plan.job(name, item))


def face_alone(folder: Path, **more) -> Plan:
    """A plan of one model, long enough to learn what is there."""
    plan = make_plan(folder, **more)
    face = plan.settings.models["face"]
    face = face.model_copy(update={"training": face.training.model_copy(update={"epochs": 40})})
    return Plan(plan.settings.model_copy(update={"models": {"face": face}, "publish": "face"}), plan.rows)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Plan:
    """One model of all three tasks, fitted and applied."""
    plan = face_alone(tmp_path_factory.mktemp("tasks"), tasks=ALL)
    fit(plan, "face", entries(plan))
    apply(plan, "face")
    return plan


def test_a_model_of_all_tasks_learns_each(fitted):
    (item,) = [i for i in fitted.items("face") if i.id == "c"]
    _, found = frames_of(fitted, "face", item)
    own = {t: scores(TASKS[t], LABELS[t]("c"), found.values[t], found.valid)[TASKS[t].measure] for t in ALL}
    assert own["va"] > 0.9
    assert own["expr"] > 0.7
    assert own["au"] > 0.8
    record = predictor.read_record(model_path(fitted.folder("face")), fitted.key("face"))
    assert set(record["best"]) >= {"validation_va", "validation_expr", "validation_au"}
    mean = np.mean([record["best"][f"validation_{t}"] for t in ALL])
    assert record["best"]["validation_score"] == pytest.approx(mean, rel=1e-7)  # as a float32
    assert record["scores"] == record["validation_scores"]
    assert (len(record["thresholds"]), len(record["by_output"]), record["outputs"]) == (12, 22, 22)


def test_frames_are_decoded_from_the_outputs_of_their_task(fitted):
    (item,) = [i for i in fitted.items("face") if i.id == "d"]
    _, found = frames_of(fitted, "face", item)
    with fitted.streams(item).open("face") as stream:
        raw, thresholds = outputs(stream, TASKS, "whole")
    np.testing.assert_allclose(found.values["va"], np.clip(raw[:, :2], -1, 1), atol=1e-6)
    np.testing.assert_array_equal(found.values["expr"][:, 0], raw[:, 2:10].argmax(axis=1))
    np.testing.assert_allclose(found.chances["expr"].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.chances["au"], 1 / (1 + np.exp(-raw[:, 10:].astype(np.float64))), atol=1e-6)
    np.testing.assert_array_equal(found.values["au"], found.chances["au"] >= thresholds)
    assert "va" not in found.chances


def test_thresholds_are_those_of_the_validation_rows_alone(fitted):
    record = predictor.read_record(model_path(fitted.folder("face")), fitted.key("face"))
    model, _ = predictor.load(model_path(fitted.folder("face")), fitted.key("face"), fitted.settings.models["face"], CPU)
    (item,) = [i for i in fitted.items("face") if i.id == "c"]  # the one of partition validation
    job = fitted.job("face", item)
    raw = predictor.run(model, inputs.read(job, fitted.settings.models["face"]), CPU).prediction.reshape(-1, 22)
    want = best_thresholds(sigmoid(raw[:, 10:]), units("c"), np.ones(FRAMES, bool))
    np.testing.assert_allclose(record["thresholds"], want, atol=1e-12)


def test_decoding_is_no_part_of_the_model_and_half_is_one_half(fitted):
    def decoded(**decode) -> dict[str, np.ndarray]:
        face = fitted.settings.models["face"].model_copy(update={"decode": Decode(**decode)})
        plan = Plan(fitted.settings.model_copy(update={"models": {"face": face}}), fitted.rows)
        assert plan.key("face") == fitted.key("face")
        assert (plan.run == fitted.run) == (decode == {})
        (item,) = [i for i in plan.items("face") if i.id == "d"]
        return frames_of(plan, "face", item)[1].values

    plain = decoded()
    assert (decoded(au_thresholds="half")["au"] != plain["au"]).any()
    for filter in ("mode", "median"):
        want = smoothing.smooth_classes(plain["expr"][:, 0].astype(int), np.ones(FRAMES, bool), filter=filter, frames=41)
        own = decoded(expression_frames=41, expression_filter=filter)
        np.testing.assert_array_equal(own["expr"][:, 0], want)
        np.testing.assert_array_equal(own["va"], plain["va"])
    assert (np.diff(decoded(au_frames=151)["au"], axis=0) != 0).sum() < (np.diff(plain["au"], axis=0) != 0).sum()


def test_a_task_is_fitted_as_if_it_were_alone_where_the_other_has_no_labels(tmp_path):
    """Expressions beside valence and arousal without any label: the same loss as expressions alone, and no gradient from what is absent."""
    target = np.concatenate([np.full((5, 1, 2), np.nan), classes("a")[:5, None]], axis=-1)
    known = np.stack([np.zeros((5, 1), bool), np.ones((5, 1), bool)], axis=-1)
    both = training_loss({"va": VA, "expr": EXPR}, Loss(), np.nan_to_num(target), known)
    alone = training_loss({"expr": EXPR}, Loss(), target[..., 2:], known[..., 1:])
    raw = torch.randn(5, 1, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    first = both(raw, torch.from_numpy(target).float(), torch.from_numpy(known))
    second = alone(raw[..., 2:], torch.from_numpy(target[..., 2:]).float(), torch.from_numpy(known[..., 1:]))
    assert first == second
    (gradient,) = torch.autograd.grad(first, raw)
    assert torch.isfinite(gradient).all()
    assert (gradient[..., :2] == 0).all()


def test_weights_of_classes_and_units_come_from_the_training_labels():
    expr = np.array([0] * 90 + [3] * 10, float)[:, None, None]
    settings = Loss.model_validate({"expr": {"kind": "focal", "class_weights": "effective_number", "beta": 0.9}})
    weights = training_loss({"expr": EXPR}, settings, expr, np.ones((100, 1, 1), bool)).losses["expr"].class_weights
    want = np.array([(1 - 0.9) / (1 - 0.9**n) for n in (90, 10)])
    np.testing.assert_allclose(weights[[0, 3]], want / want.mean(), rtol=1e-5)
    assert (weights[[1, 2, 4, 5, 6, 7]] == 0).all()
    au = np.zeros((100, 1, 12))
    au[:20, 0, 1] = 1
    settings = Loss.model_validate({"au": {"positive_weights": "balanced"}})
    weights = training_loss({"au": AU}, settings, au, np.ones((100, 1, 1), bool)).losses["au"].positive_weights
    assert weights[[0, 1]].tolist() == [1, 4]


def test_labels_count_in_the_partition_of_their_task(tmp_path):
    """Stream b trains va and validates expr; stream c the other way round."""
    make_plan(tmp_path, tasks=("va", "expr"))
    (tmp_path / "m.csv").write_text(
        "stream_id,video,subject,partition,va,expr,expr_partition\n"
        "a,a.mp4,largest,train,va/a.txt,expr/a.txt,\nb,b.mp4,largest,train,va/b.txt,expr/b.txt,validation\n"
        "c,c.mp4,largest,validation,va/c.txt,expr/c.txt,train\nd,d.mp4,largest,test,,,\n"
    )
    from affpipe.data.manifest import read

    plan = face_alone(tmp_path, tasks=("va", "expr"))
    plan = Plan(plan.settings, read(tmp_path / "m.csv", tmp_path))
    write_labels_of(plan)
    settings = plan.settings.models["face"]
    for item in (i for i in plan.items("face") if i.id != "d"):
        job = plan.job("face", item)
        sequence = inputs.read(job, settings)
        known = {p: row_labels(job, sequence, settings, p)[1].any(axis=(0, 1)).tolist() for p in ("train", "validation")}
        assert (
            known
            == {
                "a": {"train": [True, True], "validation": [False, False]},
                "b": {"train": [True, False], "validation": [False, True]},
                "c": {"train": [False, True], "validation": [True, False]},
            }[item.id]
        )
    record = fit(plan, "face", entries(plan))
    assert record["train"] == ["a", "b", "c"]
    assert record["validation"] == ["b", "c"]


def test_a_stream_whose_annotation_is_faulty_is_left_out_and_named(tmp_path, caplog):
    plan = face_alone(tmp_path, tasks=("va",))
    states = entries(plan)
    from affpipe.store.index import Entry

    states["labels"]["a"] = Entry("failed", reason="a.txt: line 3: want …")
    record = fit(plan, "face", states)
    assert record["train"] == ["b"]
    assert "face: a: left out of train: a.txt: line 3" in caplog.text


# ---- judging ----------------------------------------------------------------------------------------------------------------------------


def test_scores_of_rows_are_the_measures_of_the_challenge():
    rng = np.random.default_rng(0)
    raw, known = rng.normal(size=(60, 22)), rng.random((60, 3)) < 0.7
    target = np.concatenate([rng.uniform(-1, 1, (60, 2)), rng.integers(0, 8, (60, 1)), rng.random((60, 12))], axis=1)
    own = selection.scores(TASKS, raw, target, known)
    assert own["va"] == scores(VA, target[:, :2], raw[:, :2], known[:, 0])["ccc"]
    assert own["expr"] == scores(EXPR, target[:, 2:3], raw[:, 2:10].argmax(axis=1)[:, None], known[:, 1])["f1"]
    assert own["au"] == scores(AU, (target[:, 3:] >= 0.5) * 1.0, (raw[:, 10:] >= 0) * 1.0, known[:, 2])["f1"]
    each = selection.by_output(TASKS, raw, target, known)
    assert np.mean(each[:2]) == pytest.approx(own["va"], abs=1e-12)
    assert each[2:10] == [own["expr"]] * 8
    assert np.mean(each[10:]) == pytest.approx(own["au"], abs=1e-12)
    known[:, 1] = False
    assert "expr" not in selection.scores(TASKS, raw, target, known)
    assert selection.by_output(TASKS, raw, target, known)[2:10] == [0.0] * 8
    assert selection.thresholds({"va": VA, "expr": EXPR}, raw[:, :10], target[:, :3], known[:, :2]) is None


# ---- files ------------------------------------------------------------------------------------------------------------------------------


def test_the_prediction_table_has_the_columns_of_each_task(tmp_path):
    values = {"va": np.array([[0.5, -0.5]]), "expr": np.array([[4.0]]), "au": np.eye(12)[:1]}
    chances = {"expr": np.full((1, 8), 0.125), "au": np.full((1, 12), 0.25)}
    write_predictions(tmp_path / "a.csv", TASKS, np.zeros(1), values, chances, np.array([OBSERVED]), np.ones(1, bool))
    head, row = ((tmp_path / "a.csv").read_text()).splitlines()
    e, a = TASKS["expr"].outputs, TASKS["au"].outputs
    assert head.split(",") == [
        *("frame", "time_s", "valence", "arousal", "expression", *(f"p_{n}" for n in e), *a, *(f"p_{n}" for n in a), "source")
    ]
    cells = dict(zip(head.split(","), row.split(","), strict=True))
    assert (cells["expression"], cells["p_Fear"], cells["AU1"], cells["AU2"], cells["p_AU26"]) == ("4", "0.125000", "1", "0", "0.250000")


@pytest.mark.parametrize("task", ["expr", "au"])
def test_official_files_of_classes_and_units_are_whole_numbers(tmp_path, task):
    from affpipe.data.annotations import read_labels

    valid = np.arange(FRAMES) % 7 != 3
    write_labels(TASKS[task], tmp_path / "a.txt", LABELS[task]("b"), valid)
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert lines[0] == TASKS[task].header
    assert lines[4] == ",".join(["-1"] * len(TASKS[task].columns))
    assert "." not in "".join(lines)
    found, ok = read_labels(TASKS[task], tmp_path / "a.txt")
    np.testing.assert_array_equal(ok, valid)
    np.testing.assert_array_equal(found[valid], LABELS[task]("b")[valid])


def test_truth_of_the_tests_is_no_constant():
    assert len(np.unique(classes("c"))) == 4
    assert (units("c").mean(axis=0) > 0).all()
    assert (units("c").mean(axis=0) < 1).all()
    assert truth("c").std(axis=0).min() > 0.1
