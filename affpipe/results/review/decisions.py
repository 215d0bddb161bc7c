"""curation.csv: a person's decisions are kept, the rule's columns are refreshed.

Columns: stream_id; tracks, to be edited (numbers, `none`, or nothing: the rule decides); for information chosen (tracks that the rule
took), ambiguity and why; faces (the faces for which the tracks are numbered, see `Plan.numbering`). Further columns of the person stay.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from affpipe.data.manifest import Decision
from affpipe.plan.plan import Plan
from affpipe.results.review.collect import StreamView
from affpipe.system import disk

COLUMNS = ("stream_id", "tracks", "chosen", "ambiguity", "why", "faces")


@dataclass(frozen=True)
class Kept:
    """Decisions found in a file, and a line for each that no longer holds."""

    decisions: Mapping[str, Decision]
    dropped: list[str]


def still_valid(plan: Plan, found: Mapping[str, Decision]) -> Kept:
    """Leave out decisions whose track numbers belong to other faces than the present ones."""
    rows = {row.stream_id: row for row in plan.rows}
    stale = {id: d for id, d in found.items() if d.tracks and d.faces and d.faces != plan.numbering(rows[id])}
    lines = [f"{id}: tracks {' '.join(map(str, d.tracks))} were numbered for {d.faces}" for id, d in stale.items()]
    return Kept({id: d for id, d in found.items() if id not in stale}, lines)


def write(path: Path, plan: Plan, views: Iterable[StreamView], found: Mapping[str, Decision], kept: Mapping[str, Decision]) -> None:
    """Write a row for every stream of the manifest, in its order.

    Args:
        views: the streams looked at; the rows of others stay as they are.
        found: rows of the file before. kept: those whose decision still holds.
    """
    seen = {view.id: view for view in views}
    own = [c for d in found.values() for c in d.cells if c not in COLUMNS]
    head = [*COLUMNS, *dict.fromkeys(own)]
    out = io.StringIO()
    table = csv.DictWriter(out, head, restval="", lineterminator="\n")
    table.writeheader()
    for row in plan.rows:
        id, before = row.stream_id, found.get(row.stream_id)
        cells = {**(before.cells if before else {}), "stream_id": id}
        if before and before.faces != plan.numbering(row):  # it was about other faces
            cells |= dict.fromkeys(COLUMNS[2:], "")
        if id not in kept:
            cells["tracks"] = ""
        if id in seen:
            view = seen[id]
            chosen = " ".join(map(str, sorted(view.rule.tracks))) or "none"
            cells |= {"chosen": chosen, "ambiguity": f"{view.ambiguity:.2f}", "why": view.why, "faces": plan.numbering(row)}
        table.writerow(cells)
    disk.write_text(path, out.getvalue())
