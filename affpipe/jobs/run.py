"""The jobs of the workflow: settings and manifest looked up, work done, outcome recorded."""

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from affpipe.core.errors import InputError, ManifestError, SettingsError, StoreError
from affpipe.data import manifest
from affpipe.jobs import apply, resources, runs, workers
from affpipe.jobs.apply import Progress
from affpipe.plan import config
from affpipe.plan.plan import Item, Plan, digest
from affpipe.plan.settings import Settings
from affpipe.results import published
from affpipe.store import cache, streams
from affpipe.store.index import Entry, read_index, write_index
from affpipe.system import device, disk, jsonfile
from affpipe.system.job_record import JobRecord, recording

log = logging.getLogger("affpipe")


def plan_from(settings: Settings) -> Plan:
    """The plan of settings and their manifest, both checked."""
    for name in ("cache", "results"):
        path = Path(getattr(settings, name))
        if path.exists() and not path.is_dir():
            raise SettingsError(f"{name}: want a folder, got a file at {path}; name another")
    disk.mask(settings.umask)
    rows = manifest.read(Path(settings.manifest), Path(settings.data_root))
    manifest.check_partitions(rows, Path(settings.manifest), settings.tasks)
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


def read_entries(plan: Plan, reads: Iterable[str], shards: list[str]) -> dict[str, dict[str, Entry]]:
    """What became of the items of each of the stages `reads`, in the given shards.

    StoreError where an index does not hold these items, or a stream that it names is not there.
    """
    out: dict[str, dict[str, Entry]] = {}
    for read in reads:
        out[read], there = {}, streams.names(plan.folder(read))
        for shard in shards:
            if items := plan.items(read, shard):
                out[read] |= _checked(plan, read, items, Path(plan.index(read, shard)), there)
    return out


def _checked(plan: Plan, read: str, items: list[Item], index: Path, there: set[str]) -> dict[str, Entry]:
    entries = read_index(index)
    if entries.keys() != {item.id for item in items}:
        raise StoreError(f"{index}: want the items of its shard, got {', '.join(entries)}; {streams.REPAIR}", damaged=index)
    for item in items:
        path, entry = plan.stream(read, item), entries[item.id]
        if entry.status == "done" and path.name not in there and not path.is_file():  # a listing over a network may be late
            raise StoreError(f"{path}: want the stream that {index.name} names, got no file; {streams.REPAIR}", damaged=path)
    return entries


def apply_shard(settings: Path, index: Path, *, threads: int, progress: Progress) -> None:
    """Apply the stage to the shard that an index is named after, and write the index.

    With `on_error: stop` a fault of any stream fails the job after the other streams are done; with `skip` the index records it.
    """
    plan = frozen(settings)
    stage, shard = plan.of_index(index)
    need = resources.of_apply(plan, stage)
    abreast = threads if need.threads > 1 else 1  # videos; then a thread each
    limit_threads(threads // abreast)
    disk.sweep(index.parent)
    disk.sweep(index.parent.parent)
    record = JobRecord(f"apply_{stage}", shard, plan.key(stage))
    with recording(plan.record(stage, shard), record), cache.mending():
        if need.gpu:
            record.gpu = device.claim()
        entries = read_entries(plan, plan.reads(stage), [shard])
        made = apply.apply(plan, stage, plan.items(stage, shard), entries, workers.start, progress, record, threads=abreast)
        check_failures(plan, stage, made)
        write_index(index, made)


def check_failures(plan: Plan, stage: str, made: dict[str, Entry]) -> None:
    """AffpipeError that names what failed, unless faults are to be skipped."""
    failed = {id: e.reason for id, e in made.items() if e.status == "failed"}
    if failed and plan.settings.on_error == "stop":
        first = next(iter(failed.values()))
        more = f" (and {len(failed) - 1} more, see the log)" if len(failed) > 1 else ""
        raise InputError(f"{stage}: {first}{more}; mend it, take it out of {plan.settings.manifest}, or set on_error: skip")


def fit_model(settings: Path, model: str, out: Path, *, fold: int | None = None, threads: int, progress: Progress) -> None:
    """Fit a model on the shards of the group `fit`, all or without a fold."""
    limit_threads(threads)
    plan = frozen(settings)
    _check_planned(out, plan.fitted(model, fold))
    disk.sweep(out.parent)
    record = JobRecord(f"fit_{model}", "" if fold is None else f"fold {fold}", plan.key(model), unit="epochs")
    # A job that outlived its workflow, or another workflow on the cache, may be fitting this: what it makes is then found here.
    with recording(plan.record_of_fit(model, fold), record), cache.mending(), disk.alone(out.with_suffix(".lock")):
        if resources.of_fit(plan, model).gpu:
            record.gpu = device.claim()
        from affpipe.models.fit import fit, write_fit

        shards = [s for s in plan.shards if s.startswith("fit")]
        entries = read_entries(plan, plan.learns(model), shards)

        def show(stage: str, done: int, total: int) -> None:
            record.done, record.total = done, total
            progress(stage, done, total)

        write_fit(out, fit(plan, model, entries, fold, show))


def publish_run(settings: Path, out: Path) -> None:
    """Write the results of a run, then the file that says so.

    A folder of results holds one state of a run: the files that said so of other states go first, so that going back publishes again. One
    publishes to a folder at a time.
    """
    from affpipe.results.publish import publish

    plan = frozen(settings)
    _check_planned(out, plan.published())
    runs.register(plan)
    with published.alone(plan.results), cache.mending():
        disk.sweep(plan.results, below=True)
        for other in sorted(out.parent.glob("*.json")):
            if streams.KEY.fullmatch(other.stem):
                other.unlink()
        summary = publish(plan, read_entries(plan, plan.names, list(plan.shards)))
        disk.write_text(out, json.dumps(summary, indent=1, sort_keys=True) + "\n")


def _check_planned(out: Path, planned: str) -> None:
    if out != Path(planned):
        raise StoreError(f"{out}: want the file that this run makes, got {planned}: manifest or videos changed after planning; run again")


def limit_threads(threads: int) -> None:
    """Give numerical libraries this many threads; sums depend on it, so it is set and not left to the machine."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
