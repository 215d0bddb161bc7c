"""Feature stages: landmarks, segments or windows of a video through an encoder."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from affpipe.core.axis import FrameAxis, frames_in, segments
from affpipe.core.errors import WeightsError
from affpipe.jobs.apply import Context, Job, Worker, blank, blocks
from affpipe.media.pictures import pictures
from affpipe.system.weights.pin import checkpoint

Look = Callable[[np.ndarray], Iterator[tuple[int, float, np.ndarray]]]  # wanted frame indices -> index, time in seconds, picture
FRAMES, FACES, WINDOWS = 512, 256, 16  # rows between two writes: what is held in memory at once


def mesh(context: Context) -> Worker:
    """Face geometry per frame: values (T, D) float32, valid where the mesh was found."""
    from affpipe.encoders.mesh.network import MeshEncoder

    encoder = MeshEncoder()

    def work(job: Job) -> None:
        with job.open("landmarks") as points, job.writing(job.header(points.fps)) as out:
            for block in blocks(len(points), FRAMES):
                valid = points.valid[block]
                found = encoder.extract(points.rows("values", block.start, block.stop)[valid])
                values = blank(len(valid), found.shape[1:])
                values[valid] = found
                out.append(values=values, start_s=points.start_s[block], end_s=points.end_s[block], valid=valid)

    return work


def grada(context: Context) -> Worker:
    """The subject's expression per frame: values (T, 256), `emotion` (T, 8) logits and `va` (T, 2), all float32, valid where seen."""
    from affpipe.encoders.grada.network import load
    from affpipe.faces.crop import decode_jpeg

    s = context.settings
    path, random = checkpoint(context)
    encoder = load(path, **_place(context), side=s.side, batch_size=s.batch_size, backend=s.backend)

    def work(job: Job) -> None:
        with job.open("subject") as who, job.open("faces") as found, job.writing(job.header(who.fps, random=random)) as out:
            row, box, crop_box = who.rows("row"), found.rows(), found.rows("crop_box")
            for block in blocks(len(row), FACES):
                seen, parts = row[block] >= 0, {}
                rows = row[block][seen]
                crops = map(decode_jpeg, found.blobs("crop", rows))
                faces = [inner(crop, crop_box[i], box[i], s.margin) for i, crop in zip(rows, crops, strict=True)]
                for name, part in zip(("values", "emotion", "va"), encoder.extract(faces), strict=True):
                    parts[name] = blank(len(seen), part.shape[1:])
                    parts[name][seen] = part
                out.append(**parts, start_s=who.start_s[block], end_s=who.end_s[block], valid=seen)

    return work


def inner(crop: np.ndarray, crop_box: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
    """The part of a stored crop that `box` covers, widened on each side by `margin` of its own width or height.

    Args:
        crop, crop_box: as `affpipe.faces.crop.cut` gives them; what lies outside of the frame is black.
        box: (4,) xyxy in pixels of the frame, within what was cut.
    """
    box = np.asarray(box, np.float64)
    wider = margin * (box[2:] - box[:2])
    corners = np.concatenate([box[:2] - wider, box[2:] + wider]).reshape(2, 2) - crop_box[:2]
    corners = np.round(corners * len(crop) / (crop_box[2] - crop_box[0])).astype(int)
    left, top = corners[0].clip(0, len(crop) - 1)
    right, bottom = np.maximum(corners[1].clip(0, len(crop)), (left + 1, top + 1))  # a box narrower than a pixel is still one wide
    return np.ascontiguousarray(crop[top:bottom, left:right])  # a view would keep the whole crop in memory


def qwen3vl(context: Context) -> Worker:
    """Behaviour per segment: values (S, D) float16, the last token's; the other embeddings; with `describe`, `description`, UTF-8.

    The video is decoded once; a frame is kept until no later segment wants it.
    """
    from affpipe.encoders.qwen3vl.network import load

    s = context.settings
    folder, random = checkpoint(context)
    sizes = {"min_pixels": s.min_pixels, "max_pixels": s.max_pixels, "batch_size": s.batch_size}
    words = {"description_tokens": s.description_tokens if s.describe else 0, "visual_tokens": s.visual_tokens}
    encoder = load(folder, **_place(context), **sizes, **words)

    def work(job: Job) -> None:
        axis = job.axis()
        cut = segments(axis.start_s, axis.end_s, length_s=s.length_s, hop_s=s.hop_s)
        batches = _batches(_clips(partial(pictures, job, axis), axis, cut, s.frames), s.batch_size)
        with job.writing(job.header(axis.fps, random=random)) as out:
            for block, (clips, times) in zip(blocks(len(cut), s.batch_size), batches, strict=True):
                found = encoder.extract(clips, times)._asdict()
                said = [text.encode() for text in found.pop("descriptions")]
                rows = {name: _half(job, name, values) for name, values in found.items()}
                rows["values"] = rows.pop("multimodal_last")
                if s.describe:
                    rows["description"] = said
                out.append(**rows, start_s=cut[block, 0], end_s=cut[block, 1], valid=np.ones(len(clips), bool))

    return work


def _half(job: Job, name: str, values: np.ndarray) -> np.ndarray:
    """As float16. WeightsError, naming the video, where a value does not fit: no sound network gives one."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        worst = values[~np.isfinite(half)][0]
        raise WeightsError(f"{job.name}: {job.item.id}: want {name} finite and within 65504, got {worst:g}; fetch the weights again")
    return half


def _clips(see: Look, axis: FrameAxis, cut: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames (n <= count, H, W, 3) and timestamps of each segment, in order, from one sequential pass that `see` makes."""
    from affpipe.encoders.qwen3vl.network import thin

    first, stop = frames_in(axis.times_s, cut[:, 0], cut[:, 1])
    first = np.where(first < stop, first, np.maximum(first - 1, 0))  # within a gap: the frame that is shown meanwhile
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


def wavlm(context: Context) -> Worker:
    """Speech per window: values (W, F, D) float16 hidden states, with `trained_layers` those that enter the top ones.

    `steps` (W,) int32 of the F are of real audio, the rest of padding.
    """
    from affpipe.encoders.wavlm.network import load

    s = context.settings
    folder, random = checkpoint(context)
    depth = {"layer": s.layer, "trained_layers": s.trained_layers}
    encoder = load(folder, **_place(context), normalise=s.normalise, **depth, batch_size=s.batch_size)
    return _windowed(context, encoder, random)


def logmel(context: Context) -> Worker:
    """Spectrum per window: values (W, F, mels) float16; `steps` as for `wavlm`."""
    from affpipe.encoders.logmel.network import LogMel

    s = context.settings
    rate = context.plan.settings.audio.sample_rate_hz
    return _windowed(context, LogMel(n_mels=s.mels, window_s=s.frame_s, hop_s=s.step_s, sample_rate_hz=rate), ())


def _windowed(context: Context, encoder, random: tuple[str, ...]) -> Worker:
    from affpipe.media.sound.audio import windows

    s, rate = context.settings, context.plan.settings.audio.sample_rate_hz

    def work(job: Job) -> None:
        axis = job.axis()
        sound = job.sound()
        cut = segments(axis.start_s, axis.end_s, length_s=s.length_s, hop_s=s.hop_s)
        begin_s = cut[:, 0] - axis.start_s
        with job.writing(job.header(axis.fps, random=random)) as out:
            for block in blocks(len(cut), max(WINDOWS, encoder.batch_size)):
                waves, lengths = windows(sound, begin_s[block], length_s=s.length_s, sample_rate_hz=rate)
                steps = np.array([encoder.frame_count(int(n)) for n in lengths], np.int32)
                values = _half(job, "values", encoder.extract(waves, lengths))
                out.append(values=values, steps=steps, start_s=cut[block, 0], end_s=cut[block, 1], valid=steps > 0)

    return work


def _place(context: Context) -> dict[str, Any]:
    """Device and dtype to load a network with."""
    import torch

    from affpipe.system.device import pick

    return {"device": pick(context.plan.settings.device), "dtype": getattr(torch, context.settings.dtype)}
