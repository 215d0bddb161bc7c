"""Reading of checkpoint files, with errors that tell the user what to mend, whichever library notices the damage."""

import pickle
import struct
from pathlib import Path

from safetensors import SafetensorError

from affpipe.core.errors import WeightsError
from affpipe.system import jsonfile

# Errors of the readers of checkpoints for a file that is cut short, empty or something else.
UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError, struct.error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its name if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def read_json(who: str, path: Path) -> dict:
    """Read a JSON object of a checkpoint folder. Raises WeightsError in the name of `who` if it is absent or damaged."""
    if not path.is_file():
        raise WeightsError(f"{who}: no {path}; fetch the weights again, or correct the path")
    try:
        found = jsonfile.read(path)
    except ValueError as error:
        raise WeightsError(f"{who}: {path} is damaged ({first_line(error)}); fetch the weights again") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{who}: {path}: want a JSON object, got a {type(found).__name__}; fetch the weights again")
    return found
