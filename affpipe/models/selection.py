"""Scores of a model at its own rate, from raw outputs. They choose the epoch, a unit's threshold, and the fold of a target.

Labelled rows of all streams count as one sequence, as frames do in the challenge's measures. No threshold is searched to choose the epoch:
there a unit is present from 0.5 on.
Shapes: N rows, O outputs and K label columns of all tasks one after another, see `slices`; labels are on the scale of outputs.
"""

import numpy as np

from affpipe.core.tasks import metrics
from affpipe.core.tasks.task import Tasks, slices


def scores(tasks: Tasks, raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Return the challenge's measure of each task that has a labelled row.

    Args:
        raw: (N, O). target: (N, K), as `row_labels` pools it for rows that cover several frames. known: (N, tasks) bool.
    """
    return {name: own[tasks[name].measure] for name, own in _figures(tasks, raw, target, known).items()}


def by_output(tasks: Tasks, raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> list[float]:
    """Return for each output the score of the target to which it belongs, (O,): see `Task.output_figures`.

    It is 0 if a task has no labelled row, or a unit is in no truth and no prediction.
    """
    figures, out = _figures(tasks, raw, target, known), []
    for name, task in tasks.items():
        own = figures.get(name, {})
        out += [0.0 if np.isnan(own.get(key, np.nan)) else own[key] for key in task.output_figures]
    return out


def thresholds(tasks: Tasks, raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> list[float] | None:
    """Return the threshold of the best F1 on these rows of each unit, one task after another; None for tasks without units."""
    at, of = slices(tasks), slices(tasks, "columns")
    found = [task.thresholds(raw[:, at[name]], target[:, of[name]], known[:, i]) for i, (name, task) in enumerate(tasks.items())]
    return np.concatenate(found).tolist() or None


def _figures(tasks: Tasks, raw: np.ndarray, target: np.ndarray, known: np.ndarray) -> dict[str, dict[str, float]]:
    at, of, out = slices(tasks), slices(tasks, "columns"), {}
    for i, (name, task) in enumerate(tasks.items()):
        if known[:, i].any():
            out[name] = metrics.scores(task, task.rounded(target[:, of[name]]), task.plain(raw[:, at[name]]), known[:, i])
    return out
