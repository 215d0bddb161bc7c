"""Videos that have changed since they were read, within what their identity does not see: a run would go on with what they were."""

from collections.abc import Iterator
from pathlib import Path

from affpipe.core.errors import MediaError
from affpipe.jobs import stale
from affpipe.jobs.doctor.finding import Finding, fault, fine, of_error, warning
from affpipe.plan.plan import Plan
from affpipe.system.processes import Late, in_processes

PROCESSES = 2  # the disk is what takes its time


def check(plan: Plan, limit_s: float) -> Iterator[Finding]:
    """Findings on the videos whose frames are in the cache of a plan. limit_s: seconds in which they must be read."""
    streams = {item.row.video: plan.stream("frames", item) for item in plan.items("frames")}
    items = [(video, then) for video, stream in streams.items() if stream.is_file() and (then := stale.read_then(stream))]
    reached = changed = 0
    for (video, _), found in in_processes(_compared, items, processes=PROCESSES, limit_s=limit_s, each_s=limit_s):
        if isinstance(found, Late):
            continue
        reached += 1
        if isinstance(found, str):
            yield of_error("content", MediaError(found))
        elif found:
            changed += 1
            what = f"{video}: want the file that was read, got one that has changed since, though its identity has not"
            yield fault("content", what, "`affpipe cache verify` deletes what was made of it; then run again")
    if missed := len(items) - reached:
        yield warning(
            "content", f"{missed} of {len(items)} videos not compared with what was read, for want of time", "give more --seconds"
        )
    elif items and not changed:
        yield fine("content", f"{len(items)} videos are what was read of them")


def _compared(item: tuple[Path, str]) -> bool | str:
    """Whether a video has changed, or what is wrong with it."""
    try:
        return stale.changed(*item)
    except MediaError as error:
        return str(error)
