"""Tone mapping of high dynamic range (PQ, HLG) to standard range, which all networks here were trained on.

The signal becomes light by SMPTE ST 2084 (PQ), or by ARIB STD-B67 with the system gamma of BT.2100 for a display of 1000 cd/m2 (HLG). The
tone curve is the EETF of BT.2390, from a display of 1000 cd/m2 to one whose white is 203 cd/m2, the HDR white of BT.2408. Light up to about
92 cd/m2 stays as it is, brighter light is compressed, and over 1000 cd/m2 it is white. The curve is applied to the largest of R, G and B,
which keeps the hue. Then the primaries become those of BT.709 (colours outside are clipped), and the signal that of BT.1886 (gamma 2.4).

The metadata of mastering displays are ignored: two files with one picture give the same values.
"""

import numpy as np

PQ, HLG = 16, 18  # `color_trc` of FFmpeg, after ITU-T H.273
NAMES = {PQ: "PQ", HLG: "HLG"}
PEAK, WHITE, TOP = 1000.0, 203.0, 10000.0  # cd/m2; TOP is the largest of PQ
GAMMA = 2.4
LUMA = (0.2627, 0.6780, 0.0593)  # BT.2020
LEVELS = 4096  # entries of the tables: 12 bits, finer than the eye and than 8 bits
ROWS = 128  # rows handled at a time, so that memory stays small

# `color_primaries` of H.273 -> chromaticities (x, y) of R, G, B; the white is D65. 2 is unspecified; PQ and HLG are BT.2100's.
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
PRIMARIES = {1: _BT709, 2: _BT2020, 9: _BT2020, 12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))}
D65 = (0.3127, 0.3290)


def to_sdr(image: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Convert an (H, W, 3) uint16 RGB signal of full range to (H, W, 3) uint8; transfer is PQ or HLG, primaries one of PRIMARIES."""
    out, matrix = np.empty(image.shape, np.uint8), to_bt709(primaries)
    for row in range(0, len(image), ROWS):
        light = [_LIGHT[transfer][image[row : row + ROWS, :, c] >> 4] for c in range(3)]  # cd/m2; for HLG still the scene's
        if transfer == HLG:
            luma = sum(part * own for part, own in zip(LUMA, light, strict=True))
            light = [own * (luma / PEAK) ** 0.2 for own in light]
        top = np.maximum(np.maximum(light[0], light[1]), light[2])
        gain = _GAIN[_place(np.sqrt(top / TOP))]
        light = [own * gain for own in light]
        for c in range(3):
            out[row : row + ROWS, :, c] = _CODE[_place(sum(part * own for part, own in zip(matrix[c], light, strict=True)))]
    return out


def _place(values: np.ndarray) -> np.ndarray:
    """Return the places of values, clipped to [0, 1], in a table over their square roots, which is fine where it is dark."""
    return np.rint(np.sqrt(np.clip(values, 0, 1)) * (LEVELS - 1)).astype(np.uint16)


def to_bt709(primaries: int) -> np.ndarray:
    """Return the (3, 3) float32 matrix from linear RGB of some primaries in cd/m2 to linear RGB of BT.709 with WHITE as 1."""
    return (np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(PRIMARIES[primaries]) / WHITE).astype(np.float32)


def _to_xyz(chromaticities: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return the (3, 3) matrix from linear RGB to CIE XYZ. Its columns are the primaries, scaled so that their sum is the white."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (*chromaticities, D65)]).T
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])


def pq_light(signal: np.ndarray) -> np.ndarray:
    """Return the light in cd/m2 of a PQ signal in [0, 1] (ST 2084)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    return TOP * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def pq_signal(light: np.ndarray) -> np.ndarray:
    """Return the PQ signal of light in cd/m2: the inverse of `pq_light`."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (np.asarray(light) / TOP) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def hlg_light(signal: np.ndarray) -> np.ndarray:
    """Return the scene light of an HLG signal in [0, 1] (STD-B67); its largest value is PEAK."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return PEAK * np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def curve(light: np.ndarray) -> np.ndarray:
    """Map light on a display of PEAK to light on one of WHITE, both in cd/m2 with black at 0 (BT.2390, sec. 5.4.1)."""
    top = pq_signal(PEAK)
    signal, most = np.minimum(pq_signal(light) / top, 1), pq_signal(WHITE) / top
    knee = 1.5 * most - 0.5
    t = (np.maximum(signal, knee) - knee) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return pq_light(np.where(signal < knee, signal, bent) * top)


_GRID = np.arange(LEVELS) / (LEVELS - 1)
_LIGHT = {PQ: pq_light(_GRID).astype(np.float32), HLG: hlg_light(_GRID).astype(np.float32)}
_GAIN = np.append(1, curve(TOP * _GRID[1:] ** 4) / (TOP * _GRID[1:] ** 4)).astype(np.float32)
_CODE = np.rint(255 * _GRID ** (2 / GAMMA)).astype(np.uint8)
