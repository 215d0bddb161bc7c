"""Output of a job for a person at a terminal, or a log file. All that is printed or logged passes here, and is escaped: see `plain`."""

import logging
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from affpipe.core.plain import heard, plain
from affpipe.core.progress import Progress, duration

LINE_S = 30.0  # seconds between two lines of progress in a log
log = logging.getLogger("affpipe")


class PlainFormatter(logging.Formatter):
    """Formatter with one line per record; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = plain(record.message)
        return super().formatMessage(record)

    def formatException(self, info: tuple) -> str:
        return _each_plain(super().formatException(info))


def start_log() -> None:
    """Send log lines to standard error with time and level; also warnings and the traceback of a bug, in their own form, escaped."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("affpipe").setLevel(logging.INFO)
    warnings.formatwarning = _warning
    sys.excepthook = _bug


def _each_plain(text: str) -> str:
    return "\n".join(map(plain, text.split("\n")))


def _warning(*args: object, _usual=warnings.formatwarning, **named: object) -> str:
    return _each_plain(_usual(*args, **named))


def _bug(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    print(_each_plain("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr)


def quiet_log() -> None:
    """Quiet the log, for commands that report the outcome themselves."""
    logging.getLogger("affpipe").setLevel(logging.ERROR)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show a bar per stage on a terminal; in a log a line now and then, so that a long job shows that it is alive."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(plain(stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


def _lines() -> Progress:
    begun: dict[str, tuple[float, int]] = {}  # stage -> time of its first report, and how many were done then
    told = time.monotonic()

    def show(stage: str, done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        since, first = begun.setdefault(stage, (now, done))
        if now - told >= LINE_S and done > first:
            told = now
            left_s = (now - since) / (done - first) * (total - done)
            log.info("%s: %d of %d, about %s left", stage, done, total, duration(left_s))

    return show


def print_table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]], *, left: bool = False) -> None:
    """Print a table; columns after the first are numbers, or with `left` words."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(plain(title)))
    for i, column in enumerate(head):
        table.add_column(Text(plain(column)), justify="left" if left or i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))  # not as markup: names may hold brackets
    with heard():
        Console(width=None if sys.stdout.isatty() else 120).print(table)
