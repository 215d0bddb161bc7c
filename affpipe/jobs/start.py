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
    """The plan of settings and their manifest, both checked."""
    for name in ("cache", "results"):
        path = Path(getattr(settings, name))
        if path.exists() and not path.is_dir():
            raise SettingsError(f"{name}: want a folder, got a file at {path}; name another")
    disk.mask(settings.umask)
    rows = manifest.read(Path(settings.manifest), Path(settings.data_root), settings.task_table)
    manifest.check_partitions(rows, Path(settings.manifest), settings.task_table, folds=bool(settings.cross_validation))
    return Plan(settings, rows)


def plan_of_mapping(data: Mapping[str, Any]) -> Plan:
    """The plan of settings as Snakemake has laid them over each other; InputError where its results would go to a folder of others."""
    plan = _whole(plan_from(config.parse(data)))
    published.files(plan.results)
    return plan


def plan_of(paths: list[Path]) -> Plan:
    """The plan of settings files laid over each other."""
    return _whole(plan_from(config.load(paths)))


def _whole(plan: Plan) -> Plan:
    """The plan with all videos and annotations looked at: what cannot be read is said here, and not by whoever asks for a name first.

    ManifestError for a video in train and in validation of one task, unless the manifest says that official lists have it so, and for
    folds that nothing is left for.
    """
    plan.published()
    plan.check_folds()
    if refused := _overlapping(plan, True):
        raise ManifestError(refused)
    return plan


def caution(plan: Plan) -> str:
    """What a person who starts a run should know of its videos: a test that was fitted on or chosen by; "" if there is none."""
    return _overlapping(plan, False)


def _overlapping(plan: Plan, refused: bool) -> str:
    """The first video in several partitions of a task, and how many more there are; "" if there is none but as official lists have it."""
    own = [found for found in plan.overlaps if found.refused == refused and not found.official]
    more = f" (and {len(own) - 1} more: see affpipe manifest check)" if len(own) > 1 else ""
    return f"{plan.settings.manifest}: {own[0].where}: {own[0].text}{more}" if own else ""


def start(plan: Plan) -> None:
    """Say in the cache that a run begins: its settings for jobs to read, and what it needs there."""
    freeze(plan.settings)
    runs.register(plan)


def freeze(settings: Settings) -> Path:
    """Write resolved settings for jobs to read, unless they are there as they should be."""
    path = runs.frozen_path(settings)
    try:
        _thawed(path)
    except SettingsError:
        if path.exists():
            log.warning("%s: not the settings that its name says; written anew", path)
        disk.write_text(path, json.dumps(settings.model_dump(mode="json"), indent=1) + "\n")
    return path


def bring_to_now(paths: Iterable[str]) -> None:
    """Date files back that seem to come from the future, as they do where the clock was set back since.

    Snakemake refuses an output that is older than what it was made of, `ancient` or not.
    """
    for path in map(Path, paths):
        if path.exists() and path.stat().st_mtime > time.time():
            os.utime(path)


def frozen(settings: Path) -> Plan:
    """The plan of resolved settings; SettingsError where the file is not the one that its name says."""
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
