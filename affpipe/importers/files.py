"""What lies below a folder: videos, text files, and folders of cropped images.

Hidden files (macOS leaves `._name` beside each file of an archive) and folders are passed over, links are followed, nothing comes twice.
All paths are relative to the folder, with forward slashes, in the order of their names.
"""

import os
import unicodedata
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from affpipe.errors import ManifestError, MediaError
from affpipe.files import composed
from affpipe.importers.collection import Finding
from affpipe.media.identity import check

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")  # of any case
IMAGES = (".jpg", ".jpeg", ".png")
CROPPED = "cropped_aligned"  # folders whose name begins so hold a folder of images a stream
PASSED = "__macosx"


@dataclass
class Tree:
    """What was found below `root`.

    Attributes:
        videos: files that have a video's suffix, are not empty and may be read. texts: *.txt.
        images: stream name -> its folders of images.
        findings: what could not be looked at.
    """

    root: Path
    videos: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    images: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def by_stem(self) -> dict[str, list[str]]:
        """Videos by `stem`."""
        out: dict[str, list[str]] = {}
        for video in self.videos:
            out.setdefault(stem(video), []).append(video)
        return out


def stem(path: str) -> str:
    """File name without suffix, in one form of accents: a video and its annotation may have come by different machines."""
    return composed(PurePosixPath(path).stem)


def look(root: Path) -> Tree:
    """Walk a folder. ManifestError if there is none, or no video below it."""
    if not root.is_dir():
        raise ManifestError(f"{root}: want a folder of videos, got none; check the path")
    tree, seen = Tree(root), set()
    for at, below, names in os.walk(root, onerror=partial(_unread, tree), followlinks=True):
        folder, real = Path(at), os.path.realpath(at)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        if folder != root and folder.name.lower().startswith(CROPPED):
            below.clear()
            _image_folders(tree, folder, {real})
            continue
        below[:] = sorted(name for name in below if _wanted(tree, folder / name) and name.lower() != PASSED)
        for name in sorted(names):
            if name.lower().endswith((*VIDEOS, ".txt")) and _wanted(tree, folder / name):
                _file(tree, folder / name)
    tree.videos.sort()
    tree.texts.sort()
    if not tree.videos:
        raise ManifestError(f"{root}: want videos ({', '.join(VIDEOS)}) somewhere below, got none; give the folder that holds them")
    return tree


def has_images(folder: Path) -> bool:
    """Whether a folder holds an image; looks no further than the first."""
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(IMAGES) and entry.name[0] != "." for entry in entries)


def _file(tree: Tree, path: Path) -> None:
    name = path.relative_to(tree.root).as_posix()
    if path.suffix.lower() == ".txt":
        tree.texts.append(name)
        return
    try:
        check(path)
    except MediaError as error:
        tree.findings.append(Finding("unusable video", name, str(error).removeprefix(f"{path}: ")))
        return
    if os.access(path, os.R_OK):
        tree.videos.append(name)
    else:
        tree.findings.append(Finding("unusable video", name, "want a file that may be read, got one that may not; make it readable"))


def _wanted(tree: Tree, path: Path) -> bool:
    """Whether a name is neither hidden nor one that no table can hold; of the latter there is a finding."""
    if path.name.startswith("."):
        return False
    if not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in path.name):
        return True
    text = "want a name in UTF-8 without control characters, got another; rename it"
    tree.findings.append(Finding("not read", _shown(path.relative_to(tree.root).as_posix()), text))
    return False


def _unread(tree: Tree, error: OSError) -> None:
    where = _shown(Path(error.filename).relative_to(tree.root).as_posix())
    tree.findings.append(Finding("not read", where, f"want a readable folder, got {error.strerror!r}; make it readable"))


def _shown(path: str) -> str:
    """A path for people, whatever bytes its name has."""
    return path if path.isprintable() else ascii(path)


def _image_folders(tree: Tree, folder: Path, above: set[str]) -> None:
    """Note the folders of images below a folder of such. Of each only the first entry is looked at: there may be millions.

    Args:
        above: real paths of the folders that lead here, so that no link leads round.
    """
    try:
        with os.scandir(folder) as entries:
            below = sorted(Path(entry) for entry in entries if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        _unread(tree, error)
        return
    for path in below:
        real = os.path.realpath(path)
        if real in above or not _wanted(tree, path):
            continue
        try:
            with os.scandir(path) as entries:
                first = next((entry for entry in entries if entry.name[0] != "."), None)
        except OSError as error:
            _unread(tree, error)
            continue
        if first is not None and first.is_dir():
            _image_folders(tree, path, {*above, real})
        else:
            tree.images.setdefault(composed(path.name), []).append(path.relative_to(tree.root).as_posix())
