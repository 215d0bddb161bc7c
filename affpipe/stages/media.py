"""Media stages: the frame axis of a video, its audio track on that axis, and where a voice is heard in it."""

import json
import logging

import numpy as np

from affpipe.frames import FrameAxis
from affpipe.jobs import Context, Job, Worker
from affpipe.media.audio import extract, length, write_flac
from affpipe.media.probe import probe

log = logging.getLogger("affpipe")


def frames(context: Context) -> Worker:
    """Timestamps of every frame that decodes: values (T, 1) float32 seconds a frame is shown; attributes say what the file is.

    What is damaged in the file, and what is done to its pictures, is said in the log too: a stream is made of it all the same.
    """

    def work(job: Job) -> None:
        s = context.settings
        info = probe(job.video, backend=s.backend, deinterlace=s.deinterlace, tone_map=s.tone_map)
        axis = info.axis
        for fault in info.faults:
            log.warning("frames: %s: %s; look whether it plays as it should", job.video, fault)
        for done in info.treated:
            log.info("frames: %s: %s", job.video, done)
        header = job.header(axis.fps, columns=("duration_s",), video=info.facts())
        shown = (axis.ends_s - axis.times_s).astype(np.float32)[:, None]
        job.write(header, values=shown, start_s=axis.times_s, end_s=axis.ends_s, valid=np.ones(len(axis), bool))

    return work


def audio(context: Context) -> Worker:
    """Mono FLAC whose sample 0 is the first video frame and whose end is the end of the last one."""
    rate, offset_s = context.settings.sample_rate_hz, context.settings.offset_s

    def work(job: Job) -> None:
        axis = job.axis()
        shifted = FrameAxis(axis.times_s - offset_s, axis.fps)  # sound moved later is sound looked for earlier
        blocks = extract(job.video, shifted, sample_rate_hz=rate)
        header = job.header(axis.fps, samples=length(shifted, rate), sample_rate_hz=rate, start_s=axis.start_s)
        with job.atomic() as part:
            write_flac(part, blocks, rate, json.dumps(header.attributes(), sort_keys=True))

    return work


def vad(context: Context) -> Worker:
    """Voice activity: values (R, 1) float32 probability of speech in each step of 32 ms; the last one ends with the track."""
    import torch

    from affpipe.encoders.silero import RATE_HZ, STEP, load, published

    # Always on a CPU, where a minute of sound takes a twentieth of a second.
    detector = load(published(), device=torch.device("cpu"))

    def work(job: Job) -> None:
        axis = job.axis()
        sound = job.sound()
        found = detector.extract(sound)
        first = np.arange(len(found)) * STEP
        start_s, end_s = (axis.start_s + at / RATE_HZ for at in (first, np.minimum(first + STEP, len(sound))))
        header = job.header(axis.fps, columns=("probability",))
        job.write(header, values=found[:, None], start_s=start_s, end_s=end_s, valid=np.ones(len(found), bool))

    return work
