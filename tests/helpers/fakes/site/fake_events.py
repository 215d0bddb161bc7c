"""What the fakes log, and where they stop: files that a test reads, and one that it writes.

`$AFFPIPE_FAKES/events/` holds `loads` (stage, process id), `begun` and `made` (stage, item) and `fits` (model, fold): a line an event, each
written at once, so that jobs at the same time do not mix. `$AFFPIPE_FAKES/fakes.json` says what happens amid an item, half of it written:

    {"delay_s": {"*": 0.1},                 wait so many seconds
     "hold": ["qwen3vl/clip2"],             make events/held/qwen3vl/clip2, then wait until events/go/qwen3vl/clip2 is there
     "fault": {"voice/clip1": "media"}}     media: MediaError; foreign: a library's; memory: MemoryError; kill: SIGKILL of the own process

A place is `stage/item`, `stage` or `*`; of a fit `fit/model` or `fit/model/fold`. The most precise one counts.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from affpipe.core.errors import MediaError

POLL_S = 0.02


def folder() -> Path:
    """Of the workspace; asked anew each time, as this module may be older than the process."""
    return Path(os.environ["AFFPIPE_FAKES"])


def events() -> Path:
    return folder() / "events"


def log(what: str, *words: object) -> None:
    """Add a line to a file of events."""
    events().mkdir(exist_ok=True)
    file = os.open(events() / what, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, (" ".join(map(str, words)) + "\n").encode())
    os.close(file)


def load(stage: str) -> None:
    """A worker is started, its networks loaded."""
    log("loads", stage, os.getpid())


def amid(place: str) -> None:
    """Do what fakes.json wants at a place."""
    path = folder() / "fakes.json"
    wanted: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    time.sleep(_at(wanted.get("delay_s", {}), place) or 0)
    if place in wanted.get("hold", ()):
        held, go = events() / "held" / place, events() / "go" / place
        held.parent.mkdir(parents=True, exist_ok=True)
        held.touch()
        while not go.exists():
            time.sleep(POLL_S)
    match _at(wanted.get("fault", {}), place):
        case "media":
            raise MediaError(f"{place}: want a sound file, got the fault that was asked for; ask for none")
        case "foreign":
            raise ArithmeticError(f"{place}: 3 * 4 is 13")
        case "memory":
            raise MemoryError
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)


def _at(wanted: Mapping[str, Any], place: str) -> Any:
    return next((wanted[name] for name in (place, place.split("/")[0], "*") if name in wanted), None)
