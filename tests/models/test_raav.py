"""Reliability-aware audio-visual fusion: gate, presence, padding, determinism. Equality with a plain loop: test_exact.py."""

import pytest
import torch

from affpipe.core.errors import InputError
from affpipe.models.fusions.raav.network import COMPAT, RAAV

DIMS = {"face": 5, "behaviour": 3, "audio": 4}
FACE, BEHAVIOUR, AUDIO = range(3)
SETTINGS = {"visual": ("face", "behaviour"), "priors": (0.85, 0.15), "audio": "audio"}
SIZES = {"hidden": 8, "latents": 4, "layers": 1, "heads": 4, "feedforward": 16, "dropout": 0.2}


def build(dims=DIMS, **kwargs):
    torch.manual_seed(0)
    return RAAV(dims, **(SETTINGS | SIZES | kwargs)).eval()


def batch(windows=3, rows=7):
    """Window 0: gaps everywhere, frame 3 has nothing. Window 1: no audio. Window 2: audio alone in frames 0 and 1, a padded tail."""
    generator = torch.Generator().manual_seed(1)
    streams = {m: torch.randn(windows, rows, d, generator=generator) for m, d in DIMS.items()}
    present = torch.ones(windows, rows, 3, dtype=torch.bool)
    present[0, 0, FACE] = present[0, 1, BEHAVIOUR] = present[0, 1, AUDIO] = present[0, 5, AUDIO] = False
    present[0, 3] = False
    present[1, :, AUDIO] = False
    present[2, :2, :AUDIO] = False
    present[2, 5:] = False
    return streams, present


def close(got, want, tolerance=1e-5):
    torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)


# Gate


def test_the_gate_sums_to_one_over_what_is_seen():
    model, (streams, present) = build(), batch()
    gate = model(streams, present).gate
    seen = present[..., :AUDIO]
    assert gate.shape == (3, 7, 2)
    assert model.gate_names == ("face", "behaviour")
    close(gate.sum(-1), seen.any(-1).float())
    assert (gate[~seen] == 0).all()
    assert (gate[seen] > 0).all()


def test_without_an_opinion_the_gate_is_the_prior():
    model, (streams, present) = build(), batch()
    for score in model.score.values():
        torch.nn.init.zeros_(score[-1].weight)
        torch.nn.init.zeros_(score[-1].bias)
    gate = model(streams, present).gate
    both = present[..., FACE] & present[..., BEHAVIOUR]
    close(gate[both], torch.tensor([0.85, 0.15]).expand(int(both.sum()), 2))
    close(gate[0, 0], torch.tensor([0.0, 1.0]))  # behaviour alone takes it all


def test_priors_count_by_their_ratio():
    (streams, present), models = batch(), [build(), build(priors=(17.0, 3.0))]
    for got, want in zip(*(model(streams, present) for model in models), strict=True):
        close(got, want)


def test_priors_are_settings_and_no_weights():
    assert not any("prior" in name for name in build().state_dict())


def test_audio_has_no_part_in_the_gate():
    model, (streams, present) = build(), batch()
    other = model(streams | {"audio": streams["audio"] + 5}, present)
    want = model(streams, present)
    assert torch.equal(other.gate, want.gate)
    assert (other.prediction - want.prediction)[present[..., AUDIO].any(1)].abs().max() > 1e-3


# Presence


def test_without_audio_in_the_window_the_latents_say_nothing():
    model, (streams, present) = build(), batch()
    want = model(streams, present).prediction[1]
    with torch.no_grad():
        model.latents += 5
        model.consult.out.bias += 5
    close(model(streams, present).prediction[1], want)
    assert (want != 0).all()


def test_as_in_the_public_code_a_window_without_audio_goes_on_as_it_was_seen():
    """Without layers the embedding is z_0: the visual sum itself there, its norm by the paper's formula."""
    streams, present = batch()
    ours, theirs = build(layers=0), build(layers=0, compat="ras2026")
    theirs.load_state_dict(ours.state_dict(), strict=False)
    (_, normed, gate), (_, plain, same) = ours(streams, present), theirs(streams, present)
    close(gate, same)
    states = torch.stack([ours.project[m](streams[m]) for m in ("face", "behaviour")], dim=2)
    seen = (gate.unsqueeze(-1) * states).sum(dim=2)
    close(plain[1], seen[1])
    close(normed[1], ours.norm_fused(seen[1]))
    heard = plain[0][present[0].any(-1)]
    close(torch.nn.functional.layer_norm(heard, (8,)), heard, 1e-4)  # with audio it is normalised too


def test_as_in_the_public_code_frames_ask_with_their_norm():
    streams, present = batch()
    model, asked = build(compat="ras2026"), []
    model.consult.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0]))
    gate = model(streams, present).gate
    states = torch.stack([model.project[m](streams[m]) for m in ("face", "behaviour")], dim=2)
    states = states.masked_fill(~present[..., :AUDIO].unsqueeze(-1), 0)
    close(asked[0], torch.nn.functional.layer_norm((gate.unsqueeze(-1) * states).sum(dim=2), (8,)))
    assert set(model.state_dict()) - set(build().state_dict()) == {"norm_seen.weight", "norm_seen.bias"}


def test_where_only_audio_is_there_a_prediction_remains():
    model, (streams, present) = build(), batch()
    fused = model(streams, present)
    assert (fused.gate[2, :2] == 0).all()
    assert (fused.prediction[2, :2].abs().sum(-1) > 0).all()

    present = torch.zeros_like(present)
    present[..., AUDIO] = True
    alone = model(streams, present).prediction
    close(alone, alone[:, :1].expand_as(alone))  # one for the whole window: the encoder has no positions
    assert (alone[0, 0] - alone[1, 0]).abs().max() > 1e-6
    deaf = model({m: x if m == "audio" else x + 5 for m, x in streams.items()}, present)
    assert torch.equal(deaf.prediction, alone)


@pytest.mark.parametrize("name", ["face", "behaviour"])
def test_a_single_visual_modality_still_predicts(name):
    model, (streams, _) = build(), batch()
    present = torch.zeros(3, 7, 3, dtype=torch.bool)
    present[..., list(DIMS).index(name)] = True
    fused = model(streams, present)
    assert (fused.prediction.abs().sum(-1) > 0).all()
    assert (fused.gate[..., list(DIMS).index(name)] == 1).all()


@pytest.mark.parametrize("compat", COMPAT)
def test_nothing_present_is_zero_and_trains_without_nan(compat):
    model, (streams, present) = build(compat=compat).train(), batch()
    fused = model(streams, torch.zeros_like(present))
    sum(out.sum() for out in fused).backward()
    assert all((out == 0).all() for out in fused)
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize("compat", COMPAT)
def test_absent_values_get_no_gradient_and_spoil_none(compat):
    model, (streams, present) = build(compat=compat).train(), batch()
    streams = {m: x.masked_fill(~present[..., i : i + 1], 3e38).requires_grad_() for i, (m, x) in enumerate(streams.items())}
    model(streams, present).prediction.square().sum().backward()
    for i, x in enumerate(streams.values()):
        assert (x.grad[~present[..., i]] == 0).all()
        assert (x.grad[present[..., i]].abs().sum(-1) > 0).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


# Order


def test_frames_count_as_a_set():
    model, (streams, present) = build(layers=2), batch()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(4))
    shuffled = model({m: x[:, order] for m, x in streams.items()}, present[:, order])
    for got, want in zip(shuffled, model(streams, present), strict=True):
        close(got, want[:, order])


def test_audio_repeated_over_the_frames_that_it_covers_counts_once():
    model, (streams, _) = build(), batch()
    present = torch.ones(3, 7, 3, dtype=torch.bool)
    repeated = streams | {"audio": streams["audio"][:, :1].expand(-1, 7, -1)}
    once = present.clone()
    once[:, 1:, AUDIO] = False
    close(model(repeated, present).prediction, model(streams, once).prediction)


@pytest.mark.parametrize("compat", COMPAT)
def test_windows_do_not_touch_each_other(compat):
    model, (streams, present) = build(compat=compat), batch()
    order = torch.tensor([2, 0, 1])
    shuffled = model({m: x[order] for m, x in streams.items()}, present[order])
    for got, want in zip(shuffled, model(streams, present), strict=True):
        close(got, want[order])


def test_the_order_of_the_streams_is_that_of_dims():
    model, (streams, present) = build(), batch()
    for got, want in zip(model(dict(reversed(streams.items())), present), model(streams, present), strict=True):
        assert torch.equal(got, want)


def test_a_seed_fixes_the_parameters():
    for a, b in zip(build().parameters(), build().parameters(), strict=True):
        assert torch.equal(a, b)


def test_bad_arguments_are_refused():
    model, (streams, present) = build(), batch()
    with pytest.raises(InputError, match=r"RAAV: want widths of at least one visual stream, then audio, got \['audio', 'face'\]"):
        build({"audio": 4, "face": 5}, visual=("face",), priors=(1.0,))
    with pytest.raises(InputError, match=r"want a positive prior for each of face, behaviour, got \[1.0\]"):
        build(priors=(1.0,))
    with pytest.raises(InputError, match=r"want a positive prior .* got \[1.0, 0.0\]"):
        build(priors=(1.0, 0.0))
    with pytest.raises(InputError, match="RAAV: want compat among none, ras2026, got 'ras'"):
        build(compat="ras")
    with pytest.raises(InputError, match="RAAV: want streams face, behaviour, audio, got face"):
        model({"face": streams["face"]}, present)
    with pytest.raises(InputError, match=r"RAAV: want present \(B, T, 3\)"):
        model(streams, present[..., :2])
    with pytest.raises(InputError, match=r"RAAV: audio: want floating point \(B, T, 4\)"):
        model(streams | {"audio": streams["face"]}, present)
