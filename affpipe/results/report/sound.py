"""Tracks and sound in the report: which of several tracks were taken, and what share of the sound is silent, cut, clipped or repaired."""

from collections.abc import Mapping
from dataclasses import dataclass

from affpipe.core.item import Item
from affpipe.plan.plan import Plan
from affpipe.results.report.views import Entries, done
from affpipe.store import streams

TOLD = 40  # videos that have a line of their own


@dataclass(frozen=True)
class Line:
    """A video of note.

    Attributes:
        shares: see `media.heard`; None if there is no sound.
        said: what a person should know.
    """

    video: str
    shares: Mapping[str, float] | None
    said: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Table of tracks and sound.

    Attributes:
        lines: lines of the videos of note, at most TOLD, those with most to say first.
        more: number of others. heard: number of videos with sound.
    """

    lines: list[Line]
    more: int
    heard: int


def table(plan: Plan, entries: Entries) -> Table | None:
    """Return the table of tracks and sound; None for a run that reads no sound and has nothing to say of tracks."""
    lines = [_line(plan, entries, item) for item in plan.items("frames")]
    of_note = sorted((line for line in lines if line.said), key=lambda line: (-len(line.said), line.video))
    heard = sum(line.shares is not None for line in lines)
    if not of_note and "audio" not in plan.names:
        return None
    return Table(of_note[:TOLD], max(0, len(of_note) - TOLD), heard)


def _line(plan: Plan, entries: Entries, item: Item) -> Line:
    said: list[str] = []
    if done(plan, entries, "frames", item):
        with plan.streams(item).open("frames") as frames:
            track = frames.attributes["extra"].get("video", {}).get("track")
        if track and track["others"]:
            others = ", ".join(f"{index} {why}" for index, why in track["others"].items())
            said.append(f"video track {track['index']} of {track['of']} ({others})")
    sound = None
    if "audio" in plan.names and done(plan, entries, "audio", item):
        sound = streams.attributes(plan.stream("audio", item))["extra"].get("sound")
        said += sound["faults"] if sound else []
    return Line(item.id, sound and sound["shares"], tuple(said))
