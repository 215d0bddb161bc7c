"""Workers of the sound stages: the audio track of a video on its frame axis, and the voice activity in it."""

import json
import logging

import numpy as np

from affpipe.core.stage import Context
from affpipe.media.sound.audio import extract, length
from affpipe.media.sound.heard import Heard
from affpipe.media.tracks import named
from affpipe.store.flac import write_flac
from affpipe.store.item_streams import Job, Worker

log = logging.getLogger("affpipe")


def audio(context: Context) -> Worker:
    """Make the worker that writes mono FLAC: sample 0 is the first video frame, the end is the end of the last one.

    The attribute `sound` says which track it is, and what share of it is silent, cut, clipped or repaired. The log says what is notable.
    """
    rate, offset_s = context.settings.sample_rate_hz, context.settings.offset_s

    def work(job: Job) -> None:
        axis, heard = job.axis(), Heard()
        track = named(job.item.row.audio_track, context.settings.audio_track)
        blocks = extract(job.video, axis, sample_rate_hz=rate, offset_s=offset_s, track=track, video_track=job.video_track(), heard=heard)

        def comment() -> str:
            extra = {"samples": length(axis, rate), "sample_rate_hz": rate, "start_s": axis.start_s, "sound": heard.facts()}
            return json.dumps(job.header(axis.fps, **extra).attributes(), sort_keys=True)

        with job.atomic() as part:
            write_flac(part, blocks, rate, comment)
        for fault in heard.faults:
            log.warning("audio: %s: %s", job.video, fault)

    return work


def vad(context: Context) -> Worker:
    """Make the worker of voice activity: values (R, 1) float32, the probability of speech in each step of 32 ms.

    The last step ends with the track.
    """
    import torch

    from affpipe.media.sound.voice import RATE_HZ, STEP, load, published

    # Always on a CPU: a minute of sound takes a twentieth of a second there.
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
