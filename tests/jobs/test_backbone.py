"""Encoder layers within a model: cached states and sound give the same model and the same predictions; augmentation only in training."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from learnable import write_labels_of

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import SettingsError
from affpipe.core.tasks.table import VA
from affpipe.data.annotations import write_labels
from affpipe.data.manifest import read
from affpipe.encoders.table import ENCODERS
from affpipe.encoders.tiny_weights import make_tiny
from affpipe.jobs import workers
from affpipe.jobs.fitting import fit
from affpipe.models import inputs, predictor
from affpipe.models.fit import groups
from affpipe.models.predictor import model_path
from affpipe.models.workers import fitted
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.store.flac import write_flac
from affpipe.store.index import Entry
from affpipe.system.disk import atomic

FPS, SECONDS, RATE = Fraction(25), 9, 16000
PARTITION = {"a": "train", "b": "train", "c": "validation"}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three streams whose arousal is the loudness of a tone, and tiny weights."""
    out = tmp_path_factory.mktemp("backbone")
    make_tiny(out / "weights")
    lines = ["stream_id,video,subject,partition,va"]
    for id in PARTITION:
        (out / f"{id}.mp4").write_bytes(id.encode() * 9)
        write_labels(VA, out / f"{id}.txt", curve(id), np.ones(SECONDS * 25, bool))
        lines.append(f"{id},{id}.mp4,largest,{PARTITION[id]},{id}.txt")
    (out / "manifest.csv").write_text("\n".join(lines) + "\n")
    base = plan_of(out)
    for item in base.items("voice"):
        write_media(base, item)
    write_labels_of(base)
    work = workers.start(base.context("odyssey"))
    for item in base.items("odyssey"):
        work(base.job("odyssey", item))
    return out


def curve(id: str) -> np.ndarray:
    t = np.arange(SECONDS * 25) / 25
    return 0.7 * np.stack([np.sin(0.8 * t + ord(id)), np.cos(1.1 * t + 2 * ord(id))], axis=1)


def plan_of(folder: Path, trained: int = 1, feature: dict | None = None, **voice) -> Plan:
    training = {"epochs": 3, "learning_rate": 1e-2, "backbone_learning_rate": 1e-3}
    model = {"kind": "chunk_asp", "reads": "odyssey", "hidden": 16, "attention_hidden": 8, "dropout": 0.0, "speech_only": False}
    data = {
        "cache": str(folder / "cache"),
        "weights": str(folder / "weights"),
        "manifest": str(folder / "manifest.csv"),
        "features": {"odyssey": {"encoder": "wavlm", "weights": "wavlm-tiny", "trained_layers": trained} | (feature or {})},
        "models": {"voice": model | {"training": training} | voice},
        "publish": "voice",
    }
    return Plan(parse(data), read(folder / "manifest.csv", folder))


def write_media(plan: Plan, item) -> None:
    times = np.arange(SECONDS * 25) / 25
    axis = FrameAxis(times, FPS)
    job = plan.job("frames", plan.item("frames", item))
    job.write(
        job.header(FPS), values=np.zeros((len(times), 1), np.float32), start_s=times, end_s=axis.ends_s, valid=np.ones(len(times), bool)
    )
    t = np.arange(SECONDS * RATE) / RATE
    loud = np.interp(t, times, curve(item.id)[:, 1] * 0.4 + 0.5)
    job = plan.job("audio", plan.item("audio", item))
    header = job.header(FPS, samples=len(t), sample_rate_hz=RATE, start_s=0.0)
    with atomic(job.path) as part:
        write_flac(part, [(0.3 * loud * np.sin(2 * np.pi * 220 * t)).astype(np.float32)], RATE, json.dumps(header.attributes()))


def entries(plan: Plan) -> dict[str, dict[str, Entry]]:
    return {name: {id: Entry("done") for id in PARTITION} for name in plan.names}


def predictions(plan: Plan) -> dict[str, np.ndarray]:
    model, _ = fitted(plan.context("voice"), None, device=CPU)
    out = {}
    for item in plan.items("voice"):
        sequence = inputs.read(plan.job("voice", item), plan.settings.models["voice"])
        out[item.id] = predictor.run(model, sequence, CPU).prediction
    return out


def test_cached_states_and_sound_give_the_same_model(folder):
    cached, direct = plan_of(folder), plan_of(folder, cache_frozen=False)
    records = [fit(plan, "voice", entries(plan)) for plan in (cached, direct)]
    for key in ("training_loss", "validation_score"):
        np.testing.assert_allclose([c[key] for c in records[0]["curves"]], [c[key] for c in records[1]["curves"]], atol=1e-4)
    one, other = predictions(cached), predictions(direct)
    for id in PARTITION:
        assert np.isfinite(one[id]).all()
        np.testing.assert_allclose(one[id], other[id], atol=1e-4)
    assert records[0]["random"] == records[1]["random"] == ["wavlm-tiny"]


FEATURES = [{}, {"trained_layers": 0, "layer": 1}, {"trained_layers": 0}, {"normalise": "waveform"}, {"dtype": "bfloat16"}]


@pytest.mark.parametrize("feature", FEATURES, ids=str)
def test_before_training_they_are_equal_to_rounding(folder, feature):
    """The same weights on stored states and on sound, a short last window among them: equal to 1e-6, whatever the feature's settings."""
    from affpipe.models import encoder_layers

    stored = plan_of(folder, feature=feature)
    work = workers.start(stored.context("odyssey"))
    for item in stored.items("odyssey"):
        work(stored.job("odyssey", item))
    answers = []
    for frozen in (True, False):
        plan = plan_of(folder, feature=feature, cache_frozen=frozen)
        layers = encoder_layers.load(plan.context("voice"))
        torch.manual_seed(0)
        model = predictor.Predictor(plan.settings.models["voice"], {"odyssey": layers.dim if layers else 32}, layers, outputs=2).eval()
        (item,) = [i for i in plan.items("voice") if i.id == "a"]
        answers.append(predictor.run(model, inputs.read(plan.job("voice", item), plan.settings.models["voice"]), CPU))
    np.testing.assert_allclose(answers[0].prediction, answers[1].prediction, atol=1e-6)
    np.testing.assert_allclose(answers[0].embedding, answers[1].embedding, atol=1e-6)
    assert len(answers[0].prediction) == 4  # 9 s: three whole windows and one of 3 s


def test_the_top_layers_are_trained_and_the_frozen_ones_are_not_in_the_model(folder):
    from affpipe.models import encoder_layers

    plan = plan_of(folder, cache_frozen=False)
    layers = encoder_layers.load(plan.context("voice"))
    begun = {name: p.detach().clone() for name, p in layers.top.named_parameters()}
    model = predictor.Predictor(plan.settings.models["voice"], {"odyssey": layers.dim}, layers, outputs=2)
    first, second = groups(model, plan.settings.models["voice"].training)
    assert {id(p) for p in second["params"]} == {id(p) for p in layers.top.parameters() if p.requires_grad}
    assert len(first["params"]) == len(list(model.model.parameters()))
    assert not any("feature_extractor" in name for name in model.state_dict())

    fit(plan, "voice", entries(plan))
    trained, _ = fitted(plan.context("voice"), None, device=CPU)
    moved = {name: float((p.detach() - begun[name]).abs().max()) for name, p in trained.top.named_parameters() if p.requires_grad}
    assert min(moved.values()) > 0
    fixed = [name for name, p in trained.top.named_parameters() if not p.requires_grad]
    assert fixed
    assert all(torch.equal(dict(trained.top.named_parameters())[name], begun[name]) for name in fixed)


@pytest.mark.parametrize("cached", [True, False])
def test_a_frozen_closing_norm_is_in_no_group_and_stays(folder, cached):
    from affpipe.models import encoder_layers

    plan = plan_of(folder, cache_frozen=cached, closing_norm="frozen")
    layers = encoder_layers.load(plan.context("voice"))
    begun = {name: p.detach().clone() for name, p in layers.top.named_parameters()}
    model = predictor.Predictor(plan.settings.models["voice"], {"odyssey": layers.dim}, layers, outputs=2)
    norm = {id(p) for p in layers.top.layer_norm.parameters()}
    assert len(norm) == 2
    head, own = ([id(p) for p in group["params"]] for group in groups(model, plan.settings.models["voice"].training))
    assert not norm & {*head, *own}
    assert set(own) | norm == {id(p) for name, p in layers.top.named_parameters() if "rel_attn_embed" not in name}
    fit(plan, "voice", entries(plan))
    trained, _ = fitted(plan.context("voice"), None, device=CPU)
    for name, p in trained.top.named_parameters():
        assert torch.equal(p, begun[name]) == (name.startswith("layer_norm.") or "rel_attn_embed" in name), name
    assert plan.key("voice") != plan_of(folder, cache_frozen=cached).key("voice")


def test_frozen_layers_run_as_in_training_while_the_model_is_fitted_and_never_otherwise(folder, monkeypatch):
    """A fit of its own draws, the same in a fit that was stopped; what is predicted knows none of them."""
    from affpipe.encoders.wavlm.layers import Trunk
    from affpipe.models import encoder_layers

    calls: list[tuple[int, bool]] = []
    once = Trunk.__call__

    def spy(self, waveforms, lengths, *, live=False):
        calls.append((len(waveforms), live))
        return once(self, waveforms, lengths, live=live)

    def stop(name: str, done: int, total: int) -> None:
        if done == 2:
            raise RuntimeError("stopped")

    monkeypatch.setattr(Trunk, "__call__", spy)
    still, live = plan_of(folder, cache_frozen=False, dropout=0.2), plan_of(folder, cache_frozen=False, dropout=0.2, frozen_mode="train")
    plain = fit(still, "voice", entries(still))
    assert not any(live for _, live in calls)
    calls.clear()
    record = fit(live, "voice", entries(live))
    per_epoch = [size for size, live in calls if live]
    assert sum(per_epoch) == 3 * record["windows"]  # three epochs
    assert sum(not live for _, live in calls) >= 3  # their validation
    assert record["curves"][0]["training_loss"] != plain["curves"][0]["training_loss"]
    path = model_path(live.folder("voice"))
    whole = path.read_bytes()
    calls.clear()
    first, again = predictions(live), predictions(live)
    assert not any(live for _, live in calls)
    assert all(np.array_equal(first[id], again[id]) for id in PARTITION)
    as_eval = predictor.load(path, live.key("voice"), still.settings.models["voice"], CPU, encoder_layers.load(still.context("voice")))[0]
    (item,) = [i for i in live.items("voice") if i.id == "c"]
    sequence = inputs.read(live.job("voice", item), live.settings.models["voice"])
    assert np.array_equal(first["c"], predictor.run(as_eval, sequence, CPU).prediction)
    path.unlink()
    np.random.seed(3)  # noqa: NPY002 - a process that has drawn otherwise
    with pytest.raises(RuntimeError, match="stopped"):
        fit(live, "voice", entries(live), progress=stop)
    np.random.seed(4)  # noqa: NPY002
    assert fit(live, "voice", entries(live))["curves"] == record["curves"]
    assert path.read_bytes() == whole


def test_sound_is_read_from_the_track_itself(folder):
    """Row r of the input is the sound of its window, to the bit, and zero beyond the end of the track."""
    from affpipe.store.flac import read_flac

    plan = plan_of(folder, cache_frozen=False)
    (item,) = [i for i in plan.items("voice") if i.id == "b"]
    job = plan.job("voice", item)
    sequence = inputs.read(job, plan.settings.models["voice"])
    track = read_flac(plan.stream("audio", item))
    assert sequence.inputs["steps"].tolist() == [4 * RATE, 4 * RATE, 4 * RATE, 3 * RATE]
    for row, first in enumerate((0, 2, 4, 6)):
        whole = track[first * RATE : (first + 4) * RATE]
        np.testing.assert_array_equal(sequence.inputs["odyssey"][row, : len(whole)] / 32768, whole)
        assert (sequence.inputs["odyssey"][row, len(whole) :] == 0).all()


def test_all_folds_share_the_frozen_layers(folder):
    plan = plan_of(folder, cache_frozen=False, hidden=8)
    fit(plan, "voice", entries(plan))
    one, other = (fitted(plan.context("voice"), None, device=CPU)[0] for _ in range(2))
    assert one._trunk.part is other._trunk.part
    assert one.top is not other.top


def test_augmentation_changes_training_and_no_prediction(folder):
    plain = plan_of(folder, cache_frozen=False, training={"epochs": 1, "learning_rate": 1e-2})
    loud = plan_of(folder, cache_frozen=False, training={"epochs": 1, "learning_rate": 1e-2}, augment={"gain_probability": 1.0})
    first, second = (fit(plan, "voice", entries(plan)) for plan in (plain, loud))
    assert first["curves"][0]["training_loss"] != second["curves"][0]["training_loss"]
    again, repeat = predictions(loud), predictions(loud)
    assert all(np.array_equal(again[id], repeat[id]) for id in PARTITION)
    model_path(loud.folder("voice")).unlink()
    assert fit(loud, "voice", entries(loud))["curves"] == second["curves"]  # draws hang on seed and epoch


def test_a_feature_whose_encoder_runs_in_the_model_is_not_extracted(folder, monkeypatch):
    assert "odyssey" in plan_of(folder).names
    direct = plan_of(folder, cache_frozen=False)
    assert "odyssey" not in direct.names
    assert direct.reads("voice") == ("frames", "audio")
    other = plan_of(folder, trained=2, cache_frozen=False)
    assert direct.key("voice") != other.key("voice")  # the encoder's settings are part of the model's
    assert direct.key("voice") == plan_of(folder, feature={"batch_size": 3}, cache_frozen=False).key("voice")
    monkeypatch.setitem(ENCODERS, "wavlm", replace(ENCODERS["wavlm"], revision=99))
    assert direct.key("voice") != plan_of(folder, cache_frozen=False).key("voice")  # and so is its revision


def test_settings_that_contradict_each_other_are_refused(folder):
    with pytest.raises(SettingsError, match="augment changes the sound"):
        plan_of(folder, augment={})
    with pytest.raises(SettingsError, match="standardise"):
        plan_of(folder, standardise=True)
    with pytest.raises(SettingsError, match=r"frozen_mode: train gives other states at every step, .*; set cache_frozen: false"):
        plan_of(folder, frozen_mode="train")
    with pytest.raises(SettingsError, match=r"closing_norm: want trained_layers of features\.odyssey, got none; leave"):
        plan_of(folder, trained=0, closing_norm="frozen")
