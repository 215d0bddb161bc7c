"""A publish job: the results of a run, and the file that marks them as complete."""

import json
from pathlib import Path

from affpipe.jobs.apply import read_entries
from affpipe.jobs.start import check_planned, frozen
from affpipe.results import published, runs
from affpipe.store import cache
from affpipe.store.streams import KEY
from affpipe.system import disk


def publish_run(settings: Path, out: Path) -> None:
    """Write the results of a run, then the file that marks them as complete.

    A folder of results holds one state of a run. The mark files of other states are removed first, so that going back publishes again. Only
    one process publishes to a folder at a time.
    """
    from affpipe.results.publish import publish

    plan = frozen(settings)
    check_planned(out, plan.published())
    runs.register(plan)
    with published.alone(plan.results), cache.mending():
        disk.sweep(plan.results, below=True)
        for other in sorted(out.parent.glob("*.json")):
            if KEY.fullmatch(other.stem):
                other.unlink()
        summary = publish(plan, read_entries(plan, plan.names, list(plan.shards)))
        disk.write_text(out, json.dumps(summary, indent=1, sort_keys=True) + "\n")
