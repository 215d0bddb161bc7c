"""Who a media file is: a cheap fingerprint of its bytes, whatever its name, place and time stamps.

Planning uses it, so neither av nor numpy is imported here. A small edit between its blocks that keeps the size goes unseen; the checksum of
the whole file, which the stream `frames` keeps, tells of it where somebody asks (`affpipe.jobs.stale`).
"""

import hashlib
from pathlib import Path

from affpipe.core.errors import MediaError
from affpipe.system.files import instead_of_file

BLOCK, BLOCKS = 64 * 1024, 16  # bytes of one, and how many


def check(path: Path) -> int:
    """Size of a file in bytes; raises MediaError if there is none, it is no file (a folder, a pipe), or it is empty."""
    if got := instead_of_file(path):
        raise MediaError(f"{path}: want a media file, got {got}; correct the path or fetch the file")
    size = path.stat().st_size
    if size == 0:
        raise MediaError(f"{path}: want a media file, got an empty one; download or copy the file again")
    return size


def fingerprint(path: Path) -> str:
    """First 16 hex digits of the sha256 over the size (decimal, then a colon) and BLOCKS blocks of 64 KiB, evenly spread from end to end.

    A file of up to 1 MiB is read whole, once.
    """
    size = check(path)
    digest = hashlib.sha256(f"{size}:".encode())
    try:
        with path.open("rb") as file:
            for start, length in _blocks(size):
                file.seek(start)
                digest.update(file.read(length))
    except OSError as error:
        raise MediaError(f"{path}: want a readable file, got {error.strerror!r}; make it readable") from None
    return digest.hexdigest()[:16]


def _blocks(size: int) -> list[tuple[int, int]]:
    """Start and length of what is read of a file."""
    if size <= BLOCKS * BLOCK:
        return [(0, size)]
    return [(i * (size - BLOCK) // (BLOCKS - 1), BLOCK) for i in range(BLOCKS)]
