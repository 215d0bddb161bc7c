"""Log-mel spectrogram of waveform windows.

This is the front end of VGGish (Hershey et al. 2017, and its released code), from which the field's log-mel systems start: magnitude
spectrum of periodic Hann windows, 64 triangular bands, evenly spaced on the HTK mel scale from 125 to 7500 Hz, log(x + 0.01). Nothing is
padded: frame j covers samples j * hop to j * hop + window, and exists only where the waveform does.
"""

import numpy as np

from affpipe.core.errors import InputError
from affpipe.encoders.waveforms import check_waveforms

NAME = "logmel"  # in settings and messages

OFFSET = 0.01  # keeps silence finite; VGGish's


def _mel(hz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)


def filterbank(n_mels: int, frequencies_hz: np.ndarray, *, min_hz: float, max_hz: float) -> np.ndarray:
    """Compute (n_mels, K) triangles over the K frequencies: band m rises from edge m, is 1 at edge m + 1, and is 0 again at edge m + 2.

    The n_mels + 2 edges are evenly spaced in mel from min_hz to max_hz. The sides are straight in mel.
    """
    edges = np.linspace(_mel(min_hz), _mel(max_hz), n_mels + 2)
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    mel = _mel(frequencies_hz)
    bands = np.maximum(0.0, np.minimum((mel - low) / (peak - low), (high - mel) / (high - peak)))
    bands[:, frequencies_hz == 0] = 0  # no band contains the mean
    return bands


class LogMel:
    """Log-mel encoder; `dim` is the number of mel bands."""

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        window_s: float = 0.025,
        hop_s: float = 0.010,
        n_mels: int = 64,
        min_hz: float = 125.0,
        max_hz: float = 7500.0,
        batch_size: int = 8,
    ):
        if not 0 <= min_hz < max_hz <= sample_rate_hz / 2 or n_mels < 1 or not 0 < hop_s <= window_s:
            raise InputError(
                f"{NAME}: want 0 <= min_hz < max_hz <= {sample_rate_hz / 2}, n_mels >= 1 and 0 < hop_s <= window_s, "
                f"got {min_hz}, {max_hz}, {n_mels}, {hop_s}, {window_s}"
            )
        self.window, self.hop = round(window_s * sample_rate_hz), round(hop_s * sample_rate_hz)
        self.dim, self.batch_size = n_mels, batch_size
        self.taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        self.fft = 1 << (self.window - 1).bit_length()
        frequencies = np.fft.rfftfreq(self.fft, 1 / sample_rate_hz)
        self.bands = filterbank(n_mels, frequencies, min_hz=min_hz, max_hz=max_hz).T  # (K, n_mels)

    def frame_count(self, samples: int) -> int:
        """Return the number of frames of a waveform of `samples` samples."""
        return max(0, (samples - self.window) // self.hop + 1)

    def extract(self, waveforms: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Compute the spectrograms of N mono waveforms as (N, frame_count(S), n_mels) float32, in order.

        Args:
            waveforms: (N, S) float32. Samples past a row's length are not read.
            lengths: (N,) integer samples of real audio. Frames past frame_count(length) are zero.

        Raises InputError for anything else.
        """
        check_waveforms(NAME, waveforms, lengths)
        n, samples = waveforms.shape
        out = np.zeros((n, self.frame_count(samples), self.dim), np.float32)
        if out.shape[1] == 0:
            return out
        real = np.arange(out.shape[1]) < np.array([self.frame_count(int(length)) for length in lengths])[:, None]  # (N, F)
        for i in range(0, n, self.batch_size):
            batch = slice(i, i + self.batch_size)
            frames = np.lib.stride_tricks.sliding_window_view(waveforms[batch], self.window, axis=1)[:, :: self.hop]  # (B, F, window)
            spectrum = np.abs(np.fft.rfft(frames * self.taper, self.fft))  # (B, F, K)
            out[batch] = np.where(real[batch, :, None], np.log(spectrum @ self.bands + OFFSET), 0)
        return out
