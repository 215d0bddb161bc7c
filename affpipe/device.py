"""The device that networks run on."""

import torch

from affpipe.errors import SettingsError


def pick(name: str) -> torch.device:
    """The device of the setting `device`; SettingsError if it asks for a GPU that is not there. Never falls back."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: want a CUDA device as set, got none on this node; run on a GPU node or set device: cpu")
    return torch.device(name)
