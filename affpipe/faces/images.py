"""Cropped faces given as images: a folder per stream, a JPEG per frame, named by the number of the frame.

Source: the cropped and aligned images of Aff-Wild2, 112x112 pixels. `00001.jpg` is the first frame; a missing number is a frame without a
face. Planning uses `fingerprint`, so nothing heavy is imported here; `crop.read_square` decodes an image.
"""

import hashlib
import os
import re
from pathlib import Path

from affpipe.core.errors import MediaError
from affpipe.system.files import instead_of_file, waits

SUFFIXES = (".jpg", ".jpeg", ".JPG", ".JPEG")
OTHERS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")  # in lower case: images, all but JPEG refused
LARGEST = 64 << 20  # most bytes of an image, more than any with sides of `crop.LARGEST_SIDE` has
NUMBER = re.compile(r"[0-9]+")


def numbered(folder: Path) -> dict[int, Path]:
    """List the files of a folder by number, rising from 1 with gaps. Hidden files and files that are no images are left out.

    Raises MediaError for an image that is no JPEG or has no number, for the number 0 and for a number that occurs twice.
    """
    out: dict[int, Path] = {}
    for name in _names(folder):
        path = folder / name
        if not name.endswith(SUFFIXES):
            if path.suffix.lower() in OTHERS:
                raise MediaError(f"{path}: want JPEG images (.jpg, .jpeg), got {path.suffix}; convert, rename or remove it")
            continue
        if not NUMBER.fullmatch(path.stem) or not int(path.stem):
            raise MediaError(f"{path}: want the number of a frame, from 1, as in 00001.jpg, got {name}; rename or remove it")
        first = out.setdefault(int(path.stem), path)
        if first != path:
            raise MediaError(f"{path}: want an image a frame, got {first.name} for number {int(path.stem)} already; remove one")
    return dict(sorted(out.items()))


def fingerprint(folder: Path) -> str:
    """Return the first 16 hex digits of the sha256 over the names of the JPEGs and the content of the first, middle and last one.

    Neither times nor the folder's own name count. A change to the content of any other image goes unseen.
    """
    names = [name for name in _names(folder) if name.endswith(SUFFIXES)]
    digest = hashlib.sha256(os.fsencode("/".join(names)))
    for at in sorted({0, len(names) // 2, len(names) - 1}) if names else ():
        digest.update(hashlib.sha256(content(folder / names[at])).digest())
    return digest.hexdigest()[:16]


def _names(folder: Path) -> list[str]:
    """List the names in a folder, sorted, without hidden ones."""
    try:
        return sorted(name for name in os.listdir(folder) if name[0] != ".")
    except OSError as error:
        raise MediaError(f"{folder}: want a readable folder of images, got {error.strerror!r}; make it readable") from None


def content(path: Path) -> bytes:
    try:
        if waits(path) or path.stat().st_size > LARGEST:
            raise MediaError(f"{path}: want an image of at most {LARGEST >> 20} MB, got {instead_of_file(path) or 'more'}; remove it")
        return path.read_bytes()
    except OSError as error:
        raise MediaError(f"{path}: want a readable file, got {error.strerror!r}; make it readable or remove it") from None
