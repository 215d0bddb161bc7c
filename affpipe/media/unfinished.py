"""Detection of an unfinished download into reserved room: from some byte on the file is zeros where its container has data.

Zeros behind the end of the container, or in a part of it that is padding, are no fault: cameras leave both.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from affpipe.core.errors import MediaError

BLOCK, LOOK = 64 * 1024, 4096  # bytes read at a time, and bytes read at the end of every file
ZEROS = 1 << 20  # fewest zeros at the end that count: fewer may be silence; five seconds of stereo have as many
SLACK = 256  # most zeros that the data of a part may end with
FIRST = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # first parts of MP4
ROOM = (b"free", b"skip", b"wide", b"JUNK", b"\xec")  # parts that hold nothing, in MP4, in AVI, and Void in Matroska
SEGMENT = b"\x18\x53\x80\x67"  # segment of Matroska

Part = tuple[bytes, int, int]  # kind, start, end


def check(path: Path) -> None:
    """Raise MediaError if the end of a file is yet to come; OSError if it cannot be read."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < ZEROS or any(_read(file, size - LOOK, LOOK)):
            return
        start = _zeros_from(file, size)
        if size - start >= ZEROS and _wanted(file, start, size):
            raise MediaError(
                f"{path}: want a file that is there whole, got zeros from byte {start} of {size} to its end, as of a download that "
                "goes on; fetch it whole, or if it plays to its end, remux it"
            )


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _zeros_from(file: BinaryIO, size: int) -> int:
    """Return the byte at which the zeros at the end of a file begin."""
    end = size
    while end > 0:
        start = max(0, end - BLOCK)
        if found := _read(file, start, end - start).rstrip(b"\0"):
            return start + len(found)
        end = start
    return 0


def _wanted(file: BinaryIO, start: int, size: int) -> bool:
    """Return whether the container has data at a byte.

    In a known container: whether a part that holds data reaches well beyond it. In others: always.
    """
    head = _read(file, 0, 16)
    parts: Callable[[BinaryIO, int], Iterator[Part]]
    if head[:4] == b"RIFF":
        parts = _riff
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        parts = _matroska
    elif head[4:8] in FIRST:
        parts = _mp4
    else:
        return True
    return any(min(end, size) - max(begin, start) > SLACK and kind not in ROOM for kind, begin, end in parts(file, size))


def _mp4(file: BinaryIO, size: int) -> Iterator[Part]:
    at = 0
    while len(head := _read(file, at, 16)) >= 8 and any(head[:8]):
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        end = at + length if length else size
        yield head[4:8], at, end
        at = max(end, at + 8)


def _riff(file: BinaryIO, size: int) -> Iterator[Part]:
    at = until = 0
    while len(head := _read(file, at, 8)) == 8 and any(head):
        length = int.from_bytes(head[4:], "little")
        end = at + 8 + length + length % 2
        if head[:4] == b"RIFF":  # its parts instead
            until, at = end, at + 12
        else:
            yield head[:4], at, end
            at = end
    yield b"", at, until  # what it lacks


def _matroska(file: BinaryIO, size: int) -> Iterator[Part]:
    at = until = 0
    while len(head := _read(file, at, 12)) > 1 and head[0]:
        width = 9 - head[0].bit_length()  # bytes of the kind, and then of the length: the number of leading zero bits, plus one
        kind, rest = head[:width], head[width:]
        if not rest or not rest[0]:
            break
        count = 9 - rest[0].bit_length()
        length = int.from_bytes(rest[:count], "big") - (1 << 7 * count)
        known = length != (1 << 7 * count) - 1  # all ones
        at += width + count
        if kind == SEGMENT:  # its parts instead
            until = at + length if known else 0
            continue
        end = at + length if known else size
        yield kind, at, end
        at = end
    yield b"", at, until  # what it lacks
