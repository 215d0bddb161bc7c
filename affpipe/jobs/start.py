"""The beginning of a run and of each of its jobs: the plan from settings and manifest, checked."""

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from affpipe.core.errors import ManifestError, SettingsError, StoreError
from affpipe.data import manifest
from affpipe.plan import config
from affpipe.plan.plan import Plan, digest
from affpipe.plan.settings import Settings
from affpipe.results import published, runs
from affpipe.system import disk, jsonfile

log = logging.getLogger("affpipe")


def plan_from(settings: Settings) -> Plan:
    """Return the plan of settings and their manifest, both checked."""
    for name in ("cache", "results"):
        path = Path(getattr(settings, name))
        if path.exists() and not path.is_dir():
            raise SettingsError(f"{name}: want a folder, got a file at {path}; name another")
    disk.mask(settings.umask)
    rows = manifest.read(Path(settings.manifest), Path(settings.data_root), settings.task_table)
    manifest.check_partitions(rows, Path(settings.manifest), settings.task_table, folds=bool(settings.cross_validation))
    return Plan(settings, rows)


def plan_of_mapping(data: Mapping[str, Any]) -> Plan:
    """Return the plan of settings that Snakemake has laid over each other; InputError if its results would go to a folder of others."""
    plan = _whole(plan_from(config.parse(data)))
    published.files(plan.results)
    return plan


def plan_of(paths: list[Path]) -> Plan:
    """Return the plan of settings files laid over each other."""
    return _whole(plan_from(config.load(paths)))


def _whole(plan: Plan) -> Plan:
    """Return the plan after reading all videos and annotations, so that unreadable ones are reported here, not at the first use of a name.

    Raises ManifestError for a video in train and in validation of one task, unless the manifest says that official lists have it so, and
    for folds without a stream.
    """
    plan.published()
    plan.check_folds()
    if refused := _overlapping(plan, True):
        raise ManifestError(refused)
    return plan


def caution(plan: Plan) -> str:
    """Return what a person who starts a run should know of its videos: a test set that was fitted on or chosen by; "" if there is none."""
    return _overlapping(plan, False)


def _overlapping(plan: Plan, refused: bool) -> str:
    """Describe the first video in several partitions of a task, and count the others; "" if there is none but those of official lists."""
    own = [found for found in plan.overlaps if found.refused == refused and not found.official]
    more = f" (and {len(own) - 1} more: see affpipe manifest check)" if len(own) > 1 else ""
    return f"{plan.settings.manifest}: {own[0].where}: {own[0].text}{more}" if own else ""


def start(plan: Plan) -> None:
    """Record in the cache that a run begins: its settings for jobs to read, and what it needs there."""
    freeze(plan.settings)
    runs.register(plan)


def freeze(settings: Settings) -> Path:
    """Write resolved settings for jobs to read, unless they are there unchanged."""
    path = runs.frozen_path(settings)
    try:
        _thawed(path)
    except SettingsError:
        if path.exists():
            log.warning("%s: not the settings that its name says; written anew", path)
        disk.write_text(path, json.dumps(settings.model_dump(mode="json"), indent=1) + "\n")
    return path


def bring_to_now(paths: Iterable[str]) -> None:
    """Set files back to the present that seem to come from the future, as after the clock was set back.

    Snakemake refuses an output that is older than its inputs, `ancient` or not.
    """
    for path in map(Path, paths):
        if path.exists() and path.stat().st_mtime > time.time():
            os.utime(path)


def frozen(settings: Path) -> Plan:
    """Return the plan of resolved settings; SettingsError if the file's content does not match its name."""
    plan = plan_from(config.parse(_thawed(settings), where=str(settings)))
    runs.touch(plan)
    return plan


def _thawed(path: Path) -> Any:
    try:
        data = jsonfile.read(path)
        if (found := digest(data)) != path.stem:
            raise ValueError(f"others, of digest {found}")
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: want resolved settings, got {error}; run the workflow again, which writes them anew") from None
    return data


def check_planned(out: Path, planned: str) -> None:
    if out != Path(planned):
        raise StoreError(f"{out}: want the file that this run makes, got {planned}: manifest or videos changed after planning; run again")
