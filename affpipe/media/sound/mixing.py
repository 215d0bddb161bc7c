"""Downmix of many channels to one, and what is done where channels cancel.

For a known layout the mix is the mean of left and right of ITU-R BS.775's stereo downmix, without further scaling: left and right 1/2,
centre sqrt(1/2), each surround and height channel sqrt(1/2) / 2, a back or top centre 1/2. Low-frequency channels are left out. So stereo
becomes its plain mean, and speech in a film's centre is 3 dB down. For channels without a place (a recorder's) it is the plain mean.

In a stretch of STRETCH_S the mix may lie over LOST_DB below the loudest channel (a cable of opposite polarity, one microphone of many).
There that channel is taken instead, faded over FADE_S.
"""

from collections.abc import Iterator
from math import sqrt

import av
import numpy as np

STRETCH_S, FADE_S = 0.5, 0.01
LOST_DB = 20.0
FLOOR = 1e-3  # RMS below which a channel is noise, so that nothing is lost
HELD = 0.5  # a channel is kept while it has half the RMS of the loudest, so that two of equal level do not take turns
HALF, DOWN = 0.5, sqrt(0.5)
WEIGHTS = dict.fromkeys(("FL", "FR", "DL", "DR", "FLC", "FRC", "WL", "WR", "BC", "TC"), HALF) | {"FC": DOWN}  # any other: DOWN / 2
LOW = ("LFE", "LFE2")


def weights(layout: av.AudioLayout) -> np.ndarray:
    """Return the (C,) float32 weight of each channel in the mix."""
    names = [channel.name for channel in layout.channels]
    if len(names) == 1 or "NONE" in names or len(names) != layout.nb_channels or not set(names) - set(LOW):
        return np.full(layout.nb_channels, 1 / layout.nb_channels, np.float32)
    return np.array([0.0 if name in LOW else WEIGHTS.get(name, DOWN / 2) for name in names], np.float32)


class Mixer:
    """Mixer of consecutive pieces of one layout."""

    def __init__(self, layout: av.AudioLayout, rate_hz: int):
        self.weights = weights(layout)
        self._even = bool((self.weights == self.weights[0]).all() and np.isclose(self.weights.sum(), 1))
        self._stretch, self._fade = round(STRETCH_S * rate_hz), round(FADE_S * rate_hz)
        self._held: list[np.ndarray] = []
        self._taken: int | None = None  # channel taken last, None for the mix
        self._begun = False

    def take(self, piece: np.ndarray) -> Iterator[tuple[np.ndarray, bool]]:
        """Add the next piece (C, n); yield settled mono (n,) float32 in order, and whether it is one channel instead of the mix."""
        if len(self.weights) == 1:
            yield piece[0], False
            return
        self._held.append(piece)
        if sum(p.shape[1] for p in self._held) >= 2 * self._stretch:
            whole = np.concatenate(self._held, axis=1)
            while whole.shape[1] >= 2 * self._stretch:
                yield self._settle(whole[:, : self._stretch])
                whole = whole[:, self._stretch :]
            self._held = [whole]

    def rest(self) -> Iterator[tuple[np.ndarray, bool]]:
        """Yield what is left: one to two stretches, unless there was less."""
        if self._held:
            yield self._settle(np.concatenate(self._held, axis=1))
            self._held = []

    def _settle(self, wave: np.ndarray) -> tuple[np.ndarray, bool]:
        mix = wave.mean(axis=0) if self._even else (self.weights[:, None] * wave).sum(axis=0)
        out, before = mix, self._taken
        self._taken = self._channel(wave, mix)
        if self._taken is not None:
            out = wave[self._taken].copy()
        if self._taken != before and self._begun:
            n = min(self._fade, len(out))
            old = mix if before is None else wave[before]
            rise = np.arange(1, n + 1, dtype=np.float32) / (n + 1)
            out[:n] = rise * out[:n] + (1 - rise) * old[:n]
        self._begun = True
        return out, self._taken is not None

    def _channel(self, wave: np.ndarray, mix: np.ndarray) -> int | None:
        levels = np.sqrt(np.square(wave, dtype=np.float64).mean(axis=1)) * (self.weights > 0)
        loudest = int(levels.argmax())
        if levels[loudest] < FLOOR or np.sqrt(np.square(mix, dtype=np.float64).mean()) >= levels[loudest] * 10 ** (-LOST_DB / 20):
            return None
        held = self._taken
        return held if held is not None and levels[held] >= HELD * levels[loudest] else loudest
