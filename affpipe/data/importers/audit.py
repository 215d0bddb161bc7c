"""The audit of an importer's result: a table with a row per stream, numbers beside the official ones, and findings."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from affpipe import __version__
from affpipe.core.progress import Progress
from affpipe.data.importers import facts
from affpipe.data.importers.collection import Collection, Finding, Stream
from affpipe.data.importers.counts import HEAD, Count, count
from affpipe.data.importers.findings import Measured, entries, findings
from affpipe.system.sheets import table_text

TOLD = 5  # findings of a kind that are printed; all are in the files
UNKNOWN = "not known"


@dataclass(frozen=True)
class Audit:
    """An audit; counts: by task and partition; findings: in the order of their kinds."""

    collection: Collection
    measured: Measured
    counts: list[Count]
    findings: list[Finding]

    def surplus(self, task: str) -> dict[int, int]:
        """Return rows minus frames -> number of streams, by rising difference."""
        found = (self.measured.surplus(stream, task) for stream in self.collection.streams)
        return dict(sorted(Counter(s for s in found if s is not None).items()))

    def official(self, c: Count) -> int | str:
        """Return the number of videos that the set is said to have."""
        return (self.collection.official or {}).get((c.task, c.partition), UNKNOWN)

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return head and rows of the summary for people."""
        official = self.collection.official is not None
        head = (*HEAD, *(("official",) if official else ()))
        return head, [(*c.cells(), *((str(self.official(c)),) if official else ())) for c in self.counts]

    def lines(self) -> list[str]:
        """Return the lines beside the table: rows against frames, and the first findings of each kind."""
        counted = "packets" if self.measured.quick else "decoded frames"
        out = []
        for task in self.collection.tasks:
            if found := self.surplus(task):
                span = f"{min(found):+d} to {max(found):+d}, equal in {found.get(0, 0)} of {sum(found.values())} streams"
                out.append(f"{task}: label rows minus {counted}: {span}")
        kinds = Counter(finding.kind for finding in self.findings)
        for kind, number in kinds.items():
            out.append(f"{kind}: {number}")
            out += [f"  {f.where}: {f.text}" for f in [f for f in self.findings if f.kind == kind][:TOLD]]
            if number > TOLD:
                out.append(f"  and {number - TOLD} more")
        return out

    def csv(self) -> str:
        """Return the table as CSV, see `row`."""
        rows = [self.row(stream) for stream in self.collection.streams]
        return table_text(rows[0], (row.values() for row in rows))

    def row(self, stream: Stream) -> dict[str, Any]:
        """Return a stream's row: partition by task, facts of video, annotations and images ("" if there are none), and its findings."""
        tasks, measured = self.collection.tasks, self.measured
        out: dict[str, Any] = {"stream": stream.id, **{task: stream.partitions.get(task, "") for task in tasks}, "video": stream.video}
        video = measured.videos.get(stream.video)
        names = ("frames", "counted", "fps", "width", "height", "variable_rate")
        out |= dict.fromkeys(names, "")
        if video is not None and not video.error:
            counted = "packets" if measured.quick else "decoded"
            values = (video.frames, counted, video.fps, video.width, video.height, "yes" if video.variable_rate else "no")
            out |= dict(zip(names, values, strict=True))
        for task in tasks:
            rows, surplus, path = measured.rows(stream, task), measured.surplus(stream, task), stream.labels.get(task)
            labels = measured.labels[task, path] if path else None
            out[f"{task}_rows"] = "" if rows is None else rows
            out[f"{task}_rows_minus_frames"] = "" if surplus is None else surplus
            out[f"{task}_invalid"] = "" if labels is None or labels.error else labels.invalid
        images = measured.images.get(stream.images)
        out["images"] = "" if images is None else images.count
        for name in ("first", "last", "gaps"):
            out[f"{name}_image" if name != "gaps" else name] = getattr(images, name) if images and images.count > images.unnumbered else ""
        out["note"] = "; ".join(f"{f.kind}: {f.where}: {f.text}" for f in self.findings if stream.id in f.streams)
        return out

    def json(self) -> str:
        """Return numbers and findings as JSON."""
        counts = [
            {
                **{name: getattr(c, name) for name in ("task", "partition", "videos", "streams", "rows", "invalid")},
                "invalid_share": c.invalid / c.rows if c.rows else None,
                **({"official": self.official(c)} if self.collection.official is not None else {}),
            }
            for c in self.counts
        ]
        rows = {}
        for task in self.collection.tasks:
            found = self.surplus(task)
            rows[task] = {
                "min": min(found, default=None),
                "max": max(found, default=None),
                "streams": {f"{n:+d}": k for n, k in found.items()},
            }
        told: dict[str, list[dict[str, Any]]] = {}
        for f in self.findings:
            told.setdefault(f.kind, []).append({"where": f.where, "text": f.text, "streams": list(f.streams)})
        out = {
            "affpipe": __version__,
            "root": str(self.collection.root),
            "frames_are": "packets" if self.measured.quick else "decoded",
            "videos": len(self.collection.videos),
            "streams": len(self.collection.streams),
            "counts": counts,
            "rows_minus_frames": rows,
            "findings": told,
        }
        return json.dumps(out, indent=1, ensure_ascii=False) + "\n"


def audit(collection: Collection, *, quick: bool, jobs: int, progress: Progress) -> Audit:
    """Measure all that the streams name, and judge it.

    Args:
        quick: count packets instead of decoded frames. jobs: processes that decode at the same time.
    """
    root, streams = collection.root, collection.streams
    files = [(task, path) for stream in streams for task, path in stream.labels.items()]
    folders = sorted({stream.images for stream in streams if stream.images})
    videos = sorted({stream.video for stream in streams if stream.video})
    labels = facts.labels(((task, root / path) for task, path in files), progress)
    images = {}
    for done, folder in enumerate(folders, 1):
        images[folder] = facts.images(root / folder)
        progress("images", done, len(folders))
    found = facts.videos([root / video for video in videos], quick=quick, jobs=jobs, progress=progress)
    labels_of = {(task, path): labels[task, root / path] for task, path in files}
    measured = Measured({video: found[root / video] for video in videos}, labels_of, images, quick)
    return Audit(collection, measured, count(entries(collection, measured)), findings(collection, measured))
