"""The report of a run: collect from plan and store, draw, fill the template. Everything that users named is escaped by the template."""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import yaml
from markupsafe import Markup

from affpipe import __version__, evaluate
from affpipe.latefusion import Study
from affpipe.manifest import PARTITIONS
from affpipe.plan import Plan
from affpipe.report import figures, rulegraph, series, views
from affpipe.report.reference import Table
from affpipe.report.views import Entries, Line

HERE = Path(__file__).parent
OPEN = 6  # streams whose figures are unfolded when the page opens


def render(
    plan: Plan, entries: Entries, scores: Mapping[str, Mapping[str, Any]], late: Study | None = None, reference: Table | None = None
) -> str:
    """See `affpipe.report.render`."""
    scores = {system: own["va"] for system, own in scores.items() if "va" in own}
    records = {model: views.fit_record(plan, model) for model in plan.settings.models}
    lines = views.lines(plan, entries)
    random, versions = _origins(plan, entries, records)
    streams = _streams(plan, entries)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["link"] = lambda id: f"predictions/{quote(id)}.csv"
    environment.filters["figure"] = lambda value, digits=3: "–" if value is None or value != value else f"{value:.{digits}f}"
    environment.filters["duration"] = _duration
    return environment.get_template("page.html.jinja").render(
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        settings=plan.settings,
        run=plan.run,
        date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        version=__version__,
        random=random,
        versions=versions,
        lines=lines,
        totals=_totals(lines, plan),
        missing=views.missing(plan, entries),
        scores=scores,
        table=_score_table(scores),
        head=evaluate.TABLE_HEAD["va"],
        published=scores.get(plan.settings.publish),
        late=late,
        reference=reference,
        records=[(record, figures.learning(record)) for record in records.values()],
        streams=streams,
        experts=_experts(streams),
        graph=_graph(plan, entries),
        points=series.POINTS,
        unfolded=OPEN,
        yaml=yaml.safe_dump(plan.settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )


def _origins(plan: Plan, entries: Entries, records: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], dict[str, list[str]]]:
    """Checkpoints with random weights behind any model's streams, and the versions that wrote them, package -> versions."""
    random = {name for record in records.values() for name in record["random"]}
    versions: dict[str, set[str]] = {"affpipe": set()}
    for attributes in views.model_streams(plan, entries):
        random |= set(attributes["random"])
        versions["affpipe"].add(attributes["affpipe"])
        for package, version in attributes["versions"].items():
            versions.setdefault(package, set()).add(version)
    return sorted(random), {package: sorted(found) for package, found in versions.items()}


def _totals(lines: list[Line], plan: Plan) -> dict[str, Any]:
    """Counts for the summary: of the run, and of each partition that has streams."""
    parts = []
    for partition in PARTITIONS:
        own = [line for line in lines if line.partition == partition]
        if own:
            seconds = sum(line.seconds for line in own)
            parts.append((partition, len(own), sum(line.predicted for line in own), sum(line.frames for line in own), seconds))
    streams = {line.id: line for line in lines}
    by_video = {row.video_id: streams[row.stream_id] for row in plan.rows}
    frames, seconds = sum(line.frames for line in by_video.values()), sum(line.seconds for line in by_video.values())
    return {"videos": len(by_video), "streams": len(lines), "frames": frames, "seconds": seconds, "parts": parts}


def _score_table(scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[tuple[str, ...], int | None, int | None]]:
    """Rows of text with the numbers of validation streams and frames; the constant's row has none of its own."""
    if not scores:
        return []
    sizes = [(len(s["videos"]) + len(s["left_out"]), s["frames"]) for s in scores.values()]
    rows = [tuple("–" if cell == "nan" else cell for cell in row) for row in evaluate.table("va", scores)]
    return [(row, *size) for row, size in zip(rows, [*sizes, (None, None)], strict=True)]


def _streams(plan: Plan, entries: Entries) -> list[tuple[views.View, Markup]]:
    """Validation streams that the published model predicted, with their figures."""
    out = []
    for item in plan.items(plan.settings.publish):
        if item.row.partition == "validation" and views.done(plan, entries, plan.settings.publish, item):
            view = views.view(plan, entries, item)
            out.append((view, figures.stream(view)))
    return out


def _experts(streams: list[tuple[views.View, Markup]]) -> list[tuple[str, str]]:
    """Names and colours for the legend of the gate; the experts of the first stream are those of all."""
    gate = next((view.gate for view, _ in streams if view.gate is not None), None)
    return list(zip(gate.experts, figures.expert_colours(gate.experts), strict=True)) if gate else []


def _graph(plan: Plan, entries: Entries) -> Markup:
    settings = plan.settings
    kinds = {name: "stage" for name in plan.names} | {name: "feature" for name in settings.features}
    kinds |= {name: "model published" if name == settings.publish else "model" for name in settings.models}
    notes = {name: f"per {plan.level(name)}" for name in plan.names} | {name: f.encoder for name, f in settings.features.items()}
    notes |= {name: model.kind for name, model in settings.models.items()}
    counts = {name: dict(Counter(e.status for e in entries[name].values()).most_common()) for name in plan.names}
    return rulegraph.draw({name: plan.reads(name) for name in plan.names}, kinds, notes, counts)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
