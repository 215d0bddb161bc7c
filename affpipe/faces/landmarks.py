"""FaceMesh landmarks of one face crop (478 points: face, then irises).

The network looks for the face within the crop, so a crop needs room around it. With a margin of 0.5 box sides every real face in our clips
is found and no false alarm; less loses tilted faces, more brings false ones. Each crop is handled by itself (static image mode), so the
result does not depend on other crops.
"""

from contextlib import nullcontext
from pathlib import Path

import numpy as np

from affpipe.core.errors import WeightsError
from affpipe.faces.detect import check_frame
from affpipe.faces.mediapipe import quiet_start
from affpipe.system.standins import MEDIAPIPE, lightly

POINTS = 478
MARGIN = 0.5  # the crop margin that suits the network


class FaceMesh:
    """FaceMesh network. Model "bundled" is the one inside the mediapipe package; otherwise give the path of a face_landmarker.task file."""

    def __init__(self, model: str | Path = "bundled"):
        with quiet_start():
            lightly("mediapipe", MEDIAPIPE)
            start = _bundled if model == "bundled" else _task
            self._find, self.close = start(Path(model))
            self._find(np.zeros((64, 64, 3), np.uint8))
        self._warm = False  # the graph logs once more at the first face

    def landmarks(self, crop: np.ndarray) -> np.ndarray | None:
        """Find the (478, 3) float32 points of an (h, w, 3) uint8 RGB crop; None if no face is found.

        x and y are in pixels of the crop. z has the same scale: smaller is nearer to the camera, 0 is near the centre of the head.
        """
        check_frame("face mesh", crop)
        with nullcontext() if self._warm else quiet_start():
            points = self._find(np.ascontiguousarray(crop))
        if points is None:
            return None
        self._warm = True
        height, width = crop.shape[:2]
        return np.array([(p.x * width, p.y * height, p.z * width) for p in points], np.float32)


def _bundled(_: Path):
    from mediapipe.python.solutions import face_mesh

    net = face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.5)

    def find(crop: np.ndarray):
        faces = net.process(crop).multi_face_landmarks
        return faces[0].landmark if faces else None

    return find, net.close


def _task(path: Path):
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    if not path.is_file():
        raise WeightsError(f"face mesh: want a model file, got no file {path}; download face_landmarker.task or use model 'bundled'")
    try:
        options = vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_buffer=path.read_bytes()), num_faces=1)
        net = vision.FaceLandmarker.create_from_options(options)
    except (RuntimeError, ValueError) as e:
        raise WeightsError(f"face mesh: {path} is no face_landmarker.task ({str(e).splitlines()[0][:120]}); download it again") from e

    def find(crop: np.ndarray):
        faces = net.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=crop)).face_landmarks
        return faces[0] if faces else None

    return find, net.close
