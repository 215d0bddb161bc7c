"""Indexes of shards: `<cache>/<stage>/<key>/shards/*.json` says what became of each stream. The workflow tracks these files."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from affpipe.core.errors import StoreError
from affpipe.store.streams import REPAIR, unreadable
from affpipe.system import disk, jsonfile


@dataclass(frozen=True)
class Entry:
    """Outcome of one stream: a file with rows, or the reason why there is none.

    status: "done"; "absent" (nothing to make, which is no fault); "failed" (a fault, with its reason).
    """

    status: str
    file: str = ""
    rows: int = 0
    reason: str = ""


def write_index(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write a shard's index."""
    disk.write_text(path, json.dumps({id: asdict(entry) for id, entry in sorted(entries.items())}, indent=1) + "\n")


def _entry(found: Mapping[str, Any]) -> Entry:
    """Parse one entry. Raises ValueError or TypeError if no job can have written it; an entry's file lies beside the index."""
    entry = Entry(**found)
    texts = all(isinstance(text, str) for text in (entry.status, entry.file, entry.reason))
    if not texts or entry.file == ".." or Path(entry.file).name != entry.file:
        raise ValueError(f"the entry {str(dict(found))[:80]}")
    return entry


def read_index(path: Path) -> dict[str, Entry]:
    """Read a shard's index. Raises StoreError, which names the file and the remedy."""
    try:
        return {id: _entry(entry) for id, entry in jsonfile.read(path).items()}
    except (ValueError, TypeError, AttributeError, FileNotFoundError) as error:
        what = getattr(error, "strerror", None) or error
        raise StoreError(f"{path}: want an index of streams, got {what}; {REPAIR}", damaged=path) from None
    except OSError as error:
        raise unreadable(path, error) from None
