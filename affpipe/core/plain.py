"""Text of others as it may be shown: on a terminal, in a log, on one line.

File names, keys of settings and checkpoints, and what libraries say of damaged files come from whoever made the files. A terminal obeys
control characters in them: it can be told to clear what was written, to forge lines, to set its title; direction marks make `exe.gpj` of
`jpg.exe`; a line end begins a line of a log that nobody wrote.
"""

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

SPACE = "Zs"  # category of characters: of other scripts, too


def plain(text: str) -> str:
    """The text with all that does not print as itself (controls, line ends, direction marks, lone surrogates) as `\\x1b` or `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == SPACE else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def heard(file: TextIO | None = None) -> Iterator[None]:
    """Name standard output, or standard error, in an error of the system that a block meets as it prints: the system names no open file."""
    try:
        yield
    except OSError as error:
        error.filename = "standard error" if file is not None and file is sys.stderr else "standard output"
        raise


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print lines, to standard output or `file`. What ends a line within one is escaped, as all that is no text."""
    with heard(file):
        for line in lines:
            print(plain(str(line)), file=file)


def say_text(text: str) -> None:
    """Print a text of several lines that is ours."""
    say(*text.split("\n"))
