"""How far interpolated boxes lie from detected ones, and what they save: `python -m benchmarks.every [clips]`.

Each clip is gone through with `faces.every` 1, 2, 3, 5 and 10, everything else as by default. A frame that is not looked at is compared
with the faces found in it when every frame is looked at, each with the box that overlaps it most: intersection over union, distance of
the centres in widths of the found box, and faces without any box. Clips are those given, else those of AFFPIPE_TEST_DATA, else films of
the demo. Prints rows of the table in README.md.
"""

import argparse
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from affpipe.faces.detect import MediaPipeDetector
from affpipe.faces.follow import Face, follow
from affpipe.faces.settings import Faces
from affpipe.faces.track import Tracker, iou
from affpipe.media.picture.decode import frames
from benchmarks.speed.inputs import SMALL, film

EVERY = (2, 3, 5, 10)
SUFFIXES = (".mpg", ".mp4", ".webm", ".mov")
MOST_FRAMES = 150  # of a clip


def clips() -> list[Path]:
    """Real ones where they are at hand."""
    folder = Path(os.environ.get("AFFPIPE_TEST_DATA", "")) / "media"
    if "AFFPIPE_TEST_DATA" in os.environ and folder.is_dir():
        return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.stem != "truncated")
    return [film(4), film(4, SMALL, people=2)]


def look(clip: Path, every: int) -> tuple[list[list[Face]], float]:
    """Faces of each frame, and the CPU seconds of detection, looks and tracks; decoding is not counted."""
    s, detector = Faces(), MediaPipeDetector()
    tracker = Tracker(min_iou=s.min_iou, min_similarity=s.min_similarity, max_gap_frames=s.max_gap_frames + every - 1)
    shots = [shot for shot, _ in zip(frames(clip), range(MOST_FRAMES), strict=False)]
    begun = time.process_time()
    found = [faces for _, _, faces in follow(iter(shots), detector, tracker, every=every, batch_size=s.batch_size)]
    seconds = time.process_time() - begun
    detector.close()
    return found, seconds


@dataclass
class Tally:
    """What came of one `every` over all clips. overlap, centre: of each face; missed: those without a box; seconds: of a CPU."""

    overlap: list[float] = field(default_factory=list)
    centre: list[float] = field(default_factory=list)
    missed: int = 0
    seconds: float = 0.0

    def add(self, truth: list[Face], placed: list[Face]) -> None:
        """A frame that was not looked at."""
        boxes = np.array([face.box for face in placed]).reshape(-1, 4)
        for face in truth:
            found = iou(face.box[None], boxes)[0]
            if not found.any():
                self.missed += 1
                continue
            box = boxes[found.argmax()]
            off = (box[:2] + box[2:] - face.box[:2] - face.box[2:]) / 2
            self.overlap.append(float(found.max()))
            self.centre.append(float(np.linalg.norm(off) / (face.box[2] - face.box[0])))

    def line(self, every: int, whole_s: float) -> str:
        """Row of the table."""
        count = len(self.overlap) + self.missed
        overlap = f"{np.mean(self.overlap):.3f} | {np.min(self.overlap):.2f}"
        centre = f"{np.mean(self.centre):.3f} | {np.max(self.centre):.2f}"
        return f"| {every} | {count} | {overlap} | {centre} | {100 * self.missed / count:.1f} % | {whole_s / self.seconds:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("clips", nargs="*", type=Path)
    tallies, whole_s = {every: Tally() for every in EVERY}, 0.0
    for clip in parser.parse_args().clips or clips():
        truth, seconds = look(clip, 1)
        whole_s += seconds
        for every, tally in tallies.items():
            found, seconds = look(clip, every)
            tally.seconds += seconds
            for index, (real, placed) in enumerate(zip(truth, found, strict=True)):
                if index % every and index < len(truth) - 1:
                    tally.add(real, placed)
    for every, tally in tallies.items():
        print(tally.line(every, whole_s))


if __name__ == "__main__":
    main()
