"""What the code of a network or a term may give, and what is said where it gives something else."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from affpipe.core.errors import InputError, PartError, WeightsError
from affpipe.core.tasks.table import VA
from affpipe.models.checks import given
from affpipe.models.checks.divergence import Trace
from affpipe.models.fusions.interface import Fused
from affpipe.models.terms.losses import ConcordanceLoss, MultiTaskLoss

WHO = "models.light (kind mine)"
P, E, G = torch.ones(2, 5, 3), torch.ones(2, 5, 8), torch.ones(2, 5, 2) / 2  # B 2, T 5, O 3, H 8, G 2
HEADS = {
    "one tensor": (P, "want a pair of prediction and embedding, got (2, 5, 3)"),
    "three": ((P, E, G), "want a pair of prediction and embedding, got a tuple of 3"),
    "too wide": ((torch.ones(2, 5, 4), E), "want prediction (B, T, O) of floating point, (2, 5, 3), got (2, 5, 4)"),
    "a row short": ((P[:, :4], E), "want prediction (B, T, O) of floating point, (2, 5, 3), got (2, 4, 3)"),
    "narrow embedding": ((P, E[..., :3]), "want embedding (B, T, H) of floating point, (2, 5, 8), got (2, 5, 3)"),
    "integers": ((P.long(), E), "want prediction (B, T, O) of floating point, (2, 5, 3), got (2, 5, 3) of torch.int64"),
    "no tensor": ((P, None), "want embedding (B, T, H) of floating point, (2, 5, 8), got a NoneType"),
}
FUSIONS = {
    "a tuple": ((P, E), ("x",), "want Fused(prediction, embedding, gate), got a tuple of 2"),
    "a gate without names": (Fused(P, E, G), (), "want `gate_names` of a network with a gate, got none"),
    "other names": (Fused(P, E, G), ("x",), "want gate (B, T, G) of floating point, (2, 5, 1), got (2, 5, 2)"),
    "a row short": (Fused(P, E[:, :4]), (), "want embedding (B, T, H) of floating point, (2, 5, 8), got (2, 4, 8)"),
}


def said(caught: pytest.ExceptionInfo, what: str, part: str = "kind") -> bool:
    return str(caught.value) == f"{WHO}: {what}; mend the code of that {part}"


@pytest.mark.parametrize("case", HEADS)
def test_a_head_gives_a_prediction_and_an_embedding(case):
    found, what = HEADS[case]
    with pytest.raises(PartError) as caught:
        given.answer(WHO, found, (2, 5), (3, 8), fused=False, gates=())
    assert said(caught, what)


@pytest.mark.parametrize("case", FUSIONS)
def test_a_fusion_gives_its_answer_by_name(case):
    found, gates, what = FUSIONS[case]
    with pytest.raises(PartError) as caught:
        given.answer(WHO, found, (2, 5), (3, 8), fused=True, gates=gates)
    assert said(caught, what)


def test_what_is_right_is_handed_on():
    assert given.answer(WHO, [P, E], (2, 5), (3, 8), fused=False, gates=()) == [P, E, None]
    assert given.answer(WHO, Fused(P, E), (2, 5), (3, 8), fused=True, gates=()) == [P, E, None]
    assert given.answer(WHO, Fused(P, E, G), (2, 5), (3, 8), fused=True, gates=("a", "b")) == [P, E, G]


def test_a_gate_sums_to_one_or_weighs_nothing():
    fine = np.array([[[0.25, 0.75], [0, 0], [np.nan, 1], [1.0004, 0]]])
    given.weights(WHO, fine)
    for row, shown in (([1, 1], "1, 1"), ([0.5, 0.4], "0.5, 0.4"), ([-0.5, 1.5], "-0.5, 1.5")):
        bad = fine.copy()
        bad[0, 1] = row
        with pytest.raises(PartError) as caught:
            given.weights(WHO, bad)
        assert said(caught, f"want gate weights that sum to 1 where they weigh anything, else 0, got {shown}")


def test_an_exception_of_the_code_is_named_and_others_are_let_be():
    with (
        pytest.raises(
            PartError, match=r"^models\.light \(kind mine\): want an answer, got KeyError: 'x' \(.*test_given.*:\d+\); mend "
        ) as caught,
        given.by(WHO),
    ):
        raise KeyError("x")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(InputError, match=r"^models\.light \(kind mine\): Mine: want x, got y$"), given.by(WHO):
        raise InputError("Mine: want x, got y")
    for other in (WeightsError("x"), MemoryError(), RuntimeError("CUDA error: x"), PartError("x"), KeyboardInterrupt()):
        with pytest.raises(type(other)) as caught, given.by(WHO):
            raise other
        assert caught.value is other


class Mine(nn.Module):
    def __init__(self, gives: object):
        super().__init__()
        self.gives = gives

    def forward(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


@pytest.mark.parametrize(
    ("gives", "what"),
    [
        (torch.ones(4), "want a scalar loss, got (4,)"),
        (torch.ones((), dtype=torch.int64), "want a scalar loss, got () of torch.int64"),
        (1.0, "want a scalar loss, got a float"),
        (None, "want a scalar loss, got a NoneType"),
    ],
)
def test_a_term_gives_one_number(gives, what):
    loss = MultiTaskLoss({"va": VA}, {"va": ConcordanceLoss()}, {"va": 1}, [(Mine(gives), "models.light (term mine)", "va", 0.5)])
    with pytest.raises(PartError) as caught:
        loss(torch.rand(2, 5, 2), torch.rand(2, 5, 2), torch.ones(2, 5, 1, dtype=torch.bool))
    assert str(caught.value) == f"models.light (term mine): {what}; mend the code of that term"


def test_a_term_that_breaks_is_named():
    loss = MultiTaskLoss(
        {"va": VA}, {"va": ConcordanceLoss()}, {"va": 1}, [(Mine(RuntimeError("term broken")), "models.light (term mine)", "va", 0.5)]
    )
    with pytest.raises(PartError, match=r"^models\.light \(term mine\): want an answer, got RuntimeError: term broken \("):
        loss(torch.rand(2, 5, 2), torch.rand(2, 5, 2), torch.ones(2, 5, 1, dtype=torch.bool))


def test_the_losses_of_a_batch_are_kept_by_name():
    loss = MultiTaskLoss(
        {"va": VA}, {"va": ConcordanceLoss()}, {"va": 2}, [(Mine(torch.tensor(3.0)), "models.light (term mine)", "va", 0.5)]
    )
    total = loss(torch.rand(2, 5, 2), torch.rand(2, 5, 2), torch.ones(2, 5, 1, dtype=torch.bool))
    assert list(loss.given) == ["the loss of va", "models.light (term mine)"]
    assert total.item() == pytest.approx(2 * loss.given["the loss of va"].item() + 1.5)


def test_the_first_number_that_is_none_is_found_by_batch_and_then_by_name():
    trace, bad = Trace(), torch.tensor([1.0, torch.nan])
    assert trace.first() == ""
    trace.add({"the prediction": P, "the gate": None, "the loss": torch.ones(())})
    assert trace.first() == ""
    trace.add({"the prediction": P, "the gate": None, "the loss": bad})
    trace.add({"the prediction": bad, "the gate": None, "the loss": bad})
    assert trace.first() == ", the loss first, in batch 2"


def test_the_first_batch_is_finite():
    given.finite(WHO, {"prediction": P, "gate": None})
    with pytest.raises(PartError) as caught:
        given.finite(WHO, {"prediction": P, "embedding": E * torch.inf})
    assert said(caught, "want a finite embedding of the first batch, got nan or inf")
