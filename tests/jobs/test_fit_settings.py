"""How a fit may be set: gradients left alone, precision, plateaus, what chooses the epoch, a seed of the model's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learnable import FPS, FRAMES, MODELS, entries, make_plan, truth
from test_training import rates

from affpipe.core.errors import SettingsError
from affpipe.core.tasks.metrics import scores
from affpipe.core.tasks.table import VA
from affpipe.jobs.fitting import examples, fit
from affpipe.models import inputs, predictor
from affpipe.models.fit import Callback, Fit, Windows, _train, precision
from affpipe.models.predictor import Predictor, model_path
from affpipe.models.terms.build import training_loss
from affpipe.models.terms.losses import ConcordanceLoss, MultiTaskLoss
from affpipe.models.training_settings import Training
from affpipe.models.windows import Packed
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan

CPU = torch.device("cpu")


def plan_with(folder: Path, name: str, model: dict[str, Any] | None = None, **settings: Any) -> Plan:
    """The learnable plan with other settings of one model, and of its training."""
    folder.mkdir(exist_ok=True)
    own = MODELS[name] | (model or {})
    return make_plan(folder, models=MODELS | {name: own | {"training": own["training"] | settings}})


# ---- gradients --------------------------------------------------------------------------------------------------------------------------


class Watch(Callback):
    """Keeps the gradients that each step is made with."""

    def __init__(self):
        self.norms: list[float] = []
        self.first: list[torch.Tensor] = []
        self.weights: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Any, module: Fit, *_: Any) -> None:
        self.weights = self.weights or [p.detach().clone() for p in module.predictor.parameters()]

    def on_train_batch_end(self, trainer: Any, module: Fit, *_: Any) -> None:
        found = [p.grad for p in module.predictor.parameters() if p.grad is not None]
        if found:
            self.first = self.first or [g.clone() for g in found]
            self.norms.append(float(torch.cat([g.ravel() for g in found]).norm()))


def watched(plan: Plan, name: str, scale: float = 1.0) -> tuple[Watch, Fit, Packed]:
    """One epoch of a fit whose loss is scaled, watched."""
    settings = plan.settings.models[name]
    train = examples(plan, name, entries(plan), "train")
    packed = Packed([s.sequence for s in train], [(s.target, s.known) for s in train], settings)
    torch.manual_seed(0)
    loss = training_loss({"va": VA}, settings.training.loss, packed.target, packed.known)
    model = Predictor(settings, inputs.widths([s.sequence for s in train]), outputs=2)
    module = Fit(model, settings, 0, {"va": VA}, Scaled(loss, scale), name)
    watch = Watch()
    validation = examples(plan, name, entries(plan), "validation")
    _train(module, Windows(packed, validation, len(packed), 0), plan.cache / "watched", CPU, watch)
    return watch, module, packed


class Scaled(torch.nn.Module):
    def __init__(self, loss: torch.nn.Module, scale: float):
        super().__init__()
        self.loss, self.scale, self.given, self.of_terms = loss, scale, loss.given, loss.of_terms

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return self.scale * self.loss(*parts)


def test_without_a_norm_gradients_are_those_of_the_loss(tmp_path):
    plan = plan_with(tmp_path, "face", clip_norm=None, epochs=1)
    assert plan.settings.models["face"].training.clip_norm is None
    watch, module, packed = watched(plan, "face", scale=50.0)
    with torch.no_grad():
        for p, first in zip(module.predictor.parameters(), watch.weights, strict=True):
            p.copy_(first)
    module.predictor.train()
    batch = packed[list(range(len(packed)))]
    output = module.predictor(batch["inputs"], batch["present"])
    plain = torch.autograd.grad(module.loss(output.prediction, batch["target"], batch["known"]), list(module.predictor.parameters()))
    for own, want in zip(watch.first, plain, strict=True):
        torch.testing.assert_close(own, want, rtol=1e-4, atol=1e-6)  # the order of the windows is another
    assert watch.norms[0] > 1


def test_null_switches_clipping_off_and_nothing_said_leaves_it_on():
    data = {"features": {"mesh": {"encoder": "mesh"}}, "publish": "face"}
    model = {"kind": "transformer", "reads": "mesh"}
    off = parse(data | {"models": {"face": model | {"training": {"clip_norm": None}}}})
    assert off.models["face"].training.clip_norm is None
    assert parse(off.model_dump(mode="json")) == off
    assert parse(data | {"models": {"face": model}}).models["face"].training.clip_norm == 1.0
    assert off.models["face"].spec()["training"]["clip_norm"] is None


# ---- terms ------------------------------------------------------------------------------------------------------------------------------


class Spy(torch.nn.Module):
    """A term that keeps the shapes that it is given."""

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        self.shapes = [tuple(part.shape[1:]) for part in parts]
        return parts[0].sum() * 0


@pytest.mark.parametrize(("name", "rows", "each"), [("face", 50, 1), ("behaviour", 3, 1), ("voice", 1, 4)])
def test_a_term_gets_windows_of_rows_with_the_predictions_of_each(tmp_path, name, rows, each):
    """As docs/extending.md says: (B, L, C, O); of a head of windows of sound a row is a window, and C its chunks."""
    plan, spy = plan_with(tmp_path, name), Spy()
    settings, train = plan.settings.models[name], examples(plan, name, entries(plan), "train")
    packed = Packed([s.sequence for s in train], [(s.target, s.known) for s in train], settings)
    batch = packed[list(range(len(packed)))]
    output = Predictor(settings, inputs.widths([s.sequence for s in train]), outputs=2)(batch["inputs"], batch["present"])
    loss = MultiTaskLoss({"va": VA}, {"va": ConcordanceLoss()}, {"va": 1.0}, [(spy, "spy", "va", 1.0)])
    assert torch.isfinite(loss(output.prediction, batch["target"], batch["known"]))
    assert spy.shapes == [(rows, each, 2), (rows, each, 2), (rows, each)]


# ---- rates ------------------------------------------------------------------------------------------------------------------------------


def test_a_gain_below_the_threshold_ends_no_plateau():
    rising = [0.5 * 1.0003**n for n in range(8)]  # each epoch three parts in ten thousand better than the one before
    assert rates(8, rising, plateau_factor=0.5, plateau_patience=2)[7] == [1.0, 0.1]  # by default one part is enough
    held = rates(8, rising, plateau_factor=0.5, plateau_patience=2, plateau_threshold=5e-4)
    # Better than the best by five parts is every second epoch, so that no three bad ones come together.
    assert held[7] == [1.0, 0.1]
    assert rates(8, rising, plateau_factor=0.5, plateau_patience=2, plateau_threshold=5e-3)[4] == [0.5, 0.05]


def test_a_plateau_lowers_no_rate_below_the_least():
    flat = [0.5] * 12
    found = rates(12, flat, plateau_factor=0.1, plateau_patience=0, plateau_least_rate=1e-2)
    assert found[-1] == [pytest.approx(1e-2), pytest.approx(1e-2)]
    head = rates(12, flat, plateau_factor=0.1, plateau_patience=0, plateau_least_rate=1e-2, plateau_groups="head")
    assert head[-1] == [pytest.approx(1e-2), 0.1]


# ---- precision --------------------------------------------------------------------------------------------------------------------------


def test_mixed_precision_is_float16_with_a_scaled_loss_on_cuda_and_bfloat16_on_a_cpu():
    assert precision(Training(), CPU) == precision(Training(), torch.device("cuda")) == "32-true"
    assert precision(Training(precision="mixed"), torch.device("cuda")) == "16-mixed"
    assert precision(Training(precision="mixed"), CPU) == "bf16-mixed"


def test_a_mixed_fit_computes_in_half_and_keeps_and_scores_in_single_precision(tmp_path):
    plan = plan_with(tmp_path, "face", precision="mixed", epochs=1)
    seen: list[tuple[bool, torch.dtype]] = []
    settings = plan.settings.models["face"]
    forward = Predictor.forward

    def watch(self: Predictor, *args: Any) -> predictor.Output:
        out = forward(self, *args)
        seen.append((self.training, out.prediction.dtype))
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "forward", watch)
        record = fit(plan, "face", entries(plan))
    assert {dtype for training_, dtype in seen if training_} == {torch.bfloat16}
    assert {dtype for training_, dtype in seen if not training_} == {torch.float32}
    model, _ = predictor.load(model_path(plan.folder("face")), plan.key("face"), settings, CPU)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    (item,) = [i for i in plan.items("face") if i.id == "c"]
    job = plan.job("face", item)
    found = predictor.run(model, inputs.read(job, settings), CPU).prediction[:, 0]
    figures = scores(VA, truth("c").round(4), found, np.ones(FRAMES, bool))
    assert record["best"]["validation_score"] == pytest.approx(figures["ccc"], abs=1e-5)


# ---- what chooses the epoch -------------------------------------------------------------------------------------------------------------


def on_frames(rows: np.ndarray, start_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
    """Rows on the frames by a plain loop: the mean of those that cover a frame."""
    times = np.arange(FRAMES) / float(FPS)
    return np.stack([rows[(start_s <= t) & (t < end_s)].mean(axis=0) for t in times])


def smoothed(values: np.ndarray, sizes: tuple[int, int]) -> np.ndarray:
    out = np.empty_like(values)
    for column, size in enumerate(sizes):
        padded = np.pad(values[:, column], size // 2, mode="edge")
        out[:, column] = [padded[i : i + size].mean() for i in range(len(values))]
    return out


@pytest.mark.parametrize("sizes", [(1, 1), (7, 13)])
def test_the_score_of_frames_is_that_of_all_frames_after_smoothing(tmp_path, sizes):
    smooth = {"filter": "mean", "valence_frames": sizes[0], "arousal_frames": sizes[1]}
    plan = plan_with(tmp_path, "behaviour", score="frames", score_smooth=smooth, epochs=2)
    record = fit(plan, "behaviour", entries(plan))
    settings = plan.settings.models["behaviour"]
    model, _ = predictor.load(model_path(plan.folder("behaviour")), plan.key("behaviour"), settings, CPU)
    (item,) = [i for i in plan.items("behaviour") if i.id == "c"]
    sequence = inputs.read(plan.job("behaviour", item), settings)
    raw = predictor.run(model, sequence, CPU).prediction[:, 0].astype(np.float64)
    frames_ = smoothed(on_frames(raw, sequence.start_s[:, 0], sequence.end_s[:, 0]), sizes)
    want = scores(VA, truth("c").round(4), frames_, np.ones(FRAMES, bool))["ccc"]
    assert record["best"]["validation_score"] == pytest.approx(want, abs=1e-5)
    assert record["scores"]["va"] == pytest.approx(want, abs=1e-5)
    assert record["best"]["validation_score"] == max(c["validation_score"] for c in record["curves"])


def test_rows_and_frames_are_one_where_every_row_is_a_frame(tmp_path):
    curves = {}
    for score in ("rows", "frames"):
        plan = plan_with(tmp_path / score, "face", score=score, epochs=2)
        curves[score] = [c["validation_score"] for c in fit(plan, "face", entries(plan))["curves"]]
    assert curves["rows"] == pytest.approx(curves["frames"], abs=1e-6)


def test_frames_without_a_window_of_sound_count_with_the_nearest_second(tmp_path):
    """By rows the second half of the stream, which the mouth did not retain, would not be asked."""
    plan = plan_with(tmp_path, "voice", score="frames", epochs=1)
    record = fit(plan, "voice", entries(plan))
    settings = plan.settings.models["voice"]
    model, _ = predictor.load(model_path(plan.folder("voice")), plan.key("voice"), settings, CPU)
    (item,) = [i for i in plan.items("voice") if i.id == "c"]
    sequence = inputs.read(plan.job("voice", item), settings)
    assert sequence.present[:, 0].tolist() == [True, True, False]
    raw = predictor.run(model, sequence.only(np.array([True, True, False])), CPU).prediction.astype(np.float64)
    start_s, end_s = sequence.start_s[:2].ravel(), sequence.end_s[:2].ravel()
    asked = np.arange(FRAMES) / float(FPS) < 6
    rows, out = raw.reshape(-1, 2), np.empty((FRAMES, 2))
    for t in range(FRAMES):
        at = min(t, int(asked.sum()) - 1) / float(FPS)
        out[t] = rows[(start_s <= at) & (at < end_s)].mean(axis=0)
    assert record["scores"]["va"] == pytest.approx(scores(VA, truth("c").round(4), out, np.ones(FRAMES, bool))["ccc"], abs=1e-5)


def test_a_filter_over_frames_wants_frames(tmp_path):
    with pytest.raises(SettingsError, match="score_smooth: it filters frames, got score: rows; set score: frames"):
        plan_with(tmp_path, "face", score_smooth={"filter": "mean", "valence_frames": 7})


# ---- seeds ------------------------------------------------------------------------------------------------------------------------------


def test_a_seed_of_its_own_is_the_seed_of_a_model_and_of_no_other(tmp_path):
    plain, own = plan_with(tmp_path / "a", "face"), plan_with(tmp_path / "b", "face", seed=0)
    run = make_plan(tmp_path / "b", seed=0)
    assert (plain.seed("face"), own.seed("face"), own.seed("voice")) == (42, 0, 42)
    assert plain.key("face") != own.key("face")
    assert plain.key("voice") == own.key("voice")
    assert run.spec("face")["seed"] == own.spec("face")["seed"] == 0
    curves = [fit(p, "face", entries(p))["curves"] for p in (own, run, plain)]
    assert curves[0] == curves[1] != curves[2]
