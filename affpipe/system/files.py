"""What stands at a path, its state, and small files read whole: where there is no file, or no text in UTF-8, one line says what there is.

Accents may be written in two forms, which people cannot tell apart: é as one character (NFC), or as e and an accent (NFD), as macOS and
what was unpacked there have it. A name is found in either.
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
    """What stands at a path in place of a file ("a folder", "nothing"), or why that cannot be told; "" for a file. It never waits."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "nothing"
    except OSError as error:
        return str(error.strerror)
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no file")


def composed(name: str) -> str:
    """A name with its accents in one form (NFC), whatever form the file system has them in."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """One text for all names that some file system takes for one: they differ in case, or in how accents are written, alone."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def named(name: str, names: Iterable[str]) -> str | None:
    """Of some names the one that is meant: that very one, or else the only one that differs in how accents are written; None if none is."""
    names = list(names)
    if name in names:
        return name
    same = [other for other in names if composed(other) == composed(name)] if not name.isascii() else []
    return same[0] if len(same) == 1 else None


def on_disk(path: Path) -> Path:
    """A path as the file system has it, where that writes accents in another form; the path itself where nothing is there in any form."""
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
    """Whether a file is what macOS leaves beside others in archives and on foreign disks: no file of anyone's."""
    return name == ".DS_Store" or name.startswith("._")


def lines(text: str) -> list[str]:
    """Lines of a text, which end in \\n, \\r\\n or \\r and in nothing else: editors count no form feed and no separator of Unicode."""
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


def waits(path: Path) -> bool:
    """Whether a pipe, a socket or a device stands at a path: to open or to read it may never end."""
    return instead_of_file(path) in ("a pipe", "a socket", "a device")


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal; OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path, what: str, fault: type[AffpipeError], remedy: str) -> bytes:
    """Content of a file; `fault` with the remedy where it cannot be read. A pipe or a device is refused: it may never end.

    Args:
        what: names the file to people, as in "settings file".
    """
    path = on_disk(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise fault(f"{path}: want a readable {what}, got {instead_of_file(path)}; {remedy}")
        return path.read_bytes()
    except OSError as error:
        raise fault(f"{path}: want a readable {what}, got {error.strerror}; {remedy}") from None


def read_text(path: Path, what: str, fault: type[AffpipeError], remedy: str) -> str:
    """As `read_bytes`, decoded from UTF-8 with or without a byte order mark; line ends stay as they are."""
    data = read_bytes(path, what, fault, remedy)
    try:
        if 0 in data[:2]:  # UTF-16 without its mark
            raise UnicodeDecodeError("utf-8", data, 0, 1, "UTF-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 in data[:2]
        line = error.object[: error.start].count(b"\n") + 1
        got = "UTF-16" if utf16 else f"bytes in line {line} that are not UTF-8"
        raise fault(f"{path}: want a readable {what}, got {got}; save it as text in UTF-8") from None


@dataclass(frozen=True)
class State:
    """What of a file changes while somebody writes to it."""

    size: int
    modified_ns: int
    inode: int


def state(path: Path) -> State:
    """How a file stands now; MediaError where there is none."""
    try:
        found = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: want a readable file, got {error.strerror!r}; make it readable") from None
    return State(found.st_size, found.st_mtime_ns, found.st_ino)
