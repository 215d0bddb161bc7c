"""Geometry of the shown picture: the right way round, in square pixels, as a player shows it.

The rows of the stored picture stay; its columns are resampled. A width of w becomes w times the aspect ratio of a pixel. The display matrix
turns the picture after that, so for a video on its side the shown height changes. Pixels stay as they are if the ratio is within EVEN of 1
(encoders round sizes, and say so), beyond FLATTEST, or not given.
"""

from fractions import Fraction

import numpy as np

EVEN = Fraction(1, 200)
FLATTEST = 5  # width over height of a pixel at most, or height over width; standards end at 2

Matrix = tuple[int, int, int, int]


def believed(ratio: Fraction | None) -> Fraction:
    """Return the aspect ratio that pixels are taken to have: 1 if the file gives none, or an impossible one."""
    return ratio if ratio and Fraction(1, FLATTEST) <= ratio <= FLATTEST else Fraction(1)


def shown_size(size: tuple[int, int], ratio: Fraction, matrix: Matrix) -> tuple[int, int]:
    """Return the (width, height) of the shown picture from the stored size, the believed ratio of its pixels and its display matrix."""
    width, height = size
    if abs(ratio - 1) > EVEN:
        width = max(1, round(width * ratio))
    return (width, height) if matrix[0] else (height, width)


def orient(image: np.ndarray, matrix: Matrix) -> np.ndarray:
    """Turn and mirror a stored (H, W, 3) image the way the display matrix asks; (W, H, 3) for a quarter turn."""
    a, b, c, d = matrix
    if a == 0:
        image, across, down = image.transpose(1, 0, 2), c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(image[::down, ::across])


def resample(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an (H, W, 3) uint8 picture to (width, height): by area averaging to shrink, else cubic. Equal size returns it as it is."""
    if image.shape[1::-1] == size:
        return image
    import cv2

    larger = size[0] * size[1] > image.shape[0] * image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if larger else cv2.INTER_AREA)
