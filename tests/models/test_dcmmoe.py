"""Directed cross-modal mixture of experts: gate, presence, padding, determinism. Equality with a plain loop: test_exact.py."""

import pytest
import torch
import torch.nn.functional as F

from affpipe.core.errors import InputError
from affpipe.models.fusions.dcmmoe.network import DCMMOE

DIMS = {"face": 5, "behaviour": 3, "audio": 4}
HIDDEN = 8


def build(**kwargs):
    torch.manual_seed(0)
    return DCMMOE(DIMS, **({"hidden": HIDDEN, "layers": 2, "heads": 2, "feedforward": 12, "dropout": 0.2} | kwargs)).eval()


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


def test_the_gate_of_two_modalities_is_their_mean_mapped():
    torch.manual_seed(0)
    model = DCMMOE({"face": 5, "audio": 4}, hidden=HIDDEN, layers=1, heads=2, feedforward=12, dropout=0.0)
    assert model.experts == (("face", "audio"), ("audio", "face"))
    streams = {"face": torch.randn(1, 4, 5), "audio": torch.randn(1, 4, 4)}
    gate = model(streams, torch.ones(1, 4, 2, dtype=torch.bool)).gate
    states = [F.layer_norm(F.linear(streams[m], model.project[m][0].weight, model.project[m][0].bias), (HIDDEN,)) for m in streams]
    close(gate, ((states[0] + states[1]) / 2 @ model.gate.weight.T + model.gate.bias).softmax(-1))


def test_experts_are_the_ordered_pairs():
    assert build().experts == (
        ("face", "behaviour"),
        ("face", "audio"),
        ("behaviour", "face"),
        ("behaviour", "audio"),
        ("audio", "face"),
        ("audio", "behaviour"),
    )
    assert build().gate_names[:3] == ("face<-behaviour", "face<-audio", "behaviour<-face")


# Presence


@pytest.mark.parametrize("value", [0.0, 7.0, -3e38])
def test_absent_values_change_nothing(value):
    model, (streams, present) = build(), batch()
    other = {m: x.masked_fill(~present[..., i : i + 1], value) for i, (m, x) in enumerate(streams.items())}
    for got, want in zip(model(other, present), model(streams, present), strict=True):
        assert torch.equal(got, want)


def test_absent_values_get_no_gradient_and_spoil_none():
    model, (streams, present) = build().train(), batch()
    streams = {m: x.masked_fill(~present[..., i : i + 1], 3e38).requires_grad_() for i, (m, x) in enumerate(streams.items())}
    fused = model(streams, present)
    (fused.prediction.square().sum() + fused.gate.square().sum()).backward()
    for i, x in enumerate(streams.values()):
        assert (x.grad[~present[..., i]] == 0).all()
        assert (x.grad[present[..., i]].abs().sum(-1) > 0).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_gate_sums_to_one_over_experts_with_a_present_query():
    model, (streams, present) = build(), batch()
    gate = model(streams, present).gate
    close(gate.sum(-1), present.any(-1).float())
    for e, (q, _) in enumerate(model.experts):
        here = present[..., list(DIMS).index(q)]
        assert (gate[..., e][~here] == 0).all()
        assert (gate[..., e][here] > 0).all()


def test_nothing_present_is_zero_and_trains_without_nan():
    model, (streams, present) = build().train(), batch()
    fused = model(streams, torch.zeros_like(present))
    sum(out.sum() for out in fused).backward()
    assert all((out == 0).all() for out in fused)
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize("name", list(DIMS))
def test_a_single_modality_still_predicts(name):
    model, (streams, _) = build(), batch()
    present = torch.zeros(3, 7, 3, dtype=torch.bool)
    present[..., list(DIMS).index(name)] = True
    want = model(streams, present)
    assert (want.prediction.abs().sum(-1) > 0).all()
    others = {m: x if m == name else x + 5 for m, x in streams.items()}
    for got, same in zip(model(others, present), want, strict=True):
        assert torch.equal(got, same)
    moved = model({m: x + 5 if m == name else x for m, x in streams.items()}, present)
    assert (moved.prediction - want.prediction).abs().min() > 0


def test_padding_changes_nothing():
    model, (streams, present) = build(), batch()
    padded = model({m: F.pad(x, (0, 0, 0, 4), value=9.0) for m, x in streams.items()}, F.pad(present, (0, 0, 0, 4)))
    for got, want in zip(padded, model(streams, present), strict=True):
        close(got[:, :7], want)
        assert (got[:, 7:] == 0).all()


def test_windows_do_not_touch_each_other():
    model, (streams, present) = build(), batch()
    order = torch.tensor([2, 0, 1])
    shuffled = model({m: x[order] for m, x in streams.items()}, present[order])
    for got, want in zip(shuffled, model(streams, present), strict=True):
        close(got, want[order])


def test_the_order_of_the_streams_is_that_of_dims():
    model, (streams, present) = build(), batch()
    backwards = dict(reversed(streams.items()))
    for got, want in zip(model(backwards, present), model(streams, present), strict=True):
        assert torch.equal(got, want)


def test_a_seed_fixes_the_parameters():
    for a, b in zip(build().parameters(), build().parameters(), strict=True):
        assert torch.equal(a, b)


def test_bad_arguments_are_refused():
    model, (streams, present) = build(), batch()
    with pytest.raises(InputError, match=r"want at least 2 modalities, got \['face'\]"):
        DCMMOE({"face": 5}, hidden=8, layers=1, heads=2, feedforward=8, dropout=0.0)
    with pytest.raises(InputError, match="sinusoidal, none, every_layer, got 'learned'"):
        build(positions="learned")
    with pytest.raises(InputError, match="want streams face, behaviour, audio, got face"):
        model({"face": streams["face"]}, present)
    with pytest.raises(InputError, match=r"DCMMOE: want present \(B, T, 3\)"):
        model(streams, present[..., :2])
    with pytest.raises(InputError, match=r"DCMMOE: behaviour: want floating point \(B, T, 3\)"):
        model(streams | {"behaviour": streams["face"]}, present)
