"""Signals that drive the faces and the voice: valence, arousal, talking, head motion; and the times of frames.

Valence and arousal are Gaussian noise smoothed by a Gaussian, so their autocorrelation is exp(-lag² / 4σ²): 0.40 at 0.8 s, 0.24 at 1 s. A
model that is off by a second therefore scores visibly worse. Everything is a function of the seed and the clip's name.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.ndimage import gaussian_filter1d

from affpipe.data.demo.clips import Absence, Clip, Hidden

RATE = 100  # samples a second of every curve
SMOOTH_S = 0.42  # σ of the smoothing of valence and arousal
LAG_S, MAX_LAG_R, MAX_CROSS_R = 0.8, 0.4, 0.15  # a drawn pair is kept only within these
FADE_S = 0.25  # time that the face takes to leave and to come back; it is labelled meanwhile
VARIABLE_TICKS = 90000  # timestamps of a variable-rate clip are multiples of 1/90000 s


@dataclass(frozen=True)
class Drive:
    """Curves of one person, each (N,) float64 sampled at RATE from time 0.

    Attributes:
        valence, arousal: in [-1, 1].
        opening: mouth, 0 closed … 1 wide open.
        head: (N, 4) tilt in radians, shift right and down in face widths, relative size change.
    """

    valence: np.ndarray
    arousal: np.ndarray
    opening: np.ndarray
    head: np.ndarray

    def at(self, times_s: np.ndarray, curve: str) -> np.ndarray:
        """Return values of a one-dimensional curve, or of each column of `head`, at any times."""
        values = getattr(self, curve)
        grid = np.arange(len(values)) / RATE
        if values.ndim == 1:
            return np.interp(times_s, grid, values)
        return np.stack([np.interp(times_s, grid, column) for column in values.T], axis=-1)


def frame_ticks(clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, Fraction]:
    """Return the timestamps of the clip's frames: (T,) int64 ticks from 0, and the length of a tick in seconds."""
    if not clip.variable:
        return np.arange(round(clip.duration_s * clip.fps)), 1 / clip.fps
    steps = rng.choice([0.8, 1.0, 1.2, 2.0, 3.0], p=[0.2, 0.5, 0.15, 0.1, 0.05], size=round(2 * clip.duration_s * clip.fps))
    ticks = np.concatenate([[0], np.cumsum(np.rint(steps * VARIABLE_TICKS / float(clip.fps)).astype(np.int64))])
    return ticks[ticks < clip.duration_s * VARIABLE_TICKS], Fraction(1, VARIABLE_TICKS)


def shown(stretches: tuple[Absence | Hidden, ...], times_s: np.ndarray) -> np.ndarray:
    """Return (T,) bool, True outside of all stretches."""
    away = np.zeros(len(times_s), bool)
    for stretch in stretches:
        away |= (times_s >= stretch.start_s) & (times_s < stretch.end_s)
    return ~away


def gone(absence: Absence | Hidden, times_s: np.ndarray) -> np.ndarray:
    """Return (T,) how far the face has left or is hidden, from 0 (there) to 1 (away); it moves during FADE_S before and after."""
    out = np.clip((times_s - absence.start_s) / FADE_S + 1, 0, 1)
    return np.minimum(out, np.clip((absence.end_s - times_s) / FADE_S + 1, 0, 1))


def drive(clip: Clip, rng: np.random.Generator) -> Drive:
    """Draw one person's curves; they reach half a second beyond the clip's end."""
    count = round((clip.duration_s + 0.5) * RATE)
    valence, arousal = _pair(count, rng)
    opening = _talk(clip, count, rng)
    energy = 0.4 + 0.3 * (1 + arousal)  # the head moves more in arousal
    scale = np.array([0.05, 0.06, 0.035, 0.025])  # of tilt, shifts and size change, see Drive.head
    head = scale * np.stack([_noise(count, 0.35, rng) * energy for _ in scale], axis=1)
    return Drive(valence, arousal, opening, head)


def correlation(x: np.ndarray, y: np.ndarray, lag: int = 0) -> float:
    """Return the correlation of x with y `lag` samples later."""
    return float(np.corrcoef(x[: len(x) - lag], y[lag:])[0, 1])


def _noise(count: int, sigma_s: float, rng: np.random.Generator) -> np.ndarray:
    """Draw (count,) smooth noise of mean 0 and variance 1."""
    pad = round(4 * sigma_s * RATE)
    x = gaussian_filter1d(rng.standard_normal(count + 2 * pad), sigma_s * RATE)[pad : pad + count]
    return (x - x.mean()) / x.std()


def _pair(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw valence and arousal; draw again until neither resembles itself LAG_S later or the other."""
    lag = round(LAG_S * RATE)
    while True:
        pair = [0.9 * np.tanh(0.6 * _noise(count, SMOOTH_S, rng)) + rng.uniform(-0.1, 0.1) for _ in range(2)]
        if count <= 4 * lag:  # too short for a correlation to mean anything
            return pair[0], pair[1]
        if all(correlation(x, x, lag) <= MAX_LAG_R for x in pair) and abs(correlation(*pair)) <= MAX_CROSS_R:
            return pair[0], pair[1]


def _talk(clip: Clip, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the (count,) mouth opening: bursts of syllables, 3 to 5 a second, and pauses with the mouth closed.

    The mouth is closed while the face is away, and never pauses while it is hidden.
    """
    times = np.arange(count) / RATE
    envelope, start = np.zeros(count), rng.uniform(0.3, 0.8)
    while start < clip.duration_s:
        stop = start + rng.uniform(1.2, 3.0)
        envelope[(times >= start) & (times < stop)] = 1
        start = stop + rng.uniform(0.5, 2.0)
    for absence in clip.absences:
        envelope[(times > absence.start_s - 2 * FADE_S) & (times < absence.end_s + 2 * FADE_S)] = 0
    for hidden in clip.hidden:
        envelope[(times > hidden.start_s - FADE_S) & (times < hidden.end_s + FADE_S)] = 1
    rate = np.clip(4 + 0.5 * _noise(count, 0.3, rng), 3, 5)
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * np.cumsum(rate) / RATE)
    stress = 0.75 + 0.25 * np.tanh(_noise(count, 0.3, rng))
    return gaussian_filter1d(envelope, 0.03 * RATE) * (0.12 + 0.88 * wave) * stress
