"""What a run looks like: one HTML page of a run, its table beside a published one, and a picture of one stream's predictions.

All functions import what they need when called: the drawing library is of no use to a job that does not draw.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from affpipe.core.tasks.task import Tasks
    from affpipe.plan.plan import Plan
    from affpipe.results.frames import FramePredictions
    from affpipe.results.late_fusion import Study
    from affpipe.results.report.reference import Table
    from affpipe.store.index import Entry


def render(
    plan: "Plan",
    entries: "Mapping[str, Mapping[str, Entry]]",
    scores: Mapping[str, Mapping[str, Any]],
    late: "Mapping[str, Study] | None" = None,
    reference: "Table | None" = None,
) -> str:
    """The report of a run as one HTML page that needs nothing else.

    Args:
        entries: for each stage and model, what became of its items.
        scores: for each model, and for late fusion, by task: `basis`, see `caveats`, and what `evaluate.score` gave, if anything.
        late: by task the weights of late fusion and what they are worth. reference: the published table beside this run's figures.
    """
    from affpipe.results.report.page import render as page

    return page(plan, entries, scores, late or {}, reference)


def compare(plan: "Plan", entries: "Mapping[str, Mapping[str, Entry]]", scores: Mapping[str, Mapping[str, Any]]) -> "Table | None":
    """The published table that the settings name, beside this run's figures; None if they name none."""
    from affpipe.results.report.reference import compare as table

    return table(plan, entries, scores)


def trajectories(path: Path, title: str, tasks: "Tasks", times_s: "np.ndarray", found: "FramePredictions") -> None:
    """Write a PNG of what was predicted over time (T,), a panel or two a task; frames that were not observed are marked."""
    from affpipe.results.report.image import trajectories as image

    image(path, title, tasks, times_s, found)
