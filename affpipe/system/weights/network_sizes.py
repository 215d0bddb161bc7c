"""Size of a network without loading it: from the headers of its checkpoint, or as published if it is not there yet."""

import math
from pathlib import Path

from safetensors import SafetensorError, safe_open

from affpipe.core.errors import WeightsError
from affpipe.core.stage import Network
from affpipe.system.files import left_by_mac
from affpipe.system.weights.catalog import PUBLISHED
from affpipe.system.weights.reading import read_json

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".task")


def network(weights: Path, usual: Network) -> Network:
    """Return the size of the checkpoint `weights`, a folder or file.

    If it is not there, return the published size; `usual` if its name is unknown.
    """
    if not weights.exists():
        return PUBLISHED.get(weights.name, usual)
    files = [weights] if weights.is_file() else sorted(p for p in weights.iterdir() if p.suffix in SUFFIXES and not left_by_mac(p.name))
    exact = [p for p in files if p.suffix == ".safetensors"]  # the other files may hold the same numbers again
    parameters = sum(map(_parameters, exact or files))
    return Network(parameters, _width(weights) or usual.width)


def _parameters(path: Path) -> int:
    if path.suffix != ".safetensors":
        return path.stat().st_size // 4  # such files are float32
    try:
        with safe_open(path, framework="np") as file:  # it checks the header against the size of the file
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: want a safetensors file, got {error}; fetch the weights again") from None


def _width(weights: Path) -> int:
    """Return the width of hidden states by the checkpoint's configuration."""
    path = weights / "config.json"
    if not path.is_file():
        return 0
    config = read_json("weights", path)
    try:
        return int(config.get("text_config", config).get("hidden_size", 0))
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise WeightsError(f"{path}: want hidden_size as a number, got none; fetch the weights again") from None
