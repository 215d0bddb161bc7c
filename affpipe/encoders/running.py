"""Parts shared by the workers of encoders: where a network runs, and the conversion of its output for storage."""

from typing import Any

import numpy as np

from affpipe.core.axis import segments
from affpipe.core.errors import WeightsError
from affpipe.core.stage import Context
from affpipe.store.item_streams import Job, Worker, blocks

WINDOWS = 16  # of sound between two writes: what is held in memory at once


def place(context: Context) -> dict[str, Any]:
    """Return the device and dtype to load a network with."""
    import torch

    from affpipe.system.device import pick

    return {"device": pick(context.device), "dtype": getattr(torch, context.settings.dtype)}


def half(job: Job, name: str, values: np.ndarray) -> np.ndarray:
    """Convert values to float16. Raises WeightsError, naming the video, if one does not fit: no sound network gives such a value."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        worst = values[~np.isfinite(half)][0]
        raise WeightsError(f"{job.name}: {job.item.id}: want {name} finite and within 65504, got {worst:g}; fetch the weights again")
    return half


def windowed(context: Context, encoder, random: tuple[str, ...]) -> Worker:
    from affpipe.media.sound.audio import windows

    s, rate = context.settings, context.see("audio").sample_rate_hz

    def work(job: Job) -> None:
        axis = job.axis()
        sound = job.sound()
        cut = segments(axis.start_s, axis.end_s, length_s=s.length_s, hop_s=s.hop_s)
        begin_s = cut[:, 0] - axis.start_s
        with job.writing(job.header(axis.fps, random=random)) as out:
            for block in blocks(len(cut), max(WINDOWS, encoder.batch_size)):
                waves, lengths = windows(sound, begin_s[block], length_s=s.length_s, sample_rate_hz=rate)
                steps = np.array([encoder.frame_count(int(n)) for n in lengths], np.int32)
                values = half(job, "values", encoder.extract(waves, lengths))
                out.append(values=values, steps=steps, start_s=cut[block, 0], end_s=cut[block, 1], valid=steps > 0)

    return work
