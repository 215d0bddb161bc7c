"""Windows of 400 rows for training, a batch of eight at a time, out of three million frames of 256 numbers with targets and masks.

reference: one pickle keyed by the path of a frame, with float32 rows; for each window a loop over its frames, a stack, padding, and the
windows of a batch stacked. It holds the first videos only (100,000 frames), which are cheaper to look up than all; reading the pickle
does not count. ours: `Packed`, float16 rows of all videos, windows from anywhere. floor: as many rows that lie together, copied and
widened to float32 into memory that is there, without masks and targets. All in one thread, as in a loader's worker: threads that wait for
each other would be counted too.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affpipe.core.axis import OBSERVED, FrameAxis
from affpipe.models.heads.transformer.spec import TransformerModel
from affpipe.models.inputs import Sequence
from affpipe.models.windows import Packed
from affpipe.system import memory
from benchmarks.speed.arms import GLIBC_BYTES, DisagreeError, Row, ratio, take_turns

LENGTH, STRIDE, WIDTH, BATCH = 400, 150, 256, 8
FPS = 25
GOAL = 50.0
Batches = list[dict[str, Any]]


def rows(*, quick: bool) -> list[Row]:
    torch.set_num_threads(1)
    frames, part, windows, rounds = (60_000, 20_000, 160, 1) if quick else (3_000_000, 100_000, 1600, 5)
    settings = TransformerModel(reads="grada", window=LENGTH, stride=STRIDE)
    streams, targets = _streams(frames)
    data, paths = _pickle(streams, targets, part)
    packed = Packed(streams, targets, settings)
    known = [i for i, (first, n) in enumerate(packed.windows) if first + n <= len(paths)]
    rng = np.random.default_rng(1)
    inside, anywhere = rng.choice(known, windows), rng.integers(len(packed), size=windows)
    anywhere[: 2 * BATCH] = inside[: 2 * BATCH]  # these are compared

    def reference() -> Batches:
        memory.keep(GLIBC_BYTES)
        return _each(inside, lambda batch: _collate([_sample(data, paths, *packed.windows[i]) for i in batch]))

    def ours() -> Batches:
        memory.keep()  # as a fit does
        return _each(anywhere, lambda batch: packed[batch.tolist()])

    out, rows16 = torch.empty(BATCH * LENGTH, WIDTH), torch.from_numpy(packed.inputs["grada"])

    def floor() -> None:
        for i in rng.integers(len(rows16) - len(out), size=windows // BATCH).tolist():
            out.copy_(rows16[i : i + len(out)])

    costs, outputs = take_turns({"reference": reference, "ours": ours, "floor": floor}, units=windows, rounds=rounds, compare=_compare)
    what = f"windows of {LENGTH} x {WIDTH} for training, {frames / 1e6:g} M frames"
    return [Row(what, "window", costs, "reference : ours", ratio(costs), GOAL, outputs)]


def _streams(frames: int) -> tuple[list[Sequence], list[tuple[np.ndarray, np.ndarray]]]:
    """Videos of 200 to 10,000 frames with their targets; a frame in ten has no face, one in ten no label."""
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((20_000, WIDTH), np.float32).astype(np.float16)
    streams, targets, left = [], [], frames
    while left > 0:
        n = min(left, int(rng.integers(200, 10_000)))
        first = int(rng.integers(len(pool) - n))
        axis = FrameAxis(np.arange(n) / FPS, Fraction(FPS))
        present, source = rng.random((n, 1)) < 0.9, np.full(n, OBSERVED, np.uint8)
        values = pool[first : first + n].copy()
        streams.append(
            Sequence(f"video{len(streams)}", axis, {"grada": values}, present, source, axis.times_s[:, None], axis.ends_s[:, None])
        )
        targets.append((rng.uniform(-1, 1, (n, 1, 2)).astype(np.float32), rng.random((n, 1, 1)) < 0.9))
        left -= n
    return streams, targets


def _pickle(
    streams: list[Sequence], targets: list[tuple[np.ndarray, np.ndarray]], frames: int
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What published code has in memory of the first videos, and the paths of their frames in order."""
    data: dict[str, dict[str, Any]] = {}
    for stream, (target, known) in zip(streams, targets, strict=True):
        if len(data) + len(stream) > frames:
            break
        for i, row in enumerate(stream.inputs["grada"]):
            label = {"va": target[i, 0].tolist(), "known": bool(known[i, 0, 0])}
            data[f"{stream.id}/{i + 1:05d}.jpg"] = {"embedding": row.astype(np.float32), "face": bool(stream.present[i, 0]), **label}
    return data, list(data)


def _sample(data: dict[str, dict[str, Any]], paths: list[str], first: int, rows: int) -> dict[str, Tensor]:
    """A window in the reference's way."""
    found: dict[str, list] = {"embedding": [], "face": [], "va": [], "known": []}
    for path in paths[first : first + rows]:
        frame = data[path]
        for name, values in found.items():
            values.append(frame[name])
    arrays = {
        "embedding": np.stack(found["embedding"]),
        "face": np.array(found["face"]),
        "va": np.array(found["va"], np.float32),
        "known": np.array(found["known"]),
    }
    missing = LENGTH - rows
    return {name: torch.from_numpy(np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))) for name, x in arrays.items()}


def _collate(samples: list[dict[str, Tensor]]) -> dict[str, Any]:
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    return {
        "inputs": {"grada": batch["embedding"]},
        "present": batch["face"][..., None],
        "target": batch["va"][:, :, None],
        "known": batch["known"][..., None, None],
    }


def _each(windows: np.ndarray, load: Callable[[np.ndarray], dict[str, Any]]) -> Batches:
    """Load all windows, batch by batch; the first two batches."""
    kept = []
    for i in range(0, len(windows), BATCH):
        batch = load(windows[i : i + BATCH])
        if i < 2 * BATCH:
            kept.append(batch)
    return kept


def _compare(outputs: dict[str, Any]) -> str:
    for want, got in zip(outputs["reference"], outputs["ours"], strict=True):
        pairs = {"inputs": (want["inputs"]["grada"], got["inputs"]["grada"])}
        pairs |= {name: (want[name], got[name]) for name in ("present", "target", "known")}
        for name, (a, b) in pairs.items():
            if a.dtype != b.dtype or not torch.equal(a, b):
                raise DisagreeError(f"windows: {name} differs")
    return "equal, bit by bit"
