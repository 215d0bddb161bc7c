"""Terms of a training loss: their formula, what an entry without a label adds, and where they come from settings."""

import math

import numpy as np
import pytest
import torch

from affpipe.core.errors import InputError
from affpipe.core.tasks.table import AU, VA
from affpipe.models.terms.asymmetric.network import AsymmetricLoss
from affpipe.models.terms.asymmetric.spec import Asymmetric
from affpipe.models.terms.build import training_loss
from affpipe.models.terms.table import PARTS, Term
from affpipe.models.training_settings import Loss, Training

SIZES = {"gamma_present": 1.0, "gamma_absent": 4.0, "margin": 0.05}


def cost(p: float, present: bool) -> float:
    """The paper's formula, for one probability."""
    if present:
        return -(1 - p) * math.log(p)
    shifted = max(p - 0.05, 0)
    return -(shifted**4) * math.log(1 - shifted)


def test_the_asymmetric_loss_is_that_of_the_paper():
    p = np.array([[0.9, 0.2, 0.04, 0.5] * 3, [0.1, 0.6, 0.99, 0.03] * 3])
    target = np.array([[1, 0, 0, 1] * 3, [0, 1, 0, 1] * 3])
    logits = torch.from_numpy(np.log(p / (1 - p))).float()
    want = np.mean([cost(a, bool(b)) for a, b in zip(p.ravel(), target.ravel(), strict=True)])
    got = AsymmetricLoss(**SIZES)(logits, torch.from_numpy(target), torch.ones(2, dtype=torch.bool))
    assert got.item() == pytest.approx(want, rel=1e-5)
    even = AsymmetricLoss(gamma_present=0, gamma_absent=0, margin=0)(logits, torch.from_numpy(target), torch.ones(2, dtype=torch.bool))
    want = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(target).float())
    assert even.item() == pytest.approx(want.item())
    with pytest.raises(InputError, match=r"want gammas >= 0 and a margin in \[0, 1\), got -1, 0, 0"):
        AsymmetricLoss(gamma_present=-1, gamma_absent=0, margin=0)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_an_entry_without_a_label_changes_nothing_and_none_at_all_gives_zero(part):
    term = part.build(part.settings())
    torch.manual_seed(1)
    logits, target = torch.randn(2, 5, 12, requires_grad=True), torch.randint(0, 2, (2, 5, 12)).float()
    known = torch.rand(2, 5) > 0.4
    loss = term(logits, target, known)
    loss.backward()
    assert not logits.grad[~known].any()
    assert logits.grad[known].any()
    other = torch.where(known[..., None], target, 1 - target)
    assert term(logits, other, known).item() == loss.item()
    assert term(logits, target, torch.zeros_like(known)).item() == 0


def test_a_term_adds_its_weight_to_the_loss_of_its_task_and_to_no_other():
    rng = np.random.default_rng(0)
    prediction = torch.from_numpy(rng.normal(size=(4, 3, 14))).float()  # va, au
    target, known = rng.integers(0, 2, (4, 3, 14)).astype(np.float32), np.ones((4, 3, 2), bool)
    known[0, 0, 1] = False
    given = prediction, torch.from_numpy(target), torch.from_numpy(known)
    plain = training_loss({"va": VA, "au": AU}, Loss(), target, known)(*given)
    more = training_loss({"va": VA, "au": AU}, Loss(), target, known, [Asymmetric(weight=0.5)])(*given)
    own = AsymmetricLoss(**SIZES)(prediction[..., 2:], given[1][..., 2:], given[2][..., 1])
    assert more.item() == pytest.approx(plain.item() + 0.5 * own.item(), rel=1e-6)


def test_terms_move_a_key_only_where_there_are_some():
    assert "terms" not in Training().spec()
    assert Training(terms=[{"term": "asymmetric"}]).spec()["terms"] == [Asymmetric().spec()]
    assert Term is not None
