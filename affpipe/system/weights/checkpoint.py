"""Checkpoints of torch, read without running them: see `pickled`, which lists what a file would have run."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from affpipe.core.errors import WeightsError
from affpipe.system.weights.pickled import load
from affpipe.system.weights.reading import UNREADABLE, first_line

SAFE = ".safetensors"
FOREIGN = (
    "no checkpoint, or one with more in it than tensors: do not trust it; get it as .safetensors, or if you know who made it, "
    "see `affpipe weights convert --help`"
)


def read(who: str, path: Path) -> Any:
    """Read a checkpoint, tensors on the CPU. Raises WeightsError in the name of `who` if it asks for more than tensors, or is none."""
    found = load(who, path)
    if found.foreign:
        raise WeightsError(f"{who}: {path} does not read as weights ({FOREIGN})")
    return found.value


def read_safe(who: str, path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file by name. Raises WeightsError if it is none, or damaged."""
    try:
        return load_file(path)
    except UNREADABLE as error:
        raise WeightsError(f"{who}: {path} does not read as weights ({first_line(error)}); get the file again") from None
