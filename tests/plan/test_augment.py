"""Augmented sound: each step is the plain formula of the public code, in its order, for the rows that drew it; one seed, one sound."""

import numpy as np
import pytest
import torch
from torch import Tensor

from affpipe.core.errors import SettingsError
from affpipe.models.augment import add_noise, augment, band_limit, gain, reverb
from affpipe.models.training_settings import Augment
from affpipe.plan.config import parse

RATE, SAMPLES = 16000, 16000
CHANGES = ["gain", "noise", "band", "reverb"]
NOTHING = {f"{change}_probability": 0.0 for change in CHANGES}


def _seed(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _only(change: str, **settings) -> dict:
    return NOTHING | {f"{change}_probability": 1.0} | settings


def _db(x: Tensor) -> Tensor:
    return 10 * x.double().square().mean(dim=-1).log10()


@pytest.fixture(scope="module")
def sound() -> tuple[Tensor, Tensor]:
    """Six rows, two shorter, one of silence, one empty, one loud; past the ends lie NaNs."""
    lengths = torch.tensor([SAMPLES, 9000, SAMPLES, 0, SAMPLES, 7001])
    x = 0.1 * torch.randn(6, SAMPLES, generator=_seed(3))
    x[2], x[4] = 0, 9 * x[4]
    for row, n in zip(x, lengths, strict=True):
        row[n:] = torch.nan
    return x, lengths


# --- the steps, in numpy ------------------------------------------------------------------------------------------------------------


def plain_gain(x, db):
    return x * 10.0 ** (db / 20.0)


def plain_noise(x, noise, snr_db):
    power, own = max(np.mean(x**2), 1e-8), max(np.mean(noise**2), 1e-8)
    return x + noise * np.sqrt(power / (10.0 ** (snr_db / 10.0) * own))


def plain_low_pass(x, share):
    spectrum = np.fft.rfft(x)
    kept = np.zeros_like(spectrum)
    k = max(1, int(len(spectrum) * share))
    kept[:k] = spectrum[:k]
    return np.fft.irfft(kept, len(x))


def plain_band(x, low, high):
    return plain_low_pass(x, high) - plain_low_pass(x, low)


def plain_room(x, noise, decay, mix):
    answer = noise * np.exp(-np.linspace(0, decay, len(noise)))
    answer = answer / np.abs(answer).sum()
    return (1 - mix) * x + mix * np.convolve(x, answer)[: len(x)]


def plain(x: np.ndarray, draw: torch.Generator, s: Augment) -> np.ndarray:
    """The chain over one row (n,) in float64, given the same draws."""

    def uniform(low, high):
        return low + (high - low) * float(torch.rand((), generator=draw))

    def noise(n):
        return torch.randn(n, generator=draw).numpy().astype(np.float64)

    x = x.astype(np.float64)
    if uniform(0, 1) < s.gain_probability:
        x = plain_gain(x, uniform(-s.gain_db, s.gain_db))
    if uniform(0, 1) < s.noise_probability:
        white = noise(len(x))
        x = plain_noise(x, white, uniform(*s.noise_snr_db))
    if uniform(0, 1) < s.band_probability:
        if uniform(0, 1) < s.low_pass_probability:
            x = plain_low_pass(x, uniform(*s.low_pass_share))
        else:
            low = uniform(*s.band_low_share)
            x = plain_band(x, low, uniform(*s.band_high_share))
    if uniform(0, 1) < s.reverb_probability:
        white = noise(max(16, min(int(uniform(*s.reverb_s) * RATE), len(x))))
        decay = uniform(*s.reverb_decay)
        x = plain_room(x, white, decay, uniform(*s.reverb_mix))
    return np.clip(x, -1, 1)


ALL = dict.fromkeys(NOTHING, 1.0)
SETTINGS = {
    "as published": {},
    **{change: _only(change) for change in CHANGES},
    "low-pass": _only("band", low_pass_probability=1.0),
    "band": _only("band", low_pass_probability=0.0),
    "all": ALL,
    "all, other ranges": ALL
    | {"gain_db": 20.0, "noise_snr_db": (-3.0, 0.0), "low_pass_share": (0.5, 0.9), "reverb_s": (0.001, 0.3), "reverb_mix": (0.5, 1.0)},
}


@pytest.mark.parametrize("case", SETTINGS)
def test_every_row_is_the_plain_chain_on_its_own_draws(sound, case):
    x, lengths = sound
    s = Augment(**SETTINGS[case])
    for seed in range(3):
        out, draw = augment(x, lengths, _seed(seed), **s.model_dump()), _seed(seed)
        for row, found, n in zip(x, out, lengths.tolist(), strict=True):
            if n:
                np.testing.assert_allclose(found[:n].numpy(), plain(row[:n].numpy(), draw, s), atol=2e-6)
            assert (found[n:] == 0).all()


def test_each_step_is_its_formula() -> None:
    x, white, room = (0.3 * torch.randn(n, generator=_seed(n)) for n in (5001, 5001, 1200))
    one, noise, ring = (v.double().numpy() for v in (x, white, room))
    for found, want in (
        (gain(x, -4.5), plain_gain(one, -4.5)),
        (add_noise(x, white, 11.0), plain_noise(one, noise, 11.0)),
        (band_limit(x, 0.0, 0.31), plain_low_pass(one, 0.31)),
        (band_limit(x, 0.07, 0.31), plain_band(one, 0.07, 0.31)),
        (reverb(x, room, 5.0, 0.3), plain_room(one, ring, 5.0, 0.3)),
    ):
        np.testing.assert_allclose(found.numpy(), want, atol=2e-6)


def test_the_order_is_gain_noise_band_room_and_clamp(monkeypatch) -> None:
    from affpipe.models import augment as module

    called = []
    for name in ("gain", "add_noise", "band_limit", "reverb"):
        monkeypatch.setattr(module, name, lambda x, *_, name=name: called.append(name) or x + 5)
    out = module.augment(torch.zeros(1, 64), torch.tensor([64]), _seed(), **ALL)
    assert called == ["gain", "add_noise", "band_limit", "reverb"]
    assert (out == 1).all()  # clamped after the last


# --- laws ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_each_change(sound, change: str) -> None:
    x, lengths = sound
    kept = x.clone()
    out = augment(x, lengths, _seed(1), **_only(change))
    torch.testing.assert_close(x, kept, equal_nan=True, atol=0, rtol=0)  # the input is left alone
    assert out.isfinite().all()
    assert out[2].abs().max() < 1e-3  # silence stays as good as silent: noise below -80 dB
    for i in (0, 1, 4, 5):
        n = int(lengths[i])
        assert (out[i, n:] == 0).all()
        assert (out[i, :n] != x[i, :n]).float().mean() > 0.98
    torch.testing.assert_close(augment(x, lengths, _seed(1), **_only(change)), out, atol=0, rtol=0)
    assert (augment(x, lengths, _seed(2), **_only(change)) != out).any()


def test_no_change(sound) -> None:
    x, lengths = sound
    out = augment(x, lengths, _seed(), **NOTHING)
    torch.testing.assert_close(out, x.nan_to_num(0).clamp(-1, 1), atol=0, rtol=0)
    assert (out[4].abs() == 1).any()


def test_chances_and_ranges_are_those_asked_for() -> None:
    """Of 4000 rows that are constant, from which gain and noise can be read off."""
    x = torch.full((4000, 64), 0.1)
    lengths = torch.full((4000,), 64)
    db = _db(augment(x, lengths, _seed(4), **NOTHING | {"gain_probability": 0.3})) + 20
    changed = db.abs() > 1e-4
    assert changed.float().mean() == pytest.approx(0.3, abs=0.03)
    assert (db[changed].min(), db[changed].max()) == (pytest.approx(-6, abs=0.05), pytest.approx(6, abs=0.05))
    assert db.mean() == pytest.approx(0, abs=0.2)
    out = augment(x, lengths, _seed(5), **NOTHING | {"noise_probability": 0.6})
    changed = (out != x).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.6, abs=0.03)
    snr = -_db((out - x)[changed]) - 20
    assert (snr.min(), snr.max()) == (pytest.approx(8, abs=0.05), pytest.approx(25, abs=0.05))
    assert snr.mean() == pytest.approx(16.5, abs=0.4)


def test_bands_are_as_wide_as_published() -> None:
    """White noise of 2,001 bins: which of them are left says where the borders were drawn."""
    x = 0.01 * torch.randn(1500, 4000, generator=_seed(8))
    out = augment(x, torch.full((1500,), 4000), _seed(9), **_only("band"))
    kept = torch.fft.rfft(out).abs() > 1e-3 * torch.fft.rfft(x).abs()
    share = kept.float().argmax(dim=1) / 2001, 1 - kept.flip(1).float().argmax(dim=1) / 2001  # first bin, one beyond the last
    assert (kept.sum(dim=1) == ((share[1] - share[0]) * 2001).round()).all()  # one piece, with sharp borders
    low_pass = share[0] == 0
    assert low_pass.float().mean() == pytest.approx(0.5, abs=0.05)
    for found, (least, most) in (
        (share[1][low_pass], (0.15, 0.45)),
        (share[0][~low_pass], (0.03, 0.12)),
        (share[1][~low_pass], (0.18, 0.5)),
    ):
        assert (float(found.min()), float(found.max())) == (pytest.approx(least, abs=0.005), pytest.approx(most, abs=0.005))


def test_rooms_are_as_long_and_as_loud_as_published() -> None:
    """A click is heard at its place, and rings for 50 to 200 ms after it; nothing is heard before it."""
    clicks, at = torch.zeros(300, 6000), 1000
    clicks[:, at] = 1
    out = augment(clicks, torch.full((300,), 6000), _seed(6), **_only("reverb"))
    assert out[:, :at].abs().max() < 1e-6
    ring = out[:, at + 1 :].abs()
    seconds = (len(ring[0]) - (ring.flip(1) > 1e-6).float().argmax(dim=1)) / RATE
    assert (seconds.min(), seconds.max()) == (pytest.approx(0.05, abs=0.005), pytest.approx(0.2, abs=0.005))
    first, last = (ring[:, part].mean() for part in (slice(0, 200), slice(600, 800)))
    assert first > 1.5 * last  # it fades
    mix = 1 - out[:, at]
    assert 0.095 < mix.min() < 0.12
    assert 0.38 < mix.max() < 0.405
    assert (ring.sum(dim=1) < 0.4001).all()  # all of the room's answer together is the share that is mixed in


@pytest.mark.parametrize("samples", [1, 2, 15, 17])
def test_hardly_any_sound(samples: int) -> None:
    x = torch.ones(3, samples)
    for change in CHANGES:
        assert augment(x, torch.tensor([samples, 0, samples]), _seed(), **_only(change)).isfinite().all(), change


def test_what_lies_past_the_end_of_a_row_has_no_say(sound) -> None:
    """A row cut to its sound is changed as the same row with room behind it."""
    x, lengths = sound
    for i in (1, 5):
        n = int(lengths[i])
        padded, alone = (augment(row[None], torch.tensor([n]), _seed(i), **ALL)[0, :n] for row in (x[i], x[i, :n]))
        assert torch.equal(padded, alone)


def test_all_together_are_deterministic(sound) -> None:
    x, lengths = sound
    state = torch.get_rng_state()
    first, again = (augment(x, lengths, _seed(11)) for _ in range(2))
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert first.isfinite().all()
    assert (torch.get_rng_state() == state).all()  # no other draw is disturbed


# --- settings -----------------------------------------------------------------------------------------------------------------------


def test_a_revision_is_part_of_the_key_of_what_augments_alone() -> None:
    def model(**more) -> dict:
        voice = {"kind": "chunk_asp", "reads": "wavlm", "speech_only": False} | more
        run = {"features": {"wavlm": {"encoder": "wavlm"}}, "models": {"voice": voice}, "publish": "voice"}
        return parse(run).models["voice"].spec()

    assert model(cache_frozen=False, augment={})["augment"]["revision"] == Augment.REVISION == 2
    assert model()["augment"] is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"low_pass_share": (0.4, 0.2)}, "low_pass_share: want the lower figure first"),
        ({"reverb_mix": (0.1, 1.2)}, "reverb_mix: want figures from 0 to 1, got"),
        ({"reverb_decay": (-1, 2)}, "reverb_decay: want figures from 0"),
        ({"band_low_share": (0.1, 0.3)}, "want band_low_share that ends before band_high_share begins"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(settings, said) -> None:
    voice = {"kind": "chunk_asp", "reads": "wavlm", "speech_only": False, "cache_frozen": False, "augment": settings}
    with pytest.raises(SettingsError, match=said):
        parse({"features": {"wavlm": {"encoder": "wavlm"}}, "models": {"voice": voice}, "publish": "voice"})
