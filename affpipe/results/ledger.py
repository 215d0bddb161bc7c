"""The failure ledger of a run, `<results>/<run>/failures.csv`: what streams lack, why, and what to do.

Every stream of the manifest is in the predictions or here: see `check_complete`.
"""

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from affpipe.core.alike import groups, shape
from affpipe.core.plain import plain
from affpipe.plan.plan import Plan
from affpipe.results import published
from affpipe.store.index import Entry
from affpipe.system.job_record import JobRecord
from affpipe.system.sheets import table_text


@dataclass(frozen=True)
class Failure:
    """One cause for which something of a stream is missing.

    Attributes:
        stream_id: id in the manifest.
        stage: stage where it arose.
        status: failed (a fault that can be mended) or absent (nothing to compute, as for a video without sound).
        reason, remedy: what is wrong, and what to do; without a remedy the reason says all.
        without: stages that had nothing to read because of it, models among them.
        predicted: "yes" if the published model predicts the stream nevertheless, else "no".
    """

    stream_id: str
    stage: str
    status: str
    reason: str
    remedy: str
    without: str
    predicted: str


NAME = "failures.csv"
HEAD = tuple(field.name for field in fields(Failure))


def path(plan: Plan) -> Path:
    """Return the file of a run's ledger."""
    return plan.results / NAME


def of_run(plan: Plan, entries: Mapping[str, Mapping[str, Entry]]) -> list[Failure]:
    """Return the ledger of a finished run, one row per first cause, by stream and stage.

    Args:
        entries: for every stage, the outcome of its items.
    """
    out = []
    for item in plan.items("subject"):
        states = {name: entries[name][plan.item(name, item).id] for name in plan.names if name != "labels" or plan.labelled(item)}
        predicted = "yes" if states[plan.settings.publish].status == "done" else "no"
        for (status, reason), stages in _causes(plan, states).items():
            out.append(Failure(item.id, stages[0], status, *split(reason), ", ".join(stages[1:]), predicted))
    return out


def _causes(plan: Plan, states: Mapping[str, Entry]) -> dict[tuple[str, str], list[str]]:
    """Return (status, reason) -> stages that have nothing because of it, first the one where it arose: stages pass on what they inherit."""
    causes: dict[tuple[str, str], list[str]] = {}
    for name, entry in states.items():
        members = plan.settings.models[name].members if name in plan.settings.models else ()
        if entry.status == "done":
            continue
        if entry.status == "absent" and members and all(states[member].status == "absent" for member in members):
            for stages in causes.values():  # a fusion that lacks all its inputs has their causes, and none of its own
                if set(stages) & set(members):
                    stages.append(name)
        else:
            causes.setdefault((entry.status, entry.reason), []).append(name)
    return causes


def of_stopped(plan: Plan) -> list[Failure]:
    """Return the ledger of a run that faults have stopped: what the failed jobs record of their items."""
    out = []
    for name in plan.names:
        for shard in plan.shards:
            record = JobRecord.read(plan.record(name, shard))
            if record is None or record.state != "failed" or record.key != plan.key(name):
                continue
            for stream in plan.items("subject", shard):
                if name == "labels" and not plan.labelled(stream):
                    continue
                reason = record.faults.get(plan.item(name, stream).id)
                if reason is not None:
                    out.append(Failure(stream.id, name, "failed", *split(reason), "", "no"))
    return sorted(out, key=astuple)


def alike(plan: Plan, failures: Iterable[Failure]) -> list[list[Failure]]:
    """Group failures that differ in the stream alone: one cause of many streams. They stay in the order of the first of each."""
    rows = {row.stream_id: row for row in plan.rows}

    def cause(failure: Failure) -> tuple[str, ...]:
        row = rows[failure.stream_id]
        names = (str(row.video), row.video.name, row.video_id, row.stream_id)
        reason, remedy = (shape(text, names) for text in (failure.reason, failure.remedy))
        return failure.stage, failure.status, reason, remedy, failure.without, failure.predicted

    return groups(failures, cause)


def lines(plan: Plan, failures: Iterable[Failure], most: int = 5) -> list[str]:
    """Describe failures for people: one line per cause, those of most streams first, with the reason of its first stream."""
    found = sorted(alike(plan, failures), key=lambda own: -len(own))
    out = []
    for first, *others in found[:most]:
        many = f"{len(others) + 1} streams, as {first.stream_id}" if others else first.stream_id
        out.append(f"{many}: {first.stage} {first.status}: {first.reason}{f'; {first.remedy}' if first.remedy else ''}")
    return out + ([f"and {len(found) - most} more causes"] if len(found) > most else [])


def split(reason: str) -> tuple[str, str]:
    """Split a message "who: want X, got Y; do Z" into what is wrong and what to do about it."""
    what, _, remedy = reason.rpartition("; ")
    return (what, remedy) if what else (remedy, "")


def text(failures: Iterable[Failure]) -> str:
    """Return the ledger as CSV."""
    return table_text(HEAD, (map(plain, astuple(failure)) for failure in failures))


def write(plan: Plan, failures: Iterable[Failure]) -> None:
    """Write the ledger of a run that was stopped."""
    with published.alone(plan.results):
        published.write(plan.results, NAME, text(failures))


def read(plan: Plan) -> list[Failure]:
    """Read the ledger of a finished run."""
    with path(plan).open(newline="", encoding="utf-8") as file:
        return [Failure(**row) for row in csv.DictReader(file)]


def check_complete(plan: Plan, predicted: Collection[str], failures: list[Failure]) -> None:
    """Raise RuntimeError, as for a bug, if a stream of the manifest is neither predicted nor in the ledger, or is both.

    Args:
        predicted: streams whose predictions of the published model were written.
    """
    missing = {failure.stream_id for failure in failures if failure.predicted == "no"}
    for row in plan.rows:
        if (row.stream_id in predicted) == (row.stream_id in missing):
            where = "in both" if row.stream_id in missing else "in neither"
            raise RuntimeError(f"{row.stream_id}: a stream is predicted or in the ledger, this one is {where}")
