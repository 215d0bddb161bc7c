"""The results of a run: prediction tables, official text files, scores, report, and the record that lets others use the run."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from affpipe import __version__
from affpipe.core.errors import InputError
from affpipe.core.item import Item
from affpipe.core.tasks import metrics
from affpipe.core.tasks.metrics import Video
from affpipe.core.tasks.task import Task
from affpipe.data import annotations
from affpipe.models.targets import frame_labels
from affpipe.plan.plan import Plan
from affpipe.results import basis, caveats, evaluate, late_fusion, ledger, report
from affpipe.results.frames import frames_of
from affpipe.results.late_evidence import Evidence
from affpipe.results.late_fusion import Study
from affpipe.results.published import RECORD, replacing
from affpipe.results.runs import read_run
from affpipe.store.index import Entry
from affpipe.system import disk, jsonfile
from affpipe.system.sheets import table_text

LATE = "late_fusion"  # its name among the scored systems, and its folder
Truth = dict[str, tuple[np.ndarray, np.ndarray]]  # task -> labels (T, K), known (T,) bool
Counts = dict[str, Counter[str]]  # stream -> its labelled frames by kind, see `basis`


def publish(plan: Plan, entries: dict[str, dict[str, Entry]]) -> dict[str, Any]:
    """Write `<results>/<name>` from the store and return its summary. Files of an earlier run there are removed, others stay.

    The files are predictions/<stream>.csv and official/<task>/<stream>.txt of the published model, models/<model>/<task>/<stream>.txt of
    the others, scores.json, scores.csv and by_video/<task>.csv, failures.csv, report.html, files.txt, run.json; also late_fusion/ and
    table.csv if the settings name them. The scores of late fusion are those of predictions by weights that never saw the video.

    Args:
        entries: for every stage, the outcome of its items.
    """
    with replacing(Path(plan.settings.results) / plan.settings.name) as folder:
        return _write(plan, entries, folder)


def _write(plan: Plan, entries: dict[str, dict[str, Entry]], folder: Path) -> dict[str, Any]:
    """Write all files to an empty folder and return the summary."""
    usual, source = _majority(plan, entries["labels"]), {row.stream_id: plan.sources[row.video_id] for row in plan.rows}
    labelled, failures = _labelled(plan, entries["labels"]), ledger.of_run(plan, entries)
    found: dict[str, dict[str, Any]] = {model: {} for model in plan.settings.models}
    published: dict[str, dict[str, Video]] = {}
    for model in sorted(plan.settings.models, key=lambda name: name != plan.settings.publish):  # first, as others are compared with it
        validation, counts = _write_model(plan, model, entries, folder)
        published = published or validation
        for task in (task for task, streams in labelled.items() if streams):
            own = {"basis": basis.of(plan, model, task, labelled[task], counts[task], failures)}
            if _any(validation[task]):
                own |= evaluate.score(plan.tasks[task], validation[task], majority=usual.get(task), source=source)
                own["less_published"] = (
                    _less(plan.tasks[task], validation[task], published[task], source) if model != plan.settings.publish else None
                )
            found[model][task] = own
    studies: dict[str, Study] = {}
    for task in plan.tasks if plan.settings.late_fusion else ():
        studies[task], videos, counted = _late_fusion(plan, task, entries, folder / LATE / task)
        if videos:
            own = {"basis": basis.of(plan, LATE, task, labelled[task], counted, failures)}
            found.setdefault(LATE, {})[task] = own | evaluate.score(plan.tasks[task], videos, majority=usual.get(task), source=source)
    scores, table = evaluate.scored(found), report.compare(plan, entries, found)
    disk.write_text(folder / "scores.json", evaluate.to_json(found))
    disk.write_text(folder / "scores.csv", evaluate.to_csv(scores, plan.tasks))
    for task in plan.tasks:
        systems = {system: own[task] for system, own in scores.items() if task in own}
        disk.write_text(folder / "by_video" / f"{task}.csv", evaluate.per_video_csv(plan.tasks[task], systems))
    disk.write_text(folder / ledger.NAME, ledger.text(failures))
    ledger.check_complete(plan, {path.stem for path in (folder / "predictions").glob("*.csv")}, failures)
    if table is not None:
        disk.write_text(folder / "table.csv", table.to_csv())
    disk.write_text(folder / "report.html", report.render(plan, entries, found, studies, table))
    disk.write_text(folder / RECORD, json.dumps(record(plan), indent=1) + "\n")
    done = [i for i, e in entries[plan.settings.publish].items() if e.status == "done"]
    return {"run": plan.run, "streams": done, "without": sorted(set(entries[plan.settings.publish]) - set(done)), "scores": scores}


def record(plan: Plan) -> dict[str, Any]:
    """Return what `affpipe predict --run` and `evaluate --run` need of a run; `workspace` leads from the results to where it ran."""
    models = {m: plan.key(m) for m in plan.settings.models}
    settings = plan.settings.model_dump(mode="json")
    workspace = os.path.relpath(Path.cwd(), Path(plan.settings.results) / plan.settings.name)
    return {"affpipe": __version__, "run": plan.run, "settings": settings, "models": models, "workspace": workspace}


def read_scores(folder: Path) -> dict[str, Any]:
    """Read the scores of a run's models on its validation streams; one that predicted none of them has its basis alone, see `caveats`."""
    read_run(folder)
    try:
        return jsonfile.read(folder / "scores.json")
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'scores.json'}: want the scores of a run, got {error}; run the workflow again") from None


def read_table(folder: Path) -> list[tuple[str, ...]]:
    """Read the rows of `table.csv` of a run, short enough for a terminal; none if its settings name no published table."""
    path = folder / "table.csv"
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))) if path.exists() else ()
    names = ("label", *(f"published_{name}" for name in ("valence", "arousal", "mean", "test")))
    names += ("valence", "arousal", "mean", "within_video")
    return [(*(row[name] or "-" for name in names), _asked(row), row["data"], row["weights"].split(":")[0]) for row in rows]


def _asked(row: Mapping[str, str]) -> str:
    """Return the share of asked frames; a table of an older version lacks it."""
    return caveats.share(float(row["asked"]) if row.get("asked") else None)


TABLE_HEAD = ("published:", "V", "A", "mean", "test", "run: V", "A", "mean", "within", "asked", "data", "weights")


def _any(videos: dict[str, Video]) -> bool:
    return any(valid.any() for *_, valid in videos.values())


def _less(task: Task, videos: dict[str, Video], published: dict[str, Video], source: dict[str, str]) -> dict[str, float] | None:
    """Return the measure less that of the published model, on the `streams` that both have: difference, low, high; see `compare`."""
    both = [id for id in videos if id in published]
    if not _any({id: videos[id] for id in both}):
        return None
    found = evaluate.compare(task, {id: videos[id] for id in both}, {id: published[id] for id in both}, source=source)
    return {key: found["pooled"][task.measure][key] for key in ("difference", "low", "high")} | {"streams": found["videos"]}


def _truth(plan: Plan, entries: dict[str, Entry], item: Item, partition: str) -> Truth:
    """Return labels of a stream, task -> (T, K) and (T,) bool, for the tasks for which it is in a partition; none if unreadable."""
    tasks = item.row.labelled(plan.tasks, partition)
    if not tasks or entries[item.id].status != "done":
        return {}
    found = frame_labels(plan.streams(item), plan.tasks)
    return {task: found[task] for task in tasks}


def _labelled(plan: Plan, entries: dict[str, Entry]) -> dict[str, dict[str, int | None]]:
    """Return task -> stream that is scored for it -> its number of labelled frames, None if the labels could not be read."""
    out: dict[str, dict[str, int | None]] = {task: {} for task in plan.tasks}
    for item in plan.items("labels"):
        found = _truth(plan, entries, item, plan.scored)
        for task in item.row.labelled(plan.tasks, plan.scored):
            out[task][item.id] = int(found[task][1].sum()) if task in found else None
    return out


def _majority(plan: Plan, entries: dict[str, Entry]) -> dict[str, np.ndarray]:
    """Return the most frequent label of a training frame: a row (K,) for each task that has one."""
    counts: dict[str, np.ndarray] = {}
    for item in plan.items("labels"):
        for task, (values, known) in _truth(plan, entries, item, "train").items():
            if "majority" in plan.tasks[task].baselines:
                counts[task] = counts.get(task, 0) + metrics.label_counts(plan.tasks[task], values, known)
    return {task: metrics.majority_row(found) for task, found in counts.items() if found.sum(axis=1).all()}


def _write_model(
    plan: Plan, model: str, entries: dict[str, dict[str, Entry]], folder: Path
) -> tuple[dict[str, dict[str, Video]], dict[str, Counts]]:
    """Write a model's predictions; return, task -> stream -> each, truth and prediction of the validation streams, and their counts."""
    published, tasks = model == plan.settings.publish, plan.tasks
    official = folder / "official" if published else folder / "models" / model
    validation: dict[str, dict[str, Video]] = {task: {} for task in tasks}
    counts: dict[str, Counts] = {task: {} for task in tasks}
    for item in plan.items(model):
        if entries[model][item.id].status != "done":
            continue
        axis, found = frames_of(plan, model, item)
        for task in tasks:
            annotations.write_labels(tasks[task], official / task / f"{item.id}.txt", found.values[task], found.valid)
        if published:
            table = found.values, found.chances, found.source, found.valid
            annotations.write_predictions(folder / "predictions" / f"{item.id}.csv", tasks, axis.times_s, *table)
        if found.valid.any():
            for task, (truth, known) in _truth(plan, entries["labels"], item, plan.scored).items():
                validation[task][item.id] = (truth, found.values[task], known)
                counts[task][item.id] = basis.count(known, found.source)
    return validation, counts


def _late_fusion(plan: Plan, name: str, entries: dict[str, dict[str, Entry]], folder: Path) -> tuple[Study, dict[str, Video], Counts]:
    """Fit late fusion of a task and write it.

    The files are weights.json, report.csv, and predictions/<stream>.txt: for a scored stream the prediction by weights that never saw its
    video, for another one that by the weights fitted on all scored streams. Each stream is read twice, so that memory does not grow with
    their number.

    Returns:
        The study, and the scored streams predicted by weights that never saw their video, and counts.
    """
    late, task = plan.settings.late_fusion, plan.tasks[name]
    names = list(basis.late_members(plan))
    evidence: dict[str, list[Evidence]] = {}
    items = [i for i in plan.items(names[0]) if any(entries[system][i.id].status == "done" for system in names)]
    for item in items:
        truth = _truth(plan, entries["labels"], item, plan.scored).get(name)
        if truth:
            blends, given, _ = _saved(plan, entries, names, item, task)
            evidence.setdefault(plan.sources[item.row.video_id], []).append(Evidence.of(task, *truth, blends, given))
    search = late_fusion.Search(late.largest, late.step, late.draws, plan.settings.seed)
    study = late_fusion.study(task, names, evidence, search)
    validation, counts = {}, {}
    for item in items:
        weights = study.weights_for(plan.sources[item.row.video_id])
        if weights is None:
            continue
        blends, given, sources = _saved(plan, entries, names, item, task)
        values, valid = late_fusion.fuse(task, weights, blends, given)
        annotations.write_labels(task, folder / "predictions" / f"{item.id}.txt", values, valid)
        truth = _truth(plan, entries["labels"], item, plan.scored).get(name)
        if truth and valid.any():
            validation[item.id] = (truth[0], values, truth[1] & valid)
            counts[item.id] = basis.count(truth[1] & valid, late_fusion.worst(weights, sources, given))
    disk.write_text(folder / "weights.json", json.dumps(_weights(study), indent=1) + "\n")
    disk.write_text(folder / "report.csv", _worth(study))
    return study, validation, counts


def _saved(
    plan: Plan, entries: dict[str, dict[str, Entry]], names: list[str], item: Item, task: Task
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what is averaged of a stream's predictions by each system.

    Returns:
        (K, T, B) values, zero where a system has none, (K, T) bool, and (K, T) uint8 sources.
    """
    found = {name: frames_of(plan, name, item)[1] for name in names if entries[name][item.id].status == "done"}
    own = {name: task.blend(f.values[task.name], f.chances.get(task.name), f.thresholds[task.name]) for name, f in found.items()}
    shape = next(iter(own.values())).shape
    blends, given = np.zeros((len(names), *shape)), np.zeros((len(names), shape[0]), bool)
    sources = np.zeros((len(names), shape[0]), np.uint8)
    for k, name in enumerate(names):
        if name in found:
            blends[k], given[k], sources[k] = own[name], found[name].valid, found[name].source
    return blends, given, sources


def _weights(study: Study) -> dict[str, Any]:
    """Return weights by channel and system."""

    def named(weights: np.ndarray) -> dict[str, dict[str, float]]:
        rows = zip(study.task.channels, weights, strict=True)
        return {channel: {n: float(w) for n, w in zip(study.names, row, strict=True)} for channel, row in rows}

    halves = [{"videos": half.videos, "weights_of_the_other_half": named(half.weights), "single": half.single} for half in study.halves]
    return {"outside_validation": {"weights": named(study.weights), "single": study.single}, "validation": halves}


def _worth(study: Study) -> str:
    """Return CSV of the figures on the scored streams: fitted on the other half, and optimistic."""
    figures = {("late fusion", "other half"): study.honest, ("best single system", "other half"): study.honest_single}
    figures |= {("late fusion", "same videos: optimistic"): study.optimistic}
    figures |= {("best single system", "same videos: optimistic"): study.optimistic_single}
    rows = [[*what, *(repr(x) for x in scores.values())] for what, scores in figures.items() if scores is not None]
    return table_text(["system", "fitted_on", *study.optimistic], rows)
