"""The checkpoint of a stage: found, held against its record and against what the cache began with; keys only name it."""

import json
import logging
from pathlib import Path

from affpipe import jsonfile
from affpipe.disk import write_text
from affpipe.errors import WeightsError
from affpipe.jobs import Context
from affpipe.weights import records
from affpipe.weights.records import WeightsRecord

log = logging.getLogger("affpipe")


def checkpoint(context: Context) -> tuple[Path, tuple[str, ...]]:
    """Folder or file that the stage's setting `weights` names, verified; and its name if its weights are random.

    A file that a person put there gets its record at first use. A folder without one may be half of a download, and is refused.
    """
    name, folder = context.settings.weights, Path(context.plan.settings.weights)
    if not records.plain(name):  # it becomes the name of a file in the cache, and a record is written beside the weights
        raise WeightsError(f"{context.name}: want weights below {folder}, got {name!r}; put them there, or set `weights` to their folder")
    path = folder / name
    if not path.exists():
        raise WeightsError(
            f"{path}: want weights, got nothing; put the file there, run `affpipe weights fetch {name}`, or `affpipe weights tiny {folder}`"
        )
    found = records.verify(path) if path.is_dir() else records.record(path, name=name, source="put there by hand")
    if found.random:
        log.warning("%s: the weights %s are random: what comes of them means nothing", context.name, name)
    pin(context.plan.cache, found)
    return path, (name,) if found.random else ()


def begun_with(cache: Path, name: str) -> str | None:
    """Digest of the weights of that name that a cache was begun with, None if it has seen none; WeightsError where its file is damaged."""
    path = _pin_path(cache, name)
    try:
        return jsonfile.read(path)["digest"] if path.exists() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: want the weights that this cache began with, got {error}; delete the file if you know them") from None


def pin(cache: Path, record: WeightsRecord) -> None:
    """Remember the weights that a cache was begun with; WeightsError if others come under the same name, whose values would mix."""
    path, known = _pin_path(cache, record.name), begun_with(cache, record.name)
    if known is None:
        write_text(path, json.dumps({"name": record.name, "digest": record.digest}) + "\n")
    elif known != record.digest:
        raise WeightsError(f"{path}: want the weights {record.name} that this cache began with, got others; give the new ones another name")


def _pin_path(cache: Path, name: str) -> Path:
    return cache / "weights" / f"{name}.json"
