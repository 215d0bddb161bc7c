"""A model judged at its own rate, from raw outputs: what chooses the epoch, a unit's threshold, and the fold of a target.

Rows with labels of all streams count as one sequence, as frames do in the challenge's measures. A threshold is not searched for the choice
of the epoch: there a unit is present from one half on.
Shapes: N rows, O outputs and K label columns of all tasks one after another, see `tasks.slices`.
"""

from collections.abc import Sequence

import numpy as np

from affpipe.core.tasks import decoding, metrics
from affpipe.core.tasks.task import TASKS, slices


def scores(tasks: Sequence[str], raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """The challenge's measure of each task that has a labelled row.

    Args:
        raw: (N, O); target: (N, K), of rows that cover several frames as `labels` gives them; known: (N, tasks) bool.
    """
    return {task: whole[TASKS[task].measure] for task, whole in _figures(tasks, raw, target, known).items()}


def by_output(tasks: Sequence[str], raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> list[float]:
    """(O,) the score of the target that each output serves: a CCC (va), the macro F1 for every class (expr), the unit's own F1 (au).

    0 where a task has no labelled row, or a unit is in no truth and no prediction.
    """
    figures, out = _figures(tasks, raw, target, known), []
    for task in tasks:
        own, names = figures.get(task, {}), TASKS[task].outputs
        keys = {"va": [f"ccc_{n}" for n in names], "expr": ["f1"] * len(names), "au": [f"f1_{n}" for n in names]}[task]
        out += [0.0 if np.isnan(own.get(key, np.nan)) else own[key] for key in keys]
    return out


def thresholds(tasks: Sequence[str], raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> list[float] | None:
    """(12,) each unit's threshold of the best F1 on these rows; None where the tasks are without units."""
    if "au" not in tasks:
        return None
    chances = decoding.sigmoid(raw[:, slices(tasks)["au"]])
    return decoding.best_thresholds(chances, target[:, slices(tasks, "columns")["au"]], known[:, tasks.index("au")]).tolist()


def _figures(tasks: Sequence[str], raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> dict[str, dict[str, float]]:
    at, of, out = slices(tasks), slices(tasks, "columns"), {}
    for i, task in enumerate(tasks):
        if known[:, i].any():
            out[task] = metrics.scores(task, _truth(task, target[:, of[task]]), _plain(task, raw[:, at[task]]), known[:, i])
    return out


def _truth(task: str, target: np.ndarray) -> np.ndarray:
    return (target >= 0.5).astype(np.float64) if task == "au" else target  # a row's label is the share of its frames


def _plain(task: str, raw: np.ndarray) -> np.ndarray:
    """Labels of outputs without any setting: as they are, the largest logit, units from one half on."""
    if task == "va":
        return raw
    return raw.argmax(axis=1)[:, None] if task == "expr" else (raw >= 0).astype(np.float64)
