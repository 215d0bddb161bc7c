"""Check of a network whose sizes a file declares against the file's tensors, before memory or time is spent on it."""

import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

PARTS, FEW = 4, 100  # a network has at most PARTS parts per tensor, and FEW more


class Undrawn(TorchFunctionMode):
    """Mode in which initial values of parameters without memory are not drawn. Drawing them would make torch import its compiler."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.normal_, torch.Tensor.uniform_) and args[0].is_meta:
            return args[0]
        return function(*args, **(kwargs or {}))


@contextmanager
def unfilled(tensors: int) -> Iterator[None]:
    """Build networks inside the block with shapes and no values ("meta" device).

    Raises ValueError if they have more parts than a network of so many tensors can have, since a declared number of layers costs time and
    memory too.
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
    """Read the shapes of the tensors in safetensors files by name, from their headers. A damaged file raises the library's error."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
    return shapes


def numbers(shapes: Iterable[Iterable[int]]) -> int:
    """Return how many numbers tensors of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes)
