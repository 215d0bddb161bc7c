"""The tasks of the challenge: what a frame's label is, how it is written, and what a model gives for it.

Source: Aff-Wild2 as handed out for the 10th ABAW competition. Every reader, loss, decoder and measure asks here for names and widths.
"""

from collections.abc import Iterable
from dataclasses import dataclass

EXPRESSIONS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
ACTION_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26")


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: the word for it in settings, manifest and folders.
        title: for people.
        columns: what a frame's label consists of: numbers in [-1, 1] (va), one class number (expr), a 0 or 1 each (au).
        outputs: what a model gives for a frame: the two values (va), a logit a class (expr), a logit a unit (au).
        header: first line of an annotation file.
        invalid: stands in every column of a frame that has no label.
        challenge: the folder of its annotations in Aff-Wild2.
        measure: the challenge's figure, a key of its scores; the greater, the better.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    outputs: tuple[str, ...]
    header: str
    invalid: int
    challenge: str
    measure: str


VA = Task(
    "va", "valence and arousal", ("valence", "arousal"), ("valence", "arousal"), "valence,arousal", -5, "VA_Estimation_Challenge", "ccc"
)
EXPR = Task("expr", "expression", ("expression",), EXPRESSIONS, ",".join(EXPRESSIONS), -1, "EXPR_Recognition_Challenge", "f1")
AU = Task("au", "action units", ACTION_UNITS, ACTION_UNITS, ",".join(ACTION_UNITS), -1, "AU_Detection_Challenge", "f1")

TASKS: dict[str, Task] = {task.name: task for task in (VA, EXPR, AU)}


def slices(tasks: Iterable[str], of: str = "outputs") -> dict[str, slice]:
    """Where each task's entries stand in a row that holds those of several tasks one after another.

    Args:
        tasks: names, in the order of the row. of: "outputs" or "columns".
    """
    out, start = {}, 0
    for name in tasks:
        stop = start + len(getattr(TASKS[name], of))
        out[name] = slice(start, stop)
        start = stop
    return out


def width(tasks: Iterable[str], of: str = "outputs") -> int:
    """Entries of a row that holds those of several tasks."""
    return sum(len(getattr(TASKS[name], of)) for name in tasks)
