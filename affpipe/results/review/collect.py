"""Collection of the faces of each video from the store, and of what the rule, or a person, chooses among them.

The choice is made again with the functions of the stage `subject`. So a sheet can be made as soon as the faces are stored: before that
stage, and also if it stops at a decision that names tracks which do not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affpipe.core.errors import InputError
from affpipe.core.item import Item
from affpipe.data.manifest import Decision, Row
from affpipe.faces.subject import Choice, choose, choose_tracks
from affpipe.plan.plan import Plan
from affpipe.results.review.candidates import AMBIGUOUS, Faces, Track, ambiguity, doubts, tracks, why
from affpipe.store.index import read_index
from affpipe.store.streams import Stream


@dataclass(frozen=True, eq=False)
class StreamView:
    """A stream: the rule's choice, the choice in force (None if the decision is at fault), and how doubtful the rule's choice is.

    Attributes:
        status: "decided" by a person, "fault" if that decision is impossible, else "ambiguous" or "clear".
    """

    row: Row
    rule: Choice
    choice: Choice | None
    reason: str
    status: str
    ambiguity: float
    why: str

    @property
    def id(self) -> str:
        return self.row.stream_id


@dataclass(frozen=True, eq=False)
class VideoView:
    """A video with its faces and streams.

    Attributes:
        start_s, end_s: (T,) times of its frames.
        file: the stored stream `faces`, which has the crops.
    """

    id: str
    file: Path
    faces: Faces
    found: list[Track]
    start_s: np.ndarray
    end_s: np.ndarray
    streams: list[StreamView]


@dataclass(frozen=True)
class Missing:
    """A stream whose faces are not in the store."""

    row: Row
    why: str

    @property
    def id(self) -> str:
        return self.row.stream_id


def missing(plan: Plan, item: Item) -> str:
    """Tell why the faces of a stream's video cannot be shown; "" if they can."""
    for stage in ("frames", "faces"):
        if plan.stream(stage, item).exists():
            continue
        shard = next(s for s, videos in plan.shards.items() if item.row.video_id in videos)
        index = Path(plan.index(stage, shard))
        entry = read_index(index).get(item.row.video_id) if index.exists() else None
        return f"{stage}: {entry.reason}" if entry and entry.reason else f"{stage}: not made yet"
    return ""


def video(plan: Plan, items: list[Item], decisions: Mapping[str, Decision]) -> VideoView:
    """Collect a video from the items of its streams, all of them, under the decisions in force."""
    first = items[0]
    with _open(plan, "frames", first) as frames:
        start_s, end_s, width = frames.start_s, frames.end_s, frames.attributes["extra"]["video"]["width"]
    with _open(plan, "faces", first) as stream:
        faces = Faces(*(stream.rows(name) for name in ("frame", "track", "values", "score")), frames=len(start_s), width=width)
        file = stream.path
    found = tracks(faces)
    rules = {i.id: choose(faces.frame, faces.track, faces.box, rule=i.row.subject, frames=faces.frames, width=width) for i in items}
    forced, faults = dict(rules), {}
    for item in items:
        decision = decisions.get(item.id)
        if decision is not None and decision.tracks is not None:
            try:
                forced[item.id] = choose_tracks(faces.frame, faces.track, tracks=decision.tracks, frames=faces.frames)
            except InputError as error:
                forced[item.id], faults[item.id] = None, str(error)
    views = []
    for item in items:
        others = {id: choice.row for id, choice in forced.items() if id != item.id and choice is not None}
        about = doubts(faces, found, item.row.subject, rules[item.id], others)
        size = round(ambiguity(about), 2)
        if forced[item.id] is rules[item.id]:
            status = "ambiguous" if size >= AMBIGUOUS else "clear"
        else:
            status = "fault" if item.id in faults else "decided"
        reason = faults.get(item.id) or forced[item.id].reason
        views.append(StreamView(item.row, rules[item.id], forced[item.id], reason, status, size, why(about)))
    return VideoView(first.row.video_id, file, faces, found, start_s, end_s, views)


def _open(plan: Plan, stage: str, item: Item) -> Stream:
    return Stream(plan.stream(stage, item), key=plan.key(stage), identity=plan.item(stage, item).identity)
