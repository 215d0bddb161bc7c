"""A fit that was stopped anywhere, and whose cache was moved meanwhile, ends where an undisturbed one does, to the last bit."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from learnable import MODELS, entries, make_plan

from affpipe.jobs.fitting import fit
from affpipe.models import epochs
from affpipe.models import fit as fitting
from affpipe.models.epochs import BEST, LAST
from affpipe.models.fit import Fit, Training
from affpipe.models.predictor import model_path
from affpipe.plan.plan import Plan

NAME, EPOCHS = "behaviour", 6
TRAINING = {"epochs": EPOCHS, "learning_rate": 1e-2, "plateau_patience": 0, "ema_decay": 0.8, "batch_size": 2}
OWN = MODELS[NAME] | {"dropout": 0.3, "training": TRAINING}


class Stopped(BaseException):
    """As a kill: nothing in between catches it."""


def plan_in(folder: Path, cache: str = "cache", **training_: Any) -> Plan:
    folder.mkdir(exist_ok=True)
    own = OWN | {"training": OWN["training"] | training_}
    return make_plan(folder, models=MODELS | {NAME: own}, cache=str(folder / cache))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[dict[str, Any], bytes, int]:
    """Record and file of the undisturbed fit, and how many steps it takes."""
    plan, steps = plan_in(tmp_path_factory.mktemp("whole")), []
    with pytest.MonkeyPatch.context() as patch:
        step = Fit.training_step
        patch.setattr(Fit, "training_step", lambda self, batch, i: steps.append(i) or step(self, batch, i))
        record = fit(plan, NAME, entries(plan))
    return record, model_path(plan.folder(NAME)).read_bytes(), len(steps)


def stop_at(patch: pytest.MonkeyPatch, owner: Any, name: str, call: int, *, after: bool = False) -> None:
    """Stop in the call of this number, counted from 1, before or after it did its work."""
    calls, own = [0], getattr(owner, name)

    def counted(*args: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == call and not after:
            raise Stopped
        out = own(*args, **more)
        if calls[0] == call:
            raise Stopped
        return out

    patch.setattr(owner, name, counted)


def stopped(plan: Plan, owner: Any, name: str, call: int, **how: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, owner, name, call, **how)
        with pytest.raises(Stopped):
            fit(plan, NAME, entries(plan))


POINTS = {  # where -> (owner, name, call, after)
    "in the first step": (Fit, "training_step", 1, False),
    "while scores are made": (Fit, "validation_step", 3, False),
    "before the first file of an epoch": (epochs.Keep, "on_train_epoch_end", 3, False),
    "between the best file and the last": (epochs.shutil, "copyfile", 2, False),
    "behind an epoch": (epochs.Keep, "on_train_epoch_end", 4, True),
    "behind the last epoch": (epochs.Keep, "on_train_epoch_end", EPOCHS, True),
    "when all is done but the model's file": (fitting, "save", 1, False),
    "when the model has its file": (fitting, "save", 1, True),
}


@pytest.mark.parametrize("where", POINTS)
def test_a_fit_stopped_there_and_moved_ends_where_the_other_does(tmp_path, whole, where):
    owner, name, call, after = POINTS[where]
    stopped(plan_in(tmp_path), owner, name, call, after=after)
    (tmp_path / "cache").rename(tmp_path / "moved")
    plan = plan_in_place(tmp_path, "moved")
    record = fit(plan, NAME, entries(plan))
    assert json.dumps(record, sort_keys=True) == json.dumps(whole[0], sort_keys=True)
    assert model_path(plan.folder(NAME)).read_bytes() == whole[1]
    assert not (plan.folder(NAME) / "checkpoints").exists()


def plan_in_place(folder: Path, cache: str) -> Plan:
    """The plan of a workspace whose cache has another name now; its streams are there already."""
    streams = folder / "scratch"
    plan = make_plan(_fresh(streams), models=MODELS | {NAME: OWN}, cache=str(streams / "cache"))
    settings = plan.settings.model_copy(update={"cache": str(folder / cache)})
    return Plan(settings, plan.rows)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def test_a_fit_stopped_many_times_at_random_ends_where_the_other_does(tmp_path, whole):
    draw, plan, times = random.Random(1), plan_in(tmp_path), 0
    while times < 8:
        try:
            stopped(plan, Fit, "training_step", draw.randint(1, 2 + whole[2] // EPOCHS))
            times += 1
        except pytest.fail.Exception:  # it came to its end
            break
    record = fit(plan, NAME, entries(plan))
    assert record["curves"] == whole[0]["curves"]
    assert times > 3


def test_a_fit_whose_patience_was_over_is_not_fitted_on(tmp_path):
    plan = plan_in(tmp_path, stop_patience=1, learning_rate=1e-9, plateau_patience=5, ema_decay=None)
    stopped(plan, fitting, "save", 1)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, Fit, "training_step", 1)  # not one more step
        record = fit(plan, NAME, entries(plan))
    assert len(record["curves"]) < EPOCHS
    assert len(record["curves"]) - 1 - epochs.best(record["curves"]) == 1


DAMAGE = {
    "no best": lambda folder: (folder / BEST).unlink(),
    "an empty best": lambda folder: (folder / BEST).write_bytes(b""),
    "half of the best": lambda folder: (folder / BEST).write_bytes((folder / BEST).read_bytes()[:2000]),
    "half of the last": lambda folder: (folder / LAST).write_bytes((folder / LAST).read_bytes()[:2000]),
    "no last": lambda folder: (folder / LAST).unlink(),
    "a state without curves": lambda folder: torch.save({"state_dict": {}}, folder / LAST),
    "curves that are none": lambda folder: torch.save({"curves": "[[[["}, folder / LAST),
    "another's best": lambda folder: torch.save({"curves": json.dumps([{epochs.MONITOR: 0.5}] * 9)}, folder / BEST),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_said_and_the_model_fitted_from_the_start(tmp_path, whole, damage, caplog):
    plan = plan_in(tmp_path)
    stopped(plan, epochs.Keep, "on_train_epoch_end", 4, after=True)
    DAMAGE[damage](plan.folder(NAME) / "checkpoints")
    record = fit(plan, NAME, entries(plan))
    assert record == whole[0]
    assert ("fitted from the start" in caplog.text) == (damage != "no last")  # without a last one nothing was ever begun


def test_a_planted_state_leads_nowhere(tmp_path, whole):
    """What Lightning's own callback would restore and remove: paths, outside too, under every name that it may have."""
    plan, outside = plan_in(tmp_path), tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("here")
    stopped(plan, epochs.Keep, "on_train_epoch_end", 3, after=True)
    path = plan.folder(NAME) / "checkpoints" / LAST
    state = torch.load(path, weights_only=True)
    paths = ("last_model_path", "best_model_path", "kth_best_model_path", "dirpath")
    planted = dict.fromkeys(paths, str(outside)) | {"best_k_models": {str(outside): torch.tensor(9.0)}, "monitor": epochs.MONITOR}
    assert state["callbacks"]  # others have a state
    named = ("ModelCheckpoint", "Keep", "ModelCheckpoint{'monitor': 'validation_score', 'mode': 'max'}")
    state["callbacks"] |= dict.fromkeys(named, planted)
    torch.save(state, path)
    fit(plan, NAME, entries(plan))
    assert (outside / "precious.txt").read_text() == "here"


def test_which_epoch_is_the_best_and_when_a_fit_is_over():
    def curves(*scores: float) -> list[dict[str, float]]:
        return [{epochs.MONITOR: score} for score in scores]

    assert epochs.best([]) == -1
    assert epochs.best(curves(0.1, 0.4, 0.4, 0.3)) == 1
    s = Training(epochs=6, stop_patience=2)
    assert not epochs.done([], s)
    assert not epochs.done(curves(0.1, 0.4, 0.4), s)
    assert epochs.done(curves(0.1, 0.4, 0.4, 0.3), s)
    assert epochs.done(curves(1, 2, 3, 4, 5, 6), s)
