"""Random changes of training waveforms: reverberation, noise, band limits, gain, each with its own chance, in the order of a recording.

Source: Team RAS, public code: noise with probability .6 at 8 to 25 dB, gain .3 within 6 dB, band .3, reverberation .2. What is not known is
ours: the noise is white; the band runs from 80–400 Hz to 2–7 kHz, telephone to nearly all of speech; the room has a reverberation time of
0.1–0.5 s, and its tail lies 0–12 dB below the direct sound.
Nothing moves in time: the filter has no phase, and a room's answer begins with the direct sound. Neither clips: what follows normalises.
Shapes: B rows, S samples, R the rows that are changed.
"""

import torch
from torch import Tensor

LOW_HZ, HIGH_HZ = (80.0, 400.0), (2000.0, 7000.0)
ORDER = 4  # 6 dB down at the border, 48 dB an octave beyond it
ROOM_S, TAIL_DB = (0.1, 0.5), (0.0, 12.0)
DECAY = 6.907755  # ln 1000: the reverberation time is that in which sound falls by 60 dB


def augment(
    waveforms: Tensor,
    lengths: Tensor,
    generator: torch.Generator,
    *,
    noise_probability: float = 0.6,
    noise_snr_db: tuple[float, float] = (8.0, 25.0),
    gain_probability: float = 0.3,
    gain_db: float = 6.0,
    band_probability: float = 0.3,
    reverb_probability: float = 0.2,
    sample_rate_hz: int = 16000,
) -> Tensor:
    """Change (B, S) float32 sound at random; each row draws for itself.

    Args:
        lengths: (B,) samples of real sound; what lies past them is not read, and zero in the answer.
        generator: on a CPU, so that one seed gives the same sound on all devices.
        gain_db: at most, up or down.

    Returns: (B, S) on the same device; rows that nothing befell are as they were.
    """
    real = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths.to(waveforms.device)[:, None]
    out = waveforms.masked_fill(~real, 0)

    def rows(probability: float) -> Tensor:
        return (torch.rand(len(out), generator=generator) < probability).nonzero().ravel()

    def uniform(low: float, high: float, count: int) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator).to(out.device)

    def put(chosen: Tensor, changed: Tensor) -> None:
        chosen = chosen.to(out.device)
        out[chosen] = changed.masked_fill(~real[chosen], 0)

    if n := len(chosen := rows(reverb_probability)):
        put(chosen, reverb(out[chosen], uniform(*ROOM_S, n), uniform(*TAIL_DB, n), real[chosen], generator, sample_rate_hz))
    if n := len(chosen := rows(noise_probability)):
        put(chosen, add_noise(out[chosen], uniform(*noise_snr_db, n), real[chosen], generator))
    if n := len(chosen := rows(band_probability)):
        put(chosen, band_pass(out[chosen], uniform(*LOW_HZ, n), uniform(*HIGH_HZ, n), sample_rate_hz))
    if n := len(chosen := rows(gain_probability)):
        put(chosen, gain(out[chosen], uniform(-gain_db, gain_db, n)))
    return out


def gain(x: Tensor, db: Tensor) -> Tensor:
    """(R, S) louder by db (R,)."""
    return x * 10 ** (db[:, None] / 20)


def add_noise(x: Tensor, snr_db: Tensor, real: Tensor, generator: torch.Generator) -> Tensor:
    """(R, S) with white noise where `real` (R, S), whose energy lies snr_db (R,) below that of the row. Silence stays silent."""
    noise = torch.randn(x.shape, generator=generator).to(x.device) * real
    return x + noise * _relative(x, noise, -snr_db)


def band_pass(x: Tensor, low_hz: Tensor, high_hz: Tensor, sample_rate_hz: int) -> Tensor:
    """(R, S) between low_hz and high_hz (R,): Butterworth's power response as the gain, without phase."""
    size = 2 * x.shape[1]  # the end does not reach round to the beginning
    hz = torch.fft.rfftfreq(size, 1 / sample_rate_hz, device=x.device).clamp(min=1e-3)
    high_pass = 1 / (1 + (low_hz[:, None] / hz) ** (2 * ORDER))
    low_pass = 1 / (1 + (hz / high_hz[:, None]) ** (2 * ORDER))
    return torch.fft.irfft(torch.fft.rfft(x, size) * high_pass * low_pass, size)[:, : x.shape[1]]


def reverb(x: Tensor, room_s: Tensor, tail_db: Tensor, real: Tensor, generator: torch.Generator, sample_rate_hz: int) -> Tensor:
    """(R, S) in a room of reverberation time room_s (R,), its tail tail_db (R,) below the direct sound; as loud as before where `real`.

    The tail is white noise that decays exponentially (Moorer, 1979). What rings past the end of a row is lost.
    """
    length = min(x.shape[1], int(float(room_s.max()) * sample_rate_hz) + 1)
    times = torch.arange(length, device=x.device) / sample_rate_hz
    tail = torch.randn(len(x), length, generator=generator).to(x.device) * torch.exp(-DECAY * times / room_s[:, None])
    tail[:, 0] = 0
    direct = torch.zeros_like(tail)
    direct[:, 0] = 1
    answer = direct + tail * _relative(direct, tail, -tail_db)
    size = x.shape[1] + length
    wet = torch.fft.irfft(torch.fft.rfft(x, size) * torch.fft.rfft(answer, size), size)[:, : x.shape[1]] * real
    return wet * _relative(x, wet, torch.zeros_like(tail_db))


def _relative(of: Tensor, x: Tensor, db: Tensor) -> Tensor:
    """Factor (R, 1) that brings the energy of x (R, ...) to db (R,) relative to that of `of`; zero where either is silent."""
    energy, own = (v.double().square().sum(dim=1, keepdim=True) for v in (of, x))
    factor = (10 ** (db[:, None] / 10) * energy / own.where(own > 0, 1)).sqrt()
    return factor.masked_fill(own == 0, 0).to(x.dtype)
