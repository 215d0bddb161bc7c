"""A synthetic voice: harmonics of a glottal pulse shaped by formants, open as wide as the mouth.

It is louder and higher with arousal, and brighter with valence: a smile lifts the formants, and the harmonics fall less steeply. Brightness
leaves the level as it is, so that loudness tells arousal alone.
"""

import numpy as np

from affpipe.data.demo.signals import RATE, Drive

SAMPLE_RATE = 48000
PITCH_HZ, PITCH_OCTAVES = 165.0, 0.5  # at arousal 0, and the rise to arousal 1
LOUD_DB = 8.0  # rise of level from arousal 0 to 1
BRIGHT_DB, SMILE_OCTAVES = 12.0, 0.3  # rise of an octave's harmonics over those below, and of formants, from valence 0 to 1
LEVEL, FLOOR = 0.3, 5e-4  # amplitude of the voice at arousal 0, of the room
HARMONICS, TOP_HZ = 24, 4500.0
FORMANTS = ((450.0, 350.0, 120.0, 1.0), (1300.0, 250.0, 160.0, 0.5), (2600.0, 0.0, 220.0, 0.25))  # Hz closed, rise when open, width, gain


def speak(person: Drive, start_s: float, end_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return the sound from start_s to end_s as (N,) float32 in [-1, 1] at SAMPLE_RATE; the first sample is at start_s."""
    total = round(end_s * SAMPLE_RATE)
    control = np.arange(np.ceil(end_s * RATE) + 1) / RATE
    opening, valence, arousal = (person.at(control, curve) for curve in ("opening", "valence", "arousal"))
    pitch = PITCH_HZ * 2 ** (PITCH_OCTAVES * arousal)
    times = np.arange(total) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(np.interp(times, control, pitch)) / SAMPLE_RATE
    voice = np.zeros(total)
    for k, gain in enumerate(_gains(pitch, opening, valence), start=1):
        voice += np.interp(times, control, gain) * np.sin(k * phase)
    loud = LEVEL * 10 ** (LOUD_DB * arousal / 20) * np.clip(opening, 0, 1)
    sound = np.interp(times, control, loud) * voice + FLOOR * rng.standard_normal(total)
    return np.clip(sound[round(start_s * SAMPLE_RATE) :], -1, 1).astype(np.float32)


def _gains(pitch: np.ndarray, opening: np.ndarray, valence: np.ndarray) -> np.ndarray:
    """(HARMONICS, N) amplitude of each harmonic, for (N,) curves."""
    k = np.arange(1, HARMONICS + 1)[:, None]
    hz = k * pitch
    plain = _formants(hz, opening) / k * (hz < TOP_HZ)
    bright = _formants(hz / 2 ** (SMILE_OCTAVES * valence), opening) / k * (hz < TOP_HZ) * 10 ** (BRIGHT_DB * valence * np.log2(k) / 20)
    return bright * np.sqrt((plain**2).sum(axis=0) / (bright**2).sum(axis=0))


def _formants(hz: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Return the gain of the vocal tract at each frequency, for a mouth opening of the same shape."""
    return 0.1 + sum(gain / (1 + ((hz - base - rise * opening) / width) ** 2) for base, rise, width, gain in FORMANTS)
