"""The frames that a network sees of every segment: 16 of each 4 s, every 2 s, the default grid of `qwen3vl`.

reference: each segment cut out into a file of its own, encoded anew, which is then read back.
seeking: the video opened for each segment, a seek to the key frame before it, decoded to its last wanted frame.
ours: `affpipe.encoders.qwen3vl.worker._clips`, one pass over the video.
All three convert the wanted frames alone.
"""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from affpipe.core.axis import FrameAxis, frames_in, segments
from affpipe.encoders.qwen3vl.network import thin
from affpipe.encoders.qwen3vl.spec import Qwen3VL
from affpipe.encoders.qwen3vl.worker import _clips
from affpipe.media.picture.decode import Frames, frames
from benchmarks.speed import inputs
from benchmarks.speed.arms import DisagreeError, Row, ratio, take_turns

FPS = 25
LOSS = 8.0  # grey levels by which frames that were encoded again may differ, on the mean


def rows(*, quick: bool) -> list[Row]:
    """The ratio to segments cut beforehand, and to seeking."""
    seconds, path = (6, inputs.film(6, inputs.SMALL)) if quick else (12, inputs.film(20))
    settings = Qwen3VL()
    axis = FrameAxis(np.arange(seconds * FPS) / FPS, Fraction(FPS))
    cut = segments(axis.start_s, axis.end_s, length_s=settings.length_s, hop_s=settings.hop_s)
    grid = [a + thin(b - a, count=settings.frames) for a, b in zip(*frames_in(axis.times_s, *cut.T), strict=True)]
    arms = {
        "reference": lambda: _cut_first(path, cut, grid),
        "seeking": lambda: [np.stack(list(_sought(path, axis.times_s[picks]))) for picks in grid],
        "ours": lambda: [clip for clip, _ in _clips(partial(_wanted, path), axis, cut, settings.frames)],
    }
    costs, outputs = take_turns(arms, units=len(cut), rounds=1 if quick else 2, compare=_compare)
    what = f"{settings.frames} frames of {settings.length_s:g} s, every {settings.hop_s:g} s, of {'small' if quick else '720p'} video"
    return [
        Row(what, "segment", costs, "reference : ours", ratio(costs), 13.0, outputs),
        Row(what, "segment", costs, "seeking : ours", ratio(costs, "seeking"), 2.5, outputs),
    ]


def _wanted(path: Path, wanted: np.ndarray) -> Frames:
    return frames(path, wanted=wanted)


def _sought(path: Path, times_s: np.ndarray) -> Iterator[np.ndarray]:
    """Frames at these times, by a seek to the key frame before the first."""
    for frame in _from(path, times_s[0], times_s[-1]):
        if np.abs(times_s - frame.time).min() < 0.5 / FPS:
            yield frame.to_ndarray(format="rgb24")


def _from(path: Path, start_s: float, last_s: float) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(round(start_s / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time > last_s - 0.5 / FPS:
                yield frame
                return
            if frame.time > start_s - 0.5 / FPS:
                yield frame


def _cut_first(path: Path, cut: np.ndarray, grid: list[np.ndarray]) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.mp4" for i in range(len(cut))]
        for file, (start_s, end_s) in zip(files, cut, strict=True):
            _write(file, _from(path, start_s, end_s - 1 / FPS))
        return [np.stack(list(_read(file, set((picks - picks[0]).tolist())))) for file, picks in zip(files, grid, strict=True)]


def _write(path: Path, frames: Iterator[av.VideoFrame]) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        for i, frame in enumerate(frames):
            if i == 0:
                stream.width, stream.height = frame.width, frame.height
            frame.pts, frame.time_base, frame.pict_type = i, Fraction(1, FPS), 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _read(path: Path, wanted: set[int]) -> Iterator[np.ndarray]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for i, frame in enumerate(container.decode(video=0)):
            if i in wanted:
                yield frame.to_ndarray(format="rgb24")


def _compare(found: dict[str, Any]) -> str:
    for ours, sought, cut in zip(found["ours"], found["seeking"], found["reference"], strict=True):
        if not np.array_equal(ours, sought):
            raise DisagreeError("segments: ours are not the frames that seeking gives")
        loss = float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(ours, cut, strict=True)]))
        if loss > LOSS:
            raise DisagreeError(f"segments: frames of a file cut beforehand differ by {loss:.1f} grey levels")
    return f"equal to seeking; encoding again loses {loss:.1f} grey levels"
