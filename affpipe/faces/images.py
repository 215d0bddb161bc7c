"""Cropped faces that come as images: a folder a stream, a JPEG a frame, named by the number of the frame.

Source: the cropped and aligned images of Aff-Wild2, 112x112 pixels. `00001.jpg` is the first frame; a number that is left out is a frame
without a face. Planning uses `fingerprint`, so nothing heavy is imported here; `crop.read_square` decodes an image.
"""

import hashlib
import os
import re
from pathlib import Path

from affpipe.core.errors import MediaError
from affpipe.system.files import instead_of_file, waits

SUFFIXES = (".jpg", ".jpeg", ".JPG", ".JPEG")
OTHERS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")  # in small letters: images, but none that is read
LARGEST = 64 << 20  # bytes of an image, more than any of `crop.LARGEST_SIDE` has
NUMBER = re.compile(r"[0-9]+")


def numbered(folder: Path) -> dict[int, Path]:
    """Files of a folder by number, rising from 1 with gaps; hidden files and those that are no images are left out.

    MediaError for an image that is no JPEG or has no number, for a number 0 and for one that stands twice.
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
    """First 16 hex digits of the sha256 over the names of the JPEGs and the content of the first, the middle and the last one.

    Neither times nor the folder's own name count. Another content of any other image, under its name, goes unseen.
    """
    names = [name for name in _names(folder) if name.endswith(SUFFIXES)]
    digest = hashlib.sha256(os.fsencode("/".join(names)))
    for at in sorted({0, len(names) // 2, len(names) - 1}) if names else ():
        digest.update(hashlib.sha256(content(folder / names[at])).digest())
    return digest.hexdigest()[:16]


def _names(folder: Path) -> list[str]:
    """Names in a folder but for hidden ones, sorted."""
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
