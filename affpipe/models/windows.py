"""Windows of a model's rows: cut with overlap, packed for training, merged again by the mean. Merging inverts splitting.

Shapes: R rows, W windows, L rows a window, B windows a batch, C outputs a row.
"""

from collections.abc import Sequence as Many
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from affpipe.core.errors import InputError
from affpipe.models.inputs import Sequence, in_windows
from affpipe.models.table import ModelSettings, takes


def split(n: int, *, length: int, stride: int, tail: Literal["shifted", "truncated"] = "shifted") -> np.ndarray:
    """Return the starts of windows of `length` rows every `stride` over n rows; a tail window is added so that the last row is covered.

    "shifted" puts the tail window where it ends with the last row, as long as the others (Team RAS, sec. 3.1). "truncated" puts it where
    its stride does, so that it has fewer rows than `length` (the behaviour model of their public code). With n <= length there is one
    window, at 0.
    """
    if n < 1 or not 0 < stride <= length:
        raise InputError(f"split: want n >= 1 and 0 < stride <= length, got n={n}, length={length}, stride={stride}")
    if n <= length:
        return np.zeros(1, np.int64)
    if tail == "truncated":
        return np.arange(0, n - length + stride, stride)
    starts = np.arange(0, n - length + 1, stride)
    return starts if starts[-1] == n - length else np.append(starts, n - length)


def merge(windows: Many[np.ndarray], starts: Many[int], n: int) -> np.ndarray:
    """Average overlapping windows (L, ...), of any lengths, back to (n, ...) float64 rows: the inverse of `split`.

    Rows beyond n are dropped.
    """
    total = np.zeros((n, *windows[0].shape[1:]), np.float64)
    first = np.minimum(starts, n)
    stop = np.minimum(first + [len(window) for window in windows], n)
    for window, a, b in zip(windows, first.tolist(), stop.tolist(), strict=True):
        total[a:b] += window[: b - a]
    count = np.cumsum(np.bincount(first, minlength=n + 1) - np.bincount(stop, minlength=n + 1))[:n]  # windows that cover each row
    if (count == 0).any():
        raise InputError(f"merge: row {int(np.argmin(count))} of {n} is covered by no window")
    total /= count.reshape(-1, *[1] * (total.ndim - 1))
    return total


def windows(sequence: Sequence, settings: ModelSettings) -> np.ndarray:
    """Return the (W, 2) int64 windows (first row, rows) in which a model sees a stream; every row is in at least one."""
    if getattr(settings, "level", "") == "window":
        first, stop = in_windows(sequence.axis, settings)
        return np.stack([first, stop - first], axis=1)[stop > first]
    tail = getattr(settings, "tail", "shifted")
    starts = split(len(sequence), length=settings.window, stride=settings.stride, tail=tail)
    return np.stack([starts, np.minimum(settings.window, len(sequence) - starts)], axis=1)


class Packed:
    """Windows of many labelled streams: contiguous arrays with offsets, in the dtypes of the streams, cut a batch at a time.

    The inputs of the streams become views of these arrays, so that they are in memory once: they can be most of it. A window without enough
    valid labels (half of the outputs of an audio window, else one) is left out.

    Attributes:
        windows: (W, 2) int64, first row and number of rows. length: L, rows of the longest.
    """

    def __init__(self, sequences: Many[Sequence], targets: Many[tuple[np.ndarray, np.ndarray]], settings: ModelSettings):
        self.inputs = {name: _gather(name, sequences) for name in sequences[0].inputs}
        self.present = np.concatenate([s.present for s in sequences])
        self.target = np.concatenate([t for t, _ in targets])  # (rows, C, K)
        self.known = np.concatenate([k for _, k in targets])
        offsets = np.cumsum([0, *map(len, sequences)])
        found = np.concatenate([np.add(windows(s, settings), (offset, 0)) for s, offset in zip(sequences, offsets[:-1], strict=True)])
        enough = -(-self.known.shape[1] // 2) if takes(settings) == "windows" else 1
        labelled = np.append(0, self.known.any(axis=-1).sum(axis=1)).cumsum()  # outputs before each row that have a label of some task
        kept = labelled[found.sum(axis=1)] - labelled[found[:, 0]] >= enough
        self.windows = found[kept]
        self.length = int(self.windows[:, 1].max(initial=0))
        self.own = {name: np.concatenate([s.own[name] for s in sequences])[kept] for name in sequences[0].own}
        self.heard = np.concatenate([s.heard for s in sequences])[kept] if self.own else None

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, indices: list[int]) -> dict[str, Tensor | dict[str, Tensor]]:
        """Return a batch: inputs (B, L, ...), present (B, L, M), target (B, L, C, K), known (B, L, C, tasks).

        Short windows are padded and masked. Inputs of a few rows a window are (B, K, D); then there is also `heard` (B, K).
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
    """Concatenate an input of all streams; the streams' inputs become views of it, one at a time."""
    parts = [s.inputs[name] for s in sequences]
    out = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.result_type(*parts))
    parts.clear()  # it would keep the copied arrays alive
    offset = 0
    for sequence in sequences:
        own = out[offset : offset + len(sequence)]
        own[...] = sequence.inputs[name]
        sequence.inputs[name] = own
        offset += len(sequence)
    return out


def places(windows: np.ndarray, length: int) -> np.ndarray:
    """Return (B, L) int64: the row at each place of windows (B, 2) (first row, rows) padded to L = length rows; -1 for padding."""
    step = np.arange(length)
    return np.where(step < windows[:, 1:], windows[:, :1] + step, -1)


def cut(data: np.ndarray, at: np.ndarray) -> Tensor:
    """Take rows of an array (R, ...) at `at` (B, L), zero where that is -1, as a (B, L, ...) tensor; floats become float32."""
    out = data.take(at, axis=0)  # one gather, in C; numpy's, since threads cost more here than they save
    if at.min(initial=0) < 0:
        out[at < 0] = 0
    return tensor(out)


def tensor(data: np.ndarray) -> Tensor:
    """Return an array as a tensor; floats become float32."""
    out = torch.from_numpy(data)
    return out.float() if out.is_floating_point() else out  # torch's: numpy widens float16 one number at a time
