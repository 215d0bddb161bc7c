"""Losses agree with the metric, with torch and with plain loops, ignore invalid entries and have finite gradients everywhere."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from affpipe.core.errors import InputError
from affpipe.core.tasks import metrics
from affpipe.core.tasks.table import TASKS, VA
from affpipe.core.tasks.task import slices, width
from affpipe.models.terms.losses import (
    ClassLoss,
    ConcordanceLoss,
    MultiTaskLoss,
    UnitLoss,
    ccc_loss,
    effective_number_weights,
    positive_weights,
)


def batch(shape=(3, 20)):
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(*shape, 2, generator=generator) * 2 - 1
    prediction = (0.6 * target + 0.2 * torch.randn(*shape, 2, generator=generator)).requires_grad_()
    return prediction, target, torch.rand(*shape, generator=generator) > 0.3


def scores(prediction, target, valid):
    return metrics.scores(VA, target[valid].numpy(), prediction[valid].detach().numpy(), np.ones(int(valid.sum()), bool))


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
    loss = ConcordanceLoss((0.7, 0.3), mae_weight=0.2, mse_weight=0.1)(prediction, target, valid)
    want, error = scores(prediction, target, valid), (prediction - target)[valid].detach().numpy()
    total = 1 - 0.7 * want["ccc_valence"] - 0.3 * want["ccc_arousal"] + 0.2 * np.abs(error).mean() + 0.1 * (error**2).mean()
    assert loss.item() == pytest.approx(total, abs=1e-6)
    assert ConcordanceLoss()(prediction, target, valid) == ccc_loss(prediction, target, valid)


def test_one_ccc_a_window_is_the_mean_over_windows_that_have_labels():
    prediction, target, valid = batch((4, 20))
    valid[2], valid[3] = False, torch.arange(20) == 5  # nothing, and a single label, which is not enough
    loss = ConcordanceLoss((0.7, 0.3), mse_weight=0.1, over="window")(prediction, target, valid)
    each = [scores(prediction[i : i + 1], target[i : i + 1], valid[i : i + 1]) for i in (0, 1)]
    want = np.mean([1 - 0.7 * s["ccc_valence"] - 0.3 * s["ccc_arousal"] for s in each])
    error = (prediction - target)[valid].detach().numpy()
    assert loss.item() == pytest.approx(want + 0.1 * (error**2).mean(), abs=1e-6)
    pair = torch.zeros(1, 20, dtype=torch.bool)
    pair[0, :2] = True  # two labels are enough
    two = ConcordanceLoss(over="window")(prediction[:1], target[:1], pair)
    assert two.item() == pytest.approx(1 - scores(prediction[:1], target[:1], pair)["ccc"], abs=1e-5)


def test_perfect_prediction_has_no_loss():
    _, target, valid = batch()
    assert ConcordanceLoss((2, 1), mae_weight=1, mse_weight=1)(target, target, valid).item() == pytest.approx(0, abs=1e-6)


def test_gradient_matches_finite_differences():
    prediction, target, valid = batch((12,))
    loss = ConcordanceLoss((0.7, 0.3), mae_weight=0.2, mse_weight=0.1)
    assert torch.autograd.gradcheck(lambda p: loss(p, target.double(), valid), prediction.detach().double().requires_grad_())


@pytest.mark.parametrize("junk", [-5.0, float("nan"), float("inf")])
def test_invalid_entries_never_count(junk):
    prediction, target, valid = batch()
    loss = ConcordanceLoss(mae_weight=1, mse_weight=1)
    want = loss(prediction, target, valid)
    (gradient,) = torch.autograd.grad(want, prediction)
    other = prediction.detach().masked_fill(~valid.unsqueeze(-1), junk).requires_grad_()
    got = loss(other, target.masked_fill(~valid.unsqueeze(-1), junk), valid)
    assert torch.equal(got, want)
    got.backward()
    assert torch.equal(other.grad, gradient)
    assert (gradient[~valid] == 0).all()


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("loss", [ccc_loss, ConcordanceLoss(mae_weight=1, mse_weight=1)])
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
    value = ConcordanceLoss(mse_weight=1)(prediction, torch.full((40, 2), 0.3), torch.ones(40, dtype=torch.bool))
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
        ConcordanceLoss()(prediction, target, valid.float())


HALVES = (torch.float16, torch.bfloat16)
ALPHA = torch.tensor([0.2, 3.0, 1.0, 0.0, 0.5, 0.7, 2.0, 0.6])
BALANCE = torch.tensor([0.1, 10.0, 1.0, 2.0, 0.5, 3.0, 1.0, 4.0, 5.0, 6.0, 0.3, 0.9])
EXPR_LOSSES = {
    "cross entropy": ClassLoss(8, kind="cross_entropy"),
    "weighted, smoothed": ClassLoss(8, kind="cross_entropy", class_weights=ALPHA, label_smoothing=0.1),
    "focal": ClassLoss(8, kind="focal"),
    "weighted focal": ClassLoss(8, kind="focal", class_weights=ALPHA, gamma=0.5),
}
TASK_LOSSES = {
    "va": ConcordanceLoss(mae_weight=0.3, mse_weight=0.2),
    "expr": ClassLoss(8, kind="focal", class_weights=ALPHA),
    "au": UnitLoss(12, positive_weights=BALANCE),
}


def expressions(shape=(3, 20), seed=1):
    draw = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(*shape, 8, generator=draw)).requires_grad_()
    return logits, torch.randint(8, shape, generator=draw), torch.rand(*shape, generator=draw) > 0.3


def units(shape=(3, 20), seed=1):
    draw = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(*shape, 12, generator=draw)).requires_grad_()
    return logits, (torch.rand(*shape, 12, generator=draw) * 5).round() / 5, torch.rand(*shape, generator=draw) > 0.3


def everything(tasks=("va", "expr", "au"), shape=(3, 20), seed=1):
    """prediction, target and known of several tasks side by side."""
    draw = torch.Generator().manual_seed(seed)
    target = {
        "va": torch.rand(*shape, 2, generator=draw) * 2 - 1,
        "expr": torch.randint(8, (*shape, 1), generator=draw).float(),
        "au": torch.randint(2, (*shape, 12), generator=draw).float(),
    }
    prediction = torch.randn(*shape, width({t: TASKS[t] for t in tasks}), generator=draw).requires_grad_()
    return prediction, torch.cat([target[t] for t in tasks], -1), torch.rand(*shape, len(tasks), generator=draw) > 0.4


def several(tasks=("va", "expr", "au"), **weights):
    return MultiTaskLoss(TASKS, {t: TASK_LOSSES[t] for t in tasks}, {t: weights.get(t, 1.0) for t in tasks})


def gradient(loss, prediction, *rest):
    value = loss(prediction, *rest)
    return value, *torch.autograd.grad(value, prediction)


def focal(logits, target, valid, gamma, alpha):
    """The paper's formula, entry by entry, in Python's own numbers."""
    total, count = 0.0, 0
    for x, y, ok in zip(logits.reshape(-1, 8).tolist(), target.ravel().tolist(), valid.ravel().tolist(), strict=True):
        if ok:
            p = math.exp(x[int(y)]) / sum(math.exp(v) for v in x)
            total, count = total - alpha[int(y)] * (1 - p) ** gamma * math.log(p), count + 1
    return total / count


def test_focal_loss_worked_by_hand():
    # logits ln 3 for the class and 0 for seven others: p = 3 / 10; (1 - p)^2 · -ln p = 0.49 ln(10 / 3)
    logits = torch.zeros(2, 8)
    logits[0, 4] = math.log(3)
    target, first = torch.tensor([4, 0]), torch.tensor([True, False])
    assert ClassLoss(8, kind="focal")(logits, target, first).item() == pytest.approx(0.49 * math.log(10 / 3), abs=1e-6)
    # the other entry has p = 1 / 8; weights stand before each, and the mean is over two entries, not over their weights
    loss = ClassLoss(8, kind="focal", class_weights=torch.tensor([3.0, 0, 0, 0, 0.5, 0, 0, 0]))(
        logits, target, torch.ones(2, dtype=torch.bool)
    )
    assert loss.item() == pytest.approx((0.5 * 0.49 * math.log(10 / 3) + 3 * 49 / 64 * math.log(8)) / 2, abs=1e-6)


@pytest.mark.parametrize("shape", [(60,), (3, 20), (2, 5, 4)])
@pytest.mark.parametrize("gamma", [0.5, 1, 2, 5])
def test_focal_loss_equals_a_plain_loop(shape, gamma):
    logits, target, valid = expressions(shape)
    loss = ClassLoss(8, kind="focal", gamma=gamma, class_weights=ALPHA)(logits, target, valid)
    assert loss.item() == pytest.approx(focal(logits, target, valid, gamma, ALPHA.tolist()), rel=1e-5)
    plain = ClassLoss(8, kind="focal", gamma=gamma)(logits, target, valid)
    assert plain.item() == pytest.approx(focal(logits, target, valid, gamma, [1] * 8), rel=1e-5)
    assert plain < F.cross_entropy(logits[valid], target[valid])


def test_without_focus_all_are_cross_entropy():
    logits, target, valid = expressions()
    want = F.cross_entropy(logits[valid], target[valid])
    (slope,) = torch.autograd.grad(want, logits, retain_graph=True)
    for loss in (
        ClassLoss(8, kind="cross_entropy"),
        ClassLoss(8, kind="focal", gamma=0),
        ClassLoss(8, kind="focal", gamma=0, class_weights=torch.ones(8)),
    ):
        value, got = gradient(loss, logits, target, valid)
        torch.testing.assert_close(value, want)
        torch.testing.assert_close(got, slope)


def test_weights_and_smoothing_as_torch_has_them_but_for_the_divisor():
    logits, target, valid = expressions()
    got = ClassLoss(8, kind="cross_entropy", class_weights=ALPHA, label_smoothing=0.1)(logits, target, valid)
    theirs = F.cross_entropy(logits[valid], target[valid], ALPHA, label_smoothing=0.1)  # divides by the sum of the labels' weights
    torch.testing.assert_close(got, theirs * ALPHA[target[valid]].sum() / valid.sum())


@pytest.mark.parametrize("loss", EXPR_LOSSES.values(), ids=EXPR_LOSSES)
def test_a_class_may_be_float_int_or_a_column(loss):
    logits, target, valid = expressions()
    want = loss(logits, target, valid)
    for other in (target.float(), target.int(), target.double().unsqueeze(-1), target.half()):
        assert loss(logits, other, valid) == want


def test_effective_number_worked_by_hand():
    # beta 1/2: (1 - 2^-1), ... of 1, 2 and 3 samples are 1/2, 3/4 and 7/8: weights 1, 2/3, 4/7 before scaling by 3 / (47/21)
    got = effective_number_weights(torch.tensor([1, 2, 0, 3]), beta=0.5)
    np.testing.assert_allclose(got, np.array([1, 2 / 3, 0, 4 / 7]) * 63 / 47, rtol=1e-6)
    assert got.dtype == torch.float32


def test_effective_number_weights_keep_their_laws():
    counts = torch.tensor([177_000, 16_000, 10_000, 9_000, 95_000, 79_000, 31_000, 165_000])
    for beta in (0, 0.9, 0.999, 0.999999):
        weights = effective_number_weights(counts, beta)
        assert weights.mean().item() == pytest.approx(1, abs=1e-6)
        assert (weights[counts.argsort(descending=True)].diff() >= 0).all()
        np.testing.assert_allclose(effective_number_weights(counts.flip(0).double(), beta), weights.flip(0))
    assert (effective_number_weights(counts, 0) == 1).all()
    inverse = (1 / counts) / (1 / counts).mean()
    np.testing.assert_allclose(effective_number_weights(counts, 1 - 1e-10), inverse, rtol=1e-3)
    assert effective_number_weights(counts, 0.999).max() < 1.001  # 1000 samples are as many as it tells apart
    assert effective_number_weights(counts, 0.99999).max() > 1.5


def test_effective_number_refuses_what_has_no_weight():
    with pytest.raises(InputError, match=r"not all 0, and beta in \[0, 1\), got \[0, 0\]"):
        effective_number_weights(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="beta 1"):
        effective_number_weights(torch.ones(2), beta=1)
    with pytest.raises(InputError, match=r"got \[3.0, -1.0\]"):
        effective_number_weights(torch.tensor([3.0, -1.0]))


def test_action_units_are_torchs_binary_cross_entropy():
    logits, target, valid = units()
    want = F.binary_cross_entropy_with_logits(logits[valid], target[valid], pos_weight=BALANCE)
    torch.testing.assert_close(UnitLoss(12, positive_weights=BALANCE)(logits, target, valid), want)
    torch.testing.assert_close(UnitLoss(12)(logits, target, valid), F.binary_cross_entropy(logits[valid].sigmoid(), target[valid]))


def test_action_units_equal_a_plain_loop():
    logits, target, valid = units((2, 7))
    total = 0.0
    for b, t in valid.nonzero().tolist():
        for unit in range(12):
            p, y = 1 / (1 + math.exp(-logits[b, t, unit].item())), target[b, t, unit].item()
            total -= BALANCE[unit].item() * y * math.log(p) + (1 - y) * math.log(1 - p)
    assert UnitLoss(12, positive_weights=BALANCE)(logits, target, valid).item() == pytest.approx(
        total / (12 * valid.sum().item()), rel=1e-5
    )


def test_a_soft_label_is_the_mean_over_hard_ones():
    logits, _, valid = units()
    hard = torch.randint(2, (4, *logits.shape), generator=torch.Generator().manual_seed(3)).float()
    loss = UnitLoss(12, positive_weights=BALANCE)
    torch.testing.assert_close(loss(logits, hard.mean(0), valid), torch.stack([loss(logits, h, valid) for h in hard]).mean())


def test_positive_weights_balance_within_a_limit():
    got = positive_weights(torch.tensor([1, 1, 300, 0, 8, 50]), torch.tensor([3, 99, 3, 7, 0, 50]))
    np.testing.assert_allclose(got, [3, 10, 0.1, 1, 1, 1], rtol=1e-6)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(positive_weights(torch.tensor([1.0]), torch.tensor([99.0]), limit=200), [99])
    logits = torch.zeros(4, 12)  # both sides pull alike at p = 1/2: the mean logit's gradient vanishes
    target = torch.zeros(4, 12)
    target[0] = 1
    balanced = UnitLoss(12, positive_weights=positive_weights(target.sum(0), (1 - target).sum(0)))
    _, slope = gradient(balanced, logits.requires_grad_(), target, torch.ones(4, dtype=torch.bool))
    assert slope.sum().item() == pytest.approx(0, abs=1e-7)
    with pytest.raises(InputError, match=r"\(C,\) >= 0 and limit >= 1, got \[1\], \[-1\] and limit 10"):
        positive_weights(torch.tensor([1]), torch.tensor([-1]))


CASES = {f"expr, {name}": (loss, expressions) for name, loss in EXPR_LOSSES.items()}
CASES |= {"au": (UnitLoss(12), units), "au, weighted": (TASK_LOSSES["au"], units), "several": (several(au=0.5), everything)}
ALL = pytest.mark.parametrize(("loss", "make"), CASES.values(), ids=CASES)


@ALL
def test_order_of_entries_does_not_matter(loss, make):
    rest = make()
    turned = [x.flip(0).roll(3, 1).requires_grad_(x.requires_grad) for x in (r.detach() if r.requires_grad else r for r in rest)]
    turned[0].requires_grad_()
    value, slope = gradient(loss, *rest)
    other, other_slope = gradient(loss, *turned)
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(other_slope.roll(-3, 1).flip(0), slope)
    torch.testing.assert_close(loss(*(x.flatten(0, 1) for x in rest)), value)


@ALL
@pytest.mark.parametrize("junk", [-5.0, -1.0, float("nan"), float("inf")])
def test_invalid_entries_of_any_loss_never_count(loss, make, junk):
    prediction, target, valid = make()
    target = target.float()
    unknown = ~valid
    if make is everything:
        columns, outputs = slices(TASKS, "columns"), slices(TASKS, "outputs")
        other_target, other = target.clone(), prediction.detach().clone()
        for index, task in enumerate(columns):
            other_target[..., columns[task]].masked_fill_(unknown[..., index, None], junk)
            other[..., outputs[task]].masked_fill_(unknown[..., index, None], junk)
    else:
        other_target = target.masked_fill(unknown if target.ndim == unknown.ndim else unknown.unsqueeze(-1), junk)
        other = prediction.detach().masked_fill(unknown.unsqueeze(-1), junk)
    value, slope = gradient(loss, prediction, target, valid)
    got, got_slope = gradient(loss, other.requires_grad_(), other_target, valid)
    assert torch.equal(got, value)
    assert torch.equal(got_slope, slope)
    assert slope.any()


@ALL
def test_nothing_valid_gives_a_zero_that_trains(loss, make):
    prediction, target, valid = make()
    value, slope = gradient(loss, prediction, torch.full_like(target.float(), torch.nan), torch.zeros_like(valid))
    assert value.item() == 0
    assert (slope == 0).all()


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_logits_have_finite_gradients(loss, make, dtype, sign):
    prediction, target, valid = make()
    logits = torch.where(torch.arange(prediction.shape[-1]) % 2 == 0, 80.0, -80.0) * sign
    extreme = logits.expand_as(prediction).to(dtype).contiguous().requires_grad_()
    value, slope = gradient(loss, extreme, target.to(dtype), valid)
    assert value.dtype == torch.float32
    assert slope.dtype == dtype
    assert torch.isfinite(value)
    assert torch.isfinite(slope).all()


def test_extreme_logits_cost_what_they_must():
    logits, here = torch.full((1, 8), -80.0), torch.ones(1, dtype=torch.bool)
    logits[0, 2] = 80
    for loss in (ClassLoss(8, kind="cross_entropy"), ClassLoss(8, kind="focal"), ClassLoss(8, kind="focal", gamma=0.5)):
        right, slope = gradient(loss, logits.requires_grad_(), torch.tensor([2]), here)
        assert right.item() == 0
        assert (slope == 0).all()
        wrong, slope = gradient(loss, logits, torch.tensor([5]), here)
        assert wrong.item() == pytest.approx(160)
        np.testing.assert_allclose(slope[0], [0, 0, 1, 0, 0, -1, 0, 0], atol=1e-6)
    sure = torch.full((1, 12), 80.0)
    assert UnitLoss(12)(sure, torch.ones(1, 12), here).item() == pytest.approx(0, abs=1e-30)
    assert UnitLoss(12)(sure, torch.zeros(1, 12), here).item() == pytest.approx(80)


@ALL
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_of_any_loss_is_summed_in_single(loss, make, dtype):
    prediction, target, valid = make()
    half, target = prediction.detach().to(dtype), target.to(dtype)
    assert torch.equal(loss(half, target, valid), loss(half.float(), target.float(), valid))


@ALL
def test_gradients_of_any_loss_match_finite_differences(loss, make):
    prediction, target, valid = make(shape=(2, 3))
    valid[0, 0] = True
    assert torch.autograd.gradcheck(lambda p: loss(p, target, valid), prediction.detach().double().requires_grad_())


@pytest.mark.parametrize("task", TASK_LOSSES)
@pytest.mark.parametrize("shape", [(40,), (3, 20), (2, 5, 4)])
def test_one_task_alone_is_its_own_loss(task, shape):
    prediction, target, known = everything((task,), shape)
    value, slope = gradient(several((task,)), prediction, target, known)
    want, want_slope = gradient(TASK_LOSSES[task], prediction, target, known[..., 0])
    assert torch.equal(value, want)
    assert torch.equal(slope, want_slope)


@pytest.mark.parametrize("tasks", [("va", "expr", "au"), ("au", "va"), ("expr", "va")])
def test_tasks_add_up_in_their_order_each_over_its_own_entries(tasks):
    weights = {"va": 0.7, "expr": 2.0, "au": 0.3}
    prediction, target, known = everything(tasks)
    total, at, column = 0.0, 0, 0
    for index, task in enumerate(tasks):
        outputs, columns = {"va": (2, 2), "expr": (8, 1), "au": (12, 12)}[task]
        parts = prediction[..., at : at + outputs], target[..., column : column + columns], known[..., index]
        total, at, column = total + weights[task] * TASK_LOSSES[task](*parts), at + outputs, column + columns
    torch.testing.assert_close(several(tasks, **weights)(prediction, target, known), total)


def test_a_task_without_labels_changes_nothing_for_the_others():
    prediction, target, known = everything()
    known[..., 1] = False
    value, slope = gradient(several(expr=5.0), prediction, target, known)
    keep = [*range(2), *range(10, 22)]
    alone, alone_slope = gradient(
        several(("va", "au")), prediction.detach()[..., keep].requires_grad_(), target[..., [0, 1, *range(3, 15)]], known[..., [0, 2]]
    )
    assert torch.equal(value, alone)
    assert torch.equal(slope[..., keep], alone_slope)
    assert (slope[..., 2:10] == 0).all()


def test_windows_stay_apart_among_several_tasks():
    """One CCC a window: the first axis is the window's, also where a row holds several labels."""
    tasks, shape = ("expr", "va"), (4, 5, 3)
    prediction, target, known = everything(tasks, shape)
    inner = ConcordanceLoss(over="window")
    loss = MultiTaskLoss(TASKS, {"expr": TASK_LOSSES["expr"], "va": inner}, {"expr": 0, "va": 1})
    each = [ccc_loss(p[..., 8:], t[..., 1:], k[..., 1]) for p, t, k in zip(prediction, target, known, strict=True)]
    torch.testing.assert_close(loss(prediction, target, known), torch.stack(each).mean())


def test_weights_move_with_a_loss_and_are_not_saved():
    loss = several()
    assert not loss.state_dict()
    assert {name for name, _ in loss.named_buffers()} == {"losses.expr.class_weights", "losses.au.positive_weights"}
    double = MultiTaskLoss(TASKS, {"expr": ClassLoss(8, kind="focal", class_weights=ALPHA.clone())}, {"expr": 1}).double()
    assert double.losses["expr"].class_weights.dtype == torch.float64


def test_labels_that_are_none_are_refused():
    logits, target, valid = expressions()
    for label in (8, -1, 2.5, float("nan")):
        wrong = target.float()
        wrong[valid.nonzero()[0].tolist()[0], valid.nonzero()[0].tolist()[1]] = label
        with pytest.raises(InputError, match=f"want class numbers 0 to 7 where valid, got {label:g}; a row"):
            ClassLoss(8, kind="focal")(logits, wrong, valid)
    logits, target, valid = units()
    for label in (-1.0, 1.5, float("nan")):
        with pytest.raises(InputError, match=rf"want labels in \[0, 1\] where valid, got {label:g}; mark"):
            UnitLoss(12)(logits, torch.full_like(target, label), valid)


def test_shapes_of_any_loss_are_checked():
    logits, target, valid = expressions()
    with pytest.raises(InputError, match=r"ClassLoss: want prediction \(..., 8\), target \(..., 1\)"):
        ClassLoss(8, kind="focal")(logits[..., :7], target, valid)
    with pytest.raises(InputError, match=r"got \(3, 20, 8\), \(3, 19, 1\) and torch.bool \(3, 20\)"):
        ClassLoss(8, kind="focal")(logits, target[:, 1:], valid)
    with pytest.raises(InputError, match="float32 "):
        UnitLoss(12)(*units()[:2], valid.float())
    prediction, target, known = everything()
    with pytest.raises(InputError, match=r"want last axes of \(22, 15, 3\) \(outputs, columns, tasks\)"):
        several()(prediction, target[..., 1:], known)
    with pytest.raises(InputError, match=r"got \(\(3, 20, 22\), \(3, 20, 15\), \(3, 20, 2\)\)"):
        several()(prediction, target, known[..., 1:])


def test_arguments_out_of_range_are_refused():
    with pytest.raises(InputError, match="want kind cross_entropy or focal, got 'dice'"):
        ClassLoss(8, kind="dice")
    with pytest.raises(InputError, match="gamma >= 0, got -1"):
        ClassLoss(8, kind="focal", gamma=-1)
    with pytest.raises(InputError, match=r"and 0 with focal, got 0\.1 with focal"):
        ClassLoss(8, kind="focal", label_smoothing=0.1)
    with pytest.raises(InputError, match=r"ClassLoss: want class_weights \(8,\) >= 0, got \[1.0, 1.0\]"):
        ClassLoss(8, kind="focal", class_weights=torch.ones(2))
    with pytest.raises(InputError, match=r"UnitLoss: want positive_weights \(12,\) >= 0"):
        UnitLoss(12, positive_weights=-torch.ones(12))
    for weights in ({}, {"va": 1.0, "au": 1.0}, {"va": -1.0}):
        with pytest.raises(InputError, match="want a weight >= 0 for each loss"):
            MultiTaskLoss(TASKS, {"va": ConcordanceLoss()}, weights)
