"""Faces of a video, detected in every n-th frame and in the last one, and interpolated in the frames between.

A track that is seen in both detected frames gets a box in each frame between them, linear in time (frames may be unevenly spaced). The two
boxes must touch: a face that moved further was at neither place in between. A track that begins or ends between detected frames is not
extended, since there may have been a cut. Crops are cut from the pixels of the frames between, so these are kept until the next detection.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from affpipe.core.errors import InputError
from affpipe.faces.appearance import LENGTH, look
from affpipe.faces.detect import Detector
from affpipe.faces.track import Tracker, iou


@dataclass(frozen=True, eq=False)
class Face:
    """Face in one frame: box (4,) float32 xyxy in pixels, score and track. `detected` is False for an interpolated box."""

    box: np.ndarray
    score: float
    track: int
    detected: bool


@dataclass(frozen=True, eq=False)
class _Frame:
    index: int
    time_s: float
    image: np.ndarray


def follow(
    frames: Iterator[tuple[int, float, np.ndarray]], detector: Detector, tracker: Tracker, *, every: int = 1, batch_size: int = 8
) -> Iterator[tuple[int, np.ndarray, list[Face]]]:
    """Yield (index, image, faces) of each frame, in order. The faces of a detected frame come best score first.

    At most max(every, batch_size) + every frames are held. The tracker's gap counts frames: give it every - 1 more than it should bridge.

    Args:
        frames: (index, time in seconds, (H, W, 3) uint8 RGB) with indices that count from 0.
        every: the detector sees frames 0, every, 2 every, ... and the last one.
        batch_size: frames that the detector sees at a time. The result does not depend on it.
    """
    if every < 1 or batch_size < 1:
        raise InputError(f"follow: want every >= 1 and batch_size >= 1, got {every}, {batch_size}")
    held: list[_Frame] = []  # not yielded yet
    before: tuple[_Frame, list[Face]] | None = None  # the latest detected frame; held[0] comes after it
    for index, time_s, image in frames:
        held.append(_Frame(index, time_s, image))
        if len(held) >= max(batch_size, every) and (looked := [i for i, f in enumerate(held) if f.index % every == 0]):
            out, before = _settle(held[: looked[-1] + 1], looked, before, detector, tracker)
            del held[: looked[-1] + 1]
            yield from out
            out.clear()  # frees these frames before the next ones come
    if held:
        looked = [i for i, f in enumerate(held) if f.index % every == 0 or f is held[-1]]
        yield from _settle(held, looked, before, detector, tracker)[0]


def _settle(
    held: list[_Frame], looked: list[int], before: tuple[_Frame, list[Face]] | None, detector: Detector, tracker: Tracker
) -> tuple[list[tuple[int, np.ndarray, list[Face]]], tuple[_Frame, list[Face]]]:
    """Find the faces of held frames by detection in those at `looked`, the last frame included; return them and that last frame."""
    out = []
    found = iter(detector.detect([held[i].image for i in looked]))
    after = 0
    for i in looked:
        frame, detections = held[i], next(found)
        boxes = np.array([d.box for d in detections], np.float32).reshape(-1, 4)
        looks = np.array([look(frame.image, box) for box in boxes], np.float32).reshape(-1, LENGTH)
        ids = tracker.update(frame.index, boxes, looks)
        faces = [Face(d.box, d.score, int(track), True) for d, track in zip(detections, ids, strict=True)]
        for between in held[after:i]:
            out.append((between.index, between.image, _between(*before, frame, faces, between.time_s)))
        out.append((frame.index, frame.image, faces))
        before, after = (frame, faces), i + 1
    return out, before


def _between(first: _Frame, ahead: list[Face], last: _Frame, behind: list[Face], time_s: float) -> list[Face]:
    """Interpolate the faces at a time between two frames, for the tracks in both, in the order of the first."""
    part = (time_s - first.time_s) / (last.time_s - first.time_s)
    then = {face.track: face for face in behind}
    faces = []
    for a in ahead:
        b = then.get(a.track)
        if b is not None and iou(a.box[None], b.box[None])[0, 0] > 0:
            box = ((1 - part) * a.box.astype(np.float64) + part * b.box).astype(np.float32)
            faces.append(Face(box, (1 - part) * a.score + part * b.score, a.track, False))
    return faces
