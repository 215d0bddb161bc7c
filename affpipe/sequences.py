"""What a model sees: the streams of an item as arrays, labels at the model's own rate, and the windows of many streams as one packed array.

Shapes: R rows of the stream that leads, M inputs, C outputs a row (1, or the chunks of an audio window), L rows a window, W windows.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from affpipe import frames
from affpipe import labels as pooling
from affpipe.faces.mouth import SLACK_S
from affpipe.frames import NEAREST, NONE, OBSERVED, FrameAxis
from affpipe.jobs import Job
from affpipe.settings import ChunkModel, Fusion, ModelSettings, RAAVModel
from affpipe.tasks import slices, width

if TYPE_CHECKING:  # publishing passes through here, and needs neither torch nor av
    from torch import Tensor

FULL_SCALE = 32768  # of 16-bit samples


@dataclass(frozen=True, eq=False)
class Sequence:
    """The input of a model for one stream.

    Attributes:
        id: stream id. axis: the video's frames.
        inputs: name -> (R, ...); finite everywhere, zero where absent. `steps` (R,) counts the real rows inside an audio window, or the
            real samples where the window is sound, (R, S) int16.
        present: (R, M) bool in the order of `inputs`. source: (R,) uint8, see `frames`.
        start_s, end_s: (R, C) interval of each output; empty (end <= start) beyond the end of the video.
        random: checkpoints with random weights behind the inputs.
        own: name -> (W, K, D), an input that comes a few rows a window and not on the rows; the last of the M. Its column of `present` says
            where the rows are covered, `heard` (W, K) bool which of its own rows are there.
        needed: the input without which a row has no answer; None where any input will do.
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
        """(R, C) bool: outputs that something present stands behind."""
        here = self.present.any(axis=1) if self.needed is None else self.present[:, list(self.inputs).index(self.needed)]
        return here[:, None] & (self.end_s > self.start_s)

    def only(self, rows: np.ndarray) -> "Sequence":
        """The rows where `rows` (R,) bool is True."""
        own = {name: getattr(self, name)[rows] for name in ("present", "source", "start_s", "end_s")}
        return replace(self, inputs={name: values[rows] for name, values in self.inputs.items()}, **own)


def read(job: Job, settings: ModelSettings, *, fitting: bool = False) -> Sequence:
    """The input of a model for the item of `job`; with `fitting` for training, where `speech_only` may leave out more."""
    if isinstance(settings, Fusion):
        return _read_members(job, settings, fitting)
    return _read_windows(job, settings, fitting) if isinstance(settings, ChunkModel) else _read_rows(job, settings)


def by_mouth(settings: ModelSettings, fitting: bool) -> bool:
    """Whether a model leaves out windows by the mouth; fitting: in training."""
    return settings.speech_only == "always" or (fitting and settings.speech_only == "training")


def _read_rows(job: Job, settings: ModelSettings) -> Sequence:
    with job.open(settings.reads) as stream:
        values, valid, start_s, end_s = stream.rows(settings.dataset), stream.valid, stream.start_s, stream.end_s
    source = np.where(valid, OBSERVED, NONE).astype(np.uint8)
    if settings.fill == "nearest":
        source, index = frames.sources(valid), frames.nearest(valid)
        values = values[np.maximum(index, 0)] if valid.any() else values
    present = source != NONE
    return Sequence(
        job.item.id, job.axis(), {settings.reads: values}, present[:, None], source, start_s[:, None], end_s[:, None], job.random
    )


def _read_windows(job: Job, settings: ChunkModel, fitting: bool) -> Sequence:
    axis = job.axis()
    if settings.cache_frozen:
        with job.open(settings.reads) as stream:
            inputs = {settings.reads: stream.rows(), "steps": stream.rows("steps")}
            valid, start_s, end_s = stream.valid, stream.start_s, stream.end_s
            length_s = stream.attributes["spec"]["length_s"]
    else:
        from affpipe.media import audio

        feature = job.plan.settings.features[settings.reads]
        length_s = feature.length_s
        cut = frames.segments(axis.start_s, axis.end_s, length_s=length_s, hop_s=feature.hop_s)
        track = np.round(job.sound()[:] * FULL_SCALE).astype(np.int16)  # exact: the file has 16 bits
        rate = job.plan.settings.audio.sample_rate_hz
        waves, samples = audio.windows(track, cut[:, 0] - axis.start_s, length_s=length_s, sample_rate_hz=rate)
        inputs = {settings.reads: waves, "steps": samples}
        valid, start_s, end_s = samples > 0, cut[:, 0], cut[:, 1]
    if by_mouth(settings, fitting):
        valid = valid & (_speech(job, "retained")[0] > 0)
    step_s = length_s / settings.chunks
    start_s = start_s[:, None] + step_s * np.arange(settings.chunks)  # (R, C)
    end_s = np.minimum(start_s + step_s, end_s[:, None])
    source = np.where(valid, OBSERVED, NONE).astype(np.uint8)
    return Sequence(job.item.id, axis, inputs, valid[:, None], source, start_s, end_s, job.random)


def _speech(job: Job, *columns: str) -> list[np.ndarray]:
    """Columns (W,) of the stage `speech`, whose windows are those of the sound: the settings see to one grid."""
    with job.open("speech") as windows:
        rows, names = windows.rows(), windows.attributes["columns"]
    return [rows[:, names.index(column)] for column in columns]


def _read_members(job: Job, settings: Fusion, fitting: bool) -> Sequence:
    axis = job.axis()
    inputs, present, source, own, heard = {}, [], None, {}, None
    for name in settings.members:
        model, hears = job.plan.settings.models[name], name == getattr(settings, "audio", None)
        each = getattr(model, "chunks", 1)
        if job.has(name):
            with job.open(name) as stream:
                values, valid, start_s, end_s = stream.rows(), stream.valid, stream.start_s, stream.end_s
                if settings.inputs == "embedding_and_prediction":
                    values = np.concatenate([values, stream.rows("prediction")], axis=1)
                codes = stream.rows("source")
            if hears and by_mouth(settings, fitting):
                valid = valid & np.repeat(_open_mouth(job, settings, len(valid) // each), each)
            found, here = on_frames(values, valid, start_s, end_s, axis, model)
            code = frame_sources(codes, valid, start_s, end_s, axis.times_s)
            if settings.fill == "nearest" and here.any():
                found, code, here = found[frames.nearest(here)], np.where(here, code, NEAREST).astype(np.uint8), np.ones_like(here)
        else:  # the width is known once a stream that has this modality is packed or the model is loaded
            cuts = len(frames.segments(axis.start_s, axis.end_s, length_s=settings.window_s, hop_s=settings.hop_s)) if hears else 0
            values, valid = np.zeros((cuts * each, 0), np.float16), np.zeros(cuts * each, bool)
            found, here = np.zeros((len(axis), 0), np.float16), np.zeros(len(axis), bool)
            code = np.full(len(axis), NONE, np.uint8)
        if hears and settings.audio_rows == "window":
            first, stop = _in_windows(axis, settings)
            own = {
                name: values.reshape(len(first), each, -1)[stop > first].astype(np.float16 if values.dtype == np.float16 else np.float32)
            }
            heard = valid.reshape(len(first), each)[stop > first]
        else:
            inputs[name] = _narrow(found) if found.dtype == np.float32 else found
        present.append(here)
        source = code if source is None else source  # the lead, named first, says how the frame was seen
    times = axis.times_s[:, None], axis.ends_s[:, None]
    return Sequence(job.item.id, axis, inputs, np.stack(present, axis=1), source, *times, job.random, own, heard, settings.needed)


def _open_mouth(job: Job, settings: RAAVModel, windows: int) -> np.ndarray:
    """(W,) bool: windows in which the mouth was open and seen for long enough; none where no mouth was found in the whole video."""
    if not job.has("speech"):
        return np.zeros(windows, bool)
    open_s, coverage = _speech(job, "open_s", "coverage")
    return (open_s >= settings.min_open_s - SLACK_S) & (coverage >= settings.min_coverage - SLACK_S)


def on_frames(
    values: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, axis: FrameAxis, settings: ModelSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a model on the frames, as its setting `expand` says; see `frames.align` and `frames.interpolate`."""
    if getattr(settings, "expand", "constant") == "linear":
        return frames.interpolate(values, valid, start_s, end_s, axis, rows=settings.chunks)
    return frames.align(values, valid, start_s, end_s, axis.times_s)


def _narrow(values: np.ndarray) -> np.ndarray:
    """float32 as float16 where that loses nothing: embeddings are stored so, and only the mean of rows that overlap is none of them."""
    import torch

    whole = torch.from_numpy(values)
    half = whole.half()
    return half.numpy() if torch.equal(half.float(), whole) else values


def frame_sources(codes: np.ndarray, valid: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """(T,) uint8: for each frame the best source among the valid rows that cover it."""
    best = np.full(len(times_s), NONE, np.uint8)
    for code in (NEAREST, OBSERVED):
        _, covered = frames.align(np.zeros((len(codes), 1), np.float32), valid & (codes == code), start_s, end_s, times_s)
        best[covered] = code
    return best


def widen(sequence: Sequence, dims: dict[str, int]) -> Sequence:
    """Give absent modalities, read with a width of 0, the width that the model has."""
    for part in (sequence.inputs, sequence.own):
        for name, values in part.items():
            if values.shape[-1] == 0 and name in dims:
                part[name] = np.zeros((*values.shape[:-1], dims[name]), np.float16)  # widens nothing that it is packed with
    return sequence


def widths(sequences: Many[Sequence]) -> dict[str, int]:
    """Width of each input over all streams."""
    first = sequences[0]
    of_rows = {n: max(s.inputs[n].shape[-1] for s in sequences) for n in first.inputs if n != "steps"}
    return of_rows | {n: max(s.own[n].shape[-1] for s in sequences) for n in first.own}


def frame_labels(job: Job) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Labels of the stream of `job`, task -> (T, K) float64 and (T,) bool known; of the tasks of the run that it has an annotation for."""
    tasks = job.plan.settings.tasks
    with job.open("labels") as stream:
        values, known = stream.rows(), stream.rows("known")
    at = slices(tasks, "columns")
    return {task: (values[:, at[task]], known[:, i]) for i, task in enumerate(tasks) if task in job.item.row.labels}


def known_frames(job: Job, partition: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all frames, (T, K) and (T, tasks) bool known, of the tasks for which the stream is in `partition`."""
    tasks, found = job.plan.settings.tasks, frame_labels(job)
    first, _ = next(iter(found.values()))
    out, known = np.zeros((len(first), width(tasks, "columns"))), np.zeros((len(first), len(tasks)), bool)
    for task in job.item.row.labelled(tasks, partition):
        out[:, slices(tasks, "columns")[task]], known[:, tasks.index(task)] = found[task]
    return out, known


def labels(job: Job, sequence: Sequence, settings: ModelSettings, partition: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels at the rate of the model's outputs, of the tasks for which the stream is in `partition`.

    Returns (R, C, K) float32, the columns of the run's tasks one after another, and (R, C, tasks) bool.
    """
    tasks, shape = job.plan.settings.tasks, sequence.start_s.shape
    out, known = np.zeros((*shape, width(tasks, "columns")), np.float32), np.zeros((*shape, len(tasks)), bool)
    at, own, axis = slices(tasks, "columns"), frame_labels(job), sequence.axis
    start_s, end_s = sequence.start_s.ravel(), sequence.end_s.ravel()
    for task in job.item.row.labelled(tasks, partition):
        if isinstance(settings, ChunkModel) and settings.compat == "ras2026":
            pooled, there = pooling.between(task, *own[task], *_counted(sequence, settings))
        else:
            pooled, there = pooling.to_rows(task, *own[task], axis.times_s, start_s, end_s)
        out[..., at[task]] = pooled.reshape(*shape, -1)
        known[..., tasks.index(task)] = there.reshape(shape) & sequence.usable
    return out, known


def _counted(sequence: Sequence, settings: ChunkModel) -> tuple[np.ndarray, np.ndarray]:
    """Frames [first, stop), (R C,) each, whose labels the chunks of audio windows have by the published rule."""
    axis = sequence.axis
    begin_s, end_s = sequence.start_s[:, 0] - axis.start_s, sequence.end_s.max(axis=1) - axis.start_s
    bin_s = float(sequence.start_s[0, 1] - sequence.start_s[0, 0]) if settings.chunks > 1 else float((end_s - begin_s).max())
    bins = pooling.second_bins(begin_s, end_s, float(axis.fps), bins=settings.chunks, bin_s=bin_s, frames=len(axis))
    return tuple(edge.ravel() for edge in bins)


def windows(sequence: Sequence, settings: ModelSettings) -> np.ndarray:
    """(W, 2) int64 windows (first row, rows) in which a model sees a stream: every row is in one at least."""
    if isinstance(settings, RAAVModel) and settings.level == "window":
        first, stop = _in_windows(sequence.axis, settings)
        return np.stack([first, stop - first], axis=1)[stop > first]
    tail = getattr(settings, "tail", "shifted")
    starts = frames.split(len(sequence), length=settings.window, stride=settings.stride, tail=tail)
    return np.stack([starts, np.minimum(settings.window, len(sequence) - starts)], axis=1)


def _in_windows(axis: FrameAxis, settings: RAAVModel) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-last frame of each window of seconds; none in a hole of the axis that is longer than a window."""
    cut = frames.segments(axis.start_s, axis.end_s, length_s=settings.window_s, hop_s=settings.hop_s)
    return frames.frames_in(axis.times_s, cut[:, 0], cut[:, 1])


class Packed:
    """Windows of many labelled streams: contiguous arrays with offsets, in the dtypes of the streams, cut a batch at a time.

    The inputs of the streams become views of these arrays, so that they are in memory once: they can be most of what there is.
    A window without enough valid labels (half of the outputs of an audio window, else one) is left out.

    Attributes:
        windows: (W, 2) int64 first row and rows. length: L, rows of the longest.
    """

    def __init__(self, sequences: Many[Sequence], targets: Many[tuple[np.ndarray, np.ndarray]], settings: ModelSettings):
        self.inputs = {name: _gather(name, sequences) for name in sequences[0].inputs}
        self.present = np.concatenate([s.present for s in sequences])
        self.target = np.concatenate([t for t, _ in targets])  # (rows, C, K)
        self.known = np.concatenate([k for _, k in targets])
        offsets = np.cumsum([0, *map(len, sequences)])
        found = np.concatenate([np.add(windows(s, settings), (offset, 0)) for s, offset in zip(sequences, offsets[:-1], strict=True)])
        enough = -(-self.known.shape[1] // 2) if isinstance(settings, ChunkModel) else 1
        labelled = np.append(0, self.known.any(axis=-1).sum(axis=1)).cumsum()  # outputs before each row that have a label of some task
        kept = labelled[found.sum(axis=1)] - labelled[found[:, 0]] >= enough
        self.windows = found[kept]
        self.length = int(self.windows[:, 1].max(initial=0))
        self.own = {name: np.concatenate([s.own[name] for s in sequences])[kept] for name in sequences[0].own}
        self.heard = np.concatenate([s.heard for s in sequences])[kept] if self.own else None

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, indices: list[int]) -> "dict[str, Tensor | dict[str, Tensor]]":
        """A batch: inputs (B, L, ...), present (B, L, M), target (B, L, C, K), known (B, L, C, tasks); short windows are padded, masked.

        Inputs of a few rows a window are (B, K, D), and then there is `heard` (B, K).
        """
        at = places(self.windows[indices], self.length)
        batch = {
            "inputs": {name: cut(data, at) for name, data in self.inputs.items()},
            "present": cut(self.present, at),
            "target": cut(self.target, at),
            "known": cut(self.known, at),
        }
        if self.heard is not None:
            batch["inputs"] |= {name: tensor(data[indices]) for name, data in self.own.items()}
            batch["heard"] = tensor(self.heard[indices])
        return batch


def _gather(name: str, sequences: Many[Sequence]) -> np.ndarray:
    """An input of all streams one after another; theirs become views of it, one at a time."""
    parts = [s.inputs[name] for s in sequences]
    out = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.result_type(*parts))
    parts.clear()  # it would keep what is copied
    offset = 0
    for sequence in sequences:
        own = out[offset : offset + len(sequence)]
        own[...] = sequence.inputs[name]
        sequence.inputs[name] = own
        offset += len(sequence)
    return out


def places(windows: np.ndarray, length: int) -> np.ndarray:
    """(B, L) int64 row at each place of windows (B, 2) (first row, rows) that are padded to L = length rows; -1 where none is."""
    step = np.arange(length)
    return np.where(step < windows[:, 1:], windows[:, :1] + step, -1)


def cut(data: np.ndarray, at: np.ndarray) -> "Tensor":
    """Rows of an array (R, ...) at `at` (B, L), zero where that is -1, as a (B, L, ...) tensor; floats become float32."""
    out = data.take(at, axis=0)  # one gather, in C; numpy's, since threads cost more here than they save
    if at.min(initial=0) < 0:
        out[at < 0] = 0
    return tensor(out)


def tensor(data: np.ndarray) -> "Tensor":
    """An array as a tensor; floats become float32."""
    import torch

    out = torch.from_numpy(data)
    return out.float() if out.is_floating_point() else out  # torch's: numpy widens float16 one number at a time
