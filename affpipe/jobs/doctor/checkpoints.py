"""The weights of a run: whether they exist, are complete, and are those that the cache began with."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from affpipe.core.errors import WeightsError
from affpipe.jobs.doctor.finding import Finding, fault, fine, of_error, warning
from affpipe.plan.settings import Settings
from affpipe.system.processes import Late, in_processes
from affpipe.system.weights import records
from affpipe.system.weights.catalog import CATALOG
from affpipe.system.weights.pin import begun_with
from affpipe.system.weights.records import WeightsRecord

PROCESSES = 2


class Wanted(NamedTuple):
    """A checkpoint that a run loads, and the `weights_revision` that it states of it."""

    path: Path
    revision: str | None = None


def wanted(settings: Settings, stages: list[str]) -> list[Wanted]:
    """Return the checkpoints that the stages of a run load, each once."""
    folder, landmarks = Path(settings.weights), settings.landmarks
    within = {model.within for model in settings.models.values()}  # encoders that a model runs itself
    sections = [section for name, section in settings.features.items() if name in stages or name in within]
    if "faces" in stages and settings.faces.source == "video" and settings.faces.detector == "yolo":
        sections.append(settings.faces)
    found = [Wanted(folder / s.weights, s.weights_revision) for s in sections if hasattr(s, "weights")]
    if landmarks.model != "bundled" and "landmarks" in stages:
        found.append(Wanted(Path(landmarks.model), landmarks.weights_revision))
    return list(dict.fromkeys(found))


def check(checkpoints: list[Wanted], cache: Path, limit_s: float) -> Iterator[Finding]:
    """Yield findings on checkpoints.

    Args:
        limit_s: seconds in which their checksums must be computed; large ones take about a second a gigabyte.
    """
    late = {path: None for path, _ in checkpoints}
    for path, found in in_processes(verified, list(late), processes=PROCESSES, limit_s=limit_s, each_s=limit_s):
        if not isinstance(found, Late):
            del late[path]
            yield from (_judged(path, revision, found, cache) for other, revision in checkpoints if other == path)
    for path in late:
        yield warning("weights", f"{path}: checksums were not computed within {limit_s:.0f} s", "give more --seconds")


def verified(path: Path) -> WeightsRecord | str:
    """Return the record of a checkpoint that is as recorded, "" for a file that has none yet, else what is wrong."""
    if path.is_file() and not records.record_path(path).exists():
        return ""
    try:
        return records.verify(path)
    except WeightsError as error:
        return str(error)


def _judged(path: Path, revision: str | None, found: WeightsRecord | str, cache: Path) -> Finding:
    if not path.exists():
        remedy = f"affpipe weights fetch {path.name}" if path.name in CATALOG else "put the file there, or correct the setting `weights`"
        return fault("weights", f"want {path}, got nothing", remedy)
    if found == "":
        return fine("weights", f"{path}: no checksums yet, they are recorded at first use")
    if isinstance(found, str):
        return of_error("weights", WeightsError(found))
    try:
        known = begun_with(cache, found.name, revision)
    except WeightsError as error:
        return of_error("weights", error)
    state = f'weights_revision: "{found.pinned}"'
    if revision is not None and not found.answers(revision):
        remedy = f"put those there, or state these: {state}"
        return fault("weights", f"{path}: want weights_revision {revision}, got {found.pinned}", remedy)
    if known not in (None, found.digest):
        remedy = f"give the new ones another name, or state them: {state}"
        return fault("weights", f"{path}: want the weights that {cache} began with, got others", remedy)
    if found.random:
        return warning("weights", f"{path}: as recorded, but random: what comes of them means nothing", "for real data set published ones")
    return fine("weights", f"{path}: as recorded")
