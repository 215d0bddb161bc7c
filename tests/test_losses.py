"""The loss agrees with the metric, ignores invalid entries and has finite gradients everywhere."""

import numpy as np
import pytest
import torch

from affpipe.errors import InputError
from affpipe.losses import VALoss, ccc_loss
from affpipe.metrics import va_scores


def batch(shape=(3, 20)):
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(*shape, 2, generator=generator) * 2 - 1
    prediction = (0.6 * target + 0.2 * torch.randn(*shape, 2, generator=generator)).requires_grad_()
    return prediction, target, torch.rand(*shape, generator=generator) > 0.3


def scores(prediction, target, valid):
    return va_scores(target[valid].numpy(), prediction[valid].detach().numpy(), np.ones(int(valid.sum()), bool))


@pytest.mark.parametrize("shape", [(60,), (3, 20)])
def test_ccc_loss_is_one_minus_the_metric(shape):
    prediction, target, valid = batch(shape)
    assert ccc_loss(prediction, target, valid).item() == pytest.approx(1 - scores(prediction, target, valid)["ccc"], abs=1e-6)


def test_weights_pick_the_dimension():
    prediction, target, valid = batch()
    want = scores(prediction, target, valid)
    assert ccc_loss(prediction, target, valid, weights=(1, 0)).item() == pytest.approx(1 - want["ccc_valence"], abs=1e-6)
    assert ccc_loss(prediction, target, valid, weights=(0, 1)).item() == pytest.approx(1 - want["ccc_arousal"], abs=1e-6)


def test_all_terms_add_up():
    prediction, target, valid = batch()
    loss = VALoss(valence_weight=0.7, arousal_weight=0.3, mae_weight=0.2, mse_weight=0.1)(prediction, target, valid)
    want, error = scores(prediction, target, valid), (prediction - target)[valid].detach().numpy()
    total = 1 - 0.7 * want["ccc_valence"] - 0.3 * want["ccc_arousal"] + 0.2 * np.abs(error).mean() + 0.1 * (error**2).mean()
    assert loss.item() == pytest.approx(total, abs=1e-6)
    assert VALoss()(prediction, target, valid) == ccc_loss(prediction, target, valid)


def test_one_ccc_a_window_is_the_mean_over_windows_that_have_labels():
    prediction, target, valid = batch((4, 20))
    valid[2], valid[3] = False, torch.arange(20) == 5  # nothing, and a single label, which is not enough
    loss = VALoss(valence_weight=0.7, arousal_weight=0.3, mse_weight=0.1, over="window")(prediction, target, valid)
    each = [scores(prediction[i : i + 1], target[i : i + 1], valid[i : i + 1]) for i in (0, 1)]
    want = np.mean([1 - 0.7 * s["ccc_valence"] - 0.3 * s["ccc_arousal"] for s in each])
    error = (prediction - target)[valid].detach().numpy()
    assert loss.item() == pytest.approx(want + 0.1 * (error**2).mean(), abs=1e-6)
    pair = torch.zeros(1, 20, dtype=torch.bool)
    pair[0, :2] = True  # two labels are enough
    two = VALoss(over="window")(prediction[:1], target[:1], pair)
    assert two.item() == pytest.approx(1 - scores(prediction[:1], target[:1], pair)["ccc"], abs=1e-5)


def test_perfect_prediction_has_no_loss():
    _, target, valid = batch()
    assert VALoss(valence_weight=2, arousal_weight=1, mae_weight=1, mse_weight=1)(target, target, valid).item() == pytest.approx(
        0, abs=1e-6
    )


def test_gradient_matches_finite_differences():
    prediction, target, valid = batch((12,))
    loss = VALoss(valence_weight=0.7, arousal_weight=0.3, mae_weight=0.2, mse_weight=0.1)
    assert torch.autograd.gradcheck(lambda p: loss(p, target.double(), valid), prediction.detach().double().requires_grad_())


@pytest.mark.parametrize("junk", [-5.0, float("nan"), float("inf")])
def test_invalid_entries_never_count(junk):
    prediction, target, valid = batch()
    loss = VALoss(mae_weight=1, mse_weight=1)
    want = loss(prediction, target, valid)
    (gradient,) = torch.autograd.grad(want, prediction)
    other = prediction.detach().masked_fill(~valid.unsqueeze(-1), junk).requires_grad_()
    got = loss(other, target.masked_fill(~valid.unsqueeze(-1), junk), valid)
    assert torch.equal(got, want)
    got.backward()
    assert torch.equal(other.grad, gradient)
    assert (gradient[~valid] == 0).all()


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("loss", [ccc_loss, VALoss(mae_weight=1, mse_weight=1)])
def test_fewer_than_two_entries_give_a_zero_that_trains(loss, count):
    prediction, target, valid = batch()
    valid[:] = False
    valid[0, :count] = True
    value = loss(prediction, target, valid)
    value.backward()
    assert value.item() == 0
    assert (prediction.grad == 0).all()


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_constant_targets_have_finite_gradients(spread):
    """Also where the prediction is the same constant: nothing to divide by."""
    prediction = (0.3 + spread * torch.randn(40, 2, generator=torch.Generator().manual_seed(1))).requires_grad_()
    value = VALoss(mse_weight=1)(prediction, torch.full((40, 2), 0.3), torch.ones(40, dtype=torch.bool))
    value.backward()
    assert value.item() == pytest.approx(1 + (prediction - 0.3).square().mean().item(), abs=1e-5)
    assert torch.isfinite(prediction.grad).all()


def test_half_precision_is_summed_in_single():
    prediction, target, valid = batch()
    half = prediction.detach().bfloat16()
    loss = ccc_loss(half, target.bfloat16(), valid)
    assert loss.dtype == torch.float32
    assert loss == ccc_loss(half.float(), target.bfloat16().float(), valid)


def test_shapes_are_checked():
    prediction, target, valid = batch()
    with pytest.raises(InputError, match=r"got \(3, 20, 2\), \(3, 19, 2\)"):
        ccc_loss(prediction, target[:, 1:], valid)
    with pytest.raises(InputError, match="float32"):
        VALoss()(prediction, target, valid.float())
