"""From streams and labels to a fitted model and its streams, on a store written by hand: known signals, known answers."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from learnable import FPS, FRAMES, MODELS, entries, fit_and_apply, make_plan, truth, write_labels_of

from affpipe.core.axis import NEAREST, NONE, OBSERVED, FrameAxis
from affpipe.core.errors import AbsentError, ManifestError, StoreError
from affpipe.core.item import Item
from affpipe.core.tasks.metrics import scores
from affpipe.core.tasks.table import VA
from affpipe.data.annotations import write_labels
from affpipe.jobs.fitting import fit
from affpipe.models import inputs as sequences
from affpipe.models import predictor
from affpipe.models.fit import Fit, groups, schedule
from affpipe.models.fusions.raav.spec import RAAVModel
from affpipe.models.predictor import Predictor, model_path
from affpipe.models.targets import row_labels
from affpipe.models.terms.build import training_loss
from affpipe.models.training_settings import Loss, Smooth, Training, VALoss
from affpipe.models.windows import Packed, split, windows
from affpipe.models.workers import fitted, stage
from affpipe.plan.plan import Plan
from affpipe.results.frames import frames_of, to_frames


def labels_of(plan: Plan, item: Item, sequence: sequences.Sequence, model: str = "face") -> tuple[np.ndarray, np.ndarray]:
    """Target (R, C, 2) and known (R, C, 1) of a model's input."""
    return row_labels(plan.job(model, item), sequence, plan.settings.models[model], item.row.partition)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(tmp_path)


def test_the_whole_chain_learns_what_is_there_to_learn(plan):
    fit_and_apply(plan)
    (item,) = [i for i in plan.items("fused") if i.id == "c"]
    for name, least in {"face": 0.9, "fused": 0.9}.items():
        job = plan.job(name, item)
        with job.open(name) as stream:
            found = to_frames(stream, job.axis(), {"va": VA}, plan.settings.models[name])
        assert scores(VA, truth("c"), found.values["va"], found.valid)["ccc"] > least
        assert (found.source[60:80] == NEAREST).all()
        assert (np.delete(found.source, np.s_[60:80]) == OBSERVED).all()


def test_a_stream_without_audio_is_fused_from_the_rest(plan):
    fit_and_apply(plan)
    (item,) = [i for i in plan.items("fused") if i.id == "d"]
    with plan.streams(item).open("fused") as stream:
        gate, experts = stream.rows("gate"), stream.attributes["extra"]["experts"]
        assert stream.valid.all()
        assert np.isfinite(stream.rows("prediction")).all()
    np.testing.assert_allclose(gate.sum(axis=1), 1, atol=1e-5)
    silent = [i for i, expert in enumerate(experts) if expert.startswith("voice<-")]
    assert len(silent) == 2
    assert (gate[:, silent] == 0).all()


def test_fitting_twice_gives_the_same_weights_and_a_present_model_is_not_fitted(plan, tmp_path):
    fit(plan, "face", entries(plan))
    path = model_path(plan.folder("face"))
    first = path.read_bytes()
    stamp = path.stat().st_mtime_ns
    fit(plan, "face", entries(plan))
    assert path.stat().st_mtime_ns == stamp
    path.unlink()
    fit(plan, "face", entries(plan))
    assert path.read_bytes() == first


@pytest.mark.parametrize("training", [{"plateau_patience": 1}, {"plateau_patience": 0}, {"schedule": "cosine"}], ids=str)
def test_a_fit_that_was_stopped_ends_where_an_undisturbed_one_does(plan, training):
    """With dropout, which draws in every step, and a scheduler that counts epochs."""

    def stop(name: str, done: int, total: int) -> None:
        if done == 5:
            raise RuntimeError("stopped")

    plan = with_training(plan, "behaviour", **training)
    model = plan.settings.models["behaviour"].model_copy(update={"dropout": 0.3})
    plan = Plan(plan.settings.model_copy(update={"models": plan.settings.models | {"behaviour": model}}), plan.rows)
    record = fit(plan, "behaviour", entries(plan))
    path = model_path(plan.folder("behaviour"))
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(RuntimeError, match="stopped"):
        fit(plan, "behaviour", entries(plan), progress=stop)
    assert not path.exists()
    resumed = fit(plan, "behaviour", entries(plan))
    assert resumed["curves"] == record["curves"]
    assert path.read_bytes() == whole


def test_the_best_epoch_is_kept(plan):
    record = fit(plan, "face", entries(plan))
    assert record["best"]["validation_score"] == max(c["validation_score"] for c in record["curves"])
    model, _ = predictor.load(model_path(plan.folder("face")), plan.key("face"), plan.settings.models["face"], torch.device("cpu"))
    (item,) = [i for i in plan.items("face") if i.id == "c"]
    sequence = sequences.read(plan.job("face", item), plan.settings.models["face"])
    target, known = labels_of(plan, item, sequence)
    rows = predictor.run(model, sequence, torch.device("cpu"))
    score = scores(VA, target.reshape(-1, 2), rows.prediction.reshape(-1, 2), known.ravel())["ccc"]
    assert score == pytest.approx(record["best"]["validation_score"], abs=1e-6)


def test_standardisation_uses_observed_rows_of_the_training_streams(plan):
    settings = plan.settings.models["face"]
    read_all = [sequences.read(plan.job("face", i), settings) for i in plan.items("face") if i.row.partition == "train"]
    model = Predictor(settings, {"mesh": 6}, outputs=2)
    model.measure(read_all)
    rows = np.concatenate([s.inputs["mesh"] for s in read_all]).astype(np.float64)
    np.testing.assert_allclose(model.mean_mesh, rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(model.deviation_mesh, rows.std(0), atol=1e-5)


def test_a_model_sees_standardised_inputs(plan):
    settings = plan.settings.models["face"]
    torch.manual_seed(0)
    model = Predictor(settings, {"mesh": 6}, outputs=2).eval()
    x, present = torch.randn(2, 9, 6) * 3 + 5, torch.ones(2, 9, 1, dtype=torch.bool)
    model.mean_mesh.copy_(torch.full((6,), 5.0))
    model.deviation_mesh.copy_(torch.full((6,), 3.0))
    expected, _ = model.model((x - 5) / 3, present.squeeze(-1))
    torch.testing.assert_close(model({"mesh": x}, present).prediction.squeeze(2), expected)


def test_a_window_that_is_not_present_is_not_heard(plan):
    model = Predictor(plan.settings.models["voice"], {"wavlm": 6}, outputs=2).eval()
    inputs = {"wavlm": torch.randn(2, 1, 199, 6), "steps": torch.full((2, 1), 199)}
    found = model(inputs, torch.tensor([True, False])[:, None, None])
    assert (found.prediction[1] == 0).all()
    assert (found.prediction[0] != 0).all()


def test_audio_windows_give_a_row_a_second_and_drop_what_was_not_retained(plan):
    settings = plan.settings.models["voice"]
    (item,) = [i for i in plan.items("voice") if i.id == "a"]
    sequence = sequences.read(plan.job("voice", item), settings)
    assert sequence.start_s[1].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert sequence.end_s.max() == pytest.approx(8.0)
    assert sequence.present[:, 0].tolist() == [True, True, False]
    target, known = labels_of(plan, item, sequence, "voice")
    np.testing.assert_allclose(target[1, 2], truth("a")[100:125].mean(axis=0), atol=1e-5)
    assert not known[2].any()


@pytest.mark.parametrize("length", [30, 50, 200])
def test_packed_windows_are_those_of_their_streams(plan, length):
    settings = plan.settings.models["face"].model_copy(update={"window": length, "stride": 20})
    items = [i for i in plan.items("face") if i.row.partition == "train"]
    read_all = [sequences.read(plan.job("face", i), settings) for i in items]
    targets = [labels_of(plan, i, s) for s, i in zip(read_all, items, strict=True)]
    second = read_all[1].inputs["mesh"].copy()
    packed = Packed(read_all, targets, settings)
    starts = split(FRAMES, length=length, stride=20)
    assert len(packed) == 2 * len(starts)
    batch = packed[[len(starts), 0]]
    np.testing.assert_array_equal(batch["inputs"]["mesh"][0], second[:length])
    np.testing.assert_array_equal(read_all[1].inputs["mesh"], second)
    np.testing.assert_array_equal(batch["target"][1, :, 0], targets[0][0][:length, 0])
    assert batch["present"].all()
    assert all(s.inputs["mesh"].base is packed.inputs["mesh"] for s in read_all)  # in memory once


def test_a_short_stream_is_padded_and_masked(plan):
    settings = plan.settings.models["face"].model_copy(update={"window": 300})
    (item,) = [i for i in plan.items("face") if i.id == "a"]
    long = sequences.read(plan.job("face", item), settings)
    short = long.only(np.arange(FRAMES) < 120)
    target, known = labels_of(plan, item, long)
    batch = Packed([short, long], [(target[:120], known[:120]), (target, known)], settings)[[0, 1]]
    assert batch["present"][:, :, 0].sum(dim=1).tolist() == [120, FRAMES]
    assert not batch["known"][0, 120:].any()
    assert (batch["inputs"]["mesh"][0, 120:] == 0).all()


def stream(id: str, rows: int, dtype: type, rng: np.random.Generator) -> tuple[sequences.Sequence, tuple[np.ndarray, np.ndarray]]:
    """Random rows, 32 a second, not all present, and their targets, not all known."""
    axis = FrameAxis(np.arange(rows) / 32, Fraction(32))
    inputs = {"x": rng.normal(size=(rows, 5)).astype(dtype), "y": rng.normal(size=(rows, 2, 3)).astype(np.float32)}
    present = rng.random((rows, 2)) < 0.8
    sequence = sequences.Sequence(id, axis, inputs, present, np.full(rows, OBSERVED, np.uint8), axis.times_s[:, None], axis.ends_s[:, None])
    return sequence, (rng.normal(size=(rows, 1, 2)).astype(np.float32), rng.random((rows, 1, 1)) < 0.02)


@pytest.mark.parametrize("dtypes", [(np.float16, np.float16), (np.float16, np.float32)], ids=["half", "mixed"])
@pytest.mark.parametrize("level", ["frame", "window"])
def test_a_batch_is_what_a_plain_loop_over_streams_gives(level, dtypes):
    """Bit by bit, at the end of the array too, with streams shorter than a window between longer ones."""
    rng = np.random.default_rng(3)
    settings = RAAVModel(reads=("x",), audio="y", priors=(1.0,), level=level, window=40, stride=15, window_s=40 / 32, hop_s=15 / 32)
    streams = [stream(str(i), rows, dtypes[i % 2], rng) for i, rows in enumerate((90, 7, 40, 163, 41))]
    whole = [{name: values.copy() for name, values in s.inputs.items()} for s, _ in streams]
    packed = Packed([s for s, _ in streams], [t for _, t in streams], settings)
    assert packed.inputs["x"].dtype == np.result_type(*dtypes)

    want = []
    for own, (sequence, (target, known)) in zip(whole, streams, strict=True):
        n = len(target)
        for start in sorted({*range(0, max(n - 40, 0) + 1, 15), max(n - 40, 0)}) if level == "frame" else range(0, n, 15):
            if level == "window" and start and start - 15 + 40 >= n:
                break  # the one before reaches the end
            part = slice(start, min(start + 40, n))
            if known[part].any():
                want.append([values[part] for values in (own["x"], own["y"], sequence.present, target, known)])
    assert len(packed) == len(want) > 12

    order = rng.permutation(len(want)).tolist()
    for indices in (order[:8], order[8:], [len(want) - 1]):
        batch = packed[indices]
        got = (batch["inputs"]["x"], batch["inputs"]["y"], batch["present"], batch["target"], batch["known"])
        for k, tensor in enumerate(got):
            padded = np.zeros((len(indices), 40, *tensor.shape[2:]), bool if want[0][k].dtype == bool else np.float32)
            for row, i in zip(padded, indices, strict=True):
                row[: len(want[i][k])] = want[i][k]
            assert tensor.dtype == torch.from_numpy(padded).dtype
            np.testing.assert_array_equal(tensor.numpy(), padded)


def test_members_are_half_as_large_where_that_loses_nothing(plan):
    """One row a frame is its stored value; the mean of two that overlap is none."""
    fit_and_apply(plan, ("face", "behaviour", "voice"))
    settings = plan.settings.models["fused"]
    found = {i.id: sequences.read(plan.job("fused", i), settings) for i in plan.items("fused")}
    assert {name: values.dtype for name, values in found["a"].inputs.items()} == {
        "face": np.float16,
        "behaviour": np.float32,
        "voice": np.float32,
    }
    silent = sequences.widen(found["d"], {"voice": 16})
    assert silent.inputs["voice"].shape == (FRAMES, 16)
    assert np.result_type(found["a"].inputs["face"], silent.inputs["voice"]) == np.float16  # it widens nothing
    whole, again = np.full((3, 2), 0.1, np.float32), np.full((3, 2), 0.1, np.float16)
    assert sequences._narrow(whole) is whole
    np.testing.assert_array_equal(sequences._narrow(again.astype(np.float32)), again)


def test_windows_without_labels_are_left_out(plan):
    settings = plan.settings.models["face"]
    (item,) = [i for i in plan.items("face") if i.id == "a"]
    sequence = sequences.read(plan.job("face", item), settings)
    target, known = labels_of(plan, item, sequence)
    known[:100] = False
    packed = Packed([sequence], [(target, known)], settings)
    assert all(start + rows > 100 for start, rows in packed.windows)


@pytest.mark.parametrize("chunks", [4, 1])
def test_at_a_constant_rate_the_published_rule_gives_a_chunk_the_same_labels(plan, chunks):
    own = {c: plan.settings.models["voice"].model_copy(update={"compat": c, "chunks": chunks}) for c in ("none", "ras2026")}
    for item in (i for i in plan.items("voice") if i.id != "d"):
        job = plan.job("voice", item)
        found = [row_labels(job, sequences.read(job, s), s, item.row.partition) for s in own.values()]
        np.testing.assert_array_equal(found[0][0], found[1][0])
        np.testing.assert_array_equal(found[0][1], found[1][1])
        assert found[0][1].any()


@pytest.mark.parametrize(("labelled", "kept"), [(1, 0), (2, 1), (4, 1)])
def test_an_audio_window_wants_labels_for_half_of_its_chunks(plan, labelled, kept):
    settings = plan.settings.models["voice"]
    (item,) = [i for i in plan.items("voice") if i.id == "a"]
    sequence = sequences.read(plan.job("voice", item), settings).only(np.array([True, False, False]))
    target, known = labels_of(plan, item, sequence, "voice")
    known[:, labelled:] = False
    assert len(Packed([sequence], [(target, known)], settings)) == kept


def test_predictions_do_not_depend_on_the_batch_size(plan):
    fit(plan, "face", entries(plan))
    (item,) = [i for i in plan.items("face") if i.id == "c"]
    answers = []
    for size in (1, 3, 8):
        settings = plan.settings.models["face"]
        settings = settings.model_copy(update={"training": settings.training.model_copy(update={"batch_size": size})})
        model, _ = predictor.load(model_path(plan.folder("face")), plan.key("face"), settings, torch.device("cpu"))
        sequence = sequences.read(plan.job("face", item), settings)
        answers.append(predictor.run(model, sequence, torch.device("cpu")).prediction)
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    np.testing.assert_allclose(answers[0], answers[2], atol=1e-6)


def test_a_stream_with_nothing_to_predict_from_is_absent_with_its_reason(plan):
    fit(plan, "face", entries(plan))
    (item,) = [i for i in plan.items("face") if i.id == "d"]
    job = plan.job("mesh", item)
    times = np.arange(FRAMES) / float(FPS)
    nothing = np.zeros(FRAMES, bool)
    job.write(job.header(FPS, thresholds=None), values=np.zeros((FRAMES, 6), np.float32), start_s=times, end_s=times + 0.04, valid=nothing)
    sequence = sequences.read(plan.job("face", item), plan.settings.models["face"])
    assert (sequence.source == NONE).all()
    with pytest.raises(AbsentError, match="d: want something to predict from, got no usable row of mesh"):
        stage(plan.context("face"))(plan.job("face", item))


def test_a_partition_without_usable_labels_is_named(plan):
    for item in plan.items("face"):
        if item.row.partition == "train":
            write_labels(VA, item.row.labels["va"], np.zeros((FRAMES, 2)), np.zeros(FRAMES, bool))
    plan = Plan(plan.settings, plan.rows)
    write_labels_of(plan)
    with pytest.raises(ManifestError, match="face: want labelled frames in partition train, got none"):
        fit(plan, "face", entries(plan))


def test_a_model_file_that_is_no_model_is_named(plan, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(StoreError, match=r"model\.safetensors: want a fitted model, got no file"):
        predictor.read_record(path, "0" * 12)
    path.write_bytes(b"nonsense")
    with pytest.raises(StoreError, match="want a fitted model"):
        predictor.read_record(path, "0" * 12)


def test_segments_cover_the_frames_that_they_span(plan):
    """Two overlapping segments of known values: a frame under both gets their mean, one under a single one its value."""
    (item,) = [i for i in plan.items("behaviour") if i.id == "d"]
    job = plan.job("behaviour", item)
    rows = {"prediction": np.array([[0.2, 0.0], [0.6, -1.5]], np.float32), "source": np.full(2, OBSERVED, np.uint8)}
    times = {"start_s": [0.0, 2.0], "end_s": [4.0, 6.0], "valid": np.ones(2, bool)}
    job.write(job.header(FPS, thresholds=None), values=np.zeros((2, 4), np.float16), **times, **rows)
    with job.open("behaviour") as stream:
        found = to_frames(stream, job.axis(), {"va": VA}, plan.settings.models["behaviour"])
    np.testing.assert_allclose(found.values["va"][49], [0.2, 0.0], atol=1e-7)
    np.testing.assert_allclose(found.values["va"][50], [0.4, -0.75], atol=1e-7)
    np.testing.assert_allclose(found.values["va"][100], [0.6, -1.0], atol=1e-7)  # clipped
    np.testing.assert_allclose(found.values["va"][199], [0.6, -1.0], atol=1e-7)  # beyond the last segment: the nearest frame's
    assert found.source[199] == NEAREST
    assert found.source[149] == OBSERVED


def test_predictions_at_frames_are_smoothed_as_the_model_says_and_then_clipped(plan):
    own = plan.settings.models["face"].model_copy(update={"smooth": Smooth(filter="mean", valence_frames=5)})
    plan = Plan(plan.settings.model_copy(update={"models": plan.settings.models | {"face": own}}), plan.rows)
    (item,) = [i for i in plan.items("face") if i.id == "d"]
    job, times = plan.job("face", item), np.arange(FRAMES) / float(FPS)
    raw = np.random.default_rng(0).normal(size=(FRAMES, 2)).astype(np.float32)
    rows = {"prediction": raw, "source": np.full(FRAMES, OBSERVED, np.uint8), "valid": np.ones(FRAMES, bool)}
    job.write(job.header(FPS, thresholds=None), values=np.zeros((FRAMES, 4), np.float16), start_s=times, end_s=job.axis().ends_s, **rows)
    _, found = frames_of(plan, "face", item)
    padded = np.pad(raw[:, 0], 2, mode="edge").astype(np.float64)
    mean = np.mean([padded[i : i + FRAMES] for i in range(5)], axis=0)
    np.testing.assert_allclose(found.values["va"], np.stack([mean, raw[:, 1]], axis=1).clip(-1, 1), atol=1e-6)


def test_records_hold_what_the_report_needs(plan):
    record = fit(plan, "voice", entries(plan))
    assert {"model", "key", "best", "curves", "train", "validation", "parameters", "random"} <= set(record)
    assert record["train"] == ["a", "b"]
    stored = predictor.read_record(model_path(plan.folder("voice")), plan.key("voice"))
    assert json.loads(json.dumps(record)) == stored


# ---- optimiser --------------------------------------------------------------------------------------------------------------------------


class Layers(torch.nn.Module):
    """Encoder layers of which the first half is frozen."""

    def __init__(self):
        super().__init__()
        self.frozen, self.trained = torch.nn.Linear(3, 3).requires_grad_(False), torch.nn.Linear(3, 3)


@pytest.mark.parametrize("layers", [None, Layers()])
@pytest.mark.parametrize("name", list(MODELS))
def test_every_trainable_parameter_is_in_exactly_one_group(plan, name, layers):
    settings = plan.settings.models[name]
    dims = {m: 16 for m in settings.members} or {settings.reads: 6}
    model = Predictor(settings, dims, outputs=2)
    model.top = layers
    model.join()  # a map that is not trained
    found = groups(model, settings.training)
    listed = [id(p) for group in found for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert len(set(listed)) == len(listed)
    head = {id(p) for p in model.model.parameters()}
    assert {id(p) for p in found[0]["params"]} == head  # of which chunk pooling's attention is a part
    assert found[0]["lr"] == settings.training.learning_rate
    if layers is not None:
        assert [id(p) for p in found[1]["params"]] == [id(p) for p in layers.trained.parameters()]
        assert found[1]["lr"] == settings.training.backbone_learning_rate


def rates(epochs: int, scores: list[float], **training) -> list[list[float]]:
    """Learning rates of head and encoder layers at each epoch."""
    s = Training(epochs=epochs, learning_rate=1.0, backbone_learning_rate=0.1, **training)
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimiser = torch.optim.AdamW([{"params": [weights[0]], "lr": 1.0}, {"params": [weights[1]], "lr": 0.1}])
    plan, out = schedule(optimiser, s), []
    for score in scores:
        out.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        plan.step(score) if s.schedule == "plateau" else plan.step()
    return out


def test_a_plateau_lowers_all_rates_or_those_of_the_head():
    flat = [0.5] * 8
    both = rates(8, flat, plateau_factor=0.5, plateau_patience=2)
    assert both[3] == [1.0, 0.1]
    assert both[4] == [0.5, 0.05]  # the best was the first; two bad ones are borne, the third is not
    head = rates(8, flat, plateau_factor=0.5, plateau_patience=2, plateau_groups="head")
    assert [rate for rate, _ in head] == [rate for rate, _ in both]
    assert {rate for _, rate in head} == {0.1}


def test_a_cosine_warms_up_and_falls_to_nothing():
    found = rates(10, [0.0] * 10, schedule="cosine", warmup_epochs=2)
    assert [rate for rate, _ in found[:3]] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert [rate for rate, _ in found[2:]] == pytest.approx([0.5 * (1 + np.cos(np.pi * n / 8)) for n in range(8)])
    np.testing.assert_allclose([slow for _, slow in found], [0.1 * rate for rate, _ in found])
    assert {tuple(r) for r in rates(5, [0.0] * 5, schedule="constant")} == {(1.0, 0.1)}


def with_training(plan: Plan, name: str, **training) -> Plan:
    """The same plan with other training settings of one model."""
    model = plan.settings.models[name]
    model = model.model_copy(update={"training": model.training.model_copy(update=training)})
    return Plan(plan.settings.model_copy(update={"models": plan.settings.models | {name: model}}), plan.rows)


def test_the_settings_of_training_reach_the_fit(plan):
    loss = Loss(va=VALoss(valence_weight=0.7, arousal_weight=0.3, mae_weight=0.2, mse_weight=0.1, over="window"), va_weight=0.5)
    own = with_training(plan, "face", loss=loss, weight_decay=0.03, learning_rate=1e-12, stop_patience=1)
    both = training_loss({"va": VA}, loss, np.zeros((3, 1, 2)), np.ones((3, 1, 1), bool))
    assert both.weights == {"va": 0.5}
    assert vars(both.losses["va"]).items() >= {"weights": (0.7, 0.3), "mae_weight": 0.2, "mse_weight": 0.1, "over": "window"}.items()
    module = Fit(Predictor(own.settings.models["face"], {"mesh": 6}, outputs=2), own.settings.models["face"], 0, {"va": VA}, both)
    (group,) = module.configure_optimizers()["optimizer"].param_groups
    assert (group["weight_decay"], group["lr"]) == (0.03, 1e-12)
    scores = [c["validation_score"] for c in fit(own, "face", entries(own))["curves"]]
    assert 2 <= len(scores) < own.settings.models["face"].training.epochs
    assert scores[-1] <= max(scores[:-1])  # one epoch without a gain was the last


def test_gradients_are_clipped_and_every_epoch_draws_anew(plan, monkeypatch):
    norms, draws = [], {}

    def configured(self, build=Fit.configure_optimizers):
        out = build(self)
        grads = [p for group in out["optimizer"].param_groups for p in group["params"]]
        out["optimizer"].register_step_post_hook(lambda *_: norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in grads]))))
        return out

    def drawn(self, batch, _, step=Fit.training_step):
        draws.setdefault(self.current_epoch, float(torch.rand(())))
        return step(self, batch, _)

    monkeypatch.setattr(Fit, "configure_optimizers", configured)
    monkeypatch.setattr(Fit, "training_step", drawn)
    own = with_training(plan, "face", epochs=3, clip_norm=1e-3)
    fit(own, "face", entries(own))
    assert 0 < max(norms) <= 1.001e-3
    assert len(set(draws.values())) == 3


def test_the_moving_average_is_what_is_kept(plan, monkeypatch):
    """With one epoch, weights of the fit are the average w <- d w + (1 - d) new over its steps, the first step's weights beginning it."""
    seen = []

    def watch(self, batch, _, step=Fit.training_step):
        seen.append([p.detach().clone() for p in self.predictor.parameters()])
        return step(self, batch, _)

    monkeypatch.setattr(Fit, "training_step", watch)
    own = with_training(plan, "face", epochs=1, ema_decay=0.9, batch_size=4)
    fit(own, "face", entries(own))
    model, _ = predictor.load(model_path(own.folder("face")), own.key("face"), own.settings.models["face"], torch.device("cpu"))
    bare = with_training(plan, "face", epochs=1, batch_size=4)
    fit(bare, "face", entries(bare))
    last, _ = predictor.load(model_path(bare.folder("face")), bare.key("face"), bare.settings.models["face"], torch.device("cpu"))
    steps = [*seen[1 : len(seen) // 2], [p.detach() for p in last.parameters()]]  # after each step
    assert len(steps) >= 3
    for i, parameter in enumerate(model.parameters()):
        average = steps[0][i]
        for step in steps[1:]:
            average = 0.9 * average + 0.1 * step[i]
        torch.testing.assert_close(parameter.detach(), average, atol=1e-6, rtol=1e-5)


def test_an_averaged_fit_that_was_stopped_ends_where_an_undisturbed_one_does(plan):

    def stop(name: str, done: int, total: int) -> None:
        if done == 3:
            raise RuntimeError("stopped")

    own = with_training(plan, "behaviour", epochs=6, ema_decay=0.8, schedule="cosine", warmup_epochs=2)
    fit(own, "behaviour", entries(own))
    path = model_path(own.folder("behaviour"))
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(RuntimeError, match="stopped"):
        fit(own, "behaviour", entries(own), progress=stop)
    fit(own, "behaviour", entries(own))
    assert path.read_bytes() == whole


# ---- what a fusion sees -----------------------------------------------------------------------------------------------------------------


def test_a_fusion_takes_embeddings_or_predictions_with_them(plan):
    fit_and_apply(plan, ("face", "behaviour", "voice"))
    (item,) = [i for i in plan.items("fused") if i.id == "a"]
    settings = plan.settings.models["fused"]
    bare = sequences.read(plan.job("fused", item), settings)
    more = sequences.read(plan.job("fused", item), settings.model_copy(update={"inputs": "embedding_and_prediction"}))
    with plan.streams(item).open("face") as stream:
        prediction = stream.rows("prediction")
    np.testing.assert_array_equal(more.inputs["face"][:, :16], bare.inputs["face"])
    np.testing.assert_array_equal(more.inputs["face"][:, 16:], prediction)
    assert {name: values.shape[1] for name, values in more.inputs.items()} == {"face": 18, "behaviour": 18, "voice": 18}


def test_windows_of_seconds_follow_the_clock_and_not_the_count_of_frames(plan):
    fit_and_apply(plan, ("face", "behaviour", "voice"))
    (item,) = [i for i in plan.items("fused") if i.id == "a"]
    sequence = sequences.read(plan.job("fused", item), plan.settings.models["fused"])
    raav = RAAVModel(reads=("face", "behaviour"), audio="voice", window_s=4.0, hop_s=2.0)
    assert windows(sequence, raav).tolist() == [[0, 100], [50, 100], [100, 100]]
    slow = np.concatenate([sequence.axis.times_s[:100], 4.0 + 2 * (sequence.axis.times_s[100:] - 4.0)])  # half the rate from 4 s on
    late = replace(sequence, axis=FrameAxis(slow, FPS))
    assert windows(late, raav).tolist() == [[0, 100], [50, 75], [100, 50], [125, 50], [150, 50]]
    frame = raav.model_copy(update={"level": "frame", "window": 150, "stride": 50})
    assert windows(sequence, frame).tolist() == [[0, 150], [50, 150]]


def test_windows_of_different_lengths_merge_to_their_mean(plan):
    fit_and_apply(plan, ("face", "behaviour", "voice"))
    (item,) = [i for i in plan.items("fused") if i.id == "a"]
    sequence = sequences.read(plan.job("fused", item), plan.settings.models["fused"])
    settings = RAAVModel(reads=("face", "behaviour"), audio="voice", hidden=16, heads=2, dropout=0.0, window_s=3.0, hop_s=1.5)
    model = Predictor(settings, {"face": 16, "behaviour": 16, "voice": 16}, outputs=2).eval()
    found = predictor.run(model, sequence, torch.device("cpu"))
    total, count = np.zeros((FRAMES, 2)), np.zeros(FRAMES)
    for first, rows in windows(sequence, settings):
        part = {n: torch.from_numpy(v[None, first : first + rows]).float() for n, v in sequence.inputs.items()}
        with torch.no_grad():
            out = model(part, torch.from_numpy(sequence.present[None, first : first + rows]))
        total[first : first + rows] += out.prediction[0, :, 0].numpy()
        count[first : first + rows] += 1
    np.testing.assert_allclose(found.prediction[:, 0], total / count[:, None], atol=1e-6)
    np.testing.assert_allclose(found.gate.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("tail", "last"), [("shifted", [1, 2]), ("truncated", [2, 1])])
def test_the_last_window_of_segments_is_shifted_or_truncated(tmp_path, tail, last):
    plan = make_plan(tmp_path, models=MODELS | {"behaviour": MODELS["behaviour"] | {"window": 2, "stride": 2, "tail": tail}})
    settings = plan.settings.models["behaviour"]
    (item,) = [i for i in plan.items("behaviour") if i.id == "a"]
    sequence = sequences.read(plan.job("behaviour", item), settings)
    assert len(sequence) == 3
    assert windows(sequence, settings).tolist() == [[0, 2], last]
    assert windows(sequence.only(np.array([True, True, False])), settings).tolist() == [[0, 2]]
    packed = Packed([sequence], [labels_of(plan, item, sequence, "behaviour")], settings)
    assert packed[[0, 1]]["present"].sum(dim=(1, 2)).tolist() == [2, last[1]]  # what is missing is masked


def test_models_of_the_public_code_are_fitted_read_back_and_fused(tmp_path):
    """Each setting reaches the network that is fitted, and the one that is loaded."""
    stack = {"positions": "every_layer", "position_dropout": 0.1, "second_residual": True, "activation": "gelu", "start": "multihead"}
    training = {"training": {"epochs": 1, "learning_rate": 1e-3}, "dropout": 0.1}
    models = {
        "face": MODELS["face"] | stack | training | {"dropout_on": "residual", "embedding": "head"},
        "behaviour": MODELS["behaviour"] | training | {"block": "ras2026", "start": "xavier", "tail": "truncated", "window": 3},
        "voice": MODELS["voice"] | training,
        "heard": {"kind": "raav", "reads": ["face", "behaviour"], "audio": "voice", "hidden": 16, "heads": 2, "compat": "ras2026"}
        | training,
    }
    plan = make_plan(tmp_path, models=models, publish="heard")
    fit_and_apply(plan, tuple(models))
    read = {name: fitted(plan.context(name), None, device=torch.device("cpu"))[0].model for name in models}
    layers = read["face"].layers
    assert (layers.positions, layers.position_dropout, layers.second_residual) == ("every_layer", 0.1, True)
    assert layers[0].dropout_on == "residual"
    assert isinstance(layers[0].feedforward[1], torch.nn.GELU)
    assert read["face"].embedding == "head"
    assert type(read["behaviour"]).__name__ == "Ras2026Head"
    assert read["heard"].norm_seen is not None
    for name in models:
        (item,) = [i for i in plan.items(name) if i.id == "c"]
        with plan.streams(item).open(name) as stream:
            assert stream.rows("prediction")[stream.valid].std() > 0
            assert stream.rows().shape[1] == plan.settings.models[name].hidden
