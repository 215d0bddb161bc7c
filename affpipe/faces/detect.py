"""Face detection in whole frames. `yolo` has another detector with the same interface.

MediaPipe's two BlazeFace models come inside its package, so this works offline. Measured on 1280x720 frames: the full-range model finds
faces from about 75 pixels wide (6 % of the frame) and misses faces that fill the frame; the short-range model is the other way round.
Neither keeps anything between frames, so a rerun or another batching gives the same boxes.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from affpipe.core.errors import InputError, SettingsError
from affpipe.faces.mediapipe import quiet_start
from affpipe.system.standins import MEDIAPIPE, lightly

SHORT_RANGE, FULL_RANGE = 0, 1  # MediaPipe's `model_selection`
MODELS = {"full_range": (FULL_RANGE,), "short_range": (SHORT_RANGE,), "both": (FULL_RANGE, SHORT_RANGE)}


class Detection(NamedTuple):
    """Detected face: box (4,) float32, left top right bottom in pixels, within the frame; score in (0, 1]."""

    box: np.ndarray
    score: float


class Detector(Protocol):
    """Detector of faces. Its result for a frame depends on no other frame."""

    def detect(self, frames: list[np.ndarray]) -> list[list[Detection]]:
        """Detect the faces of each (H, W, 3) uint8 RGB frame, best score first."""


class MediaPipeDetector:
    """BlazeFace detector. Model "both" runs the short-range model on frames in which the full-range model finds nothing."""

    def __init__(self, *, model: Literal["both", "full_range", "short_range"] = "both", min_score: float = 0.5):
        if model not in MODELS:
            raise SettingsError(f"face detector: want model one of {', '.join(MODELS)}, got {model!r}")
        if not 0 < min_score <= 1:
            raise SettingsError(f"face detector: want 0 < min_score <= 1, got {min_score}")
        with quiet_start():
            lightly("mediapipe", MEDIAPIPE)
            from mediapipe.python.solutions.face_detection import FaceDetection

            self._nets = [FaceDetection(model_selection=m, min_detection_confidence=min_score) for m in MODELS[model]]
            for net in self._nets:
                net.process(np.zeros((64, 64, 3), np.uint8))

    def detect(self, frames: list[np.ndarray]) -> list[list[Detection]]:
        """Detect the faces of each (H, W, 3) uint8 RGB frame, best score first. Boxes are clipped to the frame.

        Raises InputError for any other shape or dtype.
        """
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: np.ndarray) -> list[Detection]:
        check_frame("face detector", frame)
        height, width = frame.shape[:2]
        frame = np.ascontiguousarray(frame)
        for net in self._nets:
            found = net.process(frame).detections
            if found:
                boxes = np.array([_corners(f) for f in found], np.float32) * np.array([width, height, width, height], np.float32)
                return clip(boxes, [f.score[0] for f in found], (height, width))
        return []

    def close(self) -> None:
        """Free the graphs and their threads."""
        for net in self._nets:
            net.close()


def check_frame(who: str, frame: np.ndarray) -> None:
    """Raise InputError unless `frame` is a non-empty (H, W, 3) uint8 array."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise InputError(f"{who}: want uint8 RGB (H, W, 3), got {frame.dtype} {frame.shape}")


def clip(boxes: np.ndarray, scores: Sequence[float], size: tuple[int, int]) -> list[Detection]:
    """Convert boxes (N, 4) xyxy in pixels of an (H, W) frame to Detections, best score first, then from the left.

    Boxes are clipped to the frame; a box with less than one pixel inside is dropped.
    """
    height, width = size
    boxes = np.clip(boxes.astype(np.float32), 0, np.array([width, height, width, height], np.float32))
    faces = [Detection(b, float(s)) for b, s in zip(boxes, scores, strict=True) if b[2] - b[0] >= 1 and b[3] - b[1] >= 1]
    return sorted(faces, key=lambda d: (-d.score, *d.box.tolist()))


def _corners(found) -> tuple[float, float, float, float]:
    b = found.location_data.relative_bounding_box
    return b.xmin, b.ymin, b.xmin + b.width, b.ymin + b.height
