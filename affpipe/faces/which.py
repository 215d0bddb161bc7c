"""The track of a video that shows a face, told by looking at some of its pictures.

Apart from `detect`, whose detectors need no video.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affpipe.faces.detect import MediaPipeDetector
from affpipe.media.picture.decode import pictures

PICTURES = 8  # number of pictures of a track examined for a face, spread over it


def share_with_face(path: Path, track: int, times_s: Sequence[float]) -> float:
    """Return the share in [0, 1] of pictures of a track in which the bundled detector finds a face.

    Args:
        times_s: times at which pictures may be taken.
    """
    at = np.unique(np.linspace(0, len(times_s) - 1, PICTURES).round().astype(int)) if len(times_s) else ()
    detector = MediaPipeDetector()
    try:
        seen = [bool(found) for image in pictures(path, track, [times_s[i] for i in at]) for found in detector.detect([image])]
    finally:
        detector.close()
    return sum(seen) / max(1, len(seen))
