"""JSON files that others may have written: read whole, or refused before they fill the memory."""

import json
from pathlib import Path
from typing import Any

LARGEST = 64 << 20  # bytes; an index of 200,000 streams is half of that


def read(path: Path) -> Any:
    """Read a JSON file in UTF-8. Raises OSError if it cannot be read, ValueError if it is no file, no JSON, or larger than LARGEST."""
    if path.exists() and not path.is_file():
        raise ValueError("something that is no file")
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"more than {LARGEST >> 20} MB")
    return parse(data)


def parse(text: str | bytes) -> Any:
    """Parse a text. Raises ValueError if it is no JSON, or nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists within lists without end") from None
