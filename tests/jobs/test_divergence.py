"""Fits that diverge and streams that leave nothing to predict from: the reason says what to change, and nothing false is kept."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from learnable import MODELS, entries, make_plan

from affpipe.core.errors import AbsentError, SettingsError, StoreError, WeightsError
from affpipe.core.item import Item
from affpipe.jobs.fitting import fit
from affpipe.models import predictor, workers
from affpipe.models.checks import divergence
from affpipe.models.fit import Fit
from affpipe.models.predictor import Rows, model_path
from affpipe.plan.plan import Plan
from affpipe.store import cache


def behaviour(tmp_path: Path, **training: object) -> Plan:
    model = {**MODELS["behaviour"], "training": {"epochs": 3, **training}}
    return make_plan(tmp_path, models={"behaviour": model}, publish="behaviour")


def kept(plan: Plan) -> list[str]:
    return [path.name for path in plan.folder("behaviour").rglob("*")]


def test_a_learning_rate_that_is_far_too_high_is_named_with_model_and_epoch(tmp_path):
    plan = behaviour(tmp_path, learning_rate=1e30)
    with pytest.raises(SettingsError) as caught:
        fit(plan, "behaviour", entries(plan))
    said = str(caught.value)
    assert said.startswith("behaviour: the fit diverged in epoch 1 at learning rate 1.0e+30: want finite ")
    assert said.endswith("; lower models.behaviour.training.learning_rate, or set a lower clip_norm there")
    assert "\n" not in said
    assert kept(plan) == []


def test_a_fit_that_diverges_later_leaves_no_checkpoint_of_the_epochs_before(tmp_path, monkeypatch):
    plan = behaviour(tmp_path, learning_rate=1e-2)
    real = Fit.on_train_batch_start

    def spoil(self: Fit, batch: dict, index: int) -> None:
        real(self, batch, index)
        if self.current_epoch == 1:
            assert (plan.folder("behaviour") / "checkpoints/last.ckpt").exists()
            with torch.no_grad():
                next(self.predictor.parameters()).fill_(torch.nan)

    monkeypatch.setattr(Fit, "on_train_batch_start", spoil)
    with pytest.raises(
        SettingsError,
        match=r"diverged in epoch 2 at learning rate 1\.0e-02: want finite losses, got (\d+) of \1 batches without, "
        "the prediction of the network first, in batch 1; lower ",
    ):
        fit(plan, "behaviour", entries(plan))
    assert kept(plan) == []
    monkeypatch.undo()
    assert fit(plan, "behaviour", entries(plan))["curves"][0]["epoch"] == 0
    assert model_path(plan.folder("behaviour")).exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_counted(bad):
    losses, raw, trace = torch.ones(4), np.ones((5, 2)), divergence.Trace()
    divergence.check("face", 0, 1e-3, losses, raw, trace)
    losses[1] = bad
    with pytest.raises(SettingsError, match=r"face: the fit diverged in epoch 3 at learning rate 1\.0e-03: want finite losses, got 1 of 4"):
        divergence.check("face", 2, 1e-3, losses, raw, trace)
    raw[2:4, 1] = bad
    with pytest.raises(SettingsError, match="want finite predictions, got 2 of 5 validation rows without"):
        divergence.check("face", 2, 1e-3, torch.ones(4), raw, trace)
    layer = torch.nn.Linear(2, 2)
    divergence.check_weights("face", 0, 1e-3, layer)
    with torch.no_grad():
        layer.bias[0] = bad
    with pytest.raises(SettingsError, match="want finite weights, got 1 tensors with others, the first bias"):
        divergence.check_weights("face", 0, 1e-3, layer)


@pytest.mark.parametrize("partition", ["train", "validation"])
def test_a_stream_with_numbers_that_are_none_is_blamed_and_not_the_learning_rate_or_the_network(tmp_path, partition):
    """One of before: a worker's rows are checked as they are written."""
    plan = behaviour(tmp_path)
    item = next(item for item in plan.items("behaviour") if item.row.partition == partition)
    with h5py.File(plan.stream("qwen3vl", item), "r+") as file:
        file["values"][1, 2] = np.nan
    with pytest.raises(StoreError) as caught:
        fit(plan, "behaviour", entries(plan))
    want = "behaviour: want finite numbers in valid rows of qwen3vl, got nan or inf; run `affpipe cache verify`, then the workflow again"
    assert str(caught.value) == want
    assert [fault.split(": ")[2] for _, fault in cache.verify(plan.cache) if "deleted" in fault] == ["values"]


# ---- applied ---------------------------------------------------------------------------------------------------------------------------


def item_of(plan: Plan, id: str) -> Item:
    return next(item for item in plan.items("voice" if "voice" in plan.names else "behaviour") if item.id == id)


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("prediction", np.nan, "want finite predictions, got 1 of 3 rows without"),
        ("embedding", 1e6, "want finite embeddings within 65504, got 1 of 3 rows without"),
    ],
)
def test_a_model_that_gives_numbers_that_are_none_for_a_stream_fails_that_stream(tmp_path, monkeypatch, where, value, said):
    plan = behaviour(tmp_path)
    fit(plan, "behaviour", entries(plan))
    real = predictor.run

    def spoiled(*what: object) -> Rows:
        rows = real(*what)
        getattr(rows, where)[1, 0, 0] = value
        return rows

    monkeypatch.setattr(workers, "run", spoiled)
    work, job = workers.stage(plan.context("behaviour")), plan.job("behaviour", item_of(plan, "d"))
    with pytest.raises(WeightsError, match=f"behaviour: d: {said}; fit the model again"):
        work(job)
    assert not job.path.exists()


@pytest.mark.parametrize(("vad", "who"), [("none", "the mouth says"), ("silero", "the mouth and the voice say")])
def test_where_the_mouth_filter_kept_no_window_the_reason_says_so_and_not_the_encoder(tmp_path, vad, who):
    voice = {**MODELS["voice"], "training": {"epochs": 1}}
    plan = make_plan(tmp_path, models={"voice": voice}, publish="voice", vad={"model": vad})
    fit(plan, "voice", entries(plan))
    item = item_of(plan, "c")
    speech = plan.job("speech", item)
    with speech.open("speech") as found:
        columns = ("open_s", "coverage", "retained", *(("voice",) if vad == "silero" else ()))  # as the stage writes them
        values = np.zeros((len(found), len(columns)), np.float32)
        rows = {"values": values, "start_s": found.start_s, "end_s": found.end_s, "valid": found.valid}
        header = speech.header(found.fps, columns=columns)
    speech.write(header, **rows)
    with pytest.raises(AbsentError) as caught:
        workers.stage(plan.context("voice"))(plan.job("voice", item))
    count = len(rows["valid"])
    assert str(caught.value) == (
        f"c: want windows in which {who} speech, got none of {count} retained; lower speech.min_open_ratio, or set speech_only: never"
    )
