"""Output files at places that a person chose. What is there already is written to or reported, never deleted.

In the store and in the results of a run the names are affpipe's own, and a file replaces whatever has its name: see `disk.atomic`.
"""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from affpipe.core.errors import InputError, StoreError
from affpipe.core.plain import say
from affpipe.system import disk
from affpipe.system.files import instead_of_file, lines, waits


def place(path: Path) -> Path:
    """Return the path of the file to write. A link is followed, so that it stays. Raises InputError for a folder, pipe or device."""
    got = "a link to itself" if loops(path) else instead_of_file(path)
    if got in ("a folder", "a link to itself") or waits(path):
        raise InputError(f"{path}: want a file to write, got {got} of that name; move it away, or choose another place")
    return path.resolve() if path.is_symlink() else path


def loops(path: Path) -> bool:
    """Return whether a link leads back to itself."""
    return instead_of_file(path) == os.strerror(errno.ELOOP)


def write_text(path: Path, text: str) -> None:
    """Write a text: to a file whole or not at all; directly to a standard stream, a pipe, or a device that takes text."""
    stream = _standard(path)
    if stream is not None:
        say(*lines(text), file=stream)
    elif path.is_fifo() or path.is_char_device():
        try:
            with path.open("w", encoding="utf-8") as file:
                file.write(text)
        except BrokenPipeError:  # the reader has read enough
            raise
        except OSError as error:
            raise StoreError(f"{path}: want to write to it, got {error.strerror}; choose another place") from None
    else:
        disk.write_text(place(path), text)


def _standard(path: Path) -> TextIO | None:
    """Return standard output or error if the path leads there, as /dev/stdout does, so that earlier output stays in front."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or no stream of the system
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
    return None
