"""A photograph that smiles, frowns, raises its brows and talks.

The portrait is NASA's, in the public domain; it ships inside scikit-image (`data.astronaut`). MediaPipe's face mesh locates mouth and
brows. Displacement fields (smile, brows, jaw) are computed once from those landmarks. For each frame they are summed and the picture is
resampled. The mouth is a seam between two layers: the face with upper lip and teeth, and in front of it the lower lip with the jaw. Where
neither shows it is dark inside. Lengths are in pixels of the enlarged portrait (ZOOM) unless stated otherwise.
"""

from functools import lru_cache

import cv2
import mediapipe as mp
import numpy as np
import skimage.data

from affpipe.faces.landmarks import FaceMesh
from affpipe.faces.mediapipe import quiet_start

ZOOM, KEEP_ROWS = 2, 400  # enlargement; rows of the original that can ever be in a frame
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
CORNERS, CHEEKS = (61, 291), (205, 425)
BROWS = (70, 63, 105, 66, 107, 300, 293, 334, 296, 336)
UPPER_LIDS = (159, 160, 158, 386, 387, 385)
CHIN, FACE_LEFT, FACE_RIGHT = 152, 234, 454
# Displacements in face widths.
SMILE_OUT, SMILE_UP, SMILE_REST = 0.06, 0.06, 0.4  # of a mouth corner, per unit of valence; the photograph smiles like valence 0.4
BROW_UP, LID_UP = 0.05, 0.015  # per unit of arousal
OPEN_GAP, LIP_DOWN = 0.16, 0.02  # between the lips at opening 1; the upper lip comes down by so much to close
INSIDE = (48, 16, 18)  # RGB of an open mouth


class Portrait:
    """The photograph and its displacement fields.

    Attributes:
        rgb: (H, W, 3) uint8; `express` redraws the face in it.
        alpha: (H, W) float32, 1 for the person, 0 for the old background.
        centre, width: those of the face.
        neck: height (y) below the chin where head motion begins to fade.
    """

    def __init__(self) -> None:
        picture = skimage.data.astronaut()
        points = ZOOM * _mesh(picture)
        self.centre = (points[FACE_LEFT] + points[FACE_RIGHT]) / 2
        self.width = float(np.linalg.norm(points[FACE_RIGHT] - points[FACE_LEFT]))
        self.neck = float(points[CHIN, 1] + 0.1 * self.width)
        self.rgb = cv2.resize(picture[:KEEP_ROWS], None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
        self.alpha = cv2.resize(_person(picture)[:KEEP_ROWS], None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_LINEAR)
        margin = 0.3 * self.width
        low = np.floor(points.min(0) - margin).astype(int)
        high = np.ceil(points.max(0) + margin).astype(int)
        self._box = (slice(low[1], high[1]), slice(low[0], high[0]))
        self._face = self.rgb[self._box].copy()
        self._inside = np.full_like(self._face, INSIDE)
        self._fields(points - low)

    def _fields(self, points: np.ndarray) -> None:
        """Compute the fields, each (h, w, 2) float32, from landmarks (468, 2) in the face patch."""
        height, width = self._face.shape[:2]
        unit = self.width
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
        left, right = (_bump(grid, points[[c]], 0.14 * unit) for c in CORNERS)
        cheeks = _bump(grid, points[list(CHEEKS)], 0.14 * unit)
        out, up = SMILE_OUT * unit * (right - left), -SMILE_UP * unit * (left + right) - 0.02 * unit * cheeks
        edge = _taper(height, width)[..., None]
        self._smile = np.stack([out, up], axis=-1) * edge
        brows = BROW_UP * _bump(grid, points[list(BROWS)], 0.09 * unit)
        lids = LID_UP * _bump(grid, points[list(UPPER_LIDS)], 0.035 * unit)
        self._brow = np.stack([np.zeros_like(brows), -unit * np.maximum(brows, lids)], axis=-1) * edge
        upper, lower = points[list(INNER_UPPER)], points[list(INNER_LOWER)]
        columns = np.arange(width, dtype=np.float32)
        seam = np.interp(columns, upper[:, 0], upper[:, 1])
        self._seam = np.interp(columns, lower[:, 0], lower[:, 1]).astype(np.float32)  # inner edge of the lower lip
        gap = np.clip(self._seam - seam, 0, None).astype(np.float32)
        self._mouth = _smooth(gap / 3)[None]  # 0 beyond the mouth's corners: nothing is dark there
        self._rest_gap = float(gap.max())
        shape = cv2.GaussianBlur(gap[None] / self._rest_gap, (0, 0), 0.02 * unit)
        below = np.clip((grid[..., 1] - points[CHIN, 1]) / (height - points[CHIN, 1]), 0, 1)
        self._jaw = shape * (1 - below) ** 2 * _smooth((height - grid[..., 1]) / (0.2 * unit))
        self._lip = shape * np.exp(-(((grid[..., 1] - seam.mean()) / (0.08 * unit)) ** 2))
        self._grid = grid

    def express(self, valence: float, arousal: float, opening: float) -> np.ndarray:
        """Redraw the face and return the whole picture, (H, W, 3) uint8; it is overwritten by the next call."""
        gap = OPEN_GAP * self.width * opening
        lip = LIP_DOWN * self.width * (1 - opening)
        source = self._grid - (valence - SMILE_REST) * self._smile - arousal * self._brow
        upper, lower = source.copy(), source
        upper[..., 1] -= lip * self._lip
        lower[..., 1] -= (gap - self._rest_gap + lip) * self._jaw
        face = cv2.remap(self._face, upper, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        jaw = cv2.remap(self._face, lower, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        face = blend(face, self._inside, self._beyond(upper) * self._mouth)
        self.rgb[self._box] = blend(face, jaw, self._beyond(lower))
        return self.rgb

    def _beyond(self, source: np.ndarray) -> np.ndarray:
        """Return (h, w) float32, the share of each pixel from below the lower lip's inner edge, with a soft edge of two pixels."""
        column = np.clip(np.rint(source[..., 0]).astype(np.int32), 0, len(self._seam) - 1)
        return np.clip((source[..., 1] - self._seam[column]) / 2 + 0.5, 0, 1)


@lru_cache(maxsize=1)
def portrait() -> Portrait:
    """Return the one portrait of this process."""
    return Portrait()


def blend(back: np.ndarray, front: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mix two (h, w, 3) uint8 pictures; weight (h, w) float32 in [0, 1] is the front one's share."""
    return cv2.blendLinear(back, front, 1 - weight, weight)


def _mesh(picture: np.ndarray) -> np.ndarray:
    """Return (468, 2) float64 landmarks of the only face, in pixels."""
    mesh = FaceMesh()
    points = mesh.landmarks(picture)
    mesh.close()
    return points[:468, :2].astype(np.float64)


def _person(picture: np.ndarray) -> np.ndarray:
    """Return (H, W) float32 in [0, 1]: 1 for the person, with an edge hard enough to remove the old background."""
    with quiet_start(), mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as model:
        mask = model.process(picture).segmentation_mask
    return _smooth((mask - 0.5) / 0.4).astype(np.float32)


def _smooth(x: np.ndarray) -> np.ndarray:
    """Return a smooth step from 0 at x <= 0 to 1 at x >= 1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _bump(grid: np.ndarray, points: np.ndarray, sigma: float) -> np.ndarray:
    """Return the (h, w) float32 sum of Gaussians at the points, scaled to a maximum of 1."""
    total = sum(np.exp(-((grid - np.float32(p)) ** 2).sum(-1) / (2 * sigma**2)) for p in points)
    return (total / total.max()).astype(np.float32)


def _taper(height: int, width: int) -> np.ndarray:
    """Return an (h, w) float32 window: 0 on the border, 1 inside, so that a warped patch meets the unchanged picture."""
    rows, columns = (np.minimum(np.arange(n), n - 1 - np.arange(n)) / (0.12 * n) for n in (height, width))
    return (_smooth(rows)[:, None] * _smooth(columns)[None]).astype(np.float32)
