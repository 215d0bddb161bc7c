"""Listing of a folder: videos, text files, and folders of cropped images below it.

Hidden files (macOS leaves `._name` beside each file of an archive) and folders are skipped, links are followed, nothing is listed twice.
All paths are relative to the folder, with forward slashes, in the order of their names.

Predictions that runs of affpipe wrote have the form of annotations, and are not taken for them. They are recognised by the record of the
run in a folder above, by the names of the folders that a run writes, or, beside another annotation of the stream, by six decimals in every
row.
"""

import os
import re
import unicodedata
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from affpipe.core.errors import ManifestError, MediaError
from affpipe.core.tasks.table import TASKS
from affpipe.data.importers.collection import Finding
from affpipe.media.containers import VIDEOS, hidden_video
from affpipe.media.identity import check
from affpipe.system import jsonfile
from affpipe.system.files import composed

IMAGES = (".jpg", ".jpeg", ".png")
CROPPED = "cropped_aligned"  # a folder whose name begins so holds one folder of images per stream
PASSED = "__macosx"
RECORD = "run.json"  # record of a run
ROWS = 50  # rows of an annotation that are looked at
_ROW = re.compile(r"-?[01]\.[0-9]{6},-?[01]\.[0-9]{6}|-5,-5")
_FOLDERS = re.compile(rf"official/({'|'.join(TASKS)})|models/[^/]+/({'|'.join(TASKS)})|late_fusion/(({'|'.join(TASKS)})/)?predictions")


@dataclass
class Tree:
    """Content of the folder `root`.

    Attributes:
        videos: files that have a video's suffix, are not empty and may be read. texts: *.txt.
        images: stream name -> its folders of images.
        findings: files and folders that were not read.
    """

    root: Path
    videos: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    images: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def by_stem(self) -> dict[str, list[str]]:
        """Return the videos by `stem`."""
        out: dict[str, list[str]] = {}
        for video in self.videos:
            out.setdefault(stem(video), []).append(video)
        return out


def stem(path: str) -> str:
    """Return the file name without suffix, with accents in one form: a video and its annotation may come from different machines."""
    return composed(PurePosixPath(path).stem)


def look(root: Path) -> Tree:
    """Walk a folder. Raises ManifestError if there is none, or no video below it."""
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
        if RECORD in names and is_run(folder):
            below.clear()
            _passed(tree, folder)
            continue
        below[:] = sorted(name for name in below if _wanted(tree, folder / name) and name.lower() != PASSED)
        for name in sorted(names):
            if name.lower().endswith((*VIDEOS, ".txt")):
                if _wanted(tree, folder / name):
                    _file(tree, folder / name)
            elif name[0] != "." and (kind := hidden_video(folder / name)):
                text = f"holds a video ({kind}), and its suffix is none of a video's: left out; rename it, as in {Path(name).stem}.mp4"
                tree.findings.append(Finding("not read", _shown((folder / name).relative_to(root).as_posix()), text))
    tree.videos.sort()
    tree.texts.sort()
    if not tree.videos:
        seen = next((f" ({f.where}: {f.text})" for f in tree.findings), "")
        raise ManifestError(
            f"{root}: want videos ({', '.join(VIDEOS[:3])} …) somewhere below, got none{seen}; give the folder that holds them"
        )
    return tree


def _passed(tree: Tree, folder: Path) -> None:
    where = folder.relative_to(tree.root).as_posix()
    if where == ".":
        raise ManifestError(f"{folder}: want a folder of videos, got the results of a run ({RECORD}); give the one with the videos")
    text = f"results of a run ({RECORD}): what it predicted is no annotation, so all below is left out"
    tree.findings.append(Finding("not read", _shown(where), text))


def has_images(folder: Path) -> bool:
    """Tell whether a folder holds an image; it looks no further than the first."""
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(IMAGES) and entry.name[0] != "." for entry in entries)


def _file(tree: Tree, path: Path) -> None:
    name = path.relative_to(tree.root).as_posix()
    if path.suffix.lower() == ".txt":
        if wrote(tree.root, name):
            text = "lies where a run of affpipe writes predictions, which are no annotations: left out; move it if it is one"
            tree.findings.append(Finding("not read", name, text))
        else:
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
    """Tell whether a name is neither hidden nor impossible in a table; the latter gives a finding."""
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
    """Return a path for people, whatever bytes its name has."""
    return path if path.isprintable() else ascii(path)


def _image_folders(tree: Tree, folder: Path, above: set[str]) -> None:
    """Note the folders of images below a folder of such. Only the first entry of each is looked at: there may be millions.

    Args:
        above: real paths of the folders that lead here, so that no link leads in a circle.
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


# ---- what runs wrote --------------------------------------------------------------------------------------------------------------------


def is_run(folder: Path) -> bool:
    """Tell whether a folder is the results of a run: it holds the record of one."""
    try:
        found = jsonfile.read(folder / RECORD)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"affpipe", "run", "settings", "models"} <= found.keys()


def wrote(root: Path, text: str) -> bool:
    """Tell whether a text file lies where a run, or `affpipe submit`, writes predictions.

    Args:
        text: path below `root`.
    """
    folder = PurePosixPath(text).parent
    if _FOLDERS.fullmatch("/".join(folder.parts[-3:])) or _FOLDERS.fullmatch("/".join(folder.parts[-2:])):
        return True
    beside = [root / folder.parent / f"{folder.name}_{what}" for what in ("predictions.txt", "submission.zip")]
    return folder.name in TASKS and all(path.is_file() for path in beside)


def looks_predicted(path: Path) -> bool:
    """Tell whether a file of valence and arousal has numbers as runs write them, all with six decimals; a person may write such too."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            rows = [line.strip() for _, line in zip(range(ROWS + 1), file, strict=False)][1:]
    except (OSError, UnicodeDecodeError):
        return False
    return bool(rows) and all(map(_ROW.fullmatch, rows))
