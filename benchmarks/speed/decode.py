"""Every frame of a 720p video as RGB.

reference: every frame dumped to a JPEG file, the files then read back one by one with PIL; how published extraction scripts hand frames on.
ours: `affpipe.media.picture.decode.frames`, each picture dropped before the next one.
floor: the same pass, nothing converted.
"""

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from affpipe.media.picture import decode
from affpipe.media.reader import VideoPass, open_media
from benchmarks.speed import inputs
from benchmarks.speed.arms import DisagreeError, Row, ratio, take_turns

SECONDS, QUICK_FRAMES = 4, 10
QUALITY = 95  # of JPEG
LOSS = 4.0  # grey levels by which pictures that went through JPEG may differ, on the mean
COMPARED = 10  # every so many frames are kept for the comparison


def rows(*, quick: bool) -> list[Row]:
    """The ratio to the reference, and the share of the floor."""
    path = inputs.film(2 if quick else 20)
    count = QUICK_FRAMES if quick else 25 * SECONDS
    arms = {"reference": lambda: _dumped(path, count), "ours": lambda: _ours(path, count), "floor": lambda: _decoded(path, count)}
    costs, outputs = take_turns(arms, units=count, rounds=1 if quick else 5, compare=lambda found: _compare(path, found))
    what = "decode 720p H.264 to RGB"
    share = 100 * ratio(costs, "floor", "ours")
    return [
        Row(what, "frame", costs, "reference : ours", ratio(costs), 4.0, outputs),
        Row(what, "frame", costs, "% of the speed of decoding alone", share, 80.0, outputs),
    ]


def _dumped(path: Path, count: int) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        with av.open(str(path)) as container:
            for i, frame in enumerate(islice(container.decode(video=0), count)):
                frame.to_image().save(f"{folder}/{i + 1:05d}.jpg", quality=QUALITY)
        kept = []
        for i in range(count):
            with Image.open(f"{folder}/{i + 1:05d}.jpg") as picture:
                image = np.asarray(picture.convert("RGB"))
            if i % COMPARED == 0:
                kept.append(image)
    return kept


def _ours(path: Path, count: int) -> list[np.ndarray]:
    return [image for i, _, image in islice(decode.frames(path), count) if i % COMPARED == 0]


def _decoded(path: Path, count: int) -> int:
    with open_media(path) as container:
        return sum(1 for _ in islice(VideoPass(container, path), count))


def _compare(path: Path, found: dict[str, Any]) -> str:
    with av.open(str(path)) as container:
        plain = [f.to_ndarray(format="rgb24") for i, f in enumerate(islice(container.decode(video=0), found["floor"])) if i % COMPARED == 0]
    if not np.array_equal(found["ours"], plain):
        raise DisagreeError("decode: ours differs from each frame converted on its own")
    loss = float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(found["reference"], plain, strict=True)]))
    if loss > LOSS:
        raise DisagreeError(f"decode: the reference differs by {loss:.1f} grey levels")
    return f"equal to conversion frame by frame; JPEG loses {loss:.1f} grey levels"
