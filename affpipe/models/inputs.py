"""Inputs of a model: the streams of an item as arrays. Labels at its rate are in `targets`, windows of its rows in `windows`.

Shapes: R rows of the leading stream, M inputs, C outputs a row (1, or the chunks of an audio window), W windows.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace

import numpy as np

from affpipe.core.align import align, interpolate, nearest, sources
from affpipe.core.axis import NEAREST, NONE, OBSERVED, FrameAxis, frames_in, segments
from affpipe.faces.mouth import SLACK_S
from affpipe.models.settings import Fusion
from affpipe.models.table import ModelSettings, takes
from affpipe.store.item_streams import Job, blocks

FULL_SCALE = 32768  # of 16-bit samples


@dataclass(frozen=True, eq=False)
class Sequence:
    """Input of a model for one stream.

    Attributes:
        id: stream id. axis: the video's frames.
        inputs: name -> (R, ...); finite everywhere, zero where absent. `steps` (R,) counts the real rows inside an audio window, or the
            real samples if the window is sound, (R, S) int16.
        present: (R, M) bool in the order of `inputs`. source: (R,) uint8, see `frame_sources`.
        start_s, end_s: (R, C) interval of each output; empty (end <= start) beyond the end of the video.
        random: checkpoints with random weights behind the inputs.
        own: name -> (W, K, D), an input with a few rows per window instead of the common rows; the last of the M. Its column of `present`
            says where the rows are covered.
        heard: (W, K) bool, which rows of `own` are present; None without `own`.
        needed: the input without which a row has no answer; None if any input will do.
    """

    id: str
    axis: FrameAxis
    inputs: dict[str, np.ndarray]
    present: np.ndarray
    source: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    random: tuple[str, ...] = ()
    own: dict[str, np.ndarray] = field(default_factory=dict)
    heard: np.ndarray | None = None
    needed: str | None = None

    def __len__(self) -> int:
        return len(self.present)

    @property
    def usable(self) -> np.ndarray:
        """(R, C) bool: outputs for which some input is present, or the needed one."""
        here = self.present.any(axis=1) if self.needed is None else self.present[:, list(self.inputs).index(self.needed)]
        return here[:, None] & (self.end_s > self.start_s)

    def only(self, rows: np.ndarray) -> "Sequence":
        """Select the rows where `rows` (R,) bool is True."""
        own = {name: getattr(self, name)[rows] for name in ("present", "source", "start_s", "end_s")}
        return replace(self, inputs={name: values[rows] for name, values in self.inputs.items()}, **own)


def read(job: Job, settings: ModelSettings, *, fitting: bool = False) -> Sequence:
    """Read the input of a model for the item of `job`; `fitting` is True for training, where `speech_only` may leave out more."""
    match takes(settings):
        case "members":
            return _read_members(job, settings, fitting)
        case "windows":
            return _read_windows(job, settings, fitting)
    return _read_rows(job, settings)


def _read_rows(job: Job, settings: ModelSettings) -> Sequence:
    with job.open(settings.reads) as stream:
        values, valid, start_s, end_s = stream.rows(settings.dataset), stream.valid, stream.start_s, stream.end_s
    source = np.where(valid, OBSERVED, NONE).astype(np.uint8)
    if settings.fill == "nearest":
        source, index = sources(valid), nearest(valid)
        values = values[np.maximum(index, 0)] if valid.any() else values
    present = source != NONE
    return Sequence(
        job.item.id, job.axis(), {settings.reads: values}, present[:, None], source, start_s[:, None], end_s[:, None], job.random
    )


def _read_windows(job: Job, settings: ModelSettings, fitting: bool) -> Sequence:
    axis = job.axis()
    if not settings.within:
        with job.open(settings.reads) as stream:
            inputs = {settings.reads: stream.rows(), "steps": stream.rows("steps")}
            valid, start_s, end_s = stream.valid, stream.start_s, stream.end_s
            length_s = stream.attributes["spec"]["length_s"]
    else:
        from affpipe.media.sound import audio

        feature = job.context.see(settings.reads)
        length_s = feature.length_s
        cut = segments(axis.start_s, axis.end_s, length_s=length_s, hop_s=feature.hop_s)
        track = np.round(job.sound()[:] * FULL_SCALE).astype(np.int16)  # exact: the file has 16 bits
        rate = job.context.see("audio").sample_rate_hz
        waves, samples = audio.windows(track, cut[:, 0] - axis.start_s, length_s=length_s, sample_rate_hz=rate)
        inputs = {settings.reads: waves, "steps": samples}
        valid, start_s, end_s = samples > 0, cut[:, 0], cut[:, 1]
    if settings.by_mouth(fitting):
        valid = valid & (_speech(job, "retained")[0] > 0)
    step_s = length_s / settings.chunks
    start_s = start_s[:, None] + step_s * np.arange(settings.chunks)  # (R, C)
    end_s = np.minimum(start_s + step_s, end_s[:, None])
    source = np.where(valid, OBSERVED, NONE).astype(np.uint8)
    return Sequence(job.item.id, axis, inputs, valid[:, None], source, start_s, end_s, job.random)


def _speech(job: Job, *columns: str) -> list[np.ndarray]:
    """Read columns (W,) of the stage `speech`. Its windows are those of the sound, as the settings ensure one grid."""
    with job.open("speech") as windows:
        rows, names = windows.rows(), windows.attributes["columns"]
    return [rows[:, names.index(column)] for column in columns]


def _read_members(job: Job, settings: Fusion, fitting: bool) -> Sequence:
    axis = job.axis()
    inputs, present, source, own, heard = {}, [], None, {}, None
    for name in settings.members:
        model, hears = job.context.see(name), name == getattr(settings, "audio", None)
        each = getattr(model, "chunks", 1)
        if job.has(name):
            with job.open(name) as stream:
                values, valid, start_s, end_s = stream.rows(), stream.valid, stream.start_s, stream.end_s
                if settings.inputs == "embedding_and_prediction":
                    values = np.concatenate([values, stream.rows("prediction")], axis=1)
                codes = stream.rows("source")
            if hears and settings.by_mouth(fitting):
                valid = valid & np.repeat(_open_mouth(job, settings, len(valid) // each), each)
            found, here = on_frames(values, valid, start_s, end_s, axis, model)
            code = frame_sources(codes, valid, start_s, end_s, axis.times_s)
            if settings.fill == "nearest" and here.any():
                found, code, here = found[nearest(here)], np.where(here, code, NEAREST).astype(np.uint8), np.ones_like(here)
        else:  # the width is known once a stream that has this modality is packed or the model is loaded
            cuts = len(segments(axis.start_s, axis.end_s, length_s=settings.window_s, hop_s=settings.hop_s)) if hears else 0
            values, valid = np.zeros((cuts * each, 0), np.float16), np.zeros(cuts * each, bool)
            found, here = np.zeros((len(axis), 0), np.float16), np.zeros(len(axis), bool)
            code = np.full(len(axis), NONE, np.uint8)
        if hears and settings.audio_rows == "window":
            first, stop = in_windows(axis, settings)
            own = {
                name: values.reshape(len(first), each, -1)[stop > first].astype(np.float16 if values.dtype == np.float16 else np.float32)
            }
            heard = valid.reshape(len(first), each)[stop > first]
        else:
            inputs[name] = _narrow(found) if found.dtype == np.float32 else found
        present.append(here)
        source = code if source is None else source  # the first-named input says how the frame was observed
    times = axis.times_s[:, None], axis.ends_s[:, None]
    return Sequence(job.item.id, axis, inputs, np.stack(present, axis=1), source, *times, job.random, own, heard, settings.needed)


def _open_mouth(job: Job, settings: ModelSettings, windows: int) -> np.ndarray:
    """Return (W,) bool: windows in which the mouth was open and seen for long enough; none if no mouth was found in the whole video."""
    if not job.has("speech"):
        return np.zeros(windows, bool)
    open_s, coverage = _speech(job, "open_s", "coverage")
    return (open_s >= settings.min_open_s - SLACK_S) & (coverage >= settings.min_coverage - SLACK_S)


def in_windows(axis: FrameAxis, settings: ModelSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and past-the-last frame of each window of seconds; a gap of the axis longer than a window gives empty windows."""
    cut = segments(axis.start_s, axis.end_s, length_s=settings.window_s, hop_s=settings.hop_s)
    return frames_in(axis.times_s, cut[:, 0], cut[:, 1])


def on_frames(
    values: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, axis: FrameAxis, settings: ModelSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Bring rows of a model to the frames, as its setting `expand` says; see `affpipe.core.align`."""
    if getattr(settings, "expand", "constant") == "linear":
        return interpolate(values, valid, start_s, end_s, axis, rows=settings.chunks)
    return align(values, valid, start_s, end_s, axis.times_s)


def spread(
    raw: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, axis: FrameAxis, settings: ModelSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a model's raw outputs (N, O) from its own rate to the frames: (T, O), and (T,) bool, True where a row covers the frame.

    Other frames take the value of the nearest covered one. If no row covers any frame, all are zero.
    """
    raw, covered = on_frames(raw, valid, start_s, end_s, axis, settings)
    return (raw[nearest(covered)] if covered.any() else raw), covered


def _narrow(values: np.ndarray) -> np.ndarray:
    """Convert float32 to float16 if that loses nothing: embeddings are stored so, except means of overlapping rows."""
    import torch

    whole = torch.from_numpy(values)
    half = whole.half()
    return half.numpy() if torch.equal(half.float(), whole) else values


def frame_sources(codes: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Return (T,) uint8: for each frame the best source among the valid rows that cover it."""
    best = np.full(len(times_s), NONE, np.uint8)
    for code in (NEAREST, OBSERVED):
        _, covered = align(np.zeros((len(codes), 1), np.float32), valid & (codes == code), start_s, end_s, times_s)
        best[covered] = code
    return best


def widen(sequence: Sequence, dims: dict[str, int]) -> Sequence:
    """Give absent modalities, read with a width of 0, the width that the model has."""
    for part in (sequence.inputs, sequence.own):
        for name, values in part.items():
            if values.shape[-1] == 0 and name in dims:
                part[name] = np.zeros((*values.shape[:-1], dims[name]), np.float16)  # float16: widens nothing that is packed with it
    return sequence


def unsound(inputs: Mapping[str, np.ndarray], present: np.ndarray) -> str:
    """Return the first input with NaN or infinity where it is present; "" if all are finite."""
    for m, name in enumerate(name for name in inputs if name != "steps"):
        for block in blocks(len(present), 1024):  # rows of sound are large
            values = inputs[name][block][present[block, m]]
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                return name
    return ""


def widths(sequences: Many[Sequence]) -> dict[str, int]:
    """Return the width of each input over all streams."""
    first = sequences[0]
    of_rows = {n: max(s.inputs[n].shape[-1] for s in sequences) for n in first.inputs if n != "steps"}
    return of_rows | {n: max(s.own[n].shape[-1] for s in sequences) for n in first.own}
