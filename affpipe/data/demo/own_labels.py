"""Labels of tasks of one's own for the demo, as `recipes/own-demo.yaml` names them, in every form that label files have.

`mood` is intervals of classes, clip by clip in turn as a file of ELAN, of Praat and a table. `dominance` is numbers from 1 to 9, ten a
second. `pain` is units, one line per frame. All are computed from the curves that drive the faces, like the labels of the challenge's
tasks.
"""

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from affpipe.data.demo.clips import Clip, Stream
from affpipe.data.demo.labels import labelled
from affpipe.data.demo.signals import RATE, Drive

MOODS = ("calm", "tense", "none")
UNITS = ("brows", "lips")
FOLDER, MANIFEST = "own", "own_manifest.csv"
CALM, TENSE = -0.15, 0.15  # arousal below and above which a mood shows
TRACE_HZ = 10.0
FORMS = (".eaf", ".TextGrid", ".csv")  # of mood, clip by clip in turn
Interval = tuple[float, float, str]


def write_own(folder: Path, stream: Stream, person: Drive, times_s: np.ndarray) -> None:
    """Write the label files of a stream below `folder`. times_s: (T,) times of its frames."""
    for task, text in (("mood", _mood), ("dominance", _dominance), ("pain", _pain)):
        path = folder / own_labels(task, stream)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(stream, person, times_s), encoding="utf-8")


def own_labels(task: str, stream: Stream) -> str:
    """Return the path of a stream's label file relative to the set's folder."""
    number = int("".join(filter(str.isdigit, stream.clip.name)) or 0)
    suffix = {"mood": FORMS[number % len(FORMS)], "dominance": ".csv", "pain": ".txt"}[task]
    return f"{FOLDER}/{task}/{stream.stream_id}{suffix}"


def own_manifest(clips: tuple[Clip, ...]) -> str:
    """Return the manifest of these labels as CSV; it has none for the test partition."""
    tasks = ("mood", "dominance", "pain")
    rows = [",".join(("stream_id", "video", "subject", "partition", *tasks))]
    for stream in (s for clip in clips for s in clip.streams):
        files = ["" if stream.clip.partition == "test" else own_labels(task, stream) for task in tasks]
        rows.append(",".join([stream.stream_id, stream.clip.video, stream.subject, stream.clip.partition, *files]))
    return "\n".join(rows) + "\n"


def _mood(stream: Stream, person: Drive, times_s: np.ndarray) -> str:
    found = intervals(stream.clip, person)
    return {".eaf": _elan, ".TextGrid": _praat, ".csv": _table}[Path(own_labels("mood", stream)).suffix](found, stream)


def intervals(clip: Clip, person: Drive) -> list[Interval]:
    """Return stretches of one mood, in steps of milliseconds, where the face is seen."""
    times_s = np.arange(round(clip.duration_s * RATE)) / RATE
    arousal = person.at(times_s, "arousal")
    mood = np.where(arousal < CALM, 0, np.where(arousal > TENSE, 1, 2))
    mood = np.where(labelled("mood", clip, times_s), mood, -1)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(mood)) + 1, [len(mood)]])
    return [(a / RATE, b / RATE, MOODS[mood[a]]) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True) if mood[a] >= 0]


def _elan(found: list[Interval], stream: Stream) -> str:
    times = sorted({edge for start, end, _ in found for edge in (start, end)})
    slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}" TIME_VALUE="{round(1000 * t)}"/>' for i, t in enumerate(times))
    rows = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{i}" TIME_SLOT_REF1="ts{times.index(start)}" '
        f'TIME_SLOT_REF2="ts{times.index(end)}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for i, (start, end, value) in enumerate(found)
    )
    media = f'<HEADER TIME_UNITS="milliseconds"><MEDIA_DESCRIPTOR MEDIA_URL={quoteattr(stream.clip.video)} MIME_TYPE="video/mp4"/></HEADER>'
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0">'
    return f'{head}{media}<TIME_ORDER>{slots}</TIME_ORDER><TIER TIER_ID="mood">{rows}</TIER></ANNOTATION_DOCUMENT>\n'


def _praat(found: list[Interval], stream: Stream) -> str:
    whole, at, out = stream.clip.duration_s, 0.0, []
    for start, end, value in found:  # a tier of Praat has no gaps
        out += [(at, start, "")] if start > at else []
        out.append((start, end, value))
        at = end
    out += [(at, whole, "")] if at < whole else []
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        f"xmin = 0\nxmax = {whole}",
        "tiers? <exists>\nsize = 1\nitem []:",
    ]
    lines += ["    item [1]:", '        class = "IntervalTier"', '        name = "mood"', f"        xmin = 0\n        xmax = {whole}"]
    lines.append(f"        intervals: size = {len(out)}")
    for i, (start, end, value) in enumerate(out, 1):
        lines.append(f'        intervals [{i}]:\n            xmin = {start:g}\n            xmax = {end:g}\n            text = "{value}"')
    return "\n".join(lines) + "\n"


def _table(found: list[Interval], stream: Stream) -> str:
    return "\n".join(["start,end,value", *(f"{start:g},{end:g},{value}" for start, end, value in found)]) + "\n"


def _dominance(stream: Stream, person: Drive, times_s: np.ndarray) -> str:
    at = np.arange(0, stream.clip.duration_s, 1 / TRACE_HZ)
    value = 5 + 2.5 * person.at(at, "valence") + 1.5 * person.at(at, "arousal")
    seen = labelled("dominance", stream.clip, at)
    cells = (f"{v:.3f}" if here else "" for v, here in zip(value, seen, strict=True))
    return "\n".join(["time,dominance", *(f"{t:.1f},{cell}" for t, cell in zip(at, cells, strict=True))]) + "\n"


def _pain(stream: Stream, person: Drive, times_s: np.ndarray) -> str:
    brows, lips = person.at(times_s, "arousal") > 0.2, person.at(times_s, "valence") < -0.2
    seen = labelled("pain", stream.clip, times_s)
    rows = (f"{int(b)},{int(p)}" if here else "-1,-1" for b, p, here in zip(brows, lips, seen, strict=True))
    return "\n".join([",".join(UNITS), *rows]) + "\n"
