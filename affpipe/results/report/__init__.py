"""Views of a run: its HTML page, its table beside a published one, and a picture of one stream's predictions.

All functions import what they need when called: a job that does not draw needs no drawing library.
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
    """Return the report of a run as one self-contained HTML page.

    Args:
        entries: for each stage and model, the outcome of its items.
        scores: for each model, and for late fusion, by task: `basis`, see `caveats`, and the result of `evaluate.score`, if any.
        late: by task the weights of late fusion and their figures. reference: the published table beside this run's figures.
    """
    from affpipe.results.report.page import render as page

    return page(plan, entries, scores, late or {}, reference)


def compare(plan: "Plan", entries: "Mapping[str, Mapping[str, Entry]]", scores: Mapping[str, Mapping[str, Any]]) -> "Table | None":
    """Return the published table that the settings name, beside this run's figures; None if they name none."""
    from affpipe.results.report.reference import compare as table

    return table(plan, entries, scores)


def trajectories(path: Path, title: str, tasks: "Tasks", times_s: "np.ndarray", found: "FramePredictions") -> None:
    """Write a PNG of the predictions over time (T,), a panel or two per task; frames that were not observed are marked."""
    from affpipe.results.report.image import trajectories as image

    image(path, title, tasks, times_s, found)
