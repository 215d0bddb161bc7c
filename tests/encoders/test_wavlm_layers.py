"""The two parts of WavLM: together they are the whole, apart only the top learns, and padding changes nothing."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from affpipe.core.errors import InputError, WeightsError
from affpipe.encoders.tiny_weights import make_tiny
from affpipe.encoders.wavlm import network as wavlm
from affpipe.encoders.wavlm.layers import Top, Trunk, split

CPU = torch.device("cpu")
SAMPLES = 8000
LENGTHS = (SAMPLES, 4321, 399, SAMPLES, 0, 4321)  # the third too short for a frame
LARGE_COUNT = 315_453_120  # microsoft/wavlm-large
LAYER_COUNT = 12_596_760  # one of its layers: attention 4 (1024² + 1024) + 16 + 8 (64 + 1), two norms, 2 · 1024 · 4096 + 4096 + 1024


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights")
    make_tiny(out)
    return out / "wavlm-tiny"


def _scatter(model: nn.Module) -> nn.Module:
    """Random values for what starts as constants, in whose place nothing would be noticed; attention with a say."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "gru_rel_pos_const" in name or "rel_attn_embed" in name:
            nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    return model


def _large(layers: int) -> wavlm.WavLMModel:
    """WavLM-Large with fewer layers, all widths real."""
    torch.manual_seed(0)
    return _scatter(wavlm.WavLMModel(wavlm.WavLMConfig(**wavlm.LARGE | {"num_hidden_layers": layers})).eval())


def _base() -> wavlm.WavLMModel:
    """The other variant: group norm in the convolutions, layer norm after attention."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": (8,) * 7}
    return _scatter(wavlm.WavLMModel(wavlm.WavLMConfig(**small, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)).eval())


def _parts(model: wavlm.WavLMModel, layers: int, batch_size: int = 8) -> tuple[wavlm.WavLM, Top]:
    top = Top.take(model, layers)
    below = model.config.num_hidden_layers - layers
    return wavlm.WavLM(copy.deepcopy(model), device=CPU, scale=(0.0, 1.0), layer=below, top=top, batch_size=batch_size), top.eval()


def _sound(lengths: tuple[int, ...], samples: int = SAMPLES) -> tuple[Tensor, Tensor]:
    """Rows with NaNs past the end of the sound."""
    rows = torch.randn(len(lengths), samples, generator=torch.Generator().manual_seed(5))
    for row, length in zip(rows, lengths, strict=True):
        row[length:] = torch.nan
    return rows, torch.tensor(lengths)


def _present(encoder: wavlm.WavLM, lengths: Tensor, frames: int) -> Tensor:
    return torch.arange(frames) < Trunk(encoder).frames(lengths)[:, None]


@pytest.mark.parametrize("case", ["tiny-1", "tiny-2", "tiny-3", "base-1", "base-2", "base-3", "large-2"])
def test_the_parts_are_the_whole(tiny: Path, case: str) -> None:
    kind, layers = case.split("-")
    model = {"tiny": lambda: wavlm.WavLMModel.from_pretrained(tiny).eval(), "base": _base, "large": lambda: _large(3)}[kind]()
    encoder, top = _parts(model, int(layers))
    rows, lengths = _sound(LENGTHS)
    with torch.no_grad():
        hidden = encoder.states(rows, lengths)
        present = _present(encoder, lengths, hidden.shape[1])
        found = top(hidden, present)
        for i, length in enumerate(LENGTHS):
            frames = encoder.frame_count(length)
            assert present[i].sum() == frames
            assert (found[i, frames:] == 0).all()
            if frames:
                whole = model(rows[i : i + 1, :length]).last_hidden_state[0]  # alone, not padded
                torch.testing.assert_close(found[i, :frames], whole, atol=1e-5, rtol=0)
    assert found.abs().max() > 0.5


def test_the_stored_stream_is_what_enters_the_top(tiny: Path) -> None:
    rows, lengths = _sound(LENGTHS)
    encoder = wavlm.load(tiny, device=CPU, dtype=torch.float32, trained_layers=2)
    assert encoder.top.count == 2
    by_layer = wavlm.load(tiny, device=CPU, dtype=torch.float32, layer=1)
    assert by_layer.top is None
    stored = encoder.extract(rows.numpy(), lengths.numpy())
    np.testing.assert_array_equal(stored, by_layer.extract(rows.numpy(), lengths.numpy()))
    trunk, top = split(encoder, 2)
    live = trunk(rows, lengths)
    np.testing.assert_array_equal(live, stored.astype(np.float16))  # cached or not: the same numbers
    assert np.abs(live.numpy() - stored).max() > 0  # which were rounded
    assert live.dtype == torch.float32
    assert not live.requires_grad
    assert trunk.dim == top.dim == encoder.dim == 32
    present = _present(encoder, lengths, live.shape[1])
    whole = wavlm.load(tiny, device=CPU, dtype=torch.float32).extract(rows.numpy(), lengths.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(top.eval()(live, present), whole, atol=5e-3)  # half precision in between


def test_a_top_is_rebuilt_from_json_and_its_state(tiny: Path) -> None:
    top = Top.take(wavlm.WavLMModel.from_pretrained(tiny), 2).eval()
    again = Top(json.loads(json.dumps(top.config)), top.count).eval()
    assert again.config == top.config
    again.load_state_dict(top.state_dict())
    x, present = torch.randn(2, 7, 32), torch.ones(2, 7, dtype=torch.bool)
    torch.testing.assert_close(again(x, present), top(x, present), atol=0, rtol=0)
    assert {n for n, p in again.named_parameters() if not p.requires_grad} == {"layers.0.attention.rel_attn_embed.weight"}
    assert [n for n, p in top.named_parameters() if not p.requires_grad] == ["layers.0.attention.rel_attn_embed.weight"]


@pytest.mark.parametrize("trained", [False, True])
def test_absent_rows_change_nothing(tiny: Path, trained: bool) -> None:
    """Holes too, in value and in gradient; a window with nothing present gives zeros."""
    torch.manual_seed(1)
    top = Top.take(wavlm.WavLMModel.from_pretrained(tiny), 2).train(trained)
    present = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)
    x = torch.randn(3, 5, 32)
    results = []
    for absent in (0.0, 1e4, torch.nan, torch.inf):
        torch.manual_seed(2)  # the same dropout
        filled = x.masked_fill(~present[..., None], absent).requires_grad_()
        out = top(filled, present)
        top.zero_grad()
        out.square().sum().backward()
        assert (out[~present] == 0).all()
        assert (filled.grad[~present] == 0).all()
        assert (filled.grad[present] != 0).any()
        results.append([out.detach(), filled.grad, *(p.grad for p in top.parameters() if p.requires_grad)])
        assert all(r.isfinite().all() for r in results[-1])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_dropout_is_that_of_the_config_and_no_layer_is_dropped(tiny: Path) -> None:
    config = Top.take(wavlm.WavLMModel.from_pretrained(tiny), 2).config
    none = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout"), 0.0)
    x, present = torch.randn(2, 7, 32), torch.ones(2, 7, dtype=torch.bool)
    for name in none:
        torch.manual_seed(3)
        top = Top(config | none | {name: 0.5}, 2)
        assert (top.train()(x, present) != top.eval()(x, present)).any(), name
    still = Top(config | none | {"layerdrop": 1.0}, 2)
    torch.testing.assert_close(still.train()(x, present), still.eval()(x, present), atol=0, rtol=0)


def test_only_the_top_learns(tiny: Path) -> None:
    encoder = wavlm.load(tiny, device=CPU, dtype=torch.float32, trained_layers=2)
    trunk, top = split(encoder, 2)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.top = trunk, top

    model = Model()
    assert {n.split(".")[0] for n in model.state_dict()} == {n.split(".")[0] for n, _ in model.named_parameters()} == {"top"}
    rows, lengths = _sound((SAMPLES, 4321))
    hidden = trunk(rows, lengths)
    model.train()
    assert not trunk.encoder.model.training
    torch.testing.assert_close(trunk(rows, lengths), hidden, atol=0, rtol=0)
    top(hidden, _present(encoder, lengths, hidden.shape[1])).square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in top.parameters())
    assert all((p.grad != 0).any() for p in top.parameters() if p.requires_grad)
    below = list(trunk.encoder.model.parameters())
    assert below
    assert all(p.grad is None and not p.requires_grad for p in below)
    mine = {p.data_ptr() for p in top.parameters()}
    assert not mine & {p.data_ptr() for p in below}


# --- the frozen layers as in training -----------------------------------------------------------------------------------------------

QUIET = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0, "layerdrop": 0.0}
SHORT = 400 + 320 * 8  # samples of nine frames, fewer than a mask has
KINDS = {  # what alone is random -> settings of the configuration, besides QUIET
    "dropouts": dict.fromkeys(QUIET, 0.3) | {"layerdrop": 0.0, "mask_time_prob": 0.0},
    "masks": {"mask_time_prob": 0.4},
    "masks over features": {"mask_time_prob": 0.0, "mask_feature_prob": 0.3},
    "layer drop": {"mask_time_prob": 0.0, "layerdrop": 0.5},
    "all, as transformers has them": {"hidden_dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "layerdrop": 0.1},
}


def _configured(tiny: Path, **settings) -> wavlm.WavLMModel:
    """The tiny network, its stochastic parts as given."""
    return wavlm.WavLMModel.from_pretrained(tiny, **QUIET | settings).eval()


def _transformers_in_training(model: wavlm.WavLMModel, rows: Tensor, below: int, seed: int) -> Tensor | None:
    """What enters layer `below` (3: leaves the last) of a network that transformers runs as in training; None where that layer is dropped.

    Numpy's generator, with which transformers places masks, begins with a number from torch's.
    """
    found: list[Tensor] = []
    torch.manual_seed(seed)
    np.random.seed(int(torch.randint(2**32, ())))  # noqa: NPY002
    place = model.encoder.layer_norm if below == 3 else model.encoder.layers[below]
    hook = place.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    with torch.no_grad():
        model.train()(rows)
    hook.remove()
    return found[0].half().float() if found else None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("below", [0, 1, 2, 3])
def test_live_frozen_layers_are_those_of_transformers_in_training(tiny: Path, kind: str, below: int) -> None:
    reference = _configured(tiny, **KINDS[kind])
    reference.config.mask_feature_min_masks = 0  # transformers gives it no value
    trunk = Trunk(wavlm.WavLM(_configured(tiny, **KINDS[kind]), device=CPU, scale=(0.0, 1.0), layer=below))
    rows, lengths = _sound((SAMPLES,) * 3)
    still, compared, differed = trunk(rows, lengths), 0, False
    for seed in range(5):
        torch.manual_seed(seed)
        live = trunk(rows, lengths, live=True)
        want = _transformers_in_training(reference, rows, below, seed)
        if want is not None:
            torch.testing.assert_close(live, want, atol=1e-5, rtol=1e-3)  # the last bit of half precision
            compared += 1
        differed |= bool((live - still).abs().max() > 0.01)
    assert compared
    assert differed or (kind == "layer drop" and below < 2)  # the first layer is never dropped


def test_live_layers_leave_numpy_and_the_network_as_they_were(tiny: Path) -> None:
    trunk = Trunk(wavlm.WavLM(_configured(tiny, mask_time_prob=0.3, layerdrop=0.3), device=CPU, scale=(0.0, 1.0), layer=2))
    rows, lengths = _sound((SAMPLES, 4321, 0, SAMPLES))
    still, before = trunk(rows, lengths), np.random.get_state()  # noqa: NPY002
    torch.manual_seed(1)
    live = trunk(rows, lengths, live=True)
    np.random.seed(99)  # noqa: NPY002 - whatever others did to it
    torch.manual_seed(1)
    again = trunk(rows, lengths, live=True)
    assert torch.equal(live, again)
    assert not torch.equal(live, trunk(rows, lengths, live=True))  # other draws
    np.random.set_state(before)  # noqa: NPY002
    trunk(rows, lengths, live=True)
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(trunk(rows, lengths), still)
    assert not trunk.encoder.model.training
    with pytest.raises(InputError, match="want finite samples"):
        trunk(rows, torch.tensor([SAMPLES] * 4), live=True)  # NaNs past the end
    assert not trunk.encoder.model.training
    assert torch.equal(trunk(rows, lengths), still)
    state = torch.get_rng_state()
    trunk(rows, lengths)
    assert torch.equal(torch.get_rng_state(), state)


def test_live_layers_get_no_gradient(tiny: Path) -> None:
    encoder = wavlm.load(tiny, device=CPU, dtype=torch.float32, trained_layers=1)
    trunk, top = split(encoder, 1)
    rows, lengths = _sound((SAMPLES, 4321))
    hidden = trunk(rows, lengths, live=True)
    assert not hidden.requires_grad
    top.train()(hidden, _present(encoder, lengths, hidden.shape[1])).square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in encoder.model.parameters())
    assert all(p.grad is not None for p in top.parameters() if p.requires_grad)


def test_a_window_with_no_room_for_a_mask_has_none(tiny: Path) -> None:
    """Nine rows, and a mask has ten: transformers itself refuses them."""
    masked = _configured(tiny, mask_time_prob=0.9)
    trunk = Trunk(wavlm.WavLM(copy.deepcopy(masked), device=CPU, scale=(0.0, 1.0), layer=1))
    rows, lengths = _sound((SAMPLES, SHORT))
    still, live = trunk(rows, lengths), trunk(rows, lengths, live=True)
    assert torch.equal(live[1], still[1])
    assert (live[0] != still[0]).any()
    with pytest.raises(ValueError, match="mask_length"):
        masked.train()(rows[1:, :SHORT])


def test_the_top_keeps_float32_below_a_half_precision_trunk(tiny: Path) -> None:
    half, full = (wavlm.load(tiny, device=CPU, dtype=d, trained_layers=1) for d in (torch.bfloat16, torch.float32))
    # But for the positional convolution, which a CPU may get wrong in bfloat16 where groups are as small as here.
    assert {p.dtype for name, p in half.model.named_parameters() if "pos_conv_embed" not in name} == {torch.bfloat16}
    for name, value in half.top.state_dict().items():
        torch.testing.assert_close(value, full.top.state_dict()[name], atol=0, rtol=0)
    rows, lengths = _sound((SAMPLES, 4321))
    hidden = split(half, 1)[0](rows, lengths)
    assert hidden.dtype == torch.float32
    torch.testing.assert_close(hidden, split(full, 1)[0](rows, lengths), atol=0.15, rtol=0.05)


def test_under_autocast_the_trunk_gives_what_it_gives_without_but_for_rounding(tiny: Path) -> None:
    """As it runs in training with mixed precision on a CPU, which may get a convolution in small groups wrong in bfloat16."""
    trunk, _ = split(wavlm.load(tiny, device=CPU, dtype=torch.float32, trained_layers=1), 1)
    rows, lengths = _sound((SAMPLES, 4321))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = trunk(rows, lengths)
    torch.testing.assert_close(hidden, trunk(rows, lengths), atol=0.15, rtol=0.05)


def test_a_state_that_a_stored_feature_could_not_hold_is_refused(tiny: Path, monkeypatch) -> None:
    trunk, _ = split(wavlm.load(tiny, device=CPU, dtype=torch.float32, trained_layers=1), 1)
    monkeypatch.setattr(wavlm.WavLM, "states", lambda self, *_: torch.full((1, 2, 3), 7e4))
    with pytest.raises(WeightsError, match="want hidden states finite and within 65504"):
        trunk(*_sound((SAMPLES,)))


def test_refusals(tiny: Path) -> None:
    with pytest.raises(WeightsError, match=r"wavlm-tiny has 3 layers, got trained_layers 4; set 3 or fewer"):
        wavlm.load(tiny, device=CPU, dtype=torch.float32, trained_layers=4)
    encoder = wavlm.load(tiny, device=CPU, dtype=torch.float32)
    assert split(encoder, 0)[1] is None
    with pytest.raises(ValueError, match="want an encoder loaded with trained_layers 2, got 0"):
        split(encoder, 2)
    with pytest.raises(ValueError, match="at least one layer"):
        Top({}, 0)
    with pytest.raises(ValueError, match="want 1 to 3 layers, got 4"):
        Top.take(encoder.model, 4)


def test_parameter_counts_at_full_size() -> None:
    with torch.device("meta"):
        whole = wavlm.WavLMModel(wavlm.WavLMConfig(**wavlm.LARGE))
        top = Top(whole.config.to_dict(), 4)
    assert sum(p.numel() for p in whole.parameters()) == LARGE_COUNT
    by_hand = 4 * (1024**2 + 1024) + 16 + 8 * (64 + 1) + 2 * 2 * 1024 + 2 * 1024 * 4096 + 4096 + 1024
    assert by_hand == LAYER_COUNT
    assert sum(p.numel() for p in top.parameters() if p.requires_grad) == 4 * LAYER_COUNT + 2 * 1024
    assert sum(p.numel() for p in top.parameters() if not p.requires_grad) == 320 * 16


def test_full_width_trains_on_four_seconds() -> None:
    """One step of WavLM-Large with six of its layers, four of them trained."""
    encoder, top = _parts(_large(6), 4)
    rows, lengths = _sound((64000,), 64000)
    hidden = Trunk(encoder)(rows, lengths)
    assert hidden.shape == (1, 199, 1024)
    out = top.train()(hidden, _present(encoder, lengths, 199))
    out.square().mean().backward()
    assert out.isfinite().all()
    grads = [p.grad for p in top.parameters() if p.requires_grad]
    assert all(g.isfinite().all() and (g != 0).any() for g in grads)
