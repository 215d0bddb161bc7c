"""Who a media file is: a cheap fingerprint of its bytes, whatever its name, place and time stamps.

Planning uses it, so neither av nor numpy is imported here.
"""

import hashlib
from pathlib import Path

from affpipe.errors import MediaError
from affpipe.files import instead_of_file

BLOCK = 64 * 1024  # bytes


def check(path: Path) -> int:
    """Size of a file in bytes; raises MediaError if there is none, it is no file (a folder, a pipe), or it is empty."""
    if got := instead_of_file(path):
        raise MediaError(f"{path}: want a media file, got {got}; correct the path or fetch the file")
    size = path.stat().st_size
    if size == 0:
        raise MediaError(f"{path}: want a media file, got an empty one; download or copy the file again")
    return size


def fingerprint(path: Path) -> str:
    """First 16 hex digits of the sha256 over the size (decimal, then a colon), the first 64 KiB and the last 64 KiB.

    In a file below 128 KiB the two blocks overlap. A change between them that keeps the size goes unseen: re-encoding never does that.
    """
    size = check(path)
    digest = hashlib.sha256(f"{size}:".encode())
    try:
        with path.open("rb") as file:
            digest.update(file.read(BLOCK))
            file.seek(max(0, size - BLOCK))
            digest.update(file.read(BLOCK))
    except OSError as error:
        raise MediaError(f"{path}: want a readable file, got {error.strerror!r}; make it readable") from None
    return digest.hexdigest()[:16]
