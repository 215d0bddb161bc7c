"""Table of the challenge's tasks, one row each. A further row is a further task: its kind gives folds, files, scores and pages.

Source: Aff-Wild2 as distributed for the 10th ABAW competition.
"""

from affpipe.core.tasks.classes import Classes
from affpipe.core.tasks.dimensions import Dimensions
from affpipe.core.tasks.task import Task
from affpipe.core.tasks.units import Units

EXPRESSIONS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
ACTION_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26")

VA = Dimensions(
    "va", "valence and arousal", -5, "VA_Estimation_Challenge", ranges={"valence": (-1, 1), "arousal": (-1, 1)}, short=("V", "A")
)
EXPR = Classes("expr", "expression", -1, "EXPR_Recognition_Challenge", column="expression", names=EXPRESSIONS)
AU = Units("au", "action units", -1, "AU_Detection_Challenge", names=ACTION_UNITS)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        VA,
        EXPR,
        AU,
    )
}
