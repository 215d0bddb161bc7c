"""Conversion of a checkpoint of torch, which is a program, to safetensors, which are only numbers."""

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from affpipe.core.errors import WeightsError
from affpipe.system import outputs
from affpipe.system.disk import atomic
from affpipe.system.weights import pickled
from affpipe.system.weights.reading import first_line

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys of a state dict in files of training programs, in the order tried
NAMED = 3  # most things that a message names


@dataclass(frozen=True)
class Converted:
    """Result of a conversion.

    Attributes:
        under: key under which the state dict lay, "" for the top.
        left_out: entries that are no tensors, by name.
    """

    path: Path
    tensors: int
    under: str
    left_out: tuple[str, ...]


def convert(source: Path, out: Path, *, trust: bool = False) -> Converted:
    """Write the state dict of a checkpoint as safetensors: the same names, shapes, dtypes and values.

    Args:
        source: file written by `torch.save`.
        out: a new file, `*.safetensors`.
        trust: if the file asks for more than tensors, unpickle it in full, which runs whatever code it names.

    Raises WeightsError if the file asks for more and is not trusted, holds no state dict, or has tensors that safetensors cannot store.
    """
    if out.suffix != ".safetensors" or out.exists():
        what = "one that is there" if out.exists() else out.name
        raise WeightsError(f"convert: want a new file whose name ends in .safetensors, got {what}; give another name")
    if not source.is_file():
        raise WeightsError(f"convert: {source}: want a checkpoint, got no file; correct the path")
    under, state, beside = _state(source, _read(source, trust))
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    for name, value in tensors.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise WeightsError(f"convert: {source}: want dense tensors, got {name} of {value.type()}; save it as one")
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    if size > pickled.SHARED * (own := source.stat().st_size):
        raise WeightsError(f"convert: {source}: want tensors that it holds, got {own} bytes that make {size}; do not trust it")
    plain = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}  # shared ones too
    try:
        with atomic(outputs.place(out)) as part:
            save_file(plain, part, metadata={"format": "pt"})
    except (SafetensorError, ValueError, KeyError) as error:  # a dtype that the format does not have
        raise WeightsError(f"convert: {source}: want tensors that safetensors can hold, got others ({first_line(error)})") from None
    left_out = [f"{under}.{name}" if under else str(name) for name in state if name not in tensors]
    return Converted(out, len(plain), under, tuple(left_out + beside))


def _read(source: Path, trust: bool) -> Any:
    pickled.check_archive("convert", source)
    try:
        found = pickled.load("convert", source)
    except WeightsError:  # not in a form that `torch.save` writes by itself: a program in any case
        if not trust:
            raise
    else:
        if not found.foreign:
            return found.value
    if not trust:
        raise WeightsError(
            f"convert: {source}: it asks for {', '.join(found.foreign[:NAMED])}; to unpickle it runs whatever program its author put in, "
            "as you and with your files: if you trust the author and the way that it came, add --trust"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about classes whose source has changed since
            return torch.load(source, map_location="cpu", weights_only=False)
    except Exception as error:  # it runs as a program and may raise anything
        raise WeightsError(
            f"convert: {source} does not unpickle ({type(error).__name__}: {first_line(error)}); install what it was made with, or get "
            "its state_dict() from there"
        ) from error


def _state(source: Path, found: Any) -> tuple[str, Mapping[str, Any], list[str]]:
    """Return the key of the state dict, the state dict, and the names of what lies beside it."""
    if isinstance(found, nn.Module):
        return "", found.state_dict(), []
    if isinstance(found, Mapping):
        for under in WRAPPERS:
            with contextlib.suppress(KeyError):
                state = found[under].state_dict() if isinstance(found[under], nn.Module) else found[under]
                if _is_state(state):
                    return under, state, [str(name) for name in found if name != under]
        if _is_state(found):
            return "", found, []
    what = f"a {type(found).__name__}" + (f" of {sorted(map(str, found))[:5]}" if isinstance(found, Mapping) else "")
    raise WeightsError(
        f"convert: {source}: want a state dict, at the top or under {', '.join(WRAPPERS)}, got {what}; save the network's state_dict()"
    )


def _is_state(found: Any) -> bool:
    return isinstance(found, Mapping) and all(isinstance(k, str) for k in found) and any(isinstance(v, Tensor) for v in found.values())
