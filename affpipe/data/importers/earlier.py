"""What runs of affpipe wrote: predictions have the form of annotations, and must not be taken for them.

Known by the record of the run in a folder above, by the names of the folders that it writes, or, beside another annotation of the stream,
by six decimals in every row.
"""

import re
from pathlib import Path, PurePosixPath

from affpipe.core.tasks.table import TASKS
from affpipe.system import jsonfile

RECORD = "run.json"
_ROW = re.compile(r"-?[01]\.[0-9]{6},-?[01]\.[0-9]{6}|-5,-5")
_FOLDERS = re.compile(rf"official/({'|'.join(TASKS)})|models/[^/]+/({'|'.join(TASKS)})|late_fusion/(({'|'.join(TASKS)})/)?predictions")
ROWS = 50  # looked at


def is_run(folder: Path) -> bool:
    """Whether a folder is the results of a run: it holds the record of one."""
    try:
        found = jsonfile.read(folder / RECORD)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"affpipe", "run", "settings", "models"} <= found.keys()


def wrote(root: Path, text: str) -> bool:
    """Whether a text file lies where a run, or `affpipe submit`, writes predictions.

    Args:
        text: path below `root`.
    """
    folder = PurePosixPath(text).parent
    if _FOLDERS.fullmatch("/".join(folder.parts[-3:])) or _FOLDERS.fullmatch("/".join(folder.parts[-2:])):
        return True
    beside = [root / folder.parent / f"{folder.name}_{what}" for what in ("predictions.txt", "submission.zip")]
    return folder.name in TASKS and all(path.is_file() for path in beside)


def looks_predicted(path: Path) -> bool:
    """Whether a file of valence and arousal has numbers as runs write them, six decimals throughout; a person may have chosen them too."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            rows = [line.strip() for _, line in zip(range(ROWS + 1), file, strict=False)][1:]
    except (OSError, UnicodeDecodeError):
        return False
    return bool(rows) and all(map(_ROW.fullmatch, rows))
