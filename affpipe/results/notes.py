"""What the streams of one video say of it that a person should know, for `affpipe predict`: its stages make no log that anyone reads.

A stage says it in the attributes of its stream: the sections of `extra` (`video` of the stage `frames`, say) have lists of words, `faults`
(what is wrong), `treated` (what was done about it) and `said` (what was chosen). Of the subject it is found out as for a review of faces.
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
    """Something to know of a video. kind: the stage that says it. text: what, on one line."""

    kind: str
    text: str


def of(plan: Plan, item: Item) -> list[Note]:
    """Notes on a video, one a stage, in the order of the stages.

    Args:
        item: of the published model, which has a stream of it.
    """
    own: list[Note] = []
    for name in (name for name in plan.names if name != "labels"):  # a new video has none
        path = plan.stream(name, item)
        if path.exists():
            said = _subject(plan, item) if name == "subject" else _words(streams.attributes(path)["extra"])
            if text := "; ".join(dict.fromkeys(said)):
                own.append(Note(name, text))
    return own


def _words(extra: Mapping[str, Any]) -> Iterator[str]:
    """All that the sections of a stream's attributes say in words."""
    for section in extra.values():
        for key in LISTS if isinstance(section, Mapping) else ():
            yield from (" ".join(str(text).split()) for text in section.get(key, ()))


def _subject(plan: Plan, item: Item) -> Iterator[str]:
    """Why it may not be one person, or not the one that is meant."""
    (stream,) = video(plan, [plan.item("subject", item)], {}).streams
    if stream.why != CLEAR:
        look = "; look at the pictures" if stream.ambiguity >= AMBIGUOUS else ""
        yield f"{stream.why} ({stream.reason}; doubt {stream.ambiguity:.2f}){look}"
