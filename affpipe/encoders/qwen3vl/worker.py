"""Worker that embeds segments of a video with Qwen3-VL."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from affpipe.core.axis import FrameAxis, frames_in, segments
from affpipe.core.stage import Context
from affpipe.encoders.running import half, place
from affpipe.media.pictures import pictures
from affpipe.store.item_streams import Job, Worker, blocks
from affpipe.system.weights.pin import checkpoint

Look = Callable[[np.ndarray], Iterator[tuple[int, float, np.ndarray]]]  # wanted frame indices -> (index, time in seconds, picture)


def qwen3vl(context: Context) -> Worker:
    """Make the worker of behaviour per segment: values (S, D) float16, the embedding of the last token; the other embeddings beside it.

    With `describe` there is also `description`, UTF-8. The video is decoded once; a frame is kept until no later segment needs it.
    """
    from affpipe.encoders.qwen3vl.network import load

    s = context.settings
    folder, random = checkpoint(context)
    sizes = {"min_pixels": s.min_pixels, "max_pixels": s.max_pixels, "batch_size": s.batch_size}
    words = {"description_tokens": s.description_tokens if s.describe else 0, "visual_tokens": s.visual_tokens}
    encoder = load(folder, **place(context), **sizes, **words)

    def work(job: Job) -> None:
        axis = job.axis()
        cut = segments(axis.start_s, axis.end_s, length_s=s.length_s, hop_s=s.hop_s)
        batches = _batches(_clips(partial(pictures, job, axis), axis, cut, s.frames), s.batch_size)
        with job.writing(job.header(axis.fps, random=random)) as out:
            for block, (clips, times) in zip(blocks(len(cut), s.batch_size), batches, strict=True):
                found = encoder.extract(clips, times)._asdict()
                said = [text.encode() for text in found.pop("descriptions")]
                rows = {name: half(job, name, values) for name, values in found.items()}
                rows["values"] = rows.pop("multimodal_last")
                if s.describe:
                    rows["description"] = said
                out.append(**rows, start_s=cut[block, 0], end_s=cut[block, 1], valid=np.ones(len(clips), bool))

    return work


def _clips(see: Look, axis: FrameAxis, cut: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the frames (n <= count, H, W, 3) and timestamps of each segment, in order, from one sequential pass made by `see`."""
    from affpipe.encoders.qwen3vl.network import thin

    first, stop = frames_in(axis.times_s, cut[:, 0], cut[:, 1])
    first = np.where(first < stop, first, np.maximum(first - 1, 0))  # in a gap: the frame shown meanwhile
    stop = np.maximum(stop, first + 1)
    picks = [a + thin(b - a, count=count) for a, b in zip(first, stop, strict=True)]
    waiting, held = deque(picks), {}
    for index, _, image in see(np.unique(np.concatenate(picks))):
        held[index] = image
        while waiting and waiting[0][-1] <= index:
            pick = waiting.popleft()
            yield np.stack([held[i] for i in pick.tolist()]), axis.times_s[pick]
            held = {i: image for i, image in held.items() if waiting and i >= waiting[0][0]}


def _batches(clips: Iterator[tuple[np.ndarray, np.ndarray]], size: int) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    batch: list[tuple[np.ndarray, np.ndarray]] = []
    for clip in clips:
        batch.append(clip)
        if len(batch) == size:
            yield [c for c, _ in batch], [t for _, t in batch]
            batch = []
    if batch:
        yield [c for c, _ in batch], [t for _, t in batch]
