"""Expression geometry of FaceMesh landmarks, independent of the position, size and rotation of the head.

Each face is aligned to TEMPLATE, a schematic head of points that do not move with expression (eye corners, bridge of the nose, forehead,
temples). The alignment is the shift, scale and rotation (no mirroring) with the least squared error (Kabsch 1976). The scale is the ratio
of centroid sizes, so it does not depend on the rotation. Afterwards x points to the subject's left, y down, z away from the viewer; the
origin lies midway between the outer eye corners, and 1 is about the distance between them.

The features are the coordinates of the points that move with expression, and the distances that define action units. Head pose is left out
on purpose: it belongs to the camera as much as to the subject. Values lie within about [-1, 1.5], yet vary by .01 to .1, so standardise
each feature over the training streams before training.
"""

import numpy as np

from affpipe.core.errors import InputError

NAME = "mesh"  # in settings and messages

# Point -> x, y, z in units of the distance between the outer eye corners: the round proportions of an adult head.
TEMPLATE = {
    33: (-0.50, 0.00, 0.00), 263: (0.50, 0.00, 0.00),  # outer eye corners
    133: (-0.20, 0.03, -0.06), 362: (0.20, 0.03, -0.06),  # inner eye corners
    168: (0.00, 0.00, -0.25), 6: (0.00, 0.10, -0.30), 197: (0.00, 0.18, -0.34),  # bridge of the nose
    10: (0.00, -0.58, -0.25), 151: (0.00, -0.40, -0.28),  # forehead
    127: (-0.77, 0.00, 0.56), 356: (0.77, 0.00, 0.56), 54: (-0.66, -0.40, 0.12), 284: (0.66, -0.40, 0.12),  # temples
}  # fmt: skip

# Points whose x and y are features. "right" is the subject's right, which lies on the left of the picture.
POINTS = {
    "lip_outer": (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),
    "lip_inner": (78, 81, 13, 311, 308, 402, 14, 178),
    "brow_right": (70, 63, 105, 66, 107),
    "brow_left": (300, 293, 334, 296, 336),
    "eyelid_right": (160, 159, 158, 144, 145, 153),
    "eyelid_left": (387, 386, 385, 373, 374, 380),
    "cheek": (50, 280, 117, 346, 205, 425),
    "nostril": (129, 358),
    "jaw": (136, 176, 152, 400, 365),
    "iris": (468, 473),
}

# Distances in space between two points.
DISTANCES = {
    "mouth_width": (61, 291), "mouth_open": (13, 14), "mouth_height": (0, 17), "upper_lip": (0, 13), "lower_lip": (14, 17),
    "eye_open_right": (159, 145), "eye_open_left": (386, 374),
    "brow_gap": (107, 336),
    "squint_right": (145, 50), "squint_left": (374, 280),
    "nose_wrinkle_right": (133, 129), "nose_wrinkle_left": (362, 358), "nostril_width": (129, 358),
    "lip_raise": (2, 0), "chin_drop": (2, 152), "chin_raise": (17, 152),
}  # fmt: skip

# How far the first point lies above the second, along the head's own vertical.
HEIGHTS = {
    "corner_lift_right": (61, 13), "corner_lift_left": (291, 13),
    "brow_inner_right": (107, 133), "brow_inner_left": (336, 362),
    "brow_middle_right": (105, 33), "brow_middle_left": (334, 263),
    "brow_outer_right": (70, 33), "brow_outer_left": (300, 263),
    "gaze_up_right": (468, 33), "gaze_up_left": (473, 263),
}  # fmt: skip

# How far the first point lies behind the second.
DEPTHS = {"corner_back_right": (61, 0), "corner_back_left": (291, 0), "pout": (168, 13), "jaw_forward": (168, 152)}

FEATURES = (
    *(f"{part}_{p}_{c}" for part, points in POINTS.items() for p in points for c in "xy"),
    *DISTANCES, *HEIGHTS, *DEPTHS,
)  # fmt: skip
"""Name of each column of `MeshEncoder.extract`."""

_RIGID = np.array(list(TEMPLATE))
_MODEL = np.array(list(TEMPLATE.values()))  # (13, 3)
_PAIRS = {kind: np.array(list(pairs.values())) for kind, pairs in (("distance", DISTANCES), ("height", HEIGHTS), ("depth", DEPTHS))}
_MOVING = np.array([p for points in POINTS.values() for p in points])


class MeshEncoder:
    """Encoder of face geometry: arrays in, arrays out, without weights."""

    dim = len(FEATURES)

    def extract(self, landmarks: np.ndarray) -> np.ndarray:
        """Compute features (N, 144) float32, in the order of FEATURES, from (N, 478, 3) float landmarks with x, y and z in one scale.

        Raises InputError for another shape, a row with NaN or a face without extent: pass only rows in which a face was found.
        """
        face = aligned(landmarks)
        apart = {kind: face[:, pairs[:, 0]] - face[:, pairs[:, 1]] for kind, pairs in _PAIRS.items()}  # (N, P, 3)
        return np.concatenate(
            [
                face[:, _MOVING, :2].reshape(len(face), 2 * len(_MOVING)),
                np.linalg.norm(apart["distance"], axis=2),
                -apart["height"][..., 1],  # y points down
                apart["depth"][..., 2],
            ],
            axis=1,
        ).astype(np.float32)


def aligned(landmarks: np.ndarray) -> np.ndarray:
    """Align (N, 478, 3) landmarks to TEMPLATE, float64."""
    if landmarks.ndim != 3 or landmarks.shape[1:] != (478, 3):
        raise InputError(f"{NAME}: want landmarks (N, 478, 3), got {landmarks.shape}")
    bad = ~np.isfinite(landmarks).all(axis=(1, 2))
    if bad.any():
        raise InputError(f"{NAME}: want finite landmarks, got NaN or infinity in row {int(np.argmax(bad))}; pass found rows only")
    points = landmarks.astype(np.float64)
    rigid = points[:, _RIGID]  # (N, 13, 3)
    centre = rigid.mean(axis=1, keepdims=True)
    size = np.linalg.norm(rigid - centre, axis=(1, 2))
    if (size == 0).any():
        raise InputError(f"{NAME}: all points of row {int(np.argmin(size))} coincide; pass found rows only")

    middle = _MODEL.mean(axis=0)
    model = _MODEL - middle
    u, _, vt = np.linalg.svd((rigid - centre).transpose(0, 2, 1) @ model)  # (N, 3, 3)
    mirror = np.ones((len(points), 1, 3))
    mirror[:, 0, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * mirror) @ vt  # row vectors: face @ rotation ~ model
    scale = np.linalg.norm(model) / size
    return (points - centre) @ rotation * scale[:, None, None] + middle
