"""The jobs of the workflow: settings and manifest looked up, work done, outcome recorded."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from affpipe import config, jobs, jsonfile, manifest, store, workers
from affpipe.errors import InputError, SettingsError
from affpipe.jobs import Progress
from affpipe.plan import Plan
from affpipe.settings import Settings
from affpipe.store import Entry


def plan_from(settings: Settings) -> Plan:
    """The plan of settings and their manifest, both checked."""
    rows = manifest.read(Path(settings.manifest), Path(settings.data_root))
    folds = settings.cross_validation.folds if settings.cross_validation else settings.cross_fit
    manifest.check_partitions(rows, Path(settings.manifest), settings.tasks, folds)
    return Plan(settings, rows)


def plan_of_mapping(data: Mapping[str, Any]) -> Plan:
    """The plan of settings as Snakemake has laid them over each other."""
    return plan_from(config.parse(data))


def plan_of(paths: list[Path]) -> Plan:
    """The plan of settings files laid over each other."""
    return plan_from(config.load(paths))


def freeze(settings: Settings, path: Path) -> None:
    """Write resolved settings for jobs to read; the name carries their content, so an existing file is right."""
    if not path.exists():
        store.write_text(path, json.dumps(settings.model_dump(mode="json"), indent=1) + "\n")


def frozen(settings: Path) -> Plan:
    """The plan of resolved settings."""
    try:
        data = jsonfile.read(settings)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{settings}: want resolved settings, got {error}; run the workflow again") from None
    return plan_from(config.parse(data, where=str(settings)))


def read_entries(plan: Plan, reads: Iterable[str], shards: list[str]) -> dict[str, dict[str, Entry]]:
    """What became of the items of each of the stages `reads`, in the given shards."""
    out: dict[str, dict[str, Entry]] = {}
    for read in reads:
        out[read] = {}
        for shard in shards:
            if plan.items(read, shard):
                out[read] |= store.read_index(Path(plan.index(read, shard)))
    return out


def apply_shard(settings: Path, index: Path, *, threads: int, progress: Progress) -> None:
    """Apply the stage to the shard that an index is named after, and write the index.

    With `on_error: stop` a fault of any stream fails the job after the other streams are done; with `skip` the index records it.
    """
    limit_threads(threads)
    plan = frozen(settings)
    stage, shard = plan.of_index(index)
    entries = read_entries(plan, plan.reads(stage), [shard])
    made = jobs.apply(plan, stage, plan.items(stage, shard), entries, workers.start, progress)
    check_failures(plan, stage, made)
    store.write_index(index, made)


def check_failures(plan: Plan, stage: str, made: dict[str, Entry]) -> None:
    """AffpipeError that names what failed, unless faults are to be skipped."""
    failed = {id: e.reason for id, e in made.items() if e.status == "failed"}
    if failed and plan.settings.on_error == "stop":
        first = next(iter(failed.values()))
        more = f" (and {len(failed) - 1} more, see the log)" if len(failed) > 1 else ""
        raise InputError(f"{stage}: {first}{more}; mend it, take it out of {plan.settings.manifest}, or set on_error: skip")


def fit_model(settings: Path, model: str, out: Path, *, fold: int | None = None, threads: int) -> None:
    """Fit a model on the shards of the group `fit`, all or without a fold."""
    limit_threads(threads)
    from affpipe.training import fit, write_fit

    plan = frozen(settings)
    shards = [s for s in plan.shards if s.startswith("fit")]
    write_fit(out, fit(plan, model, read_entries(plan, plan.learns(model), shards), fold))


def publish_run(settings: Path, out: Path) -> None:
    """Write the results of a run, then the file that says so.

    A folder of results holds one state of a run: the files that said so of other states go first, so that going back publishes again.
    """
    from affpipe.publish import publish

    plan = frozen(settings)
    for other in sorted(out.parent.glob("*.json")):
        other.unlink()
    summary = publish(plan)
    store.write_text(out, json.dumps(summary, indent=1, sort_keys=True) + "\n")


def limit_threads(threads: int) -> None:
    """Give numerical libraries this many threads; sums depend on it, so it is set and not left to the machine."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
