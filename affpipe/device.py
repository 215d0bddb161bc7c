"""The device that networks run on. torch is imported only where one is asked for: planning passes through here."""

from typing import TYPE_CHECKING

from affpipe.errors import SettingsError

if TYPE_CHECKING:
    import torch


def pick(name: str) -> "torch.device":
    """The device of the setting `device`; SettingsError if it asks for a GPU that is not there. Never falls back."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: want a CUDA device as set, got none on this node; run on a GPU node or set device: cpu")
    return torch.device(name)


def claim() -> None:
    """Make sure, before anything is read, that a job which asked for a GPU has one."""
    pick("cuda")
