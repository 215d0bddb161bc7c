"""Decoded sound placed on the video's clock: one channel at one rate, sample 0 at the first frame, zeros where there is no sound.

Container timestamps place the samples (pts * time_base, after FFmpeg dropped codec priming and what edit lists hide), see `soundclock`.
Sample counts carry them from one packet to the next. So sound and picture stay together through late starts, gaps, drift and joined files.
Resampling is libswresample's default, which compensates its own delay. After it the channels become one, see `mixing`.
"""

from collections.abc import Iterable, Iterator

import av
import numpy as np

from affpipe.media.sound.heard import Heard
from affpipe.media.sound.mixing import Mixer
from affpipe.media.sound.samples import Packer, mend, scaled, swing, waves
from affpipe.media.sound.soundclock import Joins, timed
from affpipe.media.tracks import QUIET

BLOCK = 1 << 16  # samples that are yielded, and so held in memory, at a time
CELL = 1 << 10  # samples that are judged silent or not as one
SAME = 2  # samples by which a stretch may miss the end of the one that it continues: rounding of a resampler


def lay(
    frames: Iterable[av.AudioFrame], heard: Heard, *, start_s: float, sample_rate_hz: int, samples: int, joins: Joins = list
) -> Iterator[np.ndarray]:
    """Yield `samples` samples from start_s on, in blocks (n <= BLOCK,) float32; count what is heard and placed.

    The track is filled from the left. Sound that lies outside, or whose time is taken already, is cut. Zeros stand where there is none.
    """
    block, begin, filled, last = np.zeros(BLOCK, np.float32), 0, 0, 0  # first sample of the block, first free sample, end of the sound
    heard.out_hz, heard.given = sample_rate_hz, samples
    for position, mono in _placed(frames, heard, start_s, joins):
        first, stop = max(position, filled), min(position + len(mono), samples)
        heard.cut += max(0, min(filled, stop) - max(position, 0))
        heard.placed += max(0, stop - first)
        if first < stop:
            heard.holes += first - last if last else 0
            last = stop
        while first < stop:
            while first >= begin + BLOCK:
                yield _given(block, heard)
                block, begin = np.zeros(BLOCK, np.float32), begin + BLOCK
            until = min(stop, begin + BLOCK)
            block[first - begin : until - begin] = mono[first - position : until - position]
            first = until
        filled = max(filled, position + len(mono))
        if filled >= samples:
            break
    while begin < samples:
        yield _given(block[: samples - begin], heard)
        block, begin = np.zeros(BLOCK, np.float32), begin + BLOCK


def _given(block: np.ndarray, heard: Heard) -> np.ndarray:
    """Return a block clipped to [-1, 1]; count what is clipped and silent."""
    if not block.any():  # the quick way: a damaged timestamp may ask for hours of zeros
        heard.silent += len(block)
        return block
    cells = np.arange(0, len(block), CELL)
    swings = (np.maximum.reduceat(block, cells) - np.minimum.reduceat(block, cells)) / 2
    heard.silent += int(np.diff(cells, append=len(block))[swings < QUIET].sum())
    heard.clipped += int((np.abs(block) > 1).sum())
    heard.swing = max(heard.swing, float(swings.max()))
    return np.clip(block, -1, 1)


class _Run:
    """Stretch of frames of one format, resampled on its own and placed at its own time."""

    def __init__(self, frame: av.AudioFrame, position: int, heard: Heard):
        self.setup, self.position, self.heard = _setup(frame), position, heard  # position of the next sample
        self._pack, self._mixer = Packer(frame), Mixer(frame.layout, heard.out_hz)
        self._resampler = av.AudioResampler(format="flt", rate=heard.out_hz)

    def take(self, frame: av.AudioFrame) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (position, samples (n,)) of what comes out for one more frame."""
        frame, heard = self._pack(frame), self.heard
        heard.rate_hz = frame.sample_rate
        heard.samples += frame.samples
        heard.values += frame.samples * frame.layout.nb_channels
        heard.mended += mend(frame)
        heard.sounds = heard.sounds or swing(scaled(frame)) >= QUIET
        yield from self._resampled(frame)

    def rest(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the same for what was held back."""
        yield from self._resampled(None)
        yield from self._put(self._mixer.rest())

    def _resampled(self, frame: av.AudioFrame | None) -> Iterator[tuple[int, np.ndarray]]:
        for piece in self._resampler.resample(frame):
            yield from self._put(self._mixer.take(waves(piece)))

    def _put(self, pieces: Iterable[tuple[np.ndarray, bool]]) -> Iterator[tuple[int, np.ndarray]]:
        for mono, louder in pieces:
            self.heard.louder += len(mono) if louder else 0
            yield self.position, mono
            self.position += len(mono)


def _setup(frame: av.AudioFrame) -> tuple:
    return frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate


def _placed(frames: Iterable[av.AudioFrame], heard: Heard, start_s: float, joins: Joins) -> Iterator[tuple[int, np.ndarray]]:
    """Yield resampled pieces (n,) of frames, each with its position on the track."""
    run = None
    for frame, time_s, continues in timed(frames, heard.clock, start_s=start_s, joins=joins):
        if run is None or not continues or _setup(frame) != run.setup:
            at = round((time_s - start_s) * heard.out_hz)
            if run is not None:
                yield from run.rest()
                at = run.position if continues and abs(at - run.position) <= SAME else at
            run = _Run(frame, at, heard)
        yield from run.take(frame)
    if run is not None:
        yield from run.rest()
