"""What a person at a terminal, or a log file, sees of a job."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from affpipe.jobs import Progress


def start_log() -> None:
    """Log lines go to standard error with time and level."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("affpipe").setLevel(logging.INFO)


def quiet_log() -> None:
    """For commands that tell a person the outcome themselves."""
    logging.getLogger("affpipe").setLevel(logging.ERROR)


@contextmanager
def progress() -> Iterator[Progress]:
    """A bar per stage on a terminal, a line per stage in a log."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total: None  # the job logs its own summary
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show
