"""Label files of tasks of one's own that are not as they should be: named by both streams of a manifest, for a task of `my.yaml`."""

from collections.abc import Callable
from pathlib import Path

from bad_case import Case, label, look_through

MOOD, TRUST, PAIN = (
    "{name: mood, classes: [calm, tense]}",
    "{name: trust, dimensions: {trust: [1, 9]}, gap_s: 0.1}",
    "{name: pain, units: [brows, lips]}",
)
EAF = """\
<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="t2"{}/></TIME_ORDER>
<TIER TIER_ID="{}"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">
<ANNOTATION_VALUE>calm</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER><TIER TIER_ID="words"/></ANNOTATION_DOCUMENT>
"""
POINTS = 'File type = "ooTextFile"\nObject class = "TextGrid"\n0 1 <exists> 1\n"TextTier" "mood" 0 1 1\n0.2 "calm"\n'


def labels(task: str, name: str, content: str | bytes) -> Callable[[Path], object]:
    """Make both streams name this file, in the column of this task, which the settings name."""
    column = task.split(",")[0].removeprefix("{name: ")

    def make(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        rows = "".join(f"{stream},{stream}.mp4,{part},{name}\n" for stream, part in (("a", "train"), ("b", "validation")))
        (folder / "data_manifest.csv").write_text(f"stream_id,video,partition,{column}\n{rows}")
        with (folder / "my.yaml").open("a") as file:
            file.write(f"tasks: [{task}]\n")

    return make


OWN_LABELS = [
    Case(name, "annotation or manifest", labels(*of), give, *rest)
    for name, of, give, *rest in [
        (
            "a class that the task does not have",
            (MOOD, "l.csv", "start,end,value\n0,0.2,clam\n"),
            look_through,
            "refused",
            "l.csv: line 2: want one of calm, tense, got 'clam'",
            "correct it, or add the class to the task",
        ),
        (
            "a class by name, a line a frame",
            (MOOD, "l.txt", "calm,tense\ntense\n"),
            look_through,
            "refused",
            "l.txt: line 2: want mood, got 'tense'; write the number of the class, 1",
            "a line a frame has numbers; intervals may have names",
        ),
        (
            "a table of labels with names of its own",
            (MOOD, "l.csv", "begin,finish,mood\n0,0.2,calm\n"),
            look_through,
            "refused",
            "l.csv: line 1: want the header calm,tense, got 'begin,finish,mood'; name the columns so, or start,end,value, or",
            "[data.md](data.md#tasks-of-your-own) has the forms",
        ),
        (
            "intervals in a file that is no .csv",
            (MOOD, "l.txt", "start,end,value\n0,0.2,calm\n"),
            look_through,
            "refused",
            "l.txt: line 1: want the header calm,tense, got 'start,end,value'; save it as .csv",
            "rename the file",
        ),
        (
            "intervals between semicolons",
            (MOOD, "l.csv", "start;end;value\n0,0;0,2;calm\n"),
            look_through,
            "refused",
            "l.csv: line 1: want the header start,end,value, got 'start;end;value'; separate cells by commas",
            "save it with commas, and points in numbers",
        ),
        (
            "intervals that overlap",
            (MOOD, "l.csv", "start,end,value\n0,0.3,calm\n0.2,0.4,tense\n"),
            look_through,
            "refused",
            "l.csv: line 3: want intervals that do not overlap, got 0.2 to 0.4 s beside line 2, 0 to 0.3 s",
            "a frame has one class; two that may be there together are units",
        ),
        (
            "an ELAN file of other tiers",
            (MOOD, "l.eaf", EAF.format(' TIME_VALUE="400"', "rater 1")),
            look_through,
            "refused",
            "l.eaf: want one tier, or one named mood, got 'rater 1', 'words'; name one of them",
            "`tier: rater 1` in the task",
        ),
        (
            "an ELAN annotation whose end has no time",
            (MOOD, "l.eaf", EAF.format("", "mood")),
            look_through,
            "refused",
            "l.eaf: tier 'mood': annotation a1: want times of both ends, got none of its end",
            "set the end in ELAN",
        ),
        (
            "points of Praat",
            (MOOD, "l.TextGrid", POINTS),
            look_through,
            "refused",
            "l.TextGrid: tier 'mood': point 1: want an interval, got a point at 0.2 s",
            "use an interval tier",
        ),
        (
            "units without a tier for each",
            (PAIN, "l.csv", "start,end,value\n0,0.2,lips\n"),
            look_through,
            "refused",
            "l.csv: want a tier of brows, lips, got a table without a column `tier`; add one",
            "the column `tier` has the unit, `value` that it is there",
        ),
        (
            "a rating out of its range",
            (TRUST, "l.csv", "time,trust\n0,3\n0.1,10\n"),
            look_through,
            "refused",
            "l.csv: at 0.1 s: want a number in [1, 9], -5 or nothing for trust, got 10",
            "correct it, or the range in the settings",
        ),
        (
            "times that go back",
            (TRUST, "l.csv", "time,trust\n0.1,3\n0,4\n"),
            look_through,
            "refused",
            "l.csv: line 3: want times that rise, got 0 after 0.1 s",
            "sort it; two raters are two files",
        ),
        (
            "a clock for seconds",
            (TRUST, "l.csv", "time,trust\n00:00:01,3\n"),
            look_through,
            "refused",
            "l.csv: line 2: time: want seconds from 0, got '00:00:01'",
            "write 1",
        ),
        (
            "milliseconds for seconds",
            (MOOD, "l.csv", "start,end,value\n100,400,calm\n"),
            label,
            "done",
            "l.csv: want seconds within the video, got 400 s in a video of 0.48 s",
            "divide by 1000. No frame has a label so; `affpipe manifest check --media` warns of it before",
        ),
        (
            "ratings further apart than they are joined",
            (TRUST, "l.csv", "time,trust\n0,3\n0.2,4\n0.4,5\n"),
            label,
            "done",
            "l.csv: want samples at most 0.1 s apart, got 0.2 s, and frames between without a label; "
            "write times in seconds, or set gap_s of trust",
            "`gap_s` of the task, if the values hold in between",
        ),
    ]
]
