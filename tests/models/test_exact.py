"""Models against independent formulas, forward and gradient, to 1e-5.

The formulas are plain loops over windows, rows, heads, experts and channels, written from the papers; of a model they take its state
dict and nothing else. They visit present rows only, so they cannot see what an absent modality or padding holds.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from affpipe.models.fusions.cross_attention.network import CrossAttention
from affpipe.models.fusions.dcmmoe.network import DCMMOE
from affpipe.models.fusions.raav.network import RAAV
from affpipe.models.heads.chunk_asp.network import ChunkHead
from affpipe.models.heads.mamba.network import MambaBlock
from affpipe.models.heads.mamba.ras2026 import Block
from affpipe.models.heads.transformer.network import TransformerHead
from affpipe.system.compat import ensure_torchvision

TOLERANCE = 1e-5
WINDOWS, ROWS, HIDDEN, HEADS, LAYERS = 3, 6, 8, 2, 2
DIMS = {"face": 5, "behaviour": 3, "audio": 4}
SIZES = {"hidden": HIDDEN, "layers": LAYERS, "heads": HEADS, "feedforward": 12, "dropout": 0.2}
PRIORS = (0.85, 0.15)


def ready(build):
    """A model in float64 with no parameter at a round value."""
    torch.manual_seed(0)
    model = build().double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    return model


def batch(dims, seed):
    """Random streams and presence. Window 0 lacks one modality, window 1 holds a step with nothing, the last ends in padding."""
    generator = torch.Generator().manual_seed(seed)
    streams = {m: torch.randn(WINDOWS, ROWS, d, generator=generator, dtype=torch.float64).requires_grad_() for m, d in dims.items()}
    present = torch.rand(WINDOWS, ROWS, len(dims), generator=generator) < 0.75
    if len(dims) > 1:
        present[0, :, seed % len(dims)] = False
    present[1, 2] = False
    present[2, 0] = True
    present[2, 4:] = False
    return streams, present


def gradients(outputs, leaves):
    """Of one scalar, a random weighted sum of all outputs."""
    generator = torch.Generator().manual_seed(9)
    scalar = sum((out * torch.randn(out.shape, generator=generator, dtype=out.dtype)).sum() for out in outputs)
    return torch.autograd.grad(scalar, leaves, allow_unused=True, materialize_grads=True)


def close(got, want):
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, atol=TOLERANCE, rtol=0)


def agree(got, want, leaves):
    close(got, want)
    close(gradients(got, leaves), gradients(want, leaves))


# ---- Formulas ---------------------------------------------------------------------------------------------------------------------------
# A window of a stream is a dict, row -> vector, of its present rows; p is a state dict.


def affine(p, name, x):
    return p[f"{name}.weight"] @ x + p[f"{name}.bias"]


def norm(p, name, x):
    centred = x - x.sum() / len(x)
    return centred / ((centred**2).sum() / len(x) + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def silu(x):
    return x / (1 + (-x).exp())


def softmax(scores):
    """Of a dict."""
    total = sum(s.exp() for s in scores.values())
    return {k: s.exp() / total for k, s in scores.items()}


def attention(p, name, queries, context):
    """Dicts row -> vector; zero where the context is empty."""
    if not context:
        return {t: torch.zeros_like(x) for t, x in queries.items()}
    keys, values = ({s: affine(p, f"{name}.{part}", c) for s, c in context.items()} for part in ("key", "value"))
    out = {}
    for t, x in queries.items():
        q, parts = affine(p, f"{name}.query", x), []
        width = len(q) // HEADS
        for h in range(HEADS):
            cut = slice(h * width, (h + 1) * width)
            weights = softmax({s: (q[cut] * k[cut]).sum() / math.sqrt(width) for s, k in keys.items()})
            parts.append(sum(weights[s] * values[s][cut] for s in weights))
        out[t] = affine(p, f"{name}.out", torch.cat(parts))
    return out


def placed(rows):
    """With sinusoids added."""
    angles = {t: [t / 10000 ** ((c - c % 2) / HIDDEN) for c in range(HIDDEN)] for t in rows}
    return {
        t: x + torch.tensor([math.cos(a) if c % 2 else math.sin(a) for c, a in enumerate(angles[t])], dtype=x.dtype)
        for t, x in rows.items()
    }


def post_norm_stack(p, name, rows, context=None, *, positions, second_residual, activation="relu"):
    """context: rows, the same for every layer, or a function of the query that gives them."""
    if positions == "sinusoidal":
        rows = placed(rows)
    if isinstance(context, dict) and positions == "sinusoidal":
        context = placed(context)
    for n in range(LAYERS):
        layer = f"{name}.{n}"
        other = rows if context is None else context if isinstance(context, dict) else context(rows)
        read, other = (placed(rows), placed(other)) if positions == "every_layer" else (rows, other)
        mixed = attention(p, f"{layer}.attention", read, other)
        for t, x in read.items():
            y = norm(p, f"{layer}.norm_attention", x + mixed[t])
            inner = affine(p, f"{layer}.feedforward.0", y)
            inner = gelu(inner) if activation == "gelu" else inner.clamp(min=0)
            y = norm(p, f"{layer}.norm_feedforward", y + affine(p, f"{layer}.feedforward.3", inner))
            rows = rows | {t: rows[t] + y if second_residual else y}
    return rows


def transformer_window(p, streams, embedding="layer", **variant):
    rows = {t: norm(p, "project.1", affine(p, "project.0", x)) for t, x in streams["x"].items()}
    rows = post_norm_stack(p, "layers", rows, **variant)
    hidden = {t: gelu(norm(p, "head.1", affine(p, "head.0", x))) for t, x in rows.items()}
    return {t: (affine(p, "head.4", hidden[t]), hidden[t] if embedding == "head" else rows[t]) for t in rows}


def cross_attention_window(p, streams, query, context, **variant):
    states = {m: {t: norm(p, f"project.{m}.1", affine(p, f"project.{m}.0", x)) for t, x in streams[m].items()} for m in streams}

    def stream(name, states):
        if name != "mean":
            return states[name]
        there = {t: [x[t] for x in states.values() if t in x] for t in sorted(set().union(*states.values()))}
        return {t: sum(each) / len(each) for t, each in there.items()}

    def read(rows):
        return stream(context, states if query == "mean" else states | {query: rows})

    rows = post_norm_stack(p, "stack", stream(query, states), read, **variant)
    hidden = {t: gelu(norm(p, "head.1", affine(p, "head.0", x))) for t, x in rows.items()}
    return {t: (affine(p, "head.4", x), x) for t, x in hidden.items()}


def dcmmoe_window(p, streams, **variant):
    names = list(streams)
    states = {m: {t: norm(p, f"project.{m}.1", affine(p, f"project.{m}.0", x)) for t, x in streams[m].items()} for m in names}
    experts = [(q, k) for q in names for k in names if q != k]
    answers = [post_norm_stack(p, f"stacks.{e}", states[q], states[k], **variant) for e, (q, k) in enumerate(experts)]
    out = {}
    for t in sorted(set().union(*streams.values())):
        seen = [m for m in names if t in states[m]]
        logits = affine(p, "gate", sum(states[m][t] for m in seen) / len(seen))
        weights = softmax({e: logits[e] for e, (q, _) in enumerate(experts) if q in seen})
        fused = sum(w * answers[e][t] for e, w in weights.items())
        gate = torch.stack([weights.get(e, torch.zeros_like(logits[0])) for e in range(len(experts))])
        out[t] = affine(p, "head", fused), fused, gate
    return out


def raav_window(p, streams, compat="none"):
    *visual, audio = streams
    states = {m: {t: affine(p, f"project.{m}", x) for t, x in streams[m].items()} for m in streams}
    times = sorted(set().union(*streams.values()))
    seen, gates = {}, {}
    for t in times:
        weights = softmax(
            {
                m: affine(p, f"score.{m}.3", gelu(affine(p, f"score.{m}.0", states[m][t])))[0] + math.log(prior)
                for m, prior in zip(visual, PRIORS, strict=True)
                if t in states[m]
            }
        )
        zero = torch.zeros_like(p["latents"][0])
        seen[t] = sum((w * states[m][t] for m, w in weights.items()), zero)
        gates[t] = torch.stack([weights.get(m, zero[0]) for m in visual])

    latents = dict(enumerate(p["latents"]))
    heard = attention(p, "listen", latents, states[audio])
    bottleneck = {k: norm(p, "norm_latents", x + heard[k]) for k, x in latents.items()} if states[audio] else {}
    asked = {t: norm(p, "norm_seen", x) for t, x in seen.items()} if compat == "ras2026" else seen
    told = attention(p, "consult", asked, bottleneck)
    rows = {t: norm(p, "norm_fused", seen[t] + told[t]) for t in times}
    if compat == "ras2026" and not states[audio]:
        rows = seen
    for n in range(LAYERS):
        layer = f"layers.{n}"
        read = {t: norm(p, f"{layer}.norm_attention", x) for t, x in rows.items()}
        mixed = attention(p, f"{layer}.attention", read, read)
        for t in times:
            x = rows[t] + mixed[t]
            inner = gelu(affine(p, f"{layer}.feedforward.0", norm(p, f"{layer}.norm_feedforward", x)))
            rows = rows | {t: x + affine(p, f"{layer}.feedforward.3", inner)}
    head = {t: affine(p, "head.4", gelu(affine(p, "head.1", norm(p, "head.0", rows[t])))) for t in times}
    return {t: (head[t], rows[t], gates[t]) for t in times}


def chunk_window(p, streams, chunks=3):
    """Chunk -> outputs; 6 rows, 2 a chunk."""
    out = {}
    for c in range(chunks):
        rows = {t: x for t, x in streams["x"].items() if t // (ROWS // chunks) == c}
        if not rows:
            continue
        weights = softmax({t: affine(p, "pool.score.2", affine(p, "pool.score.0", x).tanh())[0] for t, x in rows.items()})
        mean = sum(w * rows[t] for t, w in weights.items())
        variance = sum(w * rows[t] ** 2 for t, w in weights.items()) - mean**2
        pooled = norm(p, "embed.0", torch.cat((mean, variance.clamp(min=1e-6).sqrt())))
        embedding = gelu(affine(p, "embed.2", pooled))
        out[c] = affine(p, "head.1", embedding), embedding
    return out


def mamba_window(p, streams):
    """The recurrence, one row, channel and state at a time. The convolution reads zeros where a row is absent."""
    inner, states = p["A_log"].shape
    rank, kernel = p["dt_proj.weight"].shape[1], p["conv1d.weight"].shape[2]
    split = {t: p["in_proj.weight"] @ x for t, x in streams["x"].items()}
    state = [[0.0] * states for _ in range(inner)]
    out = {}
    for t, both in split.items():
        u = p["conv1d.bias"]
        for j in range(kernel):
            if t - j in split:
                u = u + p["conv1d.weight"][:, 0, kernel - 1 - j] * split[t - j][:inner]
        u = silu(u)
        low = p["x_proj.weight"] @ u
        step = (1 + affine(p, "dt_proj", low[:rank]).exp()).log()
        b, c = low[rank : rank + states], low[rank + states :]
        y = []
        for e in range(inner):
            for n in range(states):
                state[e][n] = (-step[e] * p["A_log"][e, n].exp()).exp() * state[e][n] + step[e] * b[n] * u[e]
            y.append(sum(state[e][n] * c[n] for n in range(states)) + p["D"][e] * u[e])
        out[t] = (p["out_proj.weight"] @ (torch.stack(y) * silu(both[inner:])),)
    return out


def ras2026_window(p, streams):
    """The public code's recurrence, one row, channel and state at a time, with its residual and norm."""
    width, states = p["A"].shape
    kernel = p["conv.weight"].shape[2]
    split = {t: p["in_proj.weight"] @ x for t, x in streams["x"].items()}
    state = [[0.0] * states for _ in range(width)]
    out = {}
    for t, both in split.items():
        u = p["conv.bias"]
        for j in range(kernel):
            if t - j in split:
                u = u + p["conv.weight"][:, 0, kernel - 1 - j] * split[t - j][:width]
        u = silu(u)
        step = (1 + (p["D"] + p["step.1.weight"] @ (p["step.0.weight"] @ u)).exp()).log()
        b, c = p["drive.weight"] @ u, p["read.weight"] @ u
        y = []
        for d in range(width):
            for n in range(states):
                state[d][n] = (-p["A"][d, n]).exp() * step[d] * state[d][n] + b[n] * step[d] * u[d]
            y.append(sum(state[d][n] * c[n] for n in range(states)))
        branch = p["out_proj.weight"] @ (torch.stack(y) * silu(both[width:]))
        out[t] = (norm(p, "norm", p["D"] * streams["x"][t] + branch),)
    return out


# ---- Models -----------------------------------------------------------------------------------------------------------------------------


def outputs(model, streams, present):
    """What a model returns, as a tuple."""
    if set(streams) == {"x"}:
        out = model(streams["x"], present.squeeze(-1))
        return out if isinstance(out, tuple) else (out,)
    return tuple(out for out in model(streams, present) if out is not None)


def formula(window, model, streams, present, like, **variant):
    """The same from a formula for one window; zero in rows that it does not return."""
    p, stacked = model.state_dict(keep_vars=True), [[] for _ in like]
    for b in range(len(present)):
        rows = {m: {t: x[b, t] for t in range(ROWS) if present[b, t, i]} for i, (m, x) in enumerate(streams.items())}
        answers = window(p, rows, **variant)
        for i, out in enumerate(like):
            stacked[i].append(torch.stack([answers[t][i] if t in answers else torch.zeros_like(out[b, t]) for t in range(out.shape[1])]))
    return [torch.stack(windows) for windows in stacked]


def raav(**kwargs):
    return RAAV(DIMS, visual=("face", "behaviour"), priors=PRIORS, audio="audio", latents=3, **SIZES, **kwargs)


def cross(dims, query, context, **variant):
    """A case: model, dims, formula, its keywords."""
    asks = {"query": query, "context": context}
    return lambda: CrossAttention(dims, **asks, **SIZES, **variant), dims, cross_attention_window, asks | variant


PAIR = {"face": 5, "audio": 4}
ONCE = {"positions": "sinusoidal", "second_residual": False}
PUBLISHED = {"positions": "every_layer", "second_residual": True}  # of the public code
BARE = {"positions": "none", "second_residual": False}
CODE = PUBLISHED | {"activation": "gelu"}
RAS = {"compat": "ras2026"}
CASES = {
    "transformer": (lambda: TransformerHead(5, **SIZES, **ONCE), {"x": 5}, transformer_window, ONCE),
    "transformer, public code": (lambda: TransformerHead(5, **SIZES, **PUBLISHED), {"x": 5}, transformer_window, PUBLISHED),
    "transformer, no positions": (lambda: TransformerHead(5, **SIZES, **BARE), {"x": 5}, transformer_window, BARE),
    "transformer, all of the public code": (
        lambda: TransformerHead(5, **SIZES, **CODE, embedding="head", dropout_on="residual", position_dropout=0.1),
        {"x": 5},
        transformer_window,
        CODE | {"embedding": "head"},
    ),
    "dcmmoe, 2 experts": (lambda: DCMMOE(PAIR, **SIZES, **ONCE), PAIR, dcmmoe_window, ONCE),
    "dcmmoe, 6 experts": (lambda: DCMMOE(DIMS, **SIZES, **ONCE), DIMS, dcmmoe_window, ONCE),
    "dcmmoe, public code": (lambda: DCMMOE(PAIR, **SIZES, **PUBLISHED), PAIR, dcmmoe_window, PUBLISHED),
    "dcmmoe, no positions": (lambda: DCMMOE(PAIR, **SIZES, **BARE), PAIR, dcmmoe_window, BARE),
    "dcmmoe, gelu": (lambda: DCMMOE(PAIR, **SIZES, **CODE), PAIR, dcmmoe_window, CODE),
    "audio asks face": cross(PAIR, "audio", "face", **CODE),
    "audio asks face, no positions": cross(PAIR, "audio", "face", **BARE),
    "audio asks the mean that it is in": cross(DIMS, "audio", "mean", **CODE),
    "the mean asks face": cross(DIMS, "mean", "face", **CODE),
    "the mean asks the mean": cross(DIMS, "mean", "mean", **CODE),
    "raav": (raav, DIMS, raav_window, {}),
    "raav, public code": (lambda: raav(**RAS), DIMS, raav_window, RAS),
    "chunks": (lambda: ChunkHead(5, chunks=3, hidden=HIDDEN, attention_hidden=4, dropout=0.2), {"x": 5}, chunk_window, {}),
    "mamba": (lambda: MambaBlock(4, d_state=3, d_conv=3, expand=2), {"x": 4}, mamba_window, {}),
    "mamba, public code": (lambda: Block(4, state=3, kernel=3, dropout=0.2), {"x": 4}, ras2026_window, {}),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_model_is_its_formula(case, seed):
    build, dims, window, variant = CASES[case]
    model, (streams, present) = ready(build), batch(dims, seed)
    got = outputs(model, streams, present)
    agree(got, formula(window, model, streams, present, got, **variant), [*streams.values(), *model.parameters()])


@pytest.mark.parametrize("case", CASES)
def test_absent_rows_change_neither_value_nor_gradient(case):
    build, dims, _, _ = CASES[case]
    model, (streams, present) = ready(build), batch(dims, 0)
    other = {m: x.detach().masked_fill(~present[..., i : i + 1], 1e300).requires_grad_() for i, (m, x) in enumerate(streams.items())}
    got, want = outputs(model, other, present), outputs(model, streams, present)
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))
    got, want = gradients(got, [*other.values(), *model.parameters()]), gradients(want, [*streams.values(), *model.parameters()])
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))
    for i, gradient in enumerate(got[: len(dims)]):
        assert (gradient[~present[..., i]] == 0).all()
        assert (gradient[present[..., i]] != 0).any(dim=-1).all()


@pytest.mark.parametrize("case", [name for name in CASES if name != "chunks"])  # more rows are other chunks
def test_padding_changes_neither_value_nor_gradient(case):
    build, dims, _, _ = CASES[case]
    model, (streams, present) = ready(build), batch(dims, 1)
    padded = {m: F.pad(x, (0, 0, 0, 3), value=7.0) for m, x in streams.items()}
    longer = outputs(model, padded, F.pad(present, (0, 0, 0, 3)))
    assert all((out[:, ROWS:] == 0).all() for out in longer)
    agree([out[:, :ROWS] for out in longer], outputs(model, streams, present), [*streams.values(), *model.parameters()])


# ---- The published Mamba ----------------------------------------------------------------------------------------------------------------

# width, state, kernel: each kernel and state, and the two stacks of the paper
MAMBAS = [(20, 8, 3), (20, 16, 3), (20, 8, 4), (20, 16, 4), (20, 8, 5), (20, 16, 5), (128, 8, 3), (256, 8, 5)]


def published_mamba(p, x):
    """The block of `mamba_ssm` without its kernels: causal convolution, discretisation, recurrence over time, skip, gate; (B, L, H).

    After `Mamba.forward` in mamba_ssm/modules/mamba_simple.py and `selective_scan_ref` in mamba_ssm/ops/selective_scan_interface.py.
    """
    (inner, states), rank, kernel = p["A_log"].shape, p["dt_proj.weight"].shape[1], p["conv1d.weight"].shape[-1]
    u, gate = (x @ p["in_proj.weight"].T).split(inner, dim=-1)
    late = torch.cat((u.new_zeros(len(u), kernel - 1, inner), u), dim=1)
    taps = [late[:, j : j + x.shape[1]] * p["conv1d.weight"][:, 0, j] for j in range(kernel)]
    u = silu(sum(taps) + p["conv1d.bias"])
    step, b, c = (u @ p["x_proj.weight"].T).split((rank, states, states), dim=-1)
    step = F.softplus(step @ p["dt_proj.weight"].T + p["dt_proj.bias"])
    decay = torch.einsum("ble,en->blen", step, -p["A_log"].exp()).exp()
    drive = torch.einsum("ble,bln,ble->blen", step, b, u)
    state, y = u.new_zeros(len(u), inner, states), []
    for t in range(x.shape[1]):
        state = decay[:, t] * state + drive[:, t]
        y.append(torch.einsum("ben,bn->be", state, c[:, t]))
    y = torch.stack(y, dim=1) + u * p["D"]
    return (y * silu(gate)) @ p["out_proj.weight"].T


def published_shapes(width, state, kernel):
    """Of the state dict of `mamba_ssm.Mamba(width, d_state=state, d_conv=kernel, expand=2)`."""
    inner, rank = 2 * width, math.ceil(width / 16)
    return {
        "A_log": (inner, state),
        "D": (inner,),
        "in_proj.weight": (2 * inner, width),
        "conv1d.weight": (inner, 1, kernel),
        "conv1d.bias": (inner,),
        "x_proj.weight": (rank + 2 * state, inner),
        "dt_proj.weight": (inner, rank),
        "dt_proj.bias": (inner,),
        "out_proj.weight": (width, inner),
    }


@pytest.fixture(scope="module")
def mixer():
    """transformers' block."""
    ensure_torchvision()  # transformers imports it
    from transformers.models.mamba.configuration_mamba import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    def build(width, state, kernel):
        config = MambaConfig(hidden_size=width, state_size=state, conv_kernel=kernel, expand=2, num_hidden_layers=1)
        return MambaMixer(config, layer_idx=0).eval()

    return build


def sequence(width):
    x = torch.randn(2, 16, width, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return x, torch.ones(2, 16, dtype=torch.bool)


@pytest.mark.parametrize(("width", "state", "kernel"), MAMBAS)
def test_mamba_is_that_of_mamba_ssm_with_the_same_state_dict(width, state, kernel):
    torch.manual_seed(2)
    block, (x, present) = MambaBlock(width, d_state=state, d_conv=kernel, expand=2), sequence(width)
    assert {name: tuple(t.shape) for name, t in block.state_dict().items()} == published_shapes(width, state, kernel)
    leaves = [x, *block.parameters()]
    agree([block(x, present)], [published_mamba(block.state_dict(keep_vars=True), x)], leaves)

    theirs = {name: torch.randn(shape) * shape[-1] ** -0.5 for name, shape in published_shapes(width, state, kernel).items()}
    block.load_state_dict(theirs, strict=True)
    close([block(x, present)], [published_mamba(theirs, x)])


@pytest.mark.parametrize(("width", "state", "kernel"), MAMBAS)
def test_mamba_is_that_of_transformers_both_ways(mixer, width, state, kernel):
    torch.manual_seed(2)
    theirs, ours, (x, present) = mixer(width, state, kernel), MambaBlock(width, d_state=state, d_conv=kernel, expand=2), sequence(width)
    assert torch.equal(theirs.A_log, ours.A_log)
    assert torch.equal(theirs.D, ours.D)
    for source, target in ((ours, theirs), (theirs, ours)):
        with torch.no_grad():
            for p in source.parameters():
                p += 0.05 * torch.randn_like(p)
        target.load_state_dict(source.state_dict(), strict=True)
        got, want = ours(x, present), theirs(x)
        close([got], [want])
        close(
            torch.autograd.grad(got.square().mean(), [x, *(p for _, p in sorted(ours.named_parameters()))]),
            torch.autograd.grad(want.square().mean(), [x, *(p for _, p in sorted(theirs.named_parameters()))]),
        )
