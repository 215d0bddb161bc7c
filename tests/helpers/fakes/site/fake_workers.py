"""In place of `affpipe.jobs.workers`: workers that open all that the real ones open, and write streams of the same form.

Values are a function of the key, the identity and every byte that was read, so what is wrong or stale below shows in all that stands on it.
"""

import hashlib
import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import fake_events
import numpy as np

from affpipe.core.axis import OBSERVED
from affpipe.core.stage import Context
from affpipe.core.tasks.task import width
from affpipe.encoders.table import ENCODERS
from affpipe.store import streams
from affpipe.store.item_streams import Job, Worker

FRAMES, FPS = 24, 25  # of every video
START_S, END_S = np.arange(FRAMES) / FPS, np.arange(1, FRAMES + 1) / FPS
OPENS_VIDEO = ("frames", "audio", "faces", "qwen3vl")
COLUMNS = {"mouth": ("area", "open"), "speech": ("open_s", "coverage", "retained")}
WIDTH = 3  # of values, where they have no columns


def start(context: Context) -> Worker:
    """The fake worker of a stage; logs the load."""
    fake_events.load(context.name)
    work = _labels(context) if context.name == "labels" else _model if context.fits else _stage

    def logged(job: Job) -> None:
        fake_events.log("begun", job.name, job.item.id)
        work(job)
        fake_events.log("made", job.name, job.item.id)

    return logged


def _labels(context: Context) -> Worker:
    """The real one: it reads text files only."""
    from affpipe.data.workers import labels

    real = labels(context)

    def work(job: Job) -> None:
        fake_events.amid(f"labels/{job.item.id}")
        real(job)

    return work


def _stage(job: Job) -> None:
    own = job.header(Fraction(FPS))
    kind, seed = own.stage, hashlib.sha256(f"{own.key} {job.item.identity}".encode())
    for part in read(job, job.context.reads):
        seed.update(part)
    if kind in OPENS_VIDEO:
        seed.update(job.video.read_bytes())
    if kind == "audio":
        return _audio(job, seed.digest())
    columns = COLUMNS.get(kind, ())
    extra = {"video": {"synthetic": True}} if kind == "frames" else {}
    values, encoder = numbers(seed.digest(), FRAMES, len(columns) or WIDTH), ENCODERS.get(kind)
    rows = {"values": values}
    if encoder is not None:  # whatever a model may read of it
        windows = encoder.rows == "windows"
        rows = dict.fromkeys(encoder.offers, values[:, None] if windows else values)
        rows |= {"steps": np.ones(FRAMES, np.int32)} if windows else {}
    _write(job, job.header(Fraction(FPS), columns=columns, **extra), **rows)


def _audio(job: Job, seed: bytes) -> None:
    from affpipe.store.flac import write_flac

    rate = job.context.settings.sample_rate_hz
    samples = numbers(seed, FRAMES * rate // FPS)
    header = job.header(Fraction(FPS), samples=len(samples), sample_rate_hz=rate, start_s=0.0)
    with job.atomic() as part:
        part.write_bytes(b"half a track")
        fake_events.amid(f"{job.name}/{job.item.id}")
        write_flac(part, [samples], rate, json.dumps(header.attributes(), sort_keys=True))


def _model(job: Job) -> None:
    fitted, fold = job.context.fits, job.context.fits.fold(job.item)
    cross = fold is None and fitted.beside
    fits = [fold, *(range(fitted.beside) if cross else ())]
    records = [json.loads(fitted.path(k).with_name(streams.FIT).read_text()) for k in fits]
    seed = hashlib.sha256(f"{fitted.key} {job.item.identity}".encode())
    for part in read(job, job.context.reads):
        seed.update(part)
    outputs = []
    for k in fits:
        whole = seed.digest() + fitted.path(k).read_bytes()
        outputs.append(numbers(hashlib.sha256(whole).digest(), FRAMES, width(job.context.tasks)))
    rows: dict[str, np.ndarray] = {"prediction": outputs[0], "source": np.full(FRAMES, OBSERVED, np.uint8)}
    extra: dict[str, Any] = {"experts": [], "fold": fold, "thresholds": records[0]["thresholds"]}
    if cross:
        rows["folds"] = np.stack(outputs[1:], axis=1)
        extra |= {"fold_scores": [r["by_output"] for r in records[1:]], "fold_thresholds": [r["thresholds"] for r in records[1:]]}
    if members := job.context.settings.members:
        rows["gate"] = np.full((FRAMES, len(members)), 1 / len(members), np.float32)
        extra["experts"] = list(members)
    header = job.header(Fraction(FPS), **extra)
    _write(job, header, values=numbers(seed.digest() + b"embedding", FRAMES, WIDTH).astype(np.float16), **rows)


def read(job: Job, reads: tuple[str, ...]) -> Iterator[bytes]:
    """Every value of the streams of an item that `reads` names; a fusion's members may be absent."""
    members = job.context.settings.members if job.context.fits else ()
    for name in reads:
        if name in members and not job.has(name):
            continue
        yield name.encode()
        if name == "audio":
            yield job.sound()[:].tobytes()
        else:
            with job.open(name) as stream:
                yield from (stream.rows(dataset).tobytes() for dataset in sorted(stream.names))


def numbers(seed: bytes, *shape: int) -> np.ndarray:
    """float32 in [-1, 1) that look random, a function of the seed."""
    flat = np.frombuffer(hashlib.shake_256(seed).digest(2 * int(np.prod(shape))), np.uint16)
    return (flat / 2**15 - 1).astype(np.float32).reshape(shape)


def _write(job: Job, header: streams.Header, **rows: np.ndarray) -> None:
    """Write a stream in two pieces, and do between them what is wanted amid the item."""
    rows |= {"start_s": START_S, "end_s": END_S, "valid": np.ones(FRAMES, bool)}
    with job.writing(header) as out:
        out.append(**{name: data[: FRAMES // 2] for name, data in rows.items()})
        fake_events.amid(f"{job.name}/{job.item.id}")
        out.append(**{name: data[FRAMES // 2 :] for name, data in rows.items()})
