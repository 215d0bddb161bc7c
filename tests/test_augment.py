"""Augmented sound: each change does what it says and no more, to the rows that drew it, and the same for the same seed."""

import pytest
import torch
from torch import Tensor

from affpipe.encoders.augment import add_noise, augment, band_pass, gain, reverb

RATE, SAMPLES = 16000, 16000
NOTHING = dict.fromkeys(("noise_probability", "gain_probability", "band_probability", "reverb_probability"), 0.0)
CHANGES = [name.removesuffix("_probability") for name in NOTHING]


def _seed(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _only(change: str, **settings) -> dict:
    return NOTHING | {f"{change}_probability": 1.0} | settings


def _tone(hz: float, samples: int = SAMPLES) -> Tensor:
    return torch.sin(2 * torch.pi * hz * torch.arange(samples) / RATE)


def _db(x: Tensor) -> Tensor:
    return 10 * x.double().square().mean(dim=-1).log10()


@pytest.fixture(scope="module")
def sound() -> tuple[Tensor, Tensor]:
    """Five rows, one shorter, one of silence, one empty; past the ends lie NaNs."""
    lengths = torch.tensor([SAMPLES, 9000, SAMPLES, 0, SAMPLES])
    x = 0.1 * torch.randn(5, SAMPLES, generator=_seed(3))
    x[2] = 0
    for row, n in zip(x, lengths, strict=True):
        row[n:] = torch.nan
    return x, lengths


@pytest.mark.parametrize("change", CHANGES)
def test_each_change(sound, change: str) -> None:
    x, lengths = sound
    kept = x.clone()
    out = augment(x, lengths, _seed(1), **_only(change))
    torch.testing.assert_close(x, kept, equal_nan=True, atol=0, rtol=0)  # the input is left alone
    assert out.isfinite().all()
    assert (out[2] == 0).all()  # silence stays silence
    for i in (0, 1, 4):
        n = int(lengths[i])
        assert (out[i, n:] == 0).all()
        assert (out[i, :n] != x[i, :n]).float().mean() > 0.99
    torch.testing.assert_close(augment(x, lengths, _seed(1), **_only(change)), out, atol=0, rtol=0)
    assert (augment(x, lengths, _seed(2), **_only(change)) != out).any()


def test_no_change(sound) -> None:
    x, lengths = sound
    out = augment(x, lengths, _seed(), **NOTHING)
    torch.testing.assert_close(out, x.nan_to_num(0), atol=0, rtol=0)


def test_chances_and_ranges_are_those_asked_for() -> None:
    """Of 4000 rows of ones, from which gain and noise can be read off."""
    x = torch.ones(4000, 64)
    lengths = torch.full((4000,), 64)
    db = _db(augment(x, lengths, _seed(4), **NOTHING | {"gain_probability": 0.3}))
    changed = db.abs() > 1e-4
    assert changed.float().mean() == pytest.approx(0.3, abs=0.03)
    assert (db[changed].min(), db[changed].max()) == (pytest.approx(-6, abs=0.05), pytest.approx(6, abs=0.05))
    assert db.mean() == pytest.approx(0, abs=0.2)
    out = augment(x, lengths, _seed(5), **NOTHING | {"noise_probability": 0.6})
    changed = (out != x).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.6, abs=0.03)
    snr = -_db((out - x)[changed])
    assert (snr.min(), snr.max()) == (pytest.approx(8, abs=0.05), pytest.approx(25, abs=0.05))
    assert snr.mean() == pytest.approx(16.5, abs=0.4)


def test_noise_lies_where_it_was_drawn(sound) -> None:
    x, lengths = sound
    out = augment(x, lengths, _seed(), **_only("noise", noise_snr_db=(12.5, 12.5)))
    for i in (0, 1, 4):
        n = int(lengths[i])
        noise = (out - x)[i, :n]
        assert float(_db(x[i, :n]) - _db(noise)) == pytest.approx(12.5, abs=1e-3)
        spectrum = torch.fft.rfft(noise).abs().square()
        halves = spectrum.tensor_split(2)
        assert float(halves[0].mean() / halves[1].mean()) == pytest.approx(1, abs=0.1)  # white
    tones = torch.stack([_tone(200), 2 * _tone(900)])
    snr = torch.tensor([3.0, 30.0])
    noisy = add_noise(tones, snr, torch.ones_like(tones, dtype=torch.bool), _seed())
    torch.testing.assert_close((_db(tones) - _db(noisy - tones)).float(), snr, atol=1e-3, rtol=0)


def test_gain_is_exact() -> None:
    x = torch.stack([_tone(300)] * 3)
    out = gain(x, torch.tensor([20.0, -20.0, 6.0]))
    torch.testing.assert_close(out, x * torch.tensor([[10.0], [0.1], [1.9952623]]))


@pytest.mark.parametrize(("hz", "kept"), [(75, False), (150, False), (600, True), (1700, True), (6800, False), (7500, False)])
def test_band(hz: float, kept: bool) -> None:
    """From 300 to 3400 Hz; away from the ends, where a tone that begins at once has other parts."""
    x = _tone(hz)[None]
    out = band_pass(x, torch.tensor([300.0]), torch.tensor([3400.0]), RATE)
    middle = slice(4000, 12000)
    if kept:
        torch.testing.assert_close(out[:, middle], x[:, middle], atol=0.02, rtol=0)  # in phase
    else:
        assert float(_db(x[:, middle]) - _db(out[:, middle])) > 20


@pytest.mark.parametrize("change", ["band", "reverb"])
def test_a_click_stays_at_its_sample(change: str) -> None:
    clicks = torch.zeros(16, SAMPLES)
    places = torch.arange(16) * 900 + 123
    clicks[torch.arange(16), places] = 1
    out = augment(clicks, torch.full((16,), SAMPLES), _seed(6), **_only(change))
    assert (out.abs().argmax(dim=1) == places).all()
    if change == "reverb":  # nothing is heard before it
        for row, place in zip(out, places, strict=True):
            assert row[:place].abs().max() < 1e-5


def test_a_room() -> None:
    """Its answer to a click decays by 60 dB within its time, and its tail is as loud as asked; loud stays louder than soft."""
    click = torch.zeros(2, 2 * SAMPLES)
    click[:, 1000] = 1
    every = torch.ones_like(click, dtype=torch.bool)
    out = reverb(click, torch.tensor([0.2, 0.5]), torch.tensor([3.0, 9.0]), every, _seed(7), RATE)
    direct, tail = out[:, 1000].square(), out[:, 1001:].square()
    torch.testing.assert_close(10 * (direct / tail.sum(dim=1)).log10(), torch.tensor([3.0, 9.0]), atol=1e-3, rtol=0)
    for row, room_s in zip(tail, (0.2, 0.5), strict=True):
        a, b = (row[int(f * room_s * RATE) :][:400].mean() for f in (0.1, 0.6))
        assert float(10 * (a / b).log10()) == pytest.approx(30, abs=2)  # half of the 60 dB
    speech = torch.stack([_tone(200), 0.1 * _tone(200)]) * torch.rand(2, SAMPLES, generator=_seed(8))
    wet = augment(speech, torch.full((2,), SAMPLES), _seed(9), **_only("reverb"))
    torch.testing.assert_close(_db(wet), _db(speech), atol=1e-3, rtol=0)
    assert (wet != speech).float().mean() > 0.99


@pytest.mark.parametrize("samples", [1, 2])
def test_hardly_any_sound(samples: int) -> None:
    x = torch.ones(3, samples)
    for change in CHANGES:
        assert augment(x, torch.tensor([samples, 0, samples]), _seed(), **_only(change)).isfinite().all(), change


def test_all_together_are_deterministic(sound) -> None:
    x, lengths = sound
    state = torch.get_rng_state()
    first, again = (augment(x, lengths, _seed(11)) for _ in range(2))
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert first.isfinite().all()
    assert (torch.get_rng_state() == state).all()  # no other draw is disturbed
