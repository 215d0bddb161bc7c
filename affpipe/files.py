"""What stands at a path, and small files read whole: where there is no file, or no text in UTF-8, one line says what there is."""

import codecs
import stat
from pathlib import Path

from affpipe.errors import AffpipeError

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


def waits(path: Path) -> bool:
    """Whether a pipe, a socket or a device stands at a path: to open or to read it may never end."""
    return instead_of_file(path) in ("a pipe", "a socket", "a device")


def read_bytes(path: Path, what: str, fault: type[AffpipeError], remedy: str) -> bytes:
    """Content of a file; `fault` with the remedy where it cannot be read. A pipe or a device is refused: it may never end.

    Args:
        what: names the file to people, as in "settings file".
    """
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
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        line = error.object[: error.start].count(b"\n") + 1
        got = "UTF-16" if utf16 else f"bytes in line {line} that are not UTF-8"
        raise fault(f"{path}: want a readable {what}, got {got}; save it as text in UTF-8") from None
