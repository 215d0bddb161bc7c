"""Checkpoints of torch, read without running them.

A .pt, .pth, .bin or .ckpt file is a pickle, mostly within a zip archive: a program that may do anything while it is loaded. It is read by
torch's weights-only unpickler, which builds tensors and plain values and refuses all else. What else an archive can do is unfold to more
than the memory; torch stores tensors as they are, so one that unfolds at all was not made by torch.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from affpipe.errors import WeightsError
from affpipe.weights.files import UNREADABLE, first_line

SAFE = ".safetensors"
ZIP = b"PK\x03\x04"  # first bytes of an archive, by which torch knows it
NAMED = 3  # things that a message names
FOREIGN = (
    "no checkpoint, or one with more in it than tensors: do not trust it; get it as .safetensors, or if you know who made it, "
    "see `affpipe weights convert --help`"
)


def read(who: str, path: Path) -> Any:
    """What a checkpoint holds, tensors on the CPU. WeightsError in the name of `who` where it asks for more than tensors, or is none."""
    check_archive(who, path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's words on it recommend to load the file without the restriction
        raise WeightsError(f"{who}: {path} does not read as weights ({FOREIGN})") from error
    except (*UNREADABLE, LookupError, AttributeError, MemoryError) as error:  # a damaged pickle looks for what is not there
        raise WeightsError(f"{who}: {path} does not read as weights ({first_line(error)}); get the file again") from None


def read_safe(who: str, path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file by name. WeightsError where it is none, or damaged."""
    try:
        return load_file(path)
    except UNREADABLE as error:
        raise WeightsError(f"{who}: {path} does not read as weights ({first_line(error)}); get the file again") from None


def check_archive(who: str, path: Path) -> None:
    """WeightsError where a file is a zip archive that unfolds to more bytes than it has, or whose directory does not read."""
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP)) != ZIP:
                return
        with zipfile.ZipFile(path) as archive:
            unfolded = sum(member.file_size for member in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{who}: {path} does not read as weights ({first_line(error)}); get the file again") from None
    if unfolded > (size := path.stat().st_size):
        raise WeightsError(f"{who}: {path}: want tensors as they are, got {size} bytes that unfold to {unfolded}: do not trust it")


def foreign(path: Path) -> list[str]:
    """What a checkpoint asks for beyond tensors, by name, the first few; none where that cannot be told."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))[:NAMED]
    except Exception:  # no checkpoint, or one of the old kind: whatever its bytes lead to
        return []
