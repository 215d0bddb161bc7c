"""The picture as a player shows it: the right way round, in square pixels.

Rows of the stored picture stay, its columns are resampled: a width of w becomes w times the ratio of a pixel. The turn of the display
matrix comes after that, so of a video on its side it is the shown height that changes. Where the ratio is within EVEN of 1 (encoders round
sizes, and say so), beyond FLATTEST, or not said, pixels stay as they are.
"""

from fractions import Fraction

import numpy as np

EVEN = Fraction(1, 200)
FLATTEST = 5  # times as wide as high, or the other way round; standards end at 2

Matrix = tuple[int, int, int, int]


def believed(ratio: Fraction | None) -> Fraction:
    """The aspect ratio that pixels are taken to have: 1 where none is said, or none that can be."""
    return ratio if ratio and Fraction(1, FLATTEST) <= ratio <= FLATTEST else Fraction(1)


def shown_size(size: tuple[int, int], ratio: Fraction, matrix: Matrix) -> tuple[int, int]:
    """(width, height) of the shown picture, for that of the stored one, its pixels' believed ratio and its display matrix."""
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
    """An (H, W, 3) uint8 picture in (width, height) pixels: area averaging where it shrinks, else cubic; itself where it has that size."""
    if image.shape[1::-1] == size:
        return image
    import cv2

    larger = size[0] * size[1] > image.shape[0] * image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if larger else cv2.INTER_AREA)
