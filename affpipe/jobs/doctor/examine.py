"""All checks of a run, in an order in which later ones can use what earlier ones found."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from affpipe.core.errors import AffpipeError, InputError, ManifestError, SettingsError
from affpipe.data import manifest
from affpipe.data.manifest import Row
from affpipe.jobs import durations, estimate, start
from affpipe.jobs.doctor import checkpoints, disks, machine, packages, videos
from affpipe.jobs.doctor.finding import FAULT, FINE, WARNING, Finding, fault, fine, of_error, warning
from affpipe.jobs.estimate import Part
from affpipe.media.declared import Declared
from affpipe.plan import config
from affpipe.plan.plan import Plan
from affpipe.plan.settings import Settings
from affpipe.plan.stages import STAGES
from affpipe.system.processes import share_imports

LISTED = 20  # faults of a manifest that are reported one by one


def examine(files: list[Path], *, media: bool = True, limit_s: float = 60.0) -> Iterator[Finding]:
    """Yield findings, each as soon as it is made.

    Args:
        files: settings laid over each other.
        media: open the videos too. limit_s: seconds in all for checksums of weights and for videos.
    """
    end_s = time.monotonic() + limit_s
    share_imports()  # before torch is among them, which no check of a file uses
    try:
        settings = config.load(files)
    except SettingsError as error:
        yield of_error("settings", error)
        yield from packages.check("cpu")
        yield from packages.added()
        yield from machine.check(Path())
        return
    yield fine("settings", f"{', '.join(map(str, files))}: run {settings.name}, device {settings.device}")
    yield from packages.check(settings.device)
    yield from packages.added()
    yield from machine.check(Path())
    yield from machine.slurm(settings.device)

    rows, told = _rows(settings)
    yield from told
    plan: Plan | None = None
    try:
        if all(f.level == FINE for f in told):
            plan = start.plan_from(settings)
            for found in plan.overlaps[:LISTED]:
                yield of_error("manifest", f"{found.where}: {found.text}", FAULT if found.refused else WARNING)
            plan.check_folds()
    except AffpipeError as error:  # also a video that cannot be read, or too few for the folds
        yield of_error("manifest", error)
    stages = plan.names if plan else [*STAGES, *settings.features]
    for name in plan.unread if plan else ():
        yield warning("features", f"features.{name}: no model reads it, so it is not made", "take it out, or let a model read it")
    half_s = max(1.0, (end_s - time.monotonic()) / (2 if media else 1))
    yield from checkpoints.check(checkpoints.wanted(settings, stages), Path(settings.cache), half_s)
    opened: dict[Path, Declared] = {}
    if media:
        opened, told = videos.check(sorted({row.video for row in rows}), max(1.0, end_s - time.monotonic()))
        yield from told
        try:
            yield from videos.unchanged(plan, max(1.0, end_s - time.monotonic())) if plan else ()
        except AffpipeError as error:  # a video or a file of the store that cannot be read
            yield of_error("content", error)
    parts, told = _parts(plan, opened)
    yield from told
    yield machine.gpu(settings.device, max((p.gpu for p in parts if p.gpu), default=None))
    yield from disks.check(*_folders(settings, parts))


def _rows(settings: Settings) -> tuple[list[Row], list[Finding]]:
    """Return the sound rows of the manifest, and findings on it."""
    path = Path(settings.manifest)
    try:
        rows, faults = manifest.scan(path, Path(settings.data_root), settings.task_table)
    except ManifestError as error:
        return [], [of_error("manifest", error)]
    sound = [row for _, row in rows]
    told = [of_error("manifest", error) for error in faults[:LISTED]]
    if len(faults) > LISTED:
        told.append(fault("manifest", f"{len(faults) - LISTED} more faults", "`affpipe manifest check` lists them all"))
    return sound, told or [fine("manifest", f"{path}: {len(sound)} streams of {len({row.video for row in sound})} videos")]


def _parts(plan: Plan | None, opened: Mapping[Path, Declared]) -> tuple[list[Part], list[Finding]]:
    """Return the parts of the run's estimate, if it can be made; a video that hangs is not opened once more for it."""
    if plan is None:
        return [], [warning("estimate", "none without a sound manifest: disk and GPU memory are not compared", "mend the manifest")]
    try:
        return estimate.of(plan, durations.of(plan, opened=opened)), []
    except InputError:  # none was opened, and no frames are done
        text = "the length of no video is known: disk and GPU memory are not compared"
        return [], [warning("estimate", text, "mend the videos, or leave out --no-media")]
    except AffpipeError as error:
        return [], [of_error("estimate", error)]


def _folders(settings: Settings, parts: list[Part]) -> tuple[dict[str, Path], dict[str, float], int]:
    """Return the arguments of `disks.check`."""
    folders = {"cache": Path(settings.cache), "results": Path(settings.results), "logs": Path("logs")}
    results = sum(p.left_disk for p in parts if p.name == "publish")
    need = {"cache": sum(p.left_disk for p in parts) - results, "results": results}
    return folders, need, sum(p.items for p in parts if p.left_disk)
