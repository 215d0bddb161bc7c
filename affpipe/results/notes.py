"""Notes on one video for `affpipe predict`: what a person should know of it, as nobody reads the logs of its stages.

A stage puts them into the attributes of its stream. The sections of `extra` (such as `video` of the stage `frames`) have lists of words:
`faults` (what is wrong), `treated` (what was done about it) and `said` (what was chosen). Those of the subject come from the rules of a
review of faces.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from affpipe.core.item import Item
from affpipe.plan.plan import Plan
from affpipe.results.review.candidates import AMBIGUOUS, CLEAR
from affpipe.results.review.collect import video
from affpipe.store import streams

LISTS = ("faults", "treated", "said")


@dataclass(frozen=True)
class Note:
    """A note on a video.

    Attributes:
        kind: the stage that it is from.
        text: its text, on one line.
    """

    kind: str
    text: str


def of(plan: Plan, item: Item) -> list[Note]:
    """Return the notes on a video, one per stage, in the order of the stages.

    Args:
        item: item of the published model, which has a stream of it.
    """
    own: list[Note] = []
    for name in (name for name in plan.names if name != "labels"):  # a new video has no labels
        path = plan.stream(name, item)
        if path.exists():
            said = _subject(plan, item) if name == "subject" else _words(streams.attributes(path)["extra"])
            if text := "; ".join(dict.fromkeys(said)):
                own.append(Note(name, text))
    return own


def _words(extra: Mapping[str, Any]) -> Iterator[str]:
    """Yield all words in the sections of a stream's attributes."""
    for section in extra.values():
        for key in LISTS if isinstance(section, Mapping) else ():
            yield from (" ".join(str(text).split()) for text in section.get(key, ()))


def _subject(plan: Plan, item: Item) -> Iterator[str]:
    """Yield why it may not be one person, or not the intended one."""
    (stream,) = video(plan, [plan.item("subject", item)], {}).streams
    if stream.why != CLEAR:
        look = "; look at the pictures" if stream.ambiguity >= AMBIGUOUS else ""
        yield f"{stream.why} ({stream.reason}; doubt {stream.ambiguity:.2f}){look}"
