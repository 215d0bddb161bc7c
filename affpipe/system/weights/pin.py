"""Checkpoint of a stage: found, and checked against its record, `weights_revision`, and the weights that the cache began with.

Keys contain the name of the weights and the value of `weights_revision`; never their bytes, which a plan does not read.
"""

import json
import logging
from pathlib import Path

from affpipe.core.errors import WeightsError
from affpipe.core.stage import Context
from affpipe.system import jsonfile
from affpipe.system.disk import write_text
from affpipe.system.weights import records
from affpipe.system.weights.records import WeightsRecord

log = logging.getLogger("affpipe")


def checkpoint(context: Context) -> tuple[Path, tuple[str, ...]]:
    """Find and verify the folder or file that the stage's setting `weights` names; return it, and its name if its weights are random."""
    name, folder = context.settings.weights, context.weights
    path, found = folder / name, records.used(folder, name, context.name, remembered=True)
    if found.random:
        log.warning("%s: the weights %s are random: what comes of them means nothing", context.name, name)
    hold(context.cache, path, found, context.settings.weights_revision)
    return path, (name,) if found.random else ()


def hold(cache: Path, path: Path, record: WeightsRecord, revision: str | None) -> None:
    """Raise WeightsError unless the weights at `path` match `weights_revision` and are those that the cache began with."""
    if revision is not None and not record.answers(revision):
        raise WeightsError(
            f"{path}: want weights of weights_revision {revision}, got {record.pinned}; put those there, or state these: weights_revision: "
            f'"{record.pinned}"'
        )
    pin(cache, record, revision)


def begun_with(cache: Path, name: str, revision: str | None = None) -> str | None:
    """Return the digest of the weights, by name and `weights_revision`, that a cache began with; None if it has seen none.

    Raises WeightsError if the file with the digest is damaged.
    """
    path = _pin_path(cache, name, revision)
    try:
        return jsonfile.read(path)["digest"] if path.exists() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: want the weights that this cache began with, got {error}; delete the file if you know them") from None


def pin(cache: Path, record: WeightsRecord, revision: str | None = None) -> None:
    """Record the weights that a cache began with, by name and `weights_revision`, since keys have both.

    Raises WeightsError if others come under the same name: their values would mix.
    """
    path, known = _pin_path(cache, record.name, revision), begun_with(cache, record.name, revision)
    if known is None:
        write_text(path, json.dumps({"name": record.name, "digest": record.digest}) + "\n")
    elif known != record.digest:
        raise WeightsError(
            f"{path}: want the weights {record.name} that this cache began with, got others; give the new ones another name, "
            f'or state them: weights_revision: "{record.pinned}"'
        )


def _pin_path(cache: Path, name: str, revision: str | None) -> Path:
    return cache / "weights" / f"{name}{'' if revision is None else f'@{revision}'}.json"
