"""The report of a run: data collected from plan and store, drawn, and put into the template.

The template escapes everything that users named.
"""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import yaml
from markupsafe import Markup

from affpipe import __version__
from affpipe.data.manifest import PARTITIONS
from affpipe.plan.plan import Plan
from affpipe.results import ledger
from affpipe.results.late_fusion import Study
from affpipe.results.report import figures, folds, one_stream, palette, rulegraph, score_tables, series, sound, timeline, views
from affpipe.results.report.reference import Table
from affpipe.results.report.views import Entries, Line

HERE = Path(__file__).parent
OPEN = 6  # streams whose figures are unfolded when the page opens
SHARED = {  # whether videos are in train and in validation -> where they are, and what that means
    True: ("In train and in validation", "The scores of %s validation streams are of what models were fitted on."),
    False: ("In test and in train or validation", "A score of %s test streams says nothing of videos that are new."),
}


def render(
    plan: Plan, entries: Entries, scores: Mapping[str, Mapping[str, Any]], late: Mapping[str, Study], reference: Table | None = None
) -> str:
    """Return the page, see `affpipe.results.report.render`."""
    tasks = plan.tasks
    measure = next(iter(tasks.values())).measure_title if len(tasks) == 1 else "score"
    records = {model: views.fit_record(plan, model) for model in plan.settings.models}
    lines = views.lines(plan, entries)
    random, versions = _origins(plan, entries, records)
    drawn = _streams(plan, entries)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["link"] = lambda id: f"predictions/{quote(id)}.csv"
    environment.filters["figure"] = lambda value, digits=3: "–" if value is None or value != value else f"{value:z.{digits}f}"
    environment.filters["signed"] = lambda value: f"{value:+z.3f}".replace("-", series.MINUS)
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
        overlaps=[(*SHARED[both], [found for found in plan.overlaps if found.fitted_on == both]) for both in SHARED],
        missing=ledger.alike(plan, ledger.of_run(plan, entries)),
        sound=sound.table(plan, entries),
        tasks=list(tasks.values()),
        parts=score_tables.parts(plan, entries, scores),
        folds=folds.table(plan),
        late=late,
        late_basis={task: own["basis"] for task, own in scores.get("late_fusion", {}).items()},
        reference=reference,
        records=[(record, figures.learning(record, measure)) for record in records.values()],
        streams=drawn,
        looked="subject" in plan.names,
        strips={name for view, _ in drawn for name in view.strips},
        videos={task: own["videos"] for task, own in scores.get(plan.settings.publish, {}).items() if "videos" in own},
        others=[line for line in lines if {line.own.get(task, line.partition) for task in tasks} & {"test", "predict"}],
        colours={"dimensions": palette.curves, "classes": palette.classes},
        scored=plan.scored,
        experts=_experts(drawn),
        graph=_graph(plan, entries),
        points=series.POINTS,
        unfolded=OPEN,
        yaml=yaml.safe_dump(plan.settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )


def _origins(plan: Plan, entries: Entries, records: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the checkpoints with random weights behind any model's streams, and the versions that wrote them, package -> versions."""
    random = {name for record in records.values() for name in record["random"]}
    versions: dict[str, set[str]] = {"affpipe": set()}
    for attributes in views.model_streams(plan, entries):
        random |= set(attributes["random"])
        versions["affpipe"].add(attributes["affpipe"])
        for package, version in attributes["versions"].items():
            versions.setdefault(package, set()).add(version)
    return sorted(random), {package: sorted(found) for package, found in versions.items()}


def _totals(lines: list[Line], plan: Plan) -> dict[str, Any]:
    """Return counts for the summary: of the run, and of each partition that has streams."""
    parts = []
    for partition in PARTITIONS:
        own = [line for line in lines if line.partition == partition]
        if own:
            seconds = sum(line.seconds for line in own)
            parts.append((partition, len(own), sum(line.predicted for line in own), sum(line.frames for line in own), seconds))
    streams = {line.id: line for line in lines}
    by_video = {row.video_id: streams[row.stream_id] for row in plan.rows}
    frames, seconds = sum(line.frames for line in by_video.values()), sum(line.seconds for line in by_video.values())
    whole = {"videos": len(by_video), "streams": len(lines), "frames": frames, "seconds": seconds}
    return whole | {"parts": parts, "by_task": _by_task(plan), "apart": any(line.own for line in lines)}


def _by_task(plan: Plan) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return for each partition and each task of the run the streams, and those of them with an annotation."""
    out = []
    for partition in PARTITIONS:
        own = {task: [row for row in plan.rows if row.partition_of(task) == partition] for task in plan.tasks}
        if any(own.values()):
            out.append((partition, [(len(rows), sum(task in row.labels for row in rows)) for task, rows in own.items()]))
    return out


def _streams(plan: Plan, entries: Entries) -> list[tuple[one_stream.View, Markup]]:
    """Draw the validation streams, of at least one task, that the published model predicted."""
    out = []
    for item in plan.items(plan.settings.publish):
        if one_stream.validated(plan, item) and views.done(plan, entries, plan.settings.publish, item):
            view = one_stream.view(plan, entries, item)
            out.append((view, timeline.stream(view, plan.tasks)))
    return out


def _experts(drawn: list[tuple[one_stream.View, Markup]]) -> list[tuple[str, str]]:
    """Return names and colours for the legend of the gate; the experts of the first stream are those of all."""
    gate = next((view.gate for view, _ in drawn if view.gate is not None), None)
    return list(zip(gate.experts, palette.expert_colours(gate.experts), strict=True)) if gate else []


def _graph(plan: Plan, entries: Entries) -> Markup:
    settings = plan.settings
    kinds = {name: "stage" for name in plan.names} | {name: "feature" for name in settings.features}
    kinds |= {name: "model published" if name == settings.publish else "model" for name in settings.models}
    levels = {name: {"label": "annotated stream"}.get(level := plan.level(name), level) for name in plan.names}
    notes = {name: f"per {level}" for name, level in levels.items()} | {name: f.encoder for name, f in settings.features.items()}
    notes |= {name: model.kind for name, model in settings.models.items()}
    counts = {name: dict(Counter(e.status for e in entries[name].values()).most_common()) for name in plan.names}
    reads = {name: plan.learns(name) if name in settings.models else plan.reads(name) for name in plan.names}
    return rulegraph.draw(reads, kinds, notes, counts, taught=("labels",))


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
