"""Text of others in a form that is safe to print: on a terminal, in a log, on one line.

File names, keys of settings and checkpoints, and libraries' messages about damaged files come from whoever made the files. A terminal obeys
control characters in them: they can clear what was written, forge lines or set its title. Direction marks make `exe.gpj` of `jpg.exe`. A
line end starts a line of a log that nobody wrote.
"""

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

SPACE = "Zs"  # category of space characters, those of other scripts too


def plain(text: str) -> str:
    """Escape characters that do not print as themselves (controls, line ends, direction marks, lone surrogates): `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == SPACE else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def heard(file: TextIO | None = None) -> Iterator[None]:
    """Name standard output or standard error in a system error that a block meets as it prints, as the system names no open file."""
    try:
        yield
    except OSError as error:
        error.filename = "standard error" if file is not None and file is sys.stderr else "standard output"
        raise


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print lines to standard output or `file`. Line ends within a line are escaped, like all other unprintable characters."""
    with heard(file):
        for line in lines:
            print(plain(str(line)), file=file)


def say_text(text: str) -> None:
    """Print our own text of several lines."""
    say(*text.split("\n"))
