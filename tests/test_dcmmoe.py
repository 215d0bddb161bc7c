"""Directed cross-modal mixture of experts: an independent plain loop, presence laws, padding, determinism."""

import math

import pytest
import torch
import torch.nn.functional as F

from affpipe.errors import InputError
from affpipe.fusion.dcmmoe import DCMMOE

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


# An independent formula: loops over windows, experts, layers, steps and heads; absent rows are never visited


def norm(module, x):
    centred = x - x.mean()
    return centred / (centred.square().mean() + module.eps).sqrt() * module.weight + module.bias


def affine(module, x):
    return module.weight @ x + module.bias


def attend(attention, query, context):
    """One query row and the list of the present context rows."""
    if not context:
        return torch.zeros_like(query)
    width = len(query) // attention.heads
    q, parts = affine(attention.query, query), []
    keys, values = [affine(attention.key, c) for c in context], [affine(attention.value, c) for c in context]
    for h in range(attention.heads):
        cut = slice(h * width, (h + 1) * width)
        scores = [(q[cut] @ k[cut] / math.sqrt(width)).exp() for k in keys]
        parts.append(sum(s / sum(scores) * v[cut] for s, v in zip(scores, values, strict=True)))
    return affine(attention.out, torch.cat(parts))


def plain_layer(layer, rows, context):
    out = []
    for x in rows:
        x = norm(layer.norm_attention, x + attend(layer.attention, x, context))
        inner = affine(layer.feedforward[0], x).clamp(min=0)
        out.append(norm(layer.norm_feedforward, x + affine(layer.feedforward[-1], inner)))
    return out


def place(t, on):
    angles = [t / 10000 ** ((c - c % 2) / HIDDEN) for c in range(HIDDEN)]
    return torch.tensor([(math.cos if c % 2 else math.sin)(a) if on else 0.0 for c, a in enumerate(angles)])


def plain_window(model, streams, present, positions):
    """One window: streams modality -> (T, D_m), present (T, M)."""
    names = list(DIMS)
    states = {m: [norm(model.project[m][1], affine(model.project[m][0], row)) for row in streams[m]] for m in names}
    here = {m: [t for t in range(len(present)) if present[t, i]] for i, m in enumerate(names)}
    answers = {}
    for (q, k), stack in zip(model.experts, model.stacks, strict=True):
        rows = [states[q][t] + place(t, positions) for t in here[q]]
        for layer in stack:
            rows = plain_layer(layer, rows, [states[k][t] + place(t, positions) for t in here[k]])
        answers[q, k] = dict(zip(here[q], rows, strict=True))
    predictions, embeddings, gates = [], [], []
    for t in range(len(present)):
        seen = [m for m in names if t in here[m]]
        if not seen:
            predictions.append(torch.zeros(2))
            embeddings.append(torch.zeros(HIDDEN))
            gates.append(torch.zeros(len(model.experts)))
            continue
        scores = affine(model.gate, sum(states[m][t] for m in seen) / len(seen)).exp()
        counts = [e for e, (q, _) in enumerate(model.experts) if q in seen]
        weights = {e: scores[e] / sum(scores[i] for i in counts) for e in counts}
        gates.append(torch.stack([weights.get(e, torch.zeros(())) for e in range(len(model.experts))]))
        embeddings.append(sum(weights[e] * answers[model.experts[e]][t] for e in counts))
        predictions.append(affine(model.head, embeddings[-1]))
    return torch.stack(predictions), torch.stack(embeddings), torch.stack(gates)


@pytest.mark.parametrize("positions", ["sinusoidal", "none"])
def test_it_matches_a_plain_loop(positions):
    model, (streams, present) = build(positions=positions), batch()
    streams = {m: x.requires_grad_() for m, x in streams.items()}
    fused = model(streams, present)
    windows = [plain_window(model, {m: x[b] for m, x in streams.items()}, present[b], positions == "sinusoidal") for b in range(3)]
    for got, want in zip(fused, zip(*windows, strict=True), strict=True):
        close(got, torch.stack(want))

    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(out.shape, generator=generator) for out in fused]
    leaves = [*streams.values(), *model.parameters()]
    got = torch.autograd.grad(sum((out * w).sum() for out, w in zip(fused, weights, strict=True)), leaves)
    stacked = [torch.stack(parts) for parts in zip(*windows, strict=True)]
    want = torch.autograd.grad(sum((out * w).sum() for out, w in zip(stacked, weights, strict=True)), leaves)
    for g, w in zip(got, want, strict=True):
        close(g, w)


def test_two_modalities_match_the_plain_experts():
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
    with pytest.raises(InputError, match="sinusoidal, none, got 'every_layer'"):
        build(positions="every_layer")
    with pytest.raises(InputError, match="want streams face, behaviour, audio, got face"):
        model({"face": streams["face"]}, present)
    with pytest.raises(InputError, match=r"DCMMOE: want present \(B, T, 3\)"):
        model(streams, present[..., :2])
    with pytest.raises(InputError, match=r"DCMMOE: behaviour: want floating point \(B, T, 3\)"):
        model(streams | {"behaviour": streams["face"]}, present)
