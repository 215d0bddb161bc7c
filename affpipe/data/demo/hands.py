"""The hands of a person: they speak, as hands do, and hold a sheet of paper before the face.

One hand rises with valence, the other with arousal, in sleeves of two colours, beside the head and never before it. The sheet hides the
whole head. Lengths are in face widths, from the middle of the face.
"""

import cv2
import numpy as np

ASIDE, SLEEVE, PALM = 1.45, 0.55, 0.3  # where a forearm stands, half of its width, radius of a hand
LOW, HIGH, ELBOW = 1.9, -1.2, 4.0  # height of a hand at -1 and at 1, of what lies below every picture
SHEET, LINES = (0.85, -1.2, 1.1), 9  # half of the width, top and bottom of the paper; lines of text on it
SKIN, PAPER, INK = (214, 160, 130), (236, 234, 226), (150, 150, 158)  # RGB
SLEEVES = ((255, 30, 0), (0, 230, 0))  # of the hand for valence, of that for arousal
FINE = 4  # bits of a pixel's fraction in which edges are drawn


class Hands:
    """Draws into pictures, each (height, width, 3) uint8 RGB.

    Args:
        place: (2,) x and y of the middle of the face. face: its width. Both in pixels.
        light: (3,) how much of each colour there is.
    """

    def __init__(self, place: np.ndarray, face: float, light: np.ndarray) -> None:
        self._place, self._face, self._light = place, face, light

    def gesture(self, picture: np.ndarray, valence: float, arousal: float, sunk: float) -> None:
        """Draw both hands at one moment; sunk: 0 in sight … 1 below the picture."""
        for x, value, sleeve in ((ASIDE, valence, SLEEVES[0]), (-ASIDE, arousal, SLEEVES[1])):
            y = LOW + (HIGH - LOW) * (value + 1) / 2 + sunk * ELBOW
            self._box(picture, x - SLEEVE, y, x + SLEEVE, y + ELBOW, sleeve)
            centre = self._pixels((x, y)).tolist()
            cv2.circle(picture, centre, round(PALM * self._face * 2**FINE), self._lit(SKIN), -1, cv2.LINE_AA, FINE)

    def hide(self, picture: np.ndarray, part: float) -> None:
        """Draw the sheet of paper; part: 0 below the picture … 1 before the face."""
        if part == 0:
            return
        half, top, bottom = SHEET
        down = (1 - part) * ELBOW
        self._box(picture, -half, top + down, half, bottom + down, PAPER)
        for y in np.linspace(top, bottom, LINES + 2)[1:-1] + down:
            self._box(picture, -0.8 * half, y - 0.02, 0.8 * half, y + 0.02, INK)

    def _box(self, picture: np.ndarray, left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int]) -> None:
        corners = self._pixels((left, top), (right, top), (right, bottom), (left, bottom))
        cv2.fillConvexPoly(picture, corners, self._lit(colour), cv2.LINE_AA, FINE)

    def _pixels(self, *points: tuple[float, float]) -> np.ndarray:
        """(n, 2) int32 in 2**-FINE pixels; of one point (2,)."""
        return np.squeeze(np.rint((self._place + np.array(points) * self._face) * 2**FINE).astype(np.int32))

    def _lit(self, colour: tuple[int, int, int]) -> list[float]:
        return np.clip(np.rint(np.array(colour) * self._light), 0, 255).tolist()
