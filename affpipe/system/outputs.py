"""Files where a person wants them: what stands there already is written to, or said, and never swept away.

In the store and in the results of a run names are affpipe's own, and a file takes the place of whatever has its name: see `disk.atomic`.
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
    """Path of the file to write: of a link what it leads to, so that it stays. InputError where a folder, pipe or device stands there."""
    got = "a link to itself" if loops(path) else instead_of_file(path)
    if got in ("a folder", "a link to itself") or waits(path):
        raise InputError(f"{path}: want a file to write, got {got} of that name; move it away, or choose another place")
    return path.resolve() if path.is_symlink() else path


def loops(path: Path) -> bool:
    """Whether a link leads back to itself."""
    return instead_of_file(path) == os.strerror(errno.ELOOP)


def write_text(path: Path, text: str) -> None:
    """Write a text: into a file whole or not at all; straight into a standard stream, a pipe, or a device that takes text."""
    stream = _standard(path)
    if stream is not None:
        say(*lines(text), file=stream)
    elif path.is_fifo() or path.is_char_device():
        try:
            with path.open("w", encoding="utf-8") as file:
                file.write(text)
        except BrokenPipeError:  # whoever reads has enough
            raise
        except OSError as error:
            raise StoreError(f"{path}: want to write to it, got {error.strerror}; choose another place") from None
    else:
        disk.write_text(place(path), text)


def _standard(path: Path) -> TextIO | None:
    """Standard output or error where the path leads to the same, as /dev/stdout does: what was printed before stands before."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or nothing of the system's
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
    return None
