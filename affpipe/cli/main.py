"""The command `affpipe`: its commands together, and its treatment of errors."""

import errno
import io
import json
import logging
import os
import sys
from typing import Annotated, TextIO

import typer

from affpipe import __version__
from affpipe.cli import cache, check, data, job, manifest, results
from affpipe.cli.console import start_log
from affpipe.core.errors import AffpipeError, PartError, StoreError
from affpipe.core.plain import say, say_text
from affpipe.system import disk, faults

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # panels and colours would take half of the time of help
    help="Talking-face videos in, per-frame affect predictions out.",
)
app.add_typer(check.app)
app.add_typer(results.app)
for name, sub in {
    "manifest": manifest.manifest_app,
    "demo": data.demo,
    "weights": data.weights_app,
    "faces": data.faces_app,
    "mouth": data.mouth_app,
    "cache": cache.cache_app,
    "job": job.work,
}.items():
    app.add_typer(sub, name=name)


def main() -> None:
    """Run the command line.

    An error that the user can mend is one line and exit status 2. A bug of a part is its traceback, a line and 1.
    """
    sys.stdout, sys.stderr = (open(os.devnull, "w") if s is None else s for s in (sys.stdout, sys.stderr))  # noqa: SIM115 - `>&-`
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without a character prints its number, and no traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:  # as every command ends
        sys.exit(_undelivered() or end.code)
    except AffpipeError as error:
        code = _fail(error)
        if isinstance(error, StoreError) and error.damaged is None and "h5py" in sys.modules:
            # At the end of a process HDF5 tries again to write what a full disk did not take, and crashes: the line above would be lost.
            _undelivered()
            logging.shutdown()
            os._exit(code)
        sys.exit(_undelivered() or code)
    except PartError as error:
        logging.getLogger("affpipe").error("what ended it:", exc_info=error)
        _fail(error)
        sys.exit(_undelivered() or 1)
    except OSError as error:
        if code := _undelivered():
            sys.exit(code)
        named = isinstance(error.filename, str | bytes | os.PathLike)
        told = disk.mendable(os.fsdecode(error.filename) if named else "the disk", error) if named or error.errno in disk.FILLED else None
        if told is None or error.errno == errno.ENOENT:  # a missing file is reported by the code that needs it
            raise
        sys.exit(_fail(told))
    except Exception as error:
        if not faults.wants_memory(error):
            raise
        what = " ".join(str(error).split()) or "no more"
        who = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))  # the item
        sys.exit(_fail(AffpipeError(f"{who}memory: want more than there is, got {what}; give the job more (mem_mb), or lower batch_size")))
    except KeyboardInterrupt:
        say("affpipe: stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


def _fail(error: AffpipeError | PartError) -> int:
    try:
        say(f"affpipe: {error}", file=sys.stderr)
    except OSError:  # nobody reads it any more
        _drop(sys.stderr)
    return 2


def _undelivered() -> int:
    """Return the exit status if standard output does not take what was printed, and say so in a line; 0 if it does."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has enough
        _drop(sys.stdout)
        return 1
    except OSError as error:
        _drop(sys.stdout)
        other = StoreError(f"standard output: want to use it, got {error.strerror}; send it elsewhere")
        return _fail(disk.mendable("standard output", error) or other)
    return 0


def _drop(stream: TextIO) -> None:
    """Redirect a stream to nowhere: Python would try to write its rest again as it ends, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:

    if version:
        say(__version__)
        raise typer.Exit
    start_log()


@app.command("schema")
def schema_command() -> None:
    """Print the JSON schema of the settings."""
    from affpipe.plan.config import schema

    say_text(json.dumps(schema(), indent=1, sort_keys=True))
