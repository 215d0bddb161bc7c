"""Random changes of training waveforms: gain, noise, band limit, room, in this order, each with its own chance.

The result is clamped to [-1, 1]. Source: Team RAS, public code, for order, chances and ranges. Each row is changed by its own random draws:

- gain: a loudness within ±6 dB.
- noise: white, 8 to 25 dB below the row's mean square.
- band limit: a brick wall in the spectrum of the row. With probability .5 the lowest 15–45 % of its bins stay, else those from the lowest
  3–12 % to the lowest 18–50 %.
- room: white noise of 50–200 ms times exp(-linspace(0, decay)), decay 2 to 8, divided by the sum of its absolute values. The row is
  convolved with it, cut to its length, and mixed in with a share of .1 to .4.

Departures. The public code pads a short row with zeros first. It takes the level of its noise, its spectrum and the limit of its room's
length from the padded row; here a row ends where its sound does. It slides the room over the sound without reversing it, so the room swells
for 50–200 ms; here it fades.
Shapes: B rows, S samples, n samples of one row.
"""

import torch
from torch import Tensor

FLOOR = 1e-8  # least mean square, of sound and of noise: silence gets noise 80 dB below full scale and further down
SHORTEST = 16  # samples of a room at least


def augment(
    waveforms: Tensor,
    lengths: Tensor,
    generator: torch.Generator,
    *,
    gain_probability: float = 0.3,
    gain_db: float = 6.0,
    noise_probability: float = 0.6,
    noise_snr_db: tuple[float, float] = (8.0, 25.0),
    band_probability: float = 0.3,
    low_pass_probability: float = 0.5,
    low_pass_share: tuple[float, float] = (0.15, 0.45),
    band_low_share: tuple[float, float] = (0.03, 0.12),
    band_high_share: tuple[float, float] = (0.18, 0.5),
    reverb_probability: float = 0.2,
    reverb_s: tuple[float, float] = (0.05, 0.2),
    reverb_decay: tuple[float, float] = (2.0, 8.0),
    reverb_mix: tuple[float, float] = (0.1, 0.4),
    sample_rate_hz: int = 16000,
) -> Tensor:
    """Change (B, S) float32 sound at random; each row has its own draws.

    Args:
        lengths: (B,) samples of real sound; samples past them are not read, and are zero in the result.
        generator: on a CPU, so that one seed gives the same sound on all devices.
        gain_db: greatest gain, up or down.
        low_pass_probability: probability that a band limit is a low-pass instead of a band.
        low_pass_share, band_low_share, band_high_share: shares of the spectrum's bins, from 0 Hz: the border of a low-pass, the lower and
            the upper border of a band.

    Returns:
        (B, S) on the same device; rows without any change are as they were, clamped.
    """
    out = torch.zeros_like(waveforms)

    def chance(probability: float) -> bool:
        return float(torch.rand((), generator=generator)) < probability

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    def white(samples: int) -> Tensor:
        return torch.randn(samples, generator=generator).to(waveforms.device)

    for row, source, n in zip(out, waveforms, lengths.tolist(), strict=True):
        if n == 0:
            continue
        x = source[:n]
        if chance(gain_probability):
            x = gain(x, uniform(-gain_db, gain_db))
        if chance(noise_probability):
            x = add_noise(x, white(n), uniform(*noise_snr_db))
        if chance(band_probability):
            low_pass = chance(low_pass_probability)
            x = band_limit(x, 0.0 if low_pass else uniform(*band_low_share), uniform(*(low_pass_share if low_pass else band_high_share)))
        if chance(reverb_probability):
            length = max(SHORTEST, min(int(uniform(*reverb_s) * sample_rate_hz), n))
            x = reverb(x, white(length), uniform(*reverb_decay), uniform(*reverb_mix))
        row[:n] = x.clamp(-1, 1)
    return out


def gain(x: Tensor, db: float) -> Tensor:
    """Amplify (n,) by db."""
    return x * 10 ** (db / 20)


def add_noise(x: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    """Add noise (n,) to (n,) so that its mean square lies snr_db below that of x; mean squares below FLOOR count as FLOOR."""
    signal, own = (v.square().mean().clamp(min=FLOOR) for v in (x, noise))
    return x + noise * (signal / (own * 10 ** (snr_db / 10))).sqrt()


def band_limit(x: Tensor, low: float, high: float) -> Tensor:
    """Limit (n,) to the bins from share `low` to share `high` of its spectrum; low 0 is a low-pass.

    A border lies before bin int(share · bins), but not below bin 1.
    """
    spectrum = torch.fft.rfft(x)
    first, last = (max(1, int(len(spectrum) * share)) for share in (low, high))
    spectrum[last:] = 0
    if low > 0:
        spectrum[:first] = 0
    return torch.fft.irfft(spectrum, len(x))


def reverb(x: Tensor, noise: Tensor, decay: float, mix: float) -> Tensor:
    """Mix (n,) with a share `mix` of itself as heard in a room whose impulse response is the noise (r,), faded to exp(-decay).

    The part of the echo past the end is cut off.
    """
    room = noise * torch.exp(-torch.linspace(0, decay, len(noise), device=x.device))
    room = room / room.abs().sum().clamp(min=1e-6)
    size = len(x) + len(room) - 1
    wet = torch.fft.irfft(torch.fft.rfft(x, size) * torch.fft.rfft(room, size), size)[: len(x)]
    return (1 - mix) * x + mix * wet
