"""Treatment of failed videos: each stops its job or is skipped, and at its end a run reports them to the person who started it.

A part whose code is at fault always stops its job.
"""

import sys
from pathlib import Path

from affpipe.core.errors import InputError
from affpipe.core.plain import say
from affpipe.plan.plan import Plan
from affpipe.results import caveats, ledger
from affpipe.store.index import Entry
from affpipe.system import jsonfile


def check_failures(plan: Plan, stage: str, made: dict[str, Entry]) -> None:
    """Raise an AffpipeError that names the failed items, unless faults are to be skipped."""
    failed = {id: e.reason for id, e in made.items() if e.status == "failed"}
    if failed and plan.settings.on_error == "stop":
        first = next(iter(failed.values()))
        more = f" (and {len(failed) - 1} more, see the log)" if len(failed) > 1 else ""
        raise InputError(f"{stage}: {first}{more}; mend it, take it out of {plan.settings.manifest}, or set on_error: skip")


def finished(plan: Plan) -> None:
    """Report what was predicted and what is missing, then the published model's figures with their basis.

    The exit status is 0: faults get this far only if the settings say to skip them.
    """
    if not Path(plan.published()).is_file():  # only a part of the workflow was asked for
        return
    failures = ledger.read(plan)
    failed = {failure.stream_id for failure in failures if failure.status == "failed"}
    without = {failure.stream_id for failure in failures if failure.predicted == "no"}
    done = len(plan.rows) - len(without)
    told = f"{done} of {len(plan.rows)} streams predicted"
    if failed:
        told += f", {len(failed)} with faults that were skipped (exit status 0, as on_error is skip)"
    if failures:
        told += f"; {ledger.path(plan)} says what is missing, why, and what to do"
    found = jsonfile.read(Path(plan.settings.results) / plan.settings.name / "scores.json")
    name = plan.settings.publish
    own = [(plan.tasks[task], figures) for task, figures in found[name].items()]
    figures = [caveats.line(name, task.title, task.measure, figures, plan.scored) for task, figures in own]
    _say(told, *ledger.lines(plan, failures))
    for line in figures:
        _say(line)


def stopped(plan: Plan) -> None:
    """Write the ledger of the faults known so far, and report it."""
    failures = ledger.of_stopped(plan)
    if failures:
        ledger.write(plan, failures)
        streams = {failure.stream_id for failure in failures}
        _say(
            f"stopped by faults of {len(streams)} streams: {ledger.path(plan)} says of each what to do; "
            "mend them, or set on_error: skip, then run again: what is done stays done",
            *ledger.lines(plan, failures),
        )


def _say(line: str, *causes: str) -> None:
    say(f"affpipe: {line}", *(f"affpipe:   {cause}" for cause in causes), file=sys.stderr)
