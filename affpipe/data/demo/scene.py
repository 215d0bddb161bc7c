"""One person before a painted wall: the portrait's place in the picture, the motion of the head and hands, absences, a hidden face."""

import cv2
import numpy as np

from affpipe.data.demo.clips import Clip
from affpipe.data.demo.hands import Hands
from affpipe.data.demo.portrait import blend, portrait
from affpipe.data.demo.signals import Drive, gone

FACE = 0.32  # face width as a share of the picture's height (of its width if narrower)
NECK = 0.8  # head motion fades out over so many face widths below the chin


class Stage:
    """Painter of the frames of one person, each (height, width, 3) uint8 RGB."""

    def __init__(self, size: tuple[int, int], person: Drive, clip: Clip, rng: np.random.Generator) -> None:
        """Draw the look from rng: size, place, mirroring, light, wall. Of the clip, its absences and hidden stretches count."""
        width, height = size
        self._person, self._clip, self._model = person, clip, portrait()
        self._unit = self._model.width
        self._scale = FACE * min(1.1 * width, height) * rng.uniform(0.9, 1.1) / self._unit
        place = np.array([width * rng.uniform(0.47, 0.53), height * rng.uniform(0.4, 0.45)])
        side = rng.choice([-1.0, 1.0])
        self._step = side * 1.15 * width / self._scale  # a shift by so much takes the whole person out
        light = rng.uniform(0.85, 1.1) * rng.uniform(0.95, 1.05, size=3)
        self._light = np.clip(np.rint(np.arange(256)[:, None] * light), 0, 255).astype(np.uint8)[None]  # (1, 256, 3) lookup table
        self._hands = Hands(place, self._scale * self._unit, light)
        self._wall = _wall(width, height, rng)
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
        self._map = (self._model.centre + (grid - place) / (self._scale * np.array([side, 1.0]))).astype(np.float32)
        self._pivot = np.array([self._model.centre[0], self._model.neck], np.float32)
        below = np.clip((self._map[..., 1:] - self._model.neck) / (NECK * self._unit), 0, 1)
        self._weight = (1 - below * below * (3 - 2 * below)).astype(np.float32)

    def frame(self, time_s: float) -> np.ndarray:
        """Return the picture at one moment."""
        now = np.array([time_s])
        valence, arousal, opening = (float(self._person.at(now, curve)[0]) for curve in ("valence", "arousal", "opening"))
        picture = self._model.express(valence, arousal, opening)
        source, presence, away = self._sway(self._person.at(now, "head")[0]), 1.0, 0.0
        for absence in self._clip.absences:
            left = float(gone(absence, now)[0])
            away = max(away, left)
            if absence.slides:
                source = source + np.float32([left * self._step, 0])
            else:
                presence *= 1 - left
        drawn = cv2.LUT(cv2.remap(picture, source, None, cv2.INTER_LINEAR), self._light)
        alpha = cv2.remap(self._model.alpha, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        picture = blend(self._wall, drawn, alpha * np.float32(presence))
        self._hands.gesture(picture, valence, arousal, away)
        self._hands.hide(picture, max((float(gone(hidden, now)[0]) for hidden in self._clip.hidden), default=0.0))
        return picture

    def _sway(self, head: np.ndarray) -> np.ndarray:
        """Return (height, width, 2) float32, the source of each pixel, with the head moved and the shoulders at rest."""
        tilt, right, down, grow = head
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]]) / (1 + grow)
        shift = -turn @ (np.array([right, down]) * self._unit)
        change = np.column_stack([turn - np.eye(2), shift])
        return self._map + self._weight * cv2.transform(self._map - self._pivot, change.astype(np.float32))


def _wall(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Return a (height, width, 3) uint8 background: two colours shading into each other and a few soft blots."""
    y, x = np.mgrid[0:height, 0:width] / height
    first, second = rng.uniform(112, 144, size=(2, 3))
    angle = rng.uniform(0, np.pi)
    ramp = np.clip(0.5 + 0.5 * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)), 0, 1)[..., None]
    wall = first * (1 - ramp) + second * ramp
    for _ in range(4):
        cx, cy, size = rng.uniform(0, width / height), rng.uniform(0, 1), rng.uniform(0.1, 0.3)
        blot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * size**2))[..., None]
        wall = wall + blot * rng.uniform(-7, 7, size=3)
    return np.clip(np.rint(wall), 0, 255).astype(np.uint8)
