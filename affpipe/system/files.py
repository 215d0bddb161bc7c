"""Paths, file states, and small files read whole, with one-line errors for a missing file or text that is not UTF-8.

Accents may be written in two forms, which look the same: é as one character (NFC), or as e and an accent (NFD), as on macOS and in files
unpacked there. A name is found in either form.
"""

import codecs
import hashlib
import io
import os
import stat
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from affpipe.core.errors import AffpipeError, MediaError

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def instead_of_file(path: Path) -> str:
    """Describe what is at a path instead of a file ("a folder", "nothing"), or why that is unknown; "" for a file. It never waits."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "nothing"
    except OSError as error:
        return str(error.strerror)
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no file")


def composed(name: str) -> str:
    """Return a name with its accents in one form (NFC), whatever form the file system uses."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return one text for all names that some file system treats as equal: they differ only in case or in how accents are written."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def named(name: str, names: Iterable[str]) -> str | None:
    """Find the name that is meant among some names: the same one, or the only one that differs just in its accents' form; else None."""
    names = list(names)
    if name in names:
        return name
    same = [other for other in names if composed(other) == composed(name)] if not name.isascii() else []
    return same[0] if len(same) == 1 else None


def on_disk(path: Path) -> Path:
    """Return a path as the file system has it, if that writes accents in another form; the path itself if nothing is there."""
    if str(path).isascii() or os.path.lexists(path):
        return path
    at = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        try:
            name = part if part.isascii() or os.path.lexists(at / part) else named(part, os.listdir(at))
        except OSError:
            return path
        if name is None:
            return path
        at /= name
    return at


def left_by_mac(name: str) -> bool:
    """Return whether a file is one that macOS leaves beside others in archives and on foreign disks; it is nobody's data."""
    return name == ".DS_Store" or name.startswith("._")


def lines(text: str) -> list[str]:
    r"""Split a text into lines at \n, \r\n or \r and nothing else: editors do not count form feeds or Unicode separators."""
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


def waits(path: Path) -> bool:
    """Return whether a pipe, a socket or a device is at a path: opening or reading it may never end."""
    return instead_of_file(path) in ("a pipe", "a socket", "a device")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path, what: str, fault: type[AffpipeError], remedy: str) -> bytes:
    """Read a file. Raises `fault` with the remedy if it cannot be read. A pipe or a device is refused: it may never end.

    Args:
        what: name of the file for people, as in "settings file".
    """
    path = on_disk(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise fault(f"{path}: want a readable {what}, got {instead_of_file(path)}; {remedy}")
        return path.read_bytes()
    except OSError as error:
        raise fault(f"{path}: want a readable {what}, got {error.strerror}; {remedy}") from None


def read_text(path: Path, what: str, fault: type[AffpipeError], remedy: str) -> str:
    """Read a file as `read_bytes` and decode it from UTF-8, with or without a byte order mark. Line ends stay as they are."""
    data = read_bytes(path, what, fault, remedy)
    try:
        if 0 in data[:2]:  # UTF-16 without a byte order mark
            raise UnicodeDecodeError("utf-8", data, 0, 1, "UTF-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 in data[:2]
        line = error.object[: error.start].count(b"\n") + 1
        got = "UTF-16" if utf16 else f"bytes in line {line} that are not UTF-8"
        raise fault(f"{path}: want a readable {what}, got {got}; save it as text in UTF-8") from None


@dataclass(frozen=True)
class State:
    """State of a file: the facts that change when somebody writes to it."""

    size: int
    modified_ns: int
    inode: int


def state(path: Path) -> State:
    """Return the present state of a file. Raises MediaError if there is none."""
    try:
        found = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: want a readable file, got {error.strerror!r}; make it readable") from None
    return State(found.st_size, found.st_mtime_ns, found.st_ino)
