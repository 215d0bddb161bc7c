"""A model with everything that belongs to it: input statistics, windows, merging, and its file.

Shapes: B batch, L rows a window, M inputs, C outputs a row, H embedding width, E experts of a fusion, R rows of a stream.
"""

import json
from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from affpipe import build, frames, store
from affpipe.errors import StoreError
from affpipe.sequences import Sequence, cut, widen
from affpipe.settings import ChunkModel, DCMMOEModel, ModelSettings

FLAT = 1e-6  # a feature that varies less than this is only centred


class Output(NamedTuple):
    """prediction (B, L, C, 2), embedding (B, L, C, H), gate (B, L, E) of a fusion or None."""

    prediction: Tensor
    embedding: Tensor
    gate: Tensor | None


class Predictor(nn.Module):
    """One interface for every kind of model.

    Args:
        dims: width of each input, in the order of `present`.
    """

    def __init__(self, settings: ModelSettings, dims: Mapping[str, int]):
        super().__init__()
        self.settings, self.dims = settings, dict(dims)
        self.model = build.model(settings, dims)
        for name, dim in self.dims.items() if settings.standardise else ():
            self.register_buffer(f"mean_{name}", torch.zeros(dim))
            self.register_buffer(f"deviation_{name}", torch.ones(dim))

    def measure(self, sequences: Many[Sequence]) -> None:
        """Take mean and deviation of each feature from the present rows of the training streams."""
        for m, (name, dim) in enumerate(self.dims.items()):
            total, square, count = np.zeros(dim), np.zeros(dim), 0
            for sequence in sequences:
                rows = _real(sequence, name, m).astype(np.float64)
                total, square, count = total + rows.sum(0), square + (rows**2).sum(0), count + len(rows)
            mean = total / max(count, 1)
            deviation = np.sqrt(np.maximum(square / max(count, 1) - mean**2, 0))
            getattr(self, f"mean_{name}").copy_(torch.from_numpy(mean))
            getattr(self, f"deviation_{name}").copy_(torch.from_numpy(np.where(deviation < FLAT, 1, deviation)))

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor) -> Output:
        """Inputs name -> (B, L, ...) and present (B, L, M) bool to an Output."""
        x = {name: self._scale(name, inputs[name]) for name in self.dims}
        if isinstance(self.settings, DCMMOEModel):
            fused = self.model(x, present)
            return Output(fused.prediction.unsqueeze(2), fused.embedding.unsqueeze(2), fused.gate)
        (rows,) = x.values()
        if isinstance(self.settings, ChunkModel):
            rows = rows.squeeze(1)  # (B, 1, F, D) -> (B, F, D)
            real = torch.arange(rows.shape[1], device=rows.device) < inputs["steps"]  # (F,) < (B, 1) -> (B, F)
            prediction, embedding = self.model(rows, real & present.squeeze(1))  # (B, C, ...)
            return Output(prediction.unsqueeze(1), embedding.unsqueeze(1), None)
        prediction, embedding = self.model(rows, present.squeeze(-1))
        return Output(prediction.unsqueeze(2), embedding.unsqueeze(2), None)

    def _scale(self, name: str, x: Tensor) -> Tensor:
        if not self.settings.standardise:
            return x
        return (x - getattr(self, f"mean_{name}")) / getattr(self, f"deviation_{name}")

    @property
    def experts(self) -> list[str]:
        """Names of the gate's entries, "query<-context"."""
        return [f"{q}<-{k}" for q, k in getattr(self.model, "experts", ())]


@dataclass(frozen=True, eq=False)
class Rows:
    """A model's answer for one stream: prediction (R, C, 2), embedding (R, C, H), gate (R, E) or None; float32."""

    prediction: np.ndarray
    embedding: np.ndarray
    gate: np.ndarray | None


@torch.inference_mode()
def run(predictor: Predictor, sequence: Sequence, device: torch.device) -> Rows:
    """Cut a stream into windows, run the model, average overlaps back to rows."""
    s, n = predictor.settings, len(sequence)
    sequence = widen(sequence, predictor.dims)
    starts = frames.split(n, length=s.window, stride=s.stride)
    windows = [(int(a), min(s.window, n - int(a))) for a in starts]
    parts: list[list[np.ndarray]] = []
    for i in range(0, len(windows), s.training.batch_size):
        batch = windows[i : i + s.training.batch_size]
        inputs = {name: cut(data, batch, s.window).to(device) for name, data in sequence.inputs.items()}
        output = predictor(inputs, cut(sequence.present, batch, s.window).to(device))
        parts.append([t.float().cpu().numpy() for t in output if t is not None])
    merged = [frames.merge(np.concatenate(p), starts, n).astype(np.float32) for p in zip(*parts, strict=True)]
    return Rows(merged[0], merged[1], merged[2] if len(merged) > 2 else None)


def _real(sequence: Sequence, name: str, m: int) -> np.ndarray:
    """(n, D) rows of an input that were observed; of an audio window without its padding."""
    values = sequence.inputs[name][sequence.present[:, m]]
    if "steps" not in sequence.inputs:
        return values
    steps = sequence.inputs["steps"][sequence.present[:, m]]
    return values[np.arange(values.shape[1]) < steps[:, None]]


# ---- files ------------------------------------------------------------------------------------------------------------------------------


def model_path(folder: Path) -> Path:
    """Weights of a fitted model."""
    return folder / "model.safetensors"


def save(path: Path, predictor: Predictor, record: Mapping[str, Any]) -> None:
    """Write weights and record to one safetensors file, whole or not at all."""
    state = {name: t.detach().cpu().contiguous() for name, t in predictor.state_dict().items()}
    with store.atomic(path) as part:
        save_file(state, part, metadata={"affpipe": json.dumps({**record, "dims": predictor.dims}, sort_keys=True)})


def read_record(path: Path, key: str) -> dict[str, Any]:
    """The record beside a model's weights; StoreError if the file is missing, damaged or another model's."""
    try:
        with safe_open(path, framework="np") as file:
            record = json.loads(file.metadata()["affpipe"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        what = "no file" if not path.exists() else error
        raise StoreError(f"{path}: want a fitted model, got {what}; delete the folder and run the workflow again") from None
    if record["key"] != key:
        raise StoreError(f"{path}: want the model of key {key}, got {record['key']}; delete the folder and run the workflow again")
    return record


def load(path: Path, key: str, settings: ModelSettings, device: torch.device) -> tuple[Predictor, dict[str, Any]]:
    """A fitted model, ready to predict, and its record."""
    record = read_record(path, key)
    predictor = Predictor(settings, record["dims"])
    with safe_open(path, framework="pt") as file:
        predictor.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
    return predictor.eval().to(device), record
