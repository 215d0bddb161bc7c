"""How often a face is seen in a video track: what tells the camera from the screen where a file has both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affpipe.faces.detect import MediaPipeDetector
from affpipe.media.picture.decode import pictures

PICTURES = 8  # that are looked at, spread over the track


def share_with_face(path: Path, track: int, times_s: Sequence[float]) -> float:
    """Share in [0, 1] of pictures of a track that show a face, by the bundled detector; times_s: where pictures may be taken."""
    at = np.unique(np.linspace(0, len(times_s) - 1, PICTURES).round().astype(int)) if len(times_s) else ()
    detector = MediaPipeDetector()
    try:
        seen = [bool(found) for image in pictures(path, track, [times_s[i] for i in at]) for found in detector.detect([image])]
    finally:
        detector.close()
    return sum(seen) / max(1, len(seen))
