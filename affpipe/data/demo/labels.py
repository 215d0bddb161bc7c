"""Labels of the demo's frames: from a person's driving curves to the text files of the three tasks.

Labels say what the curves draw. Valence and arousal are curves themselves. The expression is the part of their plane in which they lie,
laid out after the circumplex (Russell 1980). An action unit is on if the curve that draws it is strong enough to see. There is no
hysteresis: a row depends on its own moment alone.
"""

import numpy as np

from affpipe.core.tasks.table import ACTION_UNITS, EXPRESSIONS
from affpipe.data.demo.clips import TASKS, Clip
from affpipe.data.demo.signals import Drive, shown

NEUTRAL = 0.4  # nearer to the origin of the plane the expression is neutral
SECTORS = (  # degrees from positive valence towards high arousal, each up to the next
    (0, "Happiness"),
    (70, "Surprise"),
    (110, "Fear"),
    (135, "Anger"),
    (180, "Disgust"),
    (205, "Sadness"),
    (275, "Other"),
    (330, "Happiness"),
)
UP, HIGH, LOW = 0.25, 0.5, -0.4  # valence or arousal above which corners or brows are up, well up; below which they are down
SHUT, PARTED, DROPPED = 0.05, 0.15, 0.5  # mouth opening


def label_text(task: str, clip: Clip, person: Drive, times_s: np.ndarray) -> str:
    """Return a label file: the task's header and a row for each of the (T,) frame times, the task's invalid mark if there is no label."""
    told = TASKS[task]
    blank = ",".join([str(told.invalid)] * len(told.columns))
    digits = 4 if told.decimals else 0
    labels = zip(values(task, person, times_s), labelled(task, clip, times_s), strict=True)
    rows = [",".join(f"{value:.{digits}f}" for value in row) if here else blank for row, here in labels]
    return "\n".join([told.header, *rows]) + "\n"


def values(task: str, person: Drive, times_s: np.ndarray) -> np.ndarray:
    """Return the task's columns at (T,) times, as if the face were always there: (T, C) float64 for va, int64 for expr and au."""
    valence, arousal, opening = (person.at(times_s, curve) for curve in ("valence", "arousal", "opening"))
    if task == "va":
        return np.stack([valence, arousal], axis=1)
    return expression(valence, arousal)[:, None] if task == "expr" else action_units(valence, arousal, opening)


def labelled(task: str, clip: Clip, times_s: np.ndarray) -> np.ndarray:
    """Return (T,) bool, True where the task has a label: the person is in the picture and the annotators did not leave the frame out.

    Hands and voice tell valence, arousal and the expression of a hidden face. Nobody can tell its action units.
    """
    out = shown(clip.absences, times_s)
    if task == "au":
        out &= shown(clip.hidden, times_s)
    for stretch in clip.unlabelled:
        if stretch.task == task:
            out &= (times_s < stretch.start_s) | (times_s >= stretch.end_s)
    return out


def expression(valence: np.ndarray, arousal: np.ndarray) -> np.ndarray:
    """Return (T,) int64 class numbers, as in `table.EXPRESSIONS`, for (T,) values."""
    starts, classes = zip(*((start, EXPRESSIONS.index(name)) for start, name in SECTORS), strict=True)
    angle = np.degrees(np.arctan2(arousal, valence)) % 360
    sector = np.searchsorted(starts, angle, side="right") - 1
    return np.where(np.hypot(valence, arousal) < NEUTRAL, EXPRESSIONS.index("Neutral"), np.array(classes)[sector])


def action_units(valence: np.ndarray, arousal: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Return (T, 12) int64 of 0 and 1, columns as in `table.ACTION_UNITS`, for (T,) values."""
    smile, frown, shut = valence > UP, valence < LOW, opening < SHUT
    on = {
        "AU1": arousal > UP,
        "AU2": arousal > HIGH,
        "AU4": arousal < LOW,
        "AU6": valence > HIGH,
        "AU7": smile & (arousal < -UP),  # eyes narrowed: cheeks up, upper lids down
        "AU10": frown & (opening > PARTED),  # the upper lip is up while the corners are down
        "AU12": smile,
        "AU15": frown,
        "AU23": shut & (valence < 0) & (arousal > UP),  # lips together, no smile, brows up
        "AU24": shut & frown,
        "AU25": opening > PARTED,
        "AU26": opening > DROPPED,
    }
    return np.stack([on[unit] for unit in ACTION_UNITS], axis=1).astype(np.int64)
