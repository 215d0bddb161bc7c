"""Scoring and checking predictions of valence and arousal for three million frames, from files.

Scoring, reference: a csv reader row by row, frames with -5 left out, lists of numbers, the CCC of the lists; ours: `evaluate.folders` and
`metrics.pooled`. Checking an answer against the organisers' template, reference: a csv reader through both files side by side, a pattern
and a range for each cell; ours: `preflight.check`, which looks at more. All without intervals.
"""

import csv
import re
import tempfile
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from affpipe.core.tasks import metrics
from affpipe.core.tasks.table import TASKS, VA
from affpipe.results import evaluate
from affpipe.results.submission import preflight
from benchmarks.speed.arms import Arm, DisagreeError, Row, ratio, take_turns

HEADER = f"image_location,{TASKS['va'].header}"
CELL = re.compile(r"-?(?:0\.[0-9]{6}|1\.0{6})")
TOLERANCE = 1e-9


def rows(*, quick: bool) -> list[Row]:
    streams, frames, rounds = (4, 5000, 1) if quick else (600, 5000, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, streams, frames)
        truth, predicted, template, answer = (folder / part for part in ("truth", "predicted", "template.txt", "answer.txt"))
        what = f"{streams * frames / 1e6:g} M frames"
        scoring = {
            "reference": lambda: _scored(truth, predicted),
            "ours": lambda: metrics.pooled(VA, evaluate.folders(VA, truth, predicted)),
        }
        checking = {
            "reference": lambda: _checked(template, answer),
            "ours": lambda: [fault.line for fault in preflight.check(VA, answer, template)],
        }
        return [_row(f"CCC of {what}", scoring, rounds, _same_score), _row(f"preflight of {what}", checking, rounds, _same_faults)]


def _row(what: str, arms: dict[str, Arm], rounds: int, compare: Callable[[dict[str, Any]], str]) -> Row:
    costs, outputs = take_turns(arms, units=1, rounds=rounds, compare=compare)
    return Row(what, "run", costs, "reference : ours", ratio(costs), None, outputs)


def _write(folder: Path, streams: int, frames: int) -> None:
    """Truth and predictions in the official form, a template and an answer to it in which one row has no number."""
    rng = np.random.default_rng(0)
    lines = [HEADER]
    for part in ("truth", "predicted"):
        (folder / part).mkdir()
    for stream in range(streams):
        truth, predicted = (rng.uniform(-1, 1, (frames, 2)) for _ in range(2))
        own = [f"{valence:.6f},{arousal:.6f}" for valence, arousal in predicted.tolist()]
        labels = [f"{valence:.3f},{arousal:.3f}" for valence, arousal in truth.tolist()]
        labels[::50] = ["-5,-5"] * len(labels[::50])
        for part, cells in (("truth", labels), ("predicted", own)):
            (folder / part / f"{stream}.txt").write_text("\n".join([TASKS["va"].header, *cells]) + "\n")
        lines += [f"{stream}/{frame:05d}.jpg,{cells}" for frame, cells in enumerate(own, 1)]
    (folder / "template.txt").write_text("\n".join([HEADER, *(f"{line.partition(',')[0]}," for line in lines[1:])]) + "\n")
    lines[len(lines) // 2] = f"{lines[len(lines) // 2].partition(',')[0]},nan,0.000000"
    (folder / "answer.txt").write_text("\n".join(lines) + "\n")


def _scored(truth: Path, predicted: Path) -> dict[str, float]:
    want: list[list[float]] = []
    got: list[list[float]] = []
    for path in sorted(truth.glob("*.txt")):
        with path.open() as a, (predicted / path.name).open() as b:
            ours, theirs = csv.reader(a), csv.reader(b)
            next(ours), next(theirs)
            for label, prediction in zip(ours, theirs, strict=True):
                values = [float(cell) for cell in label]
                if -5 not in values:
                    want.append(values)
                    got.append([float(cell) for cell in prediction])
    valence, arousal = (_ccc([row[i] for row in want], [row[i] for row in got]) for i in range(2))
    return {"ccc_valence": valence, "ccc_arousal": arousal, "ccc": (valence + arousal) / 2}


def _ccc(x: list[float], y: list[float]) -> float:
    a, b = np.array(x), np.array(y)
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    return float(2 * covariance / (a.var() + b.var() + (a.mean() - b.mean()) ** 2))


def _checked(template: Path, answer: Path) -> list[int]:
    """Lines that are not as they must be."""
    found = []
    with template.open() as a, answer.open() as b:
        for number, (want, got) in enumerate(zip_longest(csv.reader(a), csv.reader(b)), 1):
            if number == 1:
                right = got == want
            else:
                right = want is not None and got is not None and got[0] == want[0] and len(got) == 3
                right = right and all(CELL.fullmatch(cell) and -1 <= float(cell) <= 1 for cell in got[1:])
            if not right:
                found.append(number)
    return found


def _same_score(outputs: dict[str, Any]) -> str:
    worst = max(abs(value - outputs["ours"][name]) for name, value in outputs["reference"].items())
    if worst > TOLERANCE:
        raise DisagreeError(f"evaluation: scores differ by {worst:.1e}, want {TOLERANCE:g}")
    return f"within {worst:.0e}"


def _same_faults(outputs: dict[str, Any]) -> str:
    if outputs["ours"] != outputs["reference"] or len(outputs["ours"]) != 1:
        raise DisagreeError(f"preflight: faults in lines {outputs['ours']}, the reference's {outputs['reference']}")
    return "the same faulty line"
