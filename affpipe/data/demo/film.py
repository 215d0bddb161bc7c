"""Encoder of frames and sound as H.264 and AAC in MP4, with the same bytes on every run on one machine, and the mark of a demo."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from affpipe.data.demo.synthetic_voice import SAMPLE_RATE
from affpipe.media.probe import DEMO_COMMENT

# x264's AVX-512 code reads past the right edge of pictures whose width is no multiple of 64, and its output depends on what is there.
VIDEO = {"crf": "20", "preset": "veryfast", "threads": "1", "x264-params": "asm=AVX2"}
CHUNK = 1024  # samples of one AAC frame


@dataclass(frozen=True)
class Sound:
    """Mono sound: (N,) float32 at SAMPLE_RATE, with the first sample at start_s on the container's clock."""

    samples: np.ndarray
    start_s: float


def write_film(
    path: Path,
    frames: Iterable[np.ndarray],
    ticks: np.ndarray,
    tick: Fraction,
    *,
    fps: Fraction,
    size: tuple[int, int],
    sound: Sound | None,
) -> None:
    """Write (H, W, 3) uint8 RGB frames at times ticks * tick, and the sound if there is one."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        container.metadata["comment"] = DEMO_COMMENT
        video = container.add_stream("libx264", rate=fps, options=VIDEO)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = tick
        video.codec_context.thread_count = 1
        pending = []
        if sound is not None:
            audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
            audio.bit_rate = 96000
            pending = list(_chunks(sound))
        for picture, pts in zip(frames, ticks, strict=True):
            while pending and pending[0].pts < float(pts * tick) * SAMPLE_RATE:
                container.mux(audio.encode(pending.pop(0)))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = int(pts), tick
            container.mux(video.encode(frame))
        for chunk in pending:
            container.mux(audio.encode(chunk))
        container.mux(video.encode(None))
        if sound is not None:
            container.mux(audio.encode(None))


def _chunks(sound: Sound) -> Iterable[av.AudioFrame]:
    """Yield the sound in AAC-sized frames with their timestamps.

    The encoder puts one frame of priming before the first. MP4 hides it if a track starts at 0, but not if it starts late. So a late track
    begins one frame later, and the priming replaces the silent first frame.
    """
    first = round(sound.start_s * SAMPLE_RATE)
    for start in range(CHUNK if first else 0, len(sound.samples), CHUNK):
        frame = av.AudioFrame.from_ndarray(sound.samples[None, start : start + CHUNK], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, first + start, Fraction(1, SAMPLE_RATE)
        yield frame
