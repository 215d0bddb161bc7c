"""The failure ledger of a run: `<results>/<run>/failures.csv`, a row for every fault or absence of a stream and what hangs on it.

Every stream of the manifest is in the predictions or here: see `check_complete`.
"""

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from affpipe import store
from affpipe.jobrecord import JobRecord
from affpipe.plan import Plan
from affpipe.store import Entry


@dataclass(frozen=True)
class Failure:
    """One reason for which something of a stream is missing.

    Attributes:
        stream_id: of the manifest.
        status: failed (a fault that can be mended) or absent (nothing to make: a video without sound, say).
        stage: where it arose.
        reason, remedy: what is wrong, and what to do; without a remedy the reason says all.
        without: models that have no prediction for it; none where only its labels are lost.
        predicted: "yes" where the published model predicts the stream nevertheless, else "no".
    """

    stream_id: str
    status: str
    stage: str
    reason: str
    remedy: str
    without: str
    predicted: str


HEAD = tuple(field.name for field in fields(Failure))


def path(plan: Plan) -> Path:
    """File of the ledger of a run."""
    return Path(plan.settings.results) / plan.settings.name / "failures.csv"


def of_run(plan: Plan, entries: Mapping[str, Mapping[str, Entry]]) -> list[Failure]:
    """Ledger of a finished run, by stream and stage.

    Args:
        entries: for the labels and every model, what became of its items.
    """
    out = []
    for row in sorted(plan.rows, key=lambda row: row.stream_id):
        predicted = "yes" if entries[plan.settings.publish][row.stream_id].status == "done" else "no"
        without: dict[tuple[str, str, str], list[str]] = {}
        for name in ("labels", *plan.settings.models):
            entry = entries[name].get(row.stream_id)
            if entry is not None and entry.status != "done":
                models = without.setdefault((entry.status, entry.stage or name, entry.reason), [])
                if name != "labels":
                    models.append(name)
        for (status, stage, reason), models in without.items():
            out.append(Failure(row.stream_id, status, stage, *split(reason), " ".join(models), predicted))
    return out


def of_stopped(plan: Plan) -> list[Failure]:
    """Ledger of a run that faults have stopped: what the jobs that failed say of their items."""
    out = []
    for name in plan.names:
        for shard in plan.shards:
            record = JobRecord.read(plan.record(name, shard))
            if record is None or record.state != "failed" or record.key != plan.key(name):
                continue
            for item in plan.items(name, shard):
                if item.id in record.faults:
                    stage, reason = record.faults[item.id]
                    streams = [row.stream_id for row in plan.rows if item.id in (row.stream_id, row.video_id)]
                    out += [Failure(stream, "failed", stage, *split(reason), "", "no") for stream in streams]
    return sorted(set(out), key=astuple)


def split(reason: str) -> tuple[str, str]:
    """What is wrong, and what to do about it: messages read "who: want X, got Y; do Z"."""
    what, _, remedy = reason.rpartition("; ")
    return (what, remedy) if what else (remedy, "")


def write(plan: Plan, failures: list[Failure]) -> None:
    """Write the ledger."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEAD)
    table.writerows(astuple(failure) for failure in failures)
    store.write_text(path(plan), text.getvalue())


def check_complete(plan: Plan, predicted: Collection[str], failures: list[Failure]) -> None:
    """RuntimeError, which is a bug, if a stream of the manifest is neither predicted nor in the ledger, or is both.

    Args:
        predicted: streams whose predictions of the published model were written.
    """
    missing = {failure.stream_id for failure in failures if failure.predicted == "no"}
    for row in plan.rows:
        if (row.stream_id in predicted) == (row.stream_id in missing):
            where = "in both" if row.stream_id in missing else "in neither"
            raise RuntimeError(f"{row.stream_id}: a stream is predicted or in the ledger, this one is {where}")
