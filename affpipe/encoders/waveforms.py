"""Check of the waveforms given to networks of sound."""

import numpy as np

from affpipe.core.errors import InputError


def check_waveforms(who: str, waveforms: np.ndarray, lengths: np.ndarray) -> None:
    """Raise InputError unless waveforms are float32 (N, S) and lengths (N,) are whole numbers of samples from 0 to S."""
    if waveforms.dtype != np.float32 or waveforms.ndim != 2:
        raise InputError(f"{who}: want float32 (N, S), got {waveforms.dtype} {waveforms.shape}; decode to mono at the encoder's rate")
    n, samples = waveforms.shape
    if lengths.shape != (n,) or lengths.dtype.kind not in "iu" or ((lengths < 0) | (lengths > samples)).any():
        raise InputError(f"{who}: want ({n},) integer lengths from 0 to {samples}, got {lengths.dtype} {lengths}")
