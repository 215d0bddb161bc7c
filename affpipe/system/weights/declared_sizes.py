"""Networks whose sizes a file declares, held against the tensors that the file has before memory or time is spent on them."""

import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

PARTS, FEW = 4, 100  # a network has few times as many parts as tensors, and some more


class Undrawn(TorchFunctionMode):
    """Within it, first values of parameters without memory are not drawn, for which torch would import its compiler."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.normal_, torch.Tensor.uniform_) and args[0].is_meta:
            return args[0]
        return function(*args, **(kwargs or {}))


@contextmanager
def unfilled(tensors: int) -> Iterator[None]:
    """Networks built within have shapes and no values ("meta" device).

    ValueError where they come to more parts than one of so many tensors can have: a declared number of layers is time and memory too.
    """
    left, thread = PARTS * tensors + FEW, threading.get_ident()

    def made(*_: object) -> None:
        nonlocal left
        left -= threading.get_ident() == thread
        if left < 0:
            raise ValueError(f"more layers than {tensors} tensors fill")

    hook = nn.modules.module.register_module_module_registration_hook(made)
    try:
        with torch.device("meta"):
            yield
    finally:
        hook.remove()


def stored(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of safetensors files by name, by their headers. The library's error where one is damaged."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
    return shapes


def numbers(shapes: Iterable[Iterable[int]]) -> int:
    """Numbers of tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes)
