"""A published table beside this run's figures, each row marked with the data and weights behind it.

The data mark comes from the files: the demo's are marked in their container. Only the videos that models were fitted and scored on count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from affpipe.core.tasks.table import VA
from affpipe.plan.plan import Plan
from affpipe.plan.settings import PublishedRow
from affpipe.results import caveats
from affpipe.results.report import views
from affpipe.results.report.views import Entries
from affpipe.system.sheets import table_text

HEAD = (
    *("model", "label", "published_valence", "published_arousal", "published_mean", "published_test"),
    *("valence", "arousal", "mean", "within_video", "data", "weights", "fusion_inputs", *caveats.COLUMNS),
)


@dataclass(frozen=True)
class Row:
    """One system.

    Attributes:
        own: this run's ccc_valence, ccc_arousal, ccc and the mean within-video ccc; None without a validation stream.
        random: checkpoints with random weights behind it. inputs: streams that a fusion was fitted on, empty for a model of one stream.
        basis: the basis of `own`, see `affpipe.results.caveats`; None if no stream validates va.
    """

    model: str
    published: PublishedRow
    own: tuple[float, float, float, float] | None
    random: tuple[str, ...]
    inputs: str
    basis: Mapping[str, Any] | None

    @property
    def weights(self) -> str:
        return f"random: {', '.join(self.random)}" if self.random else "none random"


@dataclass(frozen=True)
class Table:
    """The table.

    Attributes:
        rows: one per system.
        data: "demo", "real" (no video is a rendered demo) or "mixed".
    """

    source: str
    data: str
    rows: tuple[Row, ...]

    @property
    def doubts(self) -> list[str]:
        """Clauses that say why figures of this run do not compare with the published ones; empty if no reason is known."""
        random = sum(bool(row.random) for row in self.rows)
        data = {"demo": "the data are a rendered demo", "mixed": "a part of the data is a rendered demo", "real": ""}[self.data]
        weights = f"random weights stand in for trained checkpoints in {random} of {len(self.rows)} rows" if random else ""
        return [why for why in (data, weights) if why]

    @property
    def caveats(self) -> list[str]:
        """Sentences on the figures of this run."""
        return caveats.brief({row.model: row.basis for row in self.rows if row.own})

    @property
    def coverage(self) -> list[tuple[str, str]]:
        """Streams and asked frames of each row."""
        return [caveats.coverage(row.basis) if row.basis else ("–", "–") for row in self.rows]

    def to_csv(self) -> str:
        """Return the table as CSV; CCC with four decimals, as papers give it."""
        rows = []
        for row in self.rows:
            p = row.published
            figures = [p.valence, p.arousal, p.mean, p.test, *(row.own or (None,) * 4)]
            cells = ["" if x is None or x != x else f"{x:z.4f}" for x in figures]
            rows.append([row.model, p.label, *cells, self.data, row.weights, row.inputs, *caveats.cells(row.basis)])
        return table_text(HEAD, rows)


def compare(plan: Plan, entries: Entries, scores: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Return the table that the settings name; None if they name none."""
    reference = plan.settings.reference
    if reference is None:
        return None
    random = views.random_weights(plan, entries)
    found = {model: scores.get(model, {}).get(VA.name, {}) for model in reference.rows}
    rows = [
        Row(m, row, _own(found[m]), tuple(sorted(random[m])), _inputs(plan, m), found[m].get("basis")) for m, row in reference.rows.items()
    ]
    return Table(reference.source, _data(plan, entries), tuple(rows))


def _own(score: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    return (score["ccc_valence"], score["ccc_arousal"], score["ccc"], score["within_video"]["ccc"]) if "ccc" in score else None


def _inputs(plan: Plan, model: str) -> str:
    if not plan.settings.models[model].members:
        return ""
    folds = plan.settings.cross_fit
    return f"cross-fitted, {folds} folds" if folds else "not cross-fitted"


def _data(plan: Plan, entries: Entries) -> str:
    marks = set()
    for item in plan.items("subject"):
        if item.row.fits and views.done(plan, entries, "frames", item):
            with plan.streams(item).open("frames") as stream:
                marks.add("demo" if stream.attributes["extra"]["video"]["synthetic"] else "real")
    return marks.pop() if len(marks) == 1 else "mixed"
