"""A model with all its parts: input statistics, windows, merging, and its file.

Shapes: B batch, L rows a window, M inputs, C outputs a row, O outputs, H embedding width, E experts of a fusion, R rows of a stream.
"""

import hashlib
import json
from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from affpipe.core.errors import StoreError
from affpipe.models.checks import given
from affpipe.models.encoder_layers import Backbone
from affpipe.models.inputs import FULL_SCALE, Sequence, widen
from affpipe.models.table import MODELS, ModelSettings, takes
from affpipe.models.windows import cut, merge, places, tensor, windows
from affpipe.store import streams
from affpipe.system import disk, jsonfile
from affpipe.system.weights.declared_sizes import stored, unfilled

FLAT = 1e-6  # a feature that varies less than this is only centred


class Output(NamedTuple):
    """Output of a model: prediction (B, L, C, O), embedding (B, L, C, H), gate (B, L, E) of a fusion that has one, else None."""

    prediction: Tensor
    embedding: Tensor
    gate: Tensor | None


class Predictor(nn.Module):
    """Common interface of all kinds of models.

    Args:
        dims: width of each input, in the order of `present`. outputs: O, of all tasks one after another.
        backbone: encoder layers within the model, if it has any. name: the model's name.

    Attributes:
        who: the words for its network in a fault.
        top: layers of an encoder that are trained with the model, or None.
    """

    def __init__(self, settings: ModelSettings, dims: Mapping[str, int], backbone: Backbone | None = None, *, outputs: int, name: str = ""):
        super().__init__()
        self.settings, self.dims = settings, dict(dims)
        self.outputs, self.who = outputs, f"models.{name} (kind {settings.kind})"
        self.model = MODELS[settings.kind].build(settings, dims, outputs)
        self.top = backbone.top if backbone else None
        self._trunk = Frozen(backbone.trunk if backbone else None)
        self.space: nn.Linear | None = None
        for name, dim in self.dims.items() if settings.standardise else ():
            self.register_buffer(f"mean_{name}", torch.zeros(dim))
            self.register_buffer(f"deviation_{name}", torch.ones(dim))

    def join(self) -> nn.Linear:
        """Give the model a last map of its embedding into the space of another model, see `crossfit`; it starts as the identity."""
        width = self.settings.hidden
        self.space = nn.Linear(width, width).requires_grad_(False)
        with torch.no_grad():
            self.space.weight.copy_(torch.eye(width))
            self.space.bias.zero_()
        return self.space

    def measure(self, sequences: Many[Sequence]) -> None:
        """Compute mean and deviation of each feature from the present rows of the training streams."""
        for m, (name, dim) in enumerate(self.dims.items()):
            total, square, count = np.zeros(dim), np.zeros(dim), 0
            for sequence in sequences:
                rows = _real(sequence, name, m).astype(np.float64)
                total, square, count = total + rows.sum(0), square + (rows**2).sum(0), count + len(rows)
            mean = total / max(count, 1)
            deviation = np.sqrt(np.maximum(square / max(count, 1) - mean**2, 0))
            getattr(self, f"mean_{name}").copy_(torch.from_numpy(mean))
            getattr(self, f"deviation_{name}").copy_(torch.from_numpy(np.where(deviation < FLAT, 1, deviation)))

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor, heard: Tensor | None = None) -> Output:
        """Map inputs name -> (B, L, ...) and present (B, L, M) bool to an Output; `heard` is (B, K) bool if the last input is (B, K, D)."""
        x = {name: self._scale(name, inputs[name]) for name in self.dims}
        if self.settings.members:
            prediction, embedding, gate = self._ask(present.shape[1], x, present, *([] if heard is None else [heard]))
            return Output(prediction.unsqueeze(2), embedding.unsqueeze(2), gate)
        (rows,) = x.values()
        if takes(self.settings) == "windows":
            rows, real = self._states(rows.squeeze(1), inputs["steps"].squeeze(1), present.squeeze(1))
            prediction, embedding, _ = self._ask(self.settings.chunks, rows, real)  # (B, C, ...)
            return Output(prediction.unsqueeze(1), self._join(embedding.unsqueeze(1)), None)
        prediction, embedding, _ = self._ask(present.shape[1], rows, present.squeeze(-1))
        return Output(prediction.unsqueeze(2), self._join(embedding.unsqueeze(2)), None)

    def _ask(self, rows: int, *parts: Any) -> list[Tensor | None]:
        """Return prediction, embedding and gate of the network, with `rows` rows a window."""
        with given.by(self.who):
            found = self.model(*parts)
        fused = bool(self.settings.members)
        sizes = self.outputs, self.settings.hidden
        return given.answer(self.who, found, (len(parts[1]), rows), sizes, fused=fused, gates=self.experts)

    def _states(self, rows: Tensor, steps: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states (B, F, D) of windows, and (B, F) bool, True for the real ones.

        Args:
            rows: (B, F, D) cached states, or (B, S) sound. steps: (B,) how many of F or S are real. present: (B, 1) bool.
        """
        if self._trunk.part is not None:
            sound = rows if rows.is_floating_point() else rows.float() / FULL_SCALE
            live = self.training and self.settings.frozen_mode == "train"
            rows, steps = self._trunk.part(sound, steps, live=live), self._trunk.part.frames(steps)  # (B, S) -> (B, F, D)
        real = (torch.arange(rows.shape[1], device=rows.device) < steps[:, None]) & present  # (B, F)
        return rows if self.top is None else self.top(rows, real), real

    def _join(self, embedding: Tensor) -> Tensor:
        return embedding if self.space is None else self.space(embedding)

    def _scale(self, name: str, x: Tensor) -> Tensor:
        if not self.settings.standardise:
            return x
        return (x - getattr(self, f"mean_{name}")) / getattr(self, f"deviation_{name}")

    @property
    def experts(self) -> list[str]:
        """Names of the gate's entries; empty for a model without a gate."""
        return list(getattr(self.model, "gate_names", ()))


class Frozen:
    """Network that a module uses and does not own: it is in no state dict, no optimiser, no copy."""

    def __init__(self, part: Any):
        self.part = part

    def __deepcopy__(self, memo: dict) -> "Frozen":
        return self


@dataclass(frozen=True, eq=False)
class Rows:
    """Answer of a model for one stream: prediction (R, C, O), embedding (R, C, H), gate (R, E) or None; float32."""

    prediction: np.ndarray
    embedding: np.ndarray
    gate: np.ndarray | None


@torch.inference_mode()
def run(predictor: Predictor, sequence: Sequence, device: torch.device) -> Rows:
    """Cut a stream into windows, run the model, average overlaps back to rows."""
    s, n = predictor.settings, len(sequence)
    sequence = widen(sequence, predictor.dims)
    cuts = windows(sequence, s)
    length = int(cuts[:, 1].max())
    parts: list[list[np.ndarray]] = []
    for i in range(0, len(cuts), s.training.batch_size):
        at = places(cuts[i : i + s.training.batch_size], length)
        inputs = {name: cut(data, at).to(device) for name, data in sequence.inputs.items()}
        inputs |= {name: tensor(data[i : i + len(at)]).to(device) for name, data in sequence.own.items()}
        heard = None if sequence.heard is None else tensor(sequence.heard[i : i + len(at)]).to(device)
        output = predictor(inputs, cut(sequence.present, at).to(device), heard)
        parts.append([t.float().cpu().numpy() for t in output if t is not None])
        if output.gate is not None:
            given.weights(predictor.who, parts[-1][2])
    starts, counts = cuts.T.tolist()
    merged = []
    for part in zip(*parts, strict=True):
        own = [window[:rows] for window, rows in zip(chain.from_iterable(part), counts, strict=True)]  # without padding
        merged.append(merge(own, starts, n).astype(np.float32))
    return Rows(merged[0], merged[1], merged[2] if len(merged) > 2 else None)


def _real(sequence: Sequence, name: str, m: int) -> np.ndarray:
    """Return the (n, D) observed rows of an input; those of an audio window without its padding."""
    if name in sequence.own:
        return sequence.own[name][sequence.heard]
    values = sequence.inputs[name][sequence.present[:, m]]
    if "steps" not in sequence.inputs:
        return values
    steps = sequence.inputs["steps"][sequence.present[:, m]]
    return values[np.arange(values.shape[1]) < steps[:, None]]


# ---- files ------------------------------------------------------------------------------------------------------------------------------


def model_path(folder: Path) -> Path:
    """Return the path of a fitted model's weights."""
    return folder / streams.MODEL


def save(path: Path, predictor: Predictor, record: Mapping[str, Any]) -> None:
    """Write weights and record to one safetensors file, whole or not at all."""
    state = {name: t.detach().cpu().contiguous() for name, t in predictor.state_dict().items()}
    whole = {**record, "dims": predictor.dims, "outputs": predictor.outputs, "sha256": _digest(state)}
    with disk.atomic(path) as part:  # into the existing file: `save_file` replaces it by one that nobody else may read
        part.write_bytes(safetensors.torch.save(state, metadata={"affpipe": json.dumps(whole, sort_keys=True)}))


def read_record(path: Path, key: str) -> dict[str, Any]:
    """Read the record beside a model's weights; StoreError if the file is missing, damaged or another model's."""
    try:
        with safe_open(path, framework="np") as file:
            record = jsonfile.parse(file.metadata()["affpipe"])
            found = record["key"]
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        what = "no file" if not path.exists() else error
        raise _damaged(path, "a fitted model", what) from None
    if found != key:
        raise _damaged(path, f"the model of key {key}", found)
    return record


def _damaged(path: Path, want: str, got: object) -> StoreError:
    return StoreError(f"{path}: want {want}, got {got}; run the workflow again, which fits it anew", damaged=path)


def _digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all weights: safetensors itself notices a truncated file, but not a flipped bit."""
    out = hashlib.sha256()
    for name in sorted(state):
        out.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}".encode())
        out.update(state[name].flatten().view(torch.uint8).numpy())
    return out.hexdigest()


def _check_shapes(path: Path, record: Mapping[str, Any], settings: ModelSettings, backbone: Backbone | None) -> None:
    try:
        have = stored([path])
        with unfilled(len(have)):
            unmade = Predictor(settings, record["dims"], backbone, outputs=record["outputs"])
        want = {name: tuple(t.shape) for name, t in unmade.state_dict().items()}
        wrong = [name for name, shape in want.items() if have.get(name) != shape]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError, SafetensorError) as error:
        wrong = [f"{type(error).__name__} of its sizes"]
    if wrong:
        raise _damaged(path, "the network of its record", f"another {wrong[0]}")


def load(
    path: Path, key: str, settings: ModelSettings, device: torch.device, backbone: Backbone | None = None, name: str = ""
) -> tuple[Predictor, dict[str, Any]]:
    """Load a fitted model, ready to predict, and its record.

    Args:
        backbone: the encoder layers as they were when the model was fitted; the top has no values yet.

    Raises StoreError if the file does not hold the network that its record declares, before any memory is taken for it.
    """
    record = read_record(path, key)
    _check_shapes(path, record, settings, backbone)
    predictor = Predictor(settings, record["dims"], backbone, outputs=record["outputs"], name=name)
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    if _digest(state) != record.get("sha256"):
        raise _damaged(path, "the weights that were written", "others")
    if any(name.startswith("space.") for name in state):
        predictor.join()
    predictor.load_state_dict(state, assign=True)  # also into the top, which has no memory until now
    return predictor.eval().to(device), record
