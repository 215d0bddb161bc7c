"""Single-stream heads: presence, padding, determinism. Equality with plain loops: test_exact.py."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from affpipe.core.errors import InputError
from affpipe.models.branches.blocks import Attention, AttentionLayer, AttentionStack, sinusoids
from affpipe.models.heads.chunk_asp.network import ChunkHead
from affpipe.models.heads.mamba import network as mamba
from affpipe.models.heads.mamba.network import MambaBlock, MambaHead
from affpipe.models.heads.mamba.ras2026 import Block, Ras2026Head
from affpipe.models.heads.transformer.network import TransformerHead

DIM, HIDDEN = 6, 8
PUBLIC_CODE = {
    "positions": "every_layer",
    "position_dropout": 0.3,
    "second_residual": True,
    "activation": "gelu",
    "dropout_on": "residual",
    "start": "multihead",
}


def transformer(**kwargs):
    torch.manual_seed(0)
    return TransformerHead(DIM, **({"hidden": HIDDEN, "layers": 2, "heads": 2, "feedforward": 12, "dropout": 0.2} | kwargs)).eval()


def mamba_head(**kwargs):
    torch.manual_seed(0)
    return MambaHead(DIM, **({"hidden": HIDDEN, "layers": 2, "state": 4, "kernel": 3, "head_hidden": 10, "dropout": 0.2} | kwargs)).eval()


def ras2026_head(**kwargs):
    torch.manual_seed(0)
    return Ras2026Head(DIM, **({"hidden": HIDDEN, "layers": 2, "state": 4, "kernel": 3, "head_hidden": 10, "dropout": 0.2} | kwargs)).eval()


def chunk_head(**kwargs):
    torch.manual_seed(0)
    return ChunkHead(DIM, **({"hidden": HIDDEN, "attention_hidden": 5, "dropout": 0.2} | kwargs)).eval()


SEQUENCE_HEADS = [
    transformer,
    lambda: transformer(positions="none"),
    lambda: transformer(positions="every_layer", second_residual=True),
    lambda: transformer(**PUBLIC_CODE, embedding="head"),
    mamba_head,
    ras2026_head,
]
HEADS = [*SEQUENCE_HEADS, chunk_head, lambda: chunk_head(cut="rounded", attention_dropout=0.3)]


def batch(rows=11, windows=3):
    """Window 0 has gaps, window 1 a padded tail, window 2 is whole."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(windows, rows, DIM, generator=generator)
    present = torch.ones(windows, rows, dtype=torch.bool)
    present[0, [0, 4, 5]] = False
    present[1, 7:] = False
    return x, present


def close(got, want, tolerance=1e-5):
    torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)


# Laws of every head


@pytest.mark.parametrize("build", HEADS)
@pytest.mark.parametrize("value", [0.0, 7.0, -3e38])
def test_absent_rows_change_nothing(build, value):
    model, (x, present) = build(), batch()
    other = x.masked_fill(~present.unsqueeze(-1), value)
    for got, want in zip(model(other, present), model(x, present), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("build", HEADS)
def test_absent_rows_get_no_gradient_and_spoil_none(build):
    model, (x, present) = build().train(), batch()
    x = x.masked_fill(~present.unsqueeze(-1), 3e38).requires_grad_()
    sum(out.square().sum() for out in model(x, present)).backward()
    assert (x.grad[~present] == 0).all()
    assert (x.grad[present].abs().sum(-1) > 0).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("build", SEQUENCE_HEADS)
def test_absent_rows_are_zero(build):
    x, present = batch()
    for out in build()(x, present):
        assert (out[~present] == 0).all()
        assert (out[present].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("build", HEADS)
def test_an_absent_window_is_zero_and_leaves_the_others(build):
    model, (x, present) = build(), batch()
    want = model(x, present)
    present[2] = False
    for got, whole in zip(model(x, present), want, strict=True):
        assert (got[2] == 0).all()
        close(got[:2], whole[:2])


@pytest.mark.parametrize("build", HEADS)
def test_an_absent_batch_trains_without_nan(build):
    model, (x, present) = build().train(), batch()
    prediction, _ = model(x, torch.zeros_like(present))
    prediction.sum().backward()
    assert (prediction == 0).all()
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize("build", SEQUENCE_HEADS)
def test_padding_changes_nothing(build):
    model, (x, present) = build(), batch()
    padded = model(F.pad(x, (0, 0, 0, 5), value=9.0), F.pad(present, (0, 5)))
    for got, want in zip(padded, model(x, present), strict=True):
        close(got[:, :11], want)
        assert (got[:, 11:] == 0).all()


@pytest.mark.parametrize("build", HEADS)
def test_windows_do_not_touch_each_other(build):
    model, (x, present) = build(), batch()
    order = torch.tensor([2, 0, 1])
    for got, want in zip(model(x[order], present[order]), model(x, present), strict=True):
        close(got, want[order])
    for got, want in zip(model(x[:1], present[:1]), model(x, present), strict=True):
        close(got, want[:1])


@pytest.mark.parametrize("build", HEADS)
def test_a_seed_fixes_the_parameters(build):
    for a, b in zip(build().parameters(), build().parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("build", HEADS)
def test_wrong_shapes_are_refused(build):
    model, (x, present) = build(), batch()
    with pytest.raises(InputError, match=r"want floating point \(B, T, 6\)"):
        model(x[..., :5], present)
    with pytest.raises(InputError, match="want present bool"):
        model(x, present.float())
    with pytest.raises(InputError, match="want present bool"):
        model(x, present[:, :10])


# Transformer


def plain_positions(rows, dim):
    return torch.tensor(
        [[(math.cos if c % 2 else math.sin)(t / 10000 ** ((c - c % 2) / dim)) for c in range(dim)] for t in range(rows)],
        dtype=torch.float32,
    )


@pytest.mark.parametrize("dim", [1, 5, 8])
def test_sinusoids_match_their_formula(dim):
    close(sinusoids(9, dim, like=torch.zeros(1)), plain_positions(9, dim))


def test_positions_tell_rows_apart():
    x = torch.ones(1, 5, DIM)
    present = torch.ones(1, 5, dtype=torch.bool)
    same, _ = transformer(positions="none")(x, present)
    close(same, same[:, :1].expand_as(same))
    for positions in ("sinusoidal", "every_layer"):
        prediction, _ = transformer(positions=positions)(x, present)
        assert prediction[0, 0].sub(prediction[0, 3]).abs().max() > 1e-3


def test_transformer_refuses_bad_sizes():
    with pytest.raises(InputError, match="divisible by the number of heads, got 8 and 3"):
        transformer(heads=3)
    for name, words in {
        "positions": "sinusoidal, none, every_layer",
        "activation": "relu, gelu",
        "dropout_on": "branch, residual",
        "start": "xavier, multihead",
        "embedding": "layer, head",
    }.items():
        with pytest.raises(InputError, match=f"want {name} among {words}, got 'other'; take one of them"):
            transformer(**{name: "other"})


def test_attention_without_context_keeps_the_query():
    torch.manual_seed(0)
    layer = AttentionLayer(HIDDEN, heads=2, feedforward=12, dropout=0.0)
    x, context = torch.randn(2, 1, 5, HIDDEN)
    nothing = torch.zeros(1, 5, dtype=torch.bool)
    kept = layer.norm_attention(x)  # attention adds nothing
    close(layer(x, context, nothing), layer.norm_feedforward(kept + layer.feedforward(kept)))
    assert torch.equal(layer(x, context, nothing), layer(x, context + 5, nothing))


def plain_layers(p, x, present, drop):
    """The layers of the public code with dropout: `drop` takes a tensor and its rate. Queries, keys, values; weights; residuals."""
    for n in range(2):
        at = {name.removeprefix(f"{n}."): value for name, value in p.items() if name.startswith(f"{n}.")}
        q, k, v = (drop(x + plain_positions(*x.shape[1:]).to(x.dtype), PUBLIC_CODE["position_dropout"]) for _ in range(3))
        heads = [
            (y @ at[f"attention.{part}.weight"].T + at[f"attention.{part}.bias"]).view(*y.shape[:2], 2, HIDDEN // 2).transpose(1, 2)
            for part, y in (("query", q), ("key", k), ("value", v))
        ]
        scores = (heads[0] @ heads[1].mT) / math.sqrt(HIDDEN // 2)
        weights = drop(scores.masked_fill(~present[:, None, None], -math.inf).softmax(dim=-1), 0.5)
        said = (weights @ heads[2]).transpose(1, 2).flatten(2) @ at["attention.out.weight"].T + at["attention.out.bias"]
        y = F.layer_norm(said + drop(q, 0.5), (HIDDEN,), at["norm_attention.weight"], at["norm_attention.bias"])
        inner = drop(F.gelu(y @ at["feedforward.0.weight"].T + at["feedforward.0.bias"]), 0.5)
        said = inner @ at["feedforward.3.weight"].T + at["feedforward.3.bias"]
        x = x + F.layer_norm(said + drop(y, 0.5), (HIDDEN,), at["norm_feedforward.weight"], at["norm_feedforward.bias"])
    return x


def test_dropout_falls_where_it_does_in_the_public_code():
    """With the same random numbers, forward and gradient: on each of query, key and value, on weights, on residuals, in the inner layer."""
    torch.manual_seed(0)
    stack = AttentionStack(2, HIDDEN, heads=2, feedforward=12, dropout=0.5, **PUBLIC_CODE).double().train()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 5, HIDDEN, generator=generator, dtype=torch.float64, requires_grad=True)
    present = torch.ones(3, 5, dtype=torch.bool)
    present[0, 3:] = False
    leaves, cover = [x, *stack.parameters()], torch.randn(3, 5, HIDDEN, generator=generator, dtype=torch.float64)
    found = []
    for layers in (
        lambda: stack(x, present),
        lambda: plain_layers(dict(stack.named_parameters()), x, present, lambda y, rate: F.dropout(y, rate, training=True)),
    ):
        torch.manual_seed(2)
        out = layers()
        found.append((out, *torch.autograd.grad(out, leaves, cover)))
    for got, want in zip(*found, strict=True):
        close(got, want)
    assert (found[0][0] - stack.eval()(x, present)).abs().max() > 0.1  # something was dropped


@pytest.mark.parametrize("where", ["branch", "residual"])
def test_a_layer_drops_its_branch_or_what_that_is_added_to(where):
    """With all of it dropped a layer is the norm of the other part alone."""
    torch.manual_seed(0)
    layer = AttentionLayer(HIDDEN, heads=2, feedforward=12, dropout=0.0, dropout_on=where)
    layer.dropout = torch.nn.Dropout(1.0)
    x, present = torch.randn(1, 5, HIDDEN), torch.ones(1, 5, dtype=torch.bool)
    y = layer.norm_attention(layer.attention(x, x, present) if where == "residual" else x)
    close(layer(x, x, present), layer.norm_feedforward(layer.feedforward(y) if where == "residual" else y))


def test_positions_drop_only_where_every_layer_adds_them():
    x, present = batch()
    for positions, moves in (("sinusoidal", False), ("none", False), ("every_layer", True)):
        torch.manual_seed(0)
        sizes = {"heads": 2, "feedforward": 12, "dropout": 0.0, "positions": positions, "position_dropout": 0.5}
        stack = AttentionStack(1, DIM, **sizes).train()
        assert torch.equal(stack(x, present), stack.eval()(x, present)) is not moves


def test_the_embedding_of_the_head_is_what_its_last_layer_reads():
    (x, present), one, other = batch(), transformer(embedding="head"), transformer()
    assert [name for name, _ in one.named_parameters()] == [name for name, _ in other.named_parameters()]
    (prediction, embedding), (same, layer) = one(x, present), other(x, present)
    assert torch.equal(prediction, same)
    assert embedding.shape == layer.shape == (*x.shape[:2], HIDDEN)
    want = embedding @ one.head[-1].weight.T + one.head[-1].bias
    close(prediction, want.masked_fill(~present.unsqueeze(-1), 0))


def test_attention_starts_as_that_of_torch():
    torch.manual_seed(0)
    ours, torchs = Attention(64, heads=4, dropout=0.0, start="multihead"), torch.nn.MultiheadAttention(64, 4)
    theirs = {**dict(zip(("query", "key", "value"), torchs.in_proj_weight.chunk(3), strict=True)), "out": torchs.out_proj.weight}
    bounds = {"query": (6 / 256) ** 0.5, "key": (6 / 256) ** 0.5, "value": (6 / 256) ** 0.5, "out": 64**-0.5}
    for name, bound in bounds.items():
        for weight in (getattr(ours, name).weight, theirs[name]):
            assert 0.99 * bound < weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert (getattr(ours, name).bias == 0).all()
    assert Attention(64, heads=4, dropout=0.0).query.weight.abs().max().item() == pytest.approx((6 / 128) ** 0.5, rel=0.01)


# Mamba


def block(d_model=HIDDEN, d_state=4, d_conv=3, expand=2):
    torch.manual_seed(0)
    return MambaBlock(d_model, d_state=d_state, d_conv=d_conv, expand=expand)


@pytest.mark.parametrize("build", [mamba_head, ras2026_head])
def test_mamba_is_causal(build):
    model, (x, present) = build(), batch()
    changed = x.clone()
    changed[:, 6] += 1
    before, after = model(x, present)[0], model(changed, present)[0]
    close(after[:, :6], before[:, :6])
    assert (after[2, 6:] - before[2, 6:]).abs().amin(dim=-1).max() > 0


def ras2026_block(**kwargs):
    torch.manual_seed(0)
    return Block(HIDDEN, **({"state": 4, "kernel": 3, "dropout": 0.0} | kwargs))


@pytest.mark.parametrize("model", [block(d_conv=1), ras2026_block(kernel=1)], ids=["mamba", "ras2026"])
def test_mamba_carries_its_state_over_a_gap(model):
    # without context of the convolution a gap is as if it were not there
    x, present = torch.randn(1, 6, HIDDEN, generator=torch.Generator().manual_seed(1)), torch.ones(1, 6, dtype=torch.bool)
    whole = model(x, present)
    gap = torch.tensor([[True, True, True, False, False, True, True, True]])
    spread = torch.full((1, 8, HIDDEN), 4.0)
    spread[gap] = x[0]
    close(model(spread, gap)[gap], whole[0])


def test_mamba_starts_with_small_steps():
    step = F.softplus(block(d_model=64).dt_proj.bias)
    assert 0.00099 < step.min() < 0.004
    assert 0.05 < step.max() < 0.101
    assert -5.2 < step.log().mean() < -4.0  # log-uniform between 0.001 and 0.1: mean log 0.01 = -4.6


@pytest.mark.parametrize("build", [mamba_head, ras2026_head])
def test_a_start_by_xavier_leaves_what_is_no_linear_as_it_was(build):
    own, model = build(hidden=64).state_dict(), build(hidden=64, start="xavier")
    kept, drawn = set(), set()
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear) and "dt_proj" not in name:
            bound = (6 / sum(part.weight.shape)) ** 0.5
            assert 0.9 * bound < part.weight.abs().max() <= bound
            assert part.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)
            assert part.bias is None or (part.bias == 0).all()
            drawn |= {f"{name}.weight", f"{name}.bias"}
        elif isinstance(part, torch.nn.LayerNorm):
            assert (part.weight == 1).all()
            assert (part.bias == 0).all()
    for name, value in model.state_dict().items():
        if name not in drawn and "dt_proj" not in name:
            kept.add(name.rpartition(".")[2])
            assert torch.equal(value, own[name]), name
    assert kept >= ({"A_log", "D"} if build is mamba_head else {"A", "D"})
    if build is mamba_head:  # as softplus(bias) without it: between the least and the largest step
        steps = torch.cat([F.softplus(block.dt_proj.bias) for block in model.blocks])
        assert 0.00099 < steps.min() < 0.004
        assert 0.05 < steps.max() < 0.101


@pytest.mark.parametrize("build", [mamba_head, ras2026_head])
def test_an_unknown_start_is_refused(build):
    with pytest.raises(InputError, match="want start among torch, xavier, got 'zero'; take one of them"):
        build(start="zero")


def test_the_state_of_the_public_block_decays_at_first_and_can_grow():
    """Its factor is softplus(D + step) / exp(A), which a large D puts above 1; Mamba's never is."""
    x, present = torch.randn(1, 60, HIDDEN, generator=torch.Generator().manual_seed(1)), torch.ones(1, 60, dtype=torch.bool)
    x[:, 1:] = 0
    sizes = []
    for d in (1.0, 6.0):
        model = ras2026_block(kernel=1)
        with torch.no_grad():
            model.D.fill_(d)
            model.conv.bias.fill_(0.1)  # so that later rows read the state
        step, ones = torch.full((1, 60, HIDDEN), math.log1p(math.exp(d))), torch.ones(1, 60, 4)
        u = torch.zeros(1, 60, HIDDEN)
        u[:, 0] = 1
        sizes.append(model._recur(u, step, ones, ones, present)[0, :, 0])
        want = [sum(step[0, 0, 0] * (step[0, 0, 0] * math.exp(-n)) ** t for n in (1, 2, 3, 4)) for t in range(60)]
        torch.testing.assert_close(sizes[-1], torch.tensor(want, dtype=torch.float32), rtol=1e-4, atol=0)
    assert sizes[0][-1] < 1e-15
    assert sizes[1][-1] > 1e15


def test_the_public_block_drops_its_branch():
    model, x = ras2026_block(dropout=0.5).train(), torch.randn(1, 16, HIDDEN, generator=torch.Generator().manual_seed(1))
    said, present = [], torch.ones(1, 16, dtype=torch.bool)
    model.out_proj.register_forward_hook(lambda *parts: said.append(parts[-1]))
    torch.manual_seed(3)
    found = model(x, present)
    torch.manual_seed(3)
    close(found, F.layer_norm(model.D * x + F.dropout(said[0], 0.5, training=True), (HIDDEN,)))
    assert (found - model.eval()(x, present)).abs().max() > 0.01


def test_the_recurrence_of_the_public_block_is_in_full_precision_under_autocast():
    model, generator = ras2026_block(), torch.Generator().manual_seed(1)
    u, step, b, c = (torch.rand(2, 16, n, generator=generator) for n in (HIDDEN, HIDDEN, 4, 4))
    present = torch.ones(2, 16, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        found = model._recur(u, step, b, c, present)
    assert torch.equal(found, model._recur(u, step, b, c, present))


def scanned(length, dtype=torch.float32, batch=2, inner=6, state=3):
    """Leaves u, step, a, b, c that lie as the block gives them; the row in the middle has step 0, as absent ones have."""
    generator = torch.Generator().manual_seed(length)
    u, step, b, c = (torch.randn(batch, length, n, generator=generator, dtype=dtype) for n in (inner, inner, state, state))
    step = F.softplus(step - 1)
    step[:, length // 2] = 0
    a = -torch.rand(inner, state, generator=generator, dtype=dtype) * 4
    return [x.requires_grad_() for x in (u.transpose(1, 2), step.transpose(1, 2), a, b.transpose(1, 2), c.transpose(1, 2))]


def plain_scan(u, step, a, b, c):
    state, out = torch.zeros(*u.shape[:2], a.shape[1], dtype=u.dtype), []
    for t in range(u.shape[2]):
        state = torch.exp(step[:, :, t, None] * a) * state + step[:, :, t, None] * b[:, None, :, t] * u[:, :, t, None]
        out.append(torch.einsum("ben,bn->be", state, c[:, :, t]))
    return torch.stack(out, dim=2)


@pytest.mark.parametrize("length", [1, 2, 16, 400])
def test_the_scan_and_its_gradients_are_those_of_a_plain_loop(length):
    leaves = scanned(length)
    found, want = mamba.scan(*leaves), plain_scan(*leaves)
    close(found, want)
    weights = torch.randn(want.shape, generator=torch.Generator().manual_seed(1))
    for got, wanted in zip(*(torch.autograd.grad(y, leaves, weights) for y in (found, want)), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)
    with torch.no_grad():
        assert torch.equal(mamba.scan(*leaves), found)


@pytest.mark.parametrize("length", [1, 5])
def test_the_gradient_of_the_scan_is_its_derivative(length):
    assert torch.autograd.gradcheck(mamba.scan, scanned(length, torch.float64))


def test_the_scan_is_in_full_precision_under_autocast():
    """Also its gradient, and where inputs have been rounded."""
    leaves = scanned(16)
    want = mamba.scan(*leaves)
    with torch.autocast("cpu", torch.bfloat16):
        found = mamba.scan(*leaves)
        grads = torch.autograd.grad(found.sum(), leaves)
    assert torch.equal(found, want)
    assert all(torch.equal(x, y) for x, y in zip(grads, torch.autograd.grad(want.sum(), leaves), strict=True))
    rounded = [x.detach().bfloat16() for x in leaves]
    rounded[2] = leaves[2].detach()  # a weight
    assert torch.equal(mamba.scan(*rounded), mamba.scan(*(x.float() for x in rounded)))


def test_the_scan_keeps_decays_and_states_alone():
    held, (batch, inner, length, state) = {}, (4, 32, 16, 8)

    def keep(x):
        held[x.data_ptr()] = x.numel()

    leaves = scanned(length, batch=batch, inner=inner, state=state)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: keep(x) or x, lambda x: x):
        mamba.scan(*leaves)
    assert sum(held.values()) == 2 * batch * inner * length * state + sum(x.numel() for x in leaves)


@pytest.mark.gpu
@pytest.mark.skipif(mamba.selective_scan_fn is None or not torch.cuda.is_available(), reason="needs mamba_ssm and a CUDA device")
def test_fused_scan_agrees_with_the_loop():
    model, (x, present) = mamba_head(), batch()
    want = model(x, present)
    for got, loop in zip(model.cuda()(x.cuda(), present.cuda()), want, strict=True):
        close(got.cpu(), loop, 1e-4)


# Chunk-wise pooling


def test_chunks_of_four_seconds_are_cut_at_whole_seconds():
    model = chunk_head()
    x = torch.randn(1, 199, DIM, generator=torch.Generator().manual_seed(1))
    present = torch.ones(1, 199, dtype=torch.bool)
    want, _ = model(x, present)
    for row in range(199):
        changed = x.clone()
        changed[0, row] += 5
        moved = (model(changed, present)[0] - want)[0].abs().amax(dim=-1) > 1e-6
        assert moved.nonzero().flatten().tolist() == [row // 50]  # 20 ms a row


@pytest.mark.parametrize(("rows", "chunks"), [(199, 4), (149, 4), (50, 4), (6, 4), (4, 4), (7, 3), (10, 1)])
def test_rounded_chunks_are_those_of_the_public_code(rows, chunks):
    """Border i lies at i·F / chunks, rounded by Python; 199 rows are 50, 50, 49 and 50."""
    model = chunk_head(cut="rounded", chunks=chunks)
    borders = [round(i * rows / chunks) for i in range(chunks + 1)]
    counts = np.diff(borders).tolist()
    assert rows != 199 or counts == [50, 50, 49, 50]
    x = torch.randn(1, rows, DIM, generator=torch.Generator().manual_seed(1))
    present = torch.ones(1, rows, dtype=torch.bool)
    want, _ = model(x, present)
    for row in range(rows):
        changed = x.clone()
        changed[0, row] += 5
        moved = (model(changed, present)[0] - want)[0].abs().amax(dim=-1) > 1e-6
        assert moved.nonzero().flatten().tolist() == [next(c for c in range(chunks) if borders[c] <= row < borders[c + 1])]


def plain_chunk(p, rows, kept):
    """Prediction and embedding (numpy) of the rows (n, D) of one chunk; `kept` (n, A) multiplies what the tanh gives."""
    scores = (np.tanh(rows @ p["pool.score.0.weight"].T + p["pool.score.0.bias"]) * kept) @ p["pool.score.2.weight"][0]
    weights = np.exp(scores - scores.max())[:, None] / np.exp(scores - scores.max()).sum()
    mean = (weights * rows).sum(axis=0)
    pooled = np.concatenate([mean, np.sqrt(np.maximum((weights * (rows - mean) ** 2).sum(axis=0), 1e-6))])
    pooled = (pooled - pooled.mean()) / np.sqrt(pooled.var() + 1e-5) * p["embed.0.weight"] + p["embed.0.bias"]
    hidden = p["embed.2.weight"] @ pooled + p["embed.2.bias"]
    hidden = np.array([h * (1 + math.erf(h / math.sqrt(2))) / 2 for h in hidden])
    return p["head.1.weight"] @ hidden + p["head.1.bias"], hidden


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.7])
@pytest.mark.parametrize(("cut", "borders"), [("equal", [0, 3, 6, 9, 11]), ("rounded", [0, 3, 6, 8, 11])])  # 11 rows: 2.75, 5.5, 8.25
def test_chunks_with_dropout_in_the_scorer_are_their_formula(rate, cut, borders):
    model, (x, present) = chunk_head(cut=cut, attention_dropout=rate, dropout=0.0).train(), batch()
    torch.manual_seed(5)
    prediction, embedding = model(x, present)
    torch.manual_seed(5)
    kept = F.dropout(torch.ones(3, 4, 3, 5), rate).numpy()  # the same draws: windows, chunks, rows of the longest chunk, hidden units
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    for b in range(3):
        for c in range(4):
            there = present[b, borders[c] : borders[c + 1]].numpy()
            if not there.any():
                assert (prediction[b, c] == 0).all()
                continue
            rows = x[b, borders[c] : borders[c + 1]].numpy()[there]
            want = plain_chunk(p, rows, kept[b, c, : len(there)][there])
            np.testing.assert_allclose(prediction[b, c].detach().numpy(), want[0], atol=2e-6)
            np.testing.assert_allclose(embedding[b, c].detach().numpy(), want[1], atol=2e-6)
    assert (rate > 0) == (model(x, present)[0] != prediction).any()
    for got, still in zip(model.eval()(x, present), chunk_head(cut=cut, dropout=0.0)(x, present), strict=True):
        assert torch.equal(got, still)  # nothing drops once it is fitted


def test_dropout_in_the_scorer_renames_no_weight():
    names = list(chunk_head().state_dict())
    assert names == list(chunk_head(attention_dropout=0.2).state_dict())
    assert names[:4] == ["pool.score.0.weight", "pool.score.0.bias", "pool.score.2.weight", "pool.score.2.bias"]  # as stores have them


def test_constant_rows_have_a_finite_gradient():
    x = torch.ones(1, 8, DIM, requires_grad=True)
    present = torch.ones(1, 8, dtype=torch.bool)
    present[0, 1] = False  # chunk 0 holds a single row
    chunk_head()(x, present)[0].sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("rows", [0, 3, 6])
def test_rows_that_leave_a_chunk_empty_are_refused(rows):
    with pytest.raises(InputError, match=f"fill 4 equal chunks, got {rows}"):
        chunk_head()(torch.zeros(1, rows, DIM), torch.ones(1, rows, dtype=torch.bool))


@pytest.mark.parametrize("rows", [0, 3])
def test_rows_that_leave_a_rounded_chunk_empty_are_refused(rows):
    with pytest.raises(InputError, match=f"fill 4 rounded chunks, got {rows}"):
        chunk_head(cut="rounded")(torch.zeros(1, rows, DIM), torch.ones(1, rows, dtype=torch.bool))
    chunk_head(cut="rounded")(torch.zeros(1, 6, DIM), torch.ones(1, 6, dtype=torch.bool))  # 2, 1, 1, 2; equal chunks would leave one empty
