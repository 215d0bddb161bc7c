"""Samples of decoded sound as arrays, whatever format they came in."""

import av
import numpy as np

# PyAV (18.1) crashes on a frame with as many planes as FFmpeg's own list holds, or more: it reads beyond the end of the list.
PLANES = 8
LARGEST = 1e6  # 120 dB above full scale: damage, not sound


class Packer:
    """Converter of frames with many planes to frames with one: a frame in, a frame out. All frames have one format."""

    def __init__(self, frame: av.AudioFrame):
        wanted = frame.format.is_planar and frame.layout.nb_channels >= PLANES
        self._resampler = av.AudioResampler(format=frame.format.packed.name, rate=frame.sample_rate) if wanted else None

    def __call__(self, frame: av.AudioFrame) -> av.AudioFrame:
        return frame if self._resampler is None else self._resampler.resample(frame)[0]


def waves(frame: av.AudioFrame) -> np.ndarray:
    """Return the samples (C, n) in the frame's dtype. Not for a frame of many planes, see `Packer`."""
    out = frame.to_ndarray()
    return out if frame.format.is_planar else out.reshape(-1, frame.layout.nb_channels).T


def scaled(frame: av.AudioFrame) -> np.ndarray:
    """Return the samples (C, n) as float32 with full scale 1; what is not a number becomes 0."""
    frame = Packer(frame)(frame)
    out = waves(frame)
    kind = out.dtype
    if kind == np.uint8:
        return (out.astype(np.float32) - 128) / 128
    if kind.kind in "iu":
        return out.astype(np.float32) / -float(np.iinfo(kind).min)
    return np.where(np.abs(out) <= LARGEST, out, 0).astype(np.float32)


def swing(wave: np.ndarray) -> float:
    """Return half the range of the samples (C, n) of the channel where it is largest.

    It is 0 for a constant, the zero of A-law included.
    """
    return float((wave.max(axis=1) - wave.min(axis=1)).max(initial=0.0)) / 2 if wave.size else 0.0


def mend(frame: av.AudioFrame) -> int:
    """Set the samples of a float frame that are NaN, infinite or beyond LARGEST to zero, in place. Return their number."""
    kind = {"flt": np.float32, "dbl": np.float64}.get(frame.format.packed.name)
    mended = 0
    for plane in frame.planes if kind is not None else ():
        data = np.frombuffer(plane, kind)
        bad = ~(np.abs(data) <= LARGEST)
        bad[frame.samples * (1 if frame.format.is_planar else frame.layout.nb_channels) :] = False  # padding
        if bad.any():
            mended += int(bad.sum())
            plane.update(np.where(bad, 0, data).astype(kind).tobytes())
    return mended
