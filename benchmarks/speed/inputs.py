"""Films for the benchmarks, made once and kept in benchmarks/out/inputs: a talking face of the demo with the grain of a camera."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from affpipe.data.demo.clips import Clip
from affpipe.data.demo.film import Sound, write_film
from affpipe.data.demo.render import drives
from affpipe.data.demo.scene import Stage
from affpipe.data.demo.signals import frame_ticks
from affpipe.data.demo.synthetic_voice import speak

FOLDER = Path("benchmarks/out/inputs")
SEED = 7
GRAIN = 2.5  # standard deviation of the grain, in grey levels: without it a drawn picture has next to no bits to decode
GRAINS = 16  # different pictures of grain
DRAWN_S = 20  # of a longer film: then the same pictures again
WIDE, SMALL = (1280, 720), (320, 256)


def film(seconds: int, size: tuple[int, int] = WIDE, *, fps: int = 25, people: int = 1) -> Path:
    """An MP4 (H.264, AAC) of so many whole seconds and (width, height), with one face or several side by side, and a voice."""
    clip = Clip(f"{seconds}s_{size[0]}x{size[1]}_{fps}_{people}", "predict", seconds, Fraction(fps), size, people=people)
    path = FOLDER / f"{clip.name}.mp4"
    if not path.exists():
        rng = np.random.default_rng(SEED)
        ticks, tick = frame_ticks(clip, rng)
        voice = Sound(speak(drives(clip, SEED)[0], 0.0, clip.duration_s, rng), 0.0)
        with _aside(path) as part:
            write_film(part, _pictures(clip, ticks * float(tick), rng), ticks, tick, fps=clip.fps, size=size, sound=voice)
    return path


def _pictures(clip: Clip, times_s: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    width, height = clip.size
    people = drives(clip, SEED)
    stages = [Stage((width // len(people), height), person, clip, rng) for person in people]
    grain = np.rint(rng.normal(0, GRAIN, (GRAINS, height, width, 1))).astype(np.int16)
    drawn: list[np.ndarray] = []
    for i, time_s in enumerate(times_s[: round(DRAWN_S * clip.fps)]):
        picture = np.hstack([stage.frame(time_s) for stage in stages])
        picture = np.clip(picture + grain[i % GRAINS], 0, 255).astype(np.uint8)
        yield picture
        if clip.duration_s > DRAWN_S:
            drawn.append(picture)
    yield from (drawn[i % len(drawn)] for i in range(round(DRAWN_S * clip.fps), len(times_s)))


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A path to write a film to, which takes its name once it is whole; muxers go by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part{path.suffix}")
    yield part
    part.replace(path)
