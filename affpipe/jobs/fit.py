"""A fit job: one model on the streams of the group `fit`, on all of them or without a fold."""

import json
from pathlib import Path

from affpipe.core.progress import Progress
from affpipe.jobs import resources
from affpipe.jobs.apply import read_entries
from affpipe.jobs.fitting import fit
from affpipe.jobs.start import check_planned, frozen
from affpipe.store import cache
from affpipe.system import device, disk
from affpipe.system.job_record import JobRecord, recording
from affpipe.system.threads import limit_threads


def fit_model(settings: Path, model: str, out: Path, *, fold: int | None = None, threads: int, progress: Progress) -> None:
    """Fit a model on the shards of the group `fit`, all or without a fold."""
    limit_threads(threads)
    plan = frozen(settings)
    check_planned(out, plan.fitted(model, fold))
    disk.sweep(out.parent)
    record = JobRecord(f"fit_{model}", "" if fold is None else f"fold {fold}", plan.key(model), unit="epochs")
    # A job that outlived its workflow, or another workflow on the cache, may be fitting this: its result is then found here.
    with recording(plan.record_of_fit(model, fold), record), cache.mending(), disk.alone(out.with_suffix(".lock")):
        if resources.of_fit(plan, model).gpu:
            record.gpu = device.claim()
        shards = [s for s in plan.shards if s.startswith("fit")]
        entries = read_entries(plan, plan.learns(model), shards)

        def show(stage: str, done: int, total: int) -> None:
            record.done, record.total = done, total
            progress(stage, done, total)

        disk.write_text(out, json.dumps(fit(plan, model, entries, fold, show), indent=1, sort_keys=True) + "\n")
