"""Cross-attention of a query to a context: roles, presence, what a run makes of a fusion without a gate. Plain loop: test_exact.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from learnable import MODELS, fit_and_apply, make_plan, truth
from pages import Reader
from small_run import SETTINGS, Run

from affpipe.core.axis import NEAREST, OBSERVED
from affpipe.core.errors import InputError, SettingsError
from affpipe.core.tasks.table import VA
from affpipe.data import annotations
from affpipe.models import inputs as sequences
from affpipe.models import predictor, workers
from affpipe.models.fusions.cross_attention.network import CrossAttention
from affpipe.models.table import MODELS as KINDS
from affpipe.models.targets import row_labels
from affpipe.plan import config
from affpipe.results import publish
from affpipe.results.frames import frames_of

DIMS = {"face": 5, "behaviour": 3, "audio": 4}
HIDDEN = 8
ROLES = [("face", "mean"), ("mean", "face"), ("mean", "mean"), ("audio", "mean")]


def build(query="face", context="mean", dims=DIMS, **kwargs):
    torch.manual_seed(0)
    sizes = {"hidden": HIDDEN, "layers": 2, "heads": 2, "feedforward": 12, "dropout": 0.2}
    return CrossAttention(dims, query=query, context=context, **(sizes | kwargs)).eval()


def batch(windows=3, rows=7):
    """Window 0: every modality has gaps, step 3 has nothing. Window 1: no audio at all. Window 2: padded tail."""
    generator = torch.Generator().manual_seed(1)
    streams = {m: torch.randn(windows, rows, d, generator=generator) for m, d in DIMS.items()}
    present = torch.ones(windows, rows, 3, dtype=torch.bool)
    present[0, 0, 0] = present[0, 1, 1] = present[0, 1, 2] = present[0, 5, 2] = False
    present[0, 3] = False
    present[1, :, 2] = False
    present[2, 5:] = False
    return streams, present


def close(got, want, tolerance=1e-5):
    torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)


def asked(model, present):
    """(B, T) bool: steps that have an answer."""
    return present.any(-1) if model.query == "mean" else present[..., list(DIMS).index(model.query)]


# ---- the model --------------------------------------------------------------------------------------------------------------------------


def test_there_is_no_gate():
    model, (streams, present) = build(), batch()
    assert model(streams, present).gate is None
    assert not hasattr(model, "gate_names")


@pytest.mark.parametrize(("query", "context"), ROLES)
def test_there_is_an_answer_where_the_query_is_present(query, context):
    model, (streams, present) = build(query, context), batch()
    fused, here = model(streams, present), asked(model, present)
    for out in fused[:2]:
        assert (out[~here] == 0).all()
        assert (out[here].abs().sum(-1) > 0).all()


@pytest.mark.parametrize(("query", "context"), ROLES)
@pytest.mark.parametrize("value", [0.0, 7.0, -3e38])
def test_absent_values_change_nothing(query, context, value):
    model, (streams, present) = build(query, context), batch()
    other = {m: x.masked_fill(~present[..., i : i + 1], value) for i, (m, x) in enumerate(streams.items())}
    for got, want in zip(model(other, present)[:2], model(streams, present)[:2], strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize(("query", "context"), ROLES)
def test_nothing_present_is_zero_and_trains_without_nan(query, context):
    model, (streams, present) = build(query, context).train(), batch()
    fused = model(streams, torch.zeros_like(present))
    (fused.prediction.sum() + fused.embedding.sum()).backward()
    assert (fused.prediction == 0).all()
    assert (fused.embedding == 0).all()
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


def test_a_context_that_is_absent_leaves_the_query():
    model, (streams, present) = build("face", "audio", {m: DIMS[m] for m in ("face", "audio")}), batch()
    pair = {m: streams[m] for m in ("face", "audio")}
    want = model(pair, present[..., [0, 2]])
    other = model(pair | {"audio": pair["audio"] + 5}, present[..., [0, 2]])
    close(other.prediction[1], want.prediction[1])  # without audio
    assert (want.prediction[1].abs().sum(-1) > 0).all()
    assert (other.prediction[0] - want.prediction[0]).abs().max() > 1e-3


def test_a_query_in_its_context_is_read_as_updated():
    """With the mean as context the second layer reads the query that left the first; a query that is the mean leaves its context."""
    streams, present = batch()
    present[:] = True
    for query, updated in (("face", True), ("mean", False)):
        model, read = build(query, "mean", layers=2, positions="none", dropout=0.0), []
        for layer in model.stack:
            layer.register_forward_pre_hook(lambda _, inputs, read=read: read.append(inputs[1]))
        model(streams, present)
        first = torch.stack([model.project[m](streams[m]) for m in DIMS]).mean(dim=0)
        close(read[0], first)
        assert torch.equal(read[0], read[1]) is not updated


def test_padding_and_other_windows_change_nothing():
    model, (streams, present) = build(), batch()
    want = model(streams, present)
    padded = model({m: F.pad(x, (0, 0, 0, 4), value=9.0) for m, x in streams.items()}, F.pad(present, (0, 0, 0, 4)))
    order = torch.tensor([2, 0, 1])
    shuffled = model({m: x[order] for m, x in reversed(streams.items())}, present[order])
    for got, moved, one in zip(padded[:2], shuffled[:2], want[:2], strict=True):
        close(got[:, :7], one)
        assert (got[:, 7:] == 0).all()
        close(moved, one[order])


def test_bad_arguments_are_refused():
    model, (streams, present) = build(), batch()
    with pytest.raises(InputError, match="want query among face, behaviour, audio, mean, got 'voice'"):
        build("voice")
    with pytest.raises(InputError, match="want a part for each of face, behaviour, audio, got face and audio; leave the others out"):
        build("face", "audio")
    with pytest.raises(InputError, match="want positions among every_layer, none, got 'sinusoidal'"):
        build(positions="sinusoidal")
    with pytest.raises(InputError, match="want streams face, behaviour, audio, got face"):
        model({"face": streams["face"]}, present)


# ---- its settings -----------------------------------------------------------------------------------------------------------------------

PAIR = {"kind": "cross_attention", "reads": ["face", "voice"], "query": "face", "context": "voice", "heads": 2, "hidden": 8}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"query": "look"}, r"query: want one of \['face', 'voice', 'mean'\], got 'look'"),
        ({"context": "fused"}, r"context: want one of \['face', 'voice', 'mean'\], got 'fused'"),
        ({"context": "face"}, r"reads: want the query and the context alone, or mean as one of them, got \['face', 'voice'\]"),
        ({"reads": ["face", "mean"], "context": "mean"}, "reads: want no model named mean"),
        ({"positions": "sinusoidal"}, "positions: want 'every_layer' or 'none', got 'sinusoidal'"),
        ({"position_dropout": 0.1, "positions": "none"}, "position_dropout: want positions: every_layer, got none; set 0"),
    ],
)
def test_settings_that_leave_a_role_open_are_refused(change, says):
    config.parse(SETTINGS | {"models": SETTINGS["models"] | {"fused": PAIR}})
    with pytest.raises(SettingsError, match=says):
        config.parse(SETTINGS | {"models": SETTINGS["models"] | {"fused": PAIR | change}})


# ---- a run with it ----------------------------------------------------------------------------------------------------------------------

LEARNED = {**MODELS["fused"], "kind": "cross_attention", "query": "face", "context": "mean"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    models = {name: MODELS[name] for name in ("face", "behaviour", "voice")} | {"fused": LEARNED}
    plan = make_plan(tmp_path_factory.mktemp("run"), models=models)
    fit_and_apply(plan)
    return plan


def test_it_learns_and_writes_no_gate(plan):
    for item in plan.items("fused"):
        with plan.streams(item).open("fused") as stream:
            assert "gate" not in stream.names
            assert stream.attributes["extra"]["experts"] == []
            assert stream.rows().shape[1] == LEARNED["hidden"]
    _, found = frames_of(plan, "fused", next(i for i in plan.items("fused") if i.id == "c"))
    assert np.corrcoef(found.values["va"][:, 0], truth("c")[:, 0])[0, 1] > 0.9


def test_a_frame_without_the_query_has_no_answer_of_its_own(plan):
    """What is published there is the nearest answer, not the zero of the model."""
    settings = plan.settings.models["fused"]
    item = next(i for i in plan.items("fused") if i.id == "c")
    job = plan.job("fused", item)
    sequence = sequences.read(job, settings)
    assert sequence.needed == "face"
    sequence.present[50:60, 0] = False
    assert not sequence.usable[50:60].any()
    assert sequence.usable[:50].all()
    fitted, _ = workers.fitted(plan.context("fused"), None, device=torch.device("cpu"))
    rows = predictor.run(fitted, sequence, torch.device("cpu"))
    assert rows.gate is None
    assert (rows.prediction[50:60] == 0).all()
    assert (rows.prediction[:50] != 0).all()
    _, known = row_labels(job, sequence, settings, "validation")
    assert not known[50:60].any()  # nor is the model fitted or judged there
    mean = settings.model_copy(update={"query": "mean"})
    assert sequences.read(job, mean).needed is None


def test_frames_that_a_member_says_nothing_of_take_its_nearest_or_stay_masked(plan):
    settings = plan.settings.models["fused"]
    item = next(i for i in plan.items("fused") if i.id == "a")
    with plan.streams(item).open("voice") as stream:
        covered = np.zeros(200, bool)
        for start, end in zip(stream.start_s[stream.valid], stream.end_s[stream.valid], strict=True):
            covered |= (np.arange(200) / 25 >= start) & (np.arange(200) / 25 < end)
    assert 0 < covered.sum() < 200  # the last window is not retained
    masked, filled = (sequences.read(plan.job("fused", item), settings.model_copy(update={"fill": f})) for f in ("none", "nearest"))
    assert (masked.present[:, 2] == covered).all()
    assert filled.present.all()
    last = np.flatnonzero(covered)[-1]
    np.testing.assert_array_equal(filled.inputs["voice"][last + 1 :], np.broadcast_to(masked.inputs["voice"][last], (199 - last, 16)))
    np.testing.assert_array_equal(filled.inputs["voice"][covered], masked.inputs["voice"][covered])
    assert set(np.unique(filled.source)) <= {NEAREST, OBSERVED}


def test_a_member_that_a_stream_lacks_stays_masked_whatever_the_fill(plan):
    settings = plan.settings.models["fused"].model_copy(update={"fill": "nearest"})
    silent = sequences.read(plan.job("fused", next(i for i in plan.items("fused") if i.id == "d")), settings)
    assert not silent.present[:, 2].any()
    assert silent.present[:, :2].all()


def test_it_is_built_as_its_settings_say(plan):
    settings = plan.settings.models["fused"]
    other = settings.model_copy(update={"query": "voice", "activation": "gelu", "dropout_on": "residual", "position_dropout": 0.1})
    model = KINDS[other.kind].build(other, dict.fromkeys(other.reads, 16), 2)
    assert (model.query, model.context) == ("voice", "mean")
    assert isinstance(model.stack[0].feedforward[1], torch.nn.GELU)
    assert model.stack[0].dropout_on == "residual"
    assert model.stack.position_dropout == 0.1


def test_a_run_with_it_is_published_and_reported(tmp_path: Path):
    run = Run(tmp_path, models=SETTINGS["models"] | {"fused": PAIR | {"training": {"epochs": 3}}})
    run.index()
    publish.publish(run.plan, run.entries)
    page = (tmp_path / "results/small/report.html").read_text()
    assert "Mean gate weights" not in page
    assert "gate, bottom up:" not in Reader(page).text
    assert "cross_attention" in page
    values, valid = annotations.read_labels(VA, tmp_path / "results/small/official/va/v1.txt")
    np.testing.assert_allclose(values, np.clip(run.prediction("fused", "v1"), -1, 1), atol=1e-6)
    assert valid.all()


def test_the_gate_of_another_fusion_is_drawn_beside_it(tmp_path: Path):
    models = SETTINGS["models"] | {"asked": PAIR | {"training": {"epochs": 3}}}
    text = Reader(Run(tmp_path, models=models, publish="asked").page()).text
    assert "Mean gate weights of fused: face ← voice 0.25, voice ← face 0.75." in text
