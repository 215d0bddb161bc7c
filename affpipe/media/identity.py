"""Identity of a media file: a cheap fingerprint of its bytes, independent of name, place and time stamps.

Planning uses it, so neither av nor numpy is imported here. A small edit between the blocks that keeps the size goes unseen. The stream
`frames` keeps a checksum of the whole file, which shows such an edit on request (`affpipe.jobs.stale`).
"""

import hashlib
from pathlib import Path

from affpipe.core.errors import MediaError
from affpipe.system.files import instead_of_file

BLOCK, BLOCKS = 64 * 1024, 16  # bytes in a block, number of blocks


def check(path: Path) -> int:
    """Return the size of a file in bytes. Raises MediaError if it is missing, empty, or no regular file (a folder, a pipe)."""
    if got := instead_of_file(path):
        raise MediaError(f"{path}: want a media file, got {got}; correct the path or fetch the file")
    size = path.stat().st_size
    if size == 0:
        raise MediaError(f"{path}: want a media file, got an empty one; download or copy the file again")
    return size


def fingerprint(path: Path) -> str:
    """Return the first 16 hex digits of the sha256 over the size (decimal, then a colon) and BLOCKS blocks of 64 KiB.

    The blocks are evenly spread from end to end. A file of up to 1 MiB is read whole, once.
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
    """Return the start and length of each block to read."""
    if size <= BLOCKS * BLOCK:
        return [(0, size)]
    return [(i * (size - BLOCK) // (BLOCKS - 1), BLOCK) for i in range(BLOCKS)]
