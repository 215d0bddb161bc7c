"""Media stages: the frame axis of a video, its audio track on that axis, and where a voice is heard in it."""

import json
import logging

import numpy as np

from affpipe.faces.which import share_with_face
from affpipe.jobs.apply import Context, Job, Worker
from affpipe.media.probe import probe
from affpipe.media.sound.audio import extract, length
from affpipe.media.sound.heard import Heard
from affpipe.media.tracks import video_track
from affpipe.store.flac import write_flac
from affpipe.system.files import sha256

log = logging.getLogger("affpipe")


def frames(context: Context) -> Worker:
    """Timestamps of every frame that decodes: values (T, 1) float32 seconds a frame is shown; attributes say what the file is.

    What is damaged in the file, and what is done to its pictures, is said in the log too: a stream is made of it all the same. So is which
    of several video tracks was taken; the attribute `video.track` has it, for whoever decodes pictures of this axis.
    """

    def work(job: Job) -> None:
        s = context.settings
        track = video_track(job.video, _named(job.item.row.video_track, s.video_track), faces=share_with_face)
        info = probe(job.video, backend=s.backend, track=track and track.index, deinterlace=s.deinterlace, tone_map=s.tone_map)
        axis = info.axis
        for fault in info.faults:
            log.warning("frames: %s: %s; look whether it plays as it should", job.video, fault)
        for done in info.treated:
            log.info("frames: %s: %s", job.video, done)
        if track.said:
            log.warning("frames: %s: %s", job.video, track.said)
        chosen = {"track": track.facts(), **({"said": [track.said]} if track.said else {})}
        read = {"sha256": sha256(job.video)}  # just decoded, so in memory; `stale` holds the file against it
        header = job.header(axis.fps, columns=("duration_s",), video={**info.facts(), **chosen, **read})
        shown = (axis.ends_s - axis.times_s).astype(np.float32)[:, None]
        job.write(header, values=shown, start_s=axis.times_s, end_s=axis.ends_s, valid=np.ones(len(axis), bool))

    return work


def audio(context: Context) -> Worker:
    """Mono FLAC whose sample 0 is the first video frame and whose end is the end of the last one.

    The attribute `sound` says which track it is, and what share of it is silent, cut, clipped or repaired; the log says what is of note.
    """
    rate, offset_s = context.settings.sample_rate_hz, context.settings.offset_s

    def work(job: Job) -> None:
        axis, heard = job.axis(), Heard()
        track = _named(job.item.row.audio_track, context.settings.audio_track)
        blocks = extract(job.video, axis, sample_rate_hz=rate, offset_s=offset_s, track=track, video_track=job.video_track(), heard=heard)

        def comment() -> str:
            extra = {"samples": length(axis, rate), "sample_rate_hz": rate, "start_s": axis.start_s, "sound": heard.facts()}
            return json.dumps(job.header(axis.fps, **extra).attributes(), sort_keys=True)

        with job.atomic() as part:
            write_flac(part, blocks, rate, comment)
        for fault in heard.faults:
            log.warning("audio: %s: %s", job.video, fault)

    return work


def _named(of_row: int | str | None, of_settings: int | str) -> int | str:
    """The track that is meant: the manifest's cell goes before the setting."""
    return of_settings if of_row is None else of_row


def vad(context: Context) -> Worker:
    """Voice activity: values (R, 1) float32 probability of speech in each step of 32 ms; the last one ends with the track."""
    import torch

    from affpipe.media.sound.voice import RATE_HZ, STEP, load, published

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
