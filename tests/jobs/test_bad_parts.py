"""Networks and terms whose code is at fault: the fit and the job that applies them stop, and the line names model and kind or term."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learnable import MODELS as SETTINGS
from learnable import entries, make_plan
from torch import Tensor, nn

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import PartError
from affpipe.jobs import apply as jobs
from affpipe.jobs.fitting import fit
from affpipe.models import predictor
from affpipe.models.fusions.interface import Fused
from affpipe.models.inputs import Sequence
from affpipe.models.predictor import Predictor
from affpipe.models.table import MODELS
from affpipe.models.terms.table import TERMS
from affpipe.models.workers import stage
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.system.job_record import JobRecord

FEATURES = {name: {"encoder": name} for name in ("mesh", "qwen3vl", "wavlm")}


class Network(nn.Module):
    """A head that answers right, unless `bad` changes its answer."""

    bad: Callable[[Tensor, Tensor], Any] | None = None

    def __init__(self, *, outputs: int, **_: Any):
        super().__init__()
        self.out, self.hidden = nn.Linear(6, outputs), nn.Linear(6, 16)

    def forward(self, x: Tensor, present: Tensor) -> Any:
        prediction, embedding = self.out(x), self.hidden(x)
        return (prediction, embedding) if Network.bad is None else Network.bad(prediction, embedding)


class Term(nn.Module):
    """A loss term that answers right, unless `bad` changes it."""

    bad: Callable[[Tensor], Any] | None = None

    def __init__(self, **_: Any):
        super().__init__()

    def forward(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Any:
        value = prediction[valid].square()
        return value.mean() if Term.bad is None else Term.bad(value)


def broken(*_: Tensor) -> None:
    raise RuntimeError("broken network")


NETWORKS = {
    "raises": (broken, r"want an answer, got RuntimeError: broken network \(.*test_bad_parts.*:\d+\)"),
    "one tensor": (lambda p, e: p, r"want a pair of prediction and embedding, got \(\d+, 3, 12\)"),
    "too wide": (lambda p, e: (torch.cat([p, p], -1), e), r"want prediction \(B, T, O\) of floating point, \(.*, 12\), got \(.*, 24\)"),
    "a row short": (lambda p, e: (p[:, 1:], e), r"want prediction \(B, T, O\) of floating point, \(.*, 3, 12\), got \(.*, 2, 12\)"),
    "narrow embedding": (lambda p, e: (p, e[..., :3]), r"want embedding \(B, T, H\) of floating point, \(.*, 16\), got \(.*, 3\)"),
    "nan": (lambda p, e: (p * torch.nan, e), "want a finite prediction of the first batch, got nan or inf"),
    "nan embedding": (lambda p, e: (p, e / 0 * 0), "want a finite embedding of the first batch, got nan or inf"),
}
LOSSES = {
    "raises": (broken, r"want an answer, got RuntimeError: broken network \(.*test_bad_parts.*:\d+\)"),
    "a vector": (lambda value: value, r"want a scalar loss, got \(\d+, 12\)"),
    "nan": (lambda value: value.mean() * torch.nan, "want a finite loss of the first batch, got nan or inf"),
}


@pytest.fixture
def plan(tmp_path, monkeypatch) -> Plan:
    monkeypatch.setitem(MODELS, "mamba", replace(MODELS["mamba"], network=f"{__name__}:Network", arguments=lambda s, dims: {}))
    monkeypatch.setitem(TERMS, "asymmetric", replace(TERMS["asymmetric"], network=f"{__name__}:Term"))
    monkeypatch.setattr(Network, "bad", None)
    monkeypatch.setattr(Term, "bad", None)
    training = {"epochs": 2, "learning_rate": 1e-3, "terms": [{"term": "asymmetric"}]}
    models = {"behaviour": SETTINGS["behaviour"] | {"training": training}}
    return make_plan(tmp_path, models=models, publish="behaviour", tasks=("au",), on_error="skip")


def kept(plan: Plan) -> list[Path]:
    return [path for path in plan.folder("behaviour").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("code", "who", "bad", "said"),
    [
        *(pytest.param(Network, "kind mamba", *case, id=name) for name, case in NETWORKS.items()),
        *(pytest.param(Term, "term asymmetric", *case, id=name) for name, case in LOSSES.items()),
    ],
)
def test_a_network_or_a_term_at_fault_stops_its_fit(plan, monkeypatch, code, who, bad, said):
    monkeypatch.setattr(code, "bad", staticmethod(bad))
    with pytest.raises(PartError, match=rf"^models\.behaviour \({who}\): {said}; mend the code of that {who.split()[0]}$"):
        fit(plan, "behaviour", entries(plan))
    assert kept(plan) == []


def test_a_network_and_a_term_that_cannot_be_built_are_named(plan, monkeypatch):
    monkeypatch.setitem(TERMS, "asymmetric", replace(TERMS["asymmetric"], network=f"{__name__}:Lost"))
    with pytest.raises(PartError, match=r"^models\.behaviour \(term asymmetric\): want an answer, got AttributeError: .* 'Lost' "):
        fit(plan, "behaviour", entries(plan))
    monkeypatch.setitem(MODELS, "mamba", replace(MODELS["mamba"], network="no_such_module:Network"))
    with pytest.raises(PartError, match=r"^models\.behaviour \(kind mamba\): want an answer, got ModuleNotFoundError: .*no_such_module"):
        fit(plan, "behaviour", entries(plan))


def test_a_network_at_fault_stops_the_job_that_applies_it_and_marks_no_stream(plan, monkeypatch):
    fit(plan, "behaviour", entries(plan))
    monkeypatch.setattr(Network, "bad", staticmethod(broken))
    record = JobRecord("apply_behaviour")
    items = plan.items("behaviour")[:2]
    with pytest.raises(PartError, match=r"^models\.behaviour \(kind mamba\): want an answer, got RuntimeError: broken network \("):
        jobs.apply(plan, "behaviour", items, entries(plan), stage, lambda *_: None, record)
    assert (record.failed, record.faults) == (0, {})
    monkeypatch.setattr(Network, "bad", None)
    made = jobs.apply(plan, "behaviour", items, entries(plan), stage, lambda *_: None)
    assert {entry.status for entry in made.values()} == {"done"}


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (1.0, "want gate weights that sum to 1 where they weigh anything, else 0, got 1, 1, 1"),
        (-1.0, "want gate weights that sum to 1 where they weigh anything, else 0, got -1, -1, -1"),
        (None, "want Fused(prediction, embedding, gate), got a tuple of 2"),
    ],
)
def test_a_fusion_at_fault_is_named_as_it_predicts(gate, said):
    settings = parse({"features": FEATURES, "models": SETTINGS, "publish": "fused"}).models["fused"]
    model = Predictor(settings, {"face": 16, "behaviour": 16, "voice": 16}, outputs=2, name="fused").eval()
    axis = FrameAxis(np.arange(7) / 25, 25)
    inputs = {name: np.ones((7, 16), np.float32) for name in settings.members}
    times = axis.times_s[:, None], axis.ends_s[:, None]
    sequence = Sequence("a", axis, inputs, np.ones((7, 3), bool), np.zeros(7, np.uint8), *times)

    def answer(streams: dict[str, Tensor], present: Tensor) -> Any:
        rows = present.shape[:2]
        found = torch.ones(*rows, 2), torch.ones(*rows, 16)
        return found if gate is None else Fused(*found, torch.full((*rows, 3), gate))

    model.model = nn.Identity()
    model.model.forward = answer
    model.model.gate_names = ("x", "y", "z")
    with pytest.raises(PartError) as caught:
        predictor.run(model, sequence, torch.device("cpu"))
    assert str(caught.value) == f"models.fused (kind dcmmoe): {said}; mend the code of that kind"
