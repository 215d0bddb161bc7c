"""Keys name weights, and do not read them: so a cache remembers which bytes a name stood for."""

import json
from pathlib import Path

from affpipe.errors import WeightsError
from affpipe.store import write_text
from affpipe.weights.records import WeightsRecord


def pin(cache: Path, record: WeightsRecord) -> None:
    """Remember the weights that a cache was begun with; WeightsError if others come under the same name, whose values would mix."""
    path = cache / "weights" / f"{record.name}.json"
    if not path.exists():
        write_text(path, json.dumps({"name": record.name, "digest": record.digest}) + "\n")
    elif json.loads(path.read_text(encoding="utf-8"))["digest"] != record.digest:
        raise WeightsError(f"{path}: want the weights {record.name} that this cache began with, got others; give the new ones another name")
