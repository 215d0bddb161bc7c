"""Commands for predicting, scoring and submitting."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from affpipe.cli.console import print_table, progress, quiet_log
from affpipe.core.errors import InputError
from affpipe.core.plain import say
from affpipe.results import caveats, published
from affpipe.system import outputs
from affpipe.system.files import waits

app = typer.Typer()
NAMED = 3  # videos named in a line


@app.command("predict")
def predict_command(
    videos: Annotated[list[Path], typer.Argument(help="video files")],
    run: Annotated[Path, typer.Option(help="folder of a finished run, results/<name>")],
    out: Annotated[Path, typer.Option(help="folder for the predictions")],
    subject: Annotated[str, typer.Option(help="which face: largest, left or right")] = "largest",
) -> None:
    """Predict new videos with the models of a run: for each a table, a picture, and notes on it."""
    from affpipe.jobs.predict import Predicted, predict

    quiet_log()
    done: list[Predicted] = []
    try:
        with progress() as show:
            predict(videos, run, out, subject=subject, progress=show, done=done)
    finally:
        for video in done:
            say(video.table)
            for note in video.notes:
                say(f"  {note.kind}: {note.text}")
            for model, reason in video.without.items():
                say(f"  without {model}: {reason}")
        for name in sorted({name for video in done for name in video.random}):
            say(f"random weights had a part, so the predictions mean nothing: {name}")


@app.command("evaluate")
def evaluate_command(
    task: Annotated[str | None, typer.Option(help="va (the default), expr, au or one of your own; of a run: only this one")] = None,
    truth: Annotated[Path | None, typer.Option(help="folder of official text files")] = None,
    pred: Annotated[list[Path] | None, typer.Option(help="folder of official text files of the same names; two are compared")] = None,
    run: Annotated[Path | None, typer.Option(help="folder of a finished run: the streams that it scored")] = None,
    config: Annotated[list[Path] | None, typer.Option(help="with --truth: settings that name tasks of your own")] = None,
    json: Annotated[Path | None, typer.Option(help="write all figures here")] = None,
    csv: Annotated[Path | None, typer.Option(help="write figures and intervals here, one row each")] = None,
) -> None:
    """Score predictions by the rules of the challenge, pooled and within video, with intervals, beside constants."""
    from affpipe.core.tasks.table import VA
    from affpipe.plan.config import known_tasks
    from affpipe.results import evaluate
    from affpipe.results.publish import TABLE_HEAD, read_scores, read_table

    if (run is None) == (truth is None and not pred) or (truth is None) != (not pred):
        raise InputError("evaluate: want either --truth and --pred, or --run")
    if json is not None and csv is not None and os.path.realpath(json) == os.path.realpath(csv) and not waits(json):
        raise InputError(f"evaluate: want two files, got {json} for --json and for --csv; give each its own")
    real = [os.path.realpath(folder) for folder in pred or ()]
    if twice := [folder for i, folder in enumerate(pred or ()) if real[i] in real[:i]]:
        raise InputError(f"evaluate: want each system once, got --pred {twice[0]} again; give another folder, or leave it out")
    tasks = known_tasks(config or ()) if run is None else published.tasks(run)
    task = task or (next(iter(tasks)) if run is None else None)
    if task not in (None, *tasks):
        remedy = "" if run is not None or config else "; for a task of your own give --config SETTINGS"
        raise InputError(f"evaluate: want --task one of {', '.join(tasks)}, got {task!r}{remedy}")
    if run is not None:
        steady = published.steady(run)
        found = {name: {t: own for t, own in scores.items() if task in (None, t)} for name, scores in read_scores(run).items()}
        beside = read_table(run) if task in (None, VA.name) else []
        steady()
        scores = evaluate.scored(found)
        title = f"{run}: scored streams"
    else:
        beyond: dict[str, dict[str, int]] = {str(folder): {} for folder in pred}
        videos = {name: evaluate.folders(tasks[task], truth, Path(name), beyond=own) for name, own in beyond.items()}
        found = scores = {name: {task: {**evaluate.score(tasks[task], own), "beyond": beyond[name]}} for name, own in videos.items()}
        title, beside = f"against {truth}", []
    for name, told in tasks.items():
        systems = {system: own[name] for system, own in scores.items() if name in own}
        if systems:
            head, rows = told.table_head, evaluate.table(told, systems)
            if run is not None:
                head, rows = (*head, "asked"), _with_asked(rows, systems)
            print_table(f"{told.title}, {title}", head, rows)
        if run is not None:
            for sentence in caveats.sentences({system: own[name] for system, own in found.items() if name in own}):
                say(sentence)
    if run is None:
        _tell_beyond(beyond)
    if not scores:
        raise InputError(f"evaluate: want a scored system, got none{f' of task {task}' if task else ''} in {run}; see its failures.csv")
    if run is None and len(pred) == 2:
        _print_difference(evaluate.compare(tasks[task], *videos.values()), tasks[task].measure, *videos)
    if beside:
        print_table(f"{run}: beside the published table", TABLE_HEAD, beside)
    if json is not None:
        outputs.write_text(json, evaluate.to_json(found))
    if csv is not None:
        outputs.write_text(csv, evaluate.to_csv(scores, tasks))


@app.command()
def submit(
    template: Annotated[Path, typer.Option(help="the organisers' template; its header says which task")],
    out: Annotated[Path, typer.Option(help="folder for the files")],
    run: Annotated[Path | None, typer.Option(help="folder of a finished run, results/<name>")] = None,
    pred: Annotated[Path | None, typer.Option(help="instead of a run: folder of official text files, <stream>.txt")] = None,
    missing: Annotated[str, typer.Option(help="frames without a prediction: nearest, interpolate (dimensions) or default")] = "nearest",
    default: Annotated[str | None, typer.Option(help="values for --missing default, with commas; not given: neutral ones")] = None,
    constant: Annotated[list[str] | None, typer.Option(help="a video that may have one value throughout; may be repeated")] = None,
    config: Annotated[list[Path] | None, typer.Option(help="with --pred: settings that name tasks of your own")] = None,
) -> None:
    """Make the files that go to the organisers: predictions in the order of their template, checked and zipped."""
    from affpipe.plan.config import known_tasks
    from affpipe.results.submission import make_submission
    from affpipe.results.submission.template import task_of

    if (run is None) == (pred is None):
        raise InputError("submit: want either --run or --pred")
    task = task_of(template, known_tasks(config or ()) if run is None else published.tasks(run))
    folder, more = pred, {}
    if run is not None:
        more["steady"] = published.steady(run)
        folder, more["run"] = make_submission.of_run(run, task)
    values = None if default is None else make_submission.numbers(default)
    made = make_submission.make(task, template, folder, out, missing=missing, default=values, constant=constant or (), **more)
    for line in made.lines():
        say(line)
    say(made.archive)


@app.command("submit-check")
def submit_check(
    file: Annotated[Path, typer.Argument(help="all rows in one file, as the organisers want it")],
    template: Annotated[Path, typer.Option(help="the organisers' template; its header says which task")],
    constant: Annotated[list[str] | None, typer.Option(help="a video that may have one value throughout; may be repeated")] = None,
    config: Annotated[list[Path] | None, typer.Option(help="settings that name tasks of your own")] = None,
) -> None:
    """Check a file of predictions against the organisers' template, whoever made it."""
    from affpipe.plan.config import known_tasks
    from affpipe.results.submission import preflight
    from affpipe.results.submission.template import task_of

    warnings: list[preflight.Fault] = []
    faults = preflight.check(task_of(template, known_tasks(config or ())), file, template, constant=constant or (), warnings=warnings)
    for what, found in (("", faults), ("warning: ", warnings)):
        for fault in found[:20]:
            say(f"{what}{fault}")
        if len(found) > 20:
            say(f"{what}and {len(found) - 20} more")
    if faults:
        raise typer.Exit(2)
    say(f"{file}: fit to send")


def _with_asked(rows: list[tuple[str, ...]], systems: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of a table with the share of labelled frames that each system was asked at; rows after the systems are baselines."""

    shares = [caveats.share(own["basis"]["asked"]) if "basis" in own else "-" for own in systems.values()]
    return [(*row, share) for row, share in zip(rows, shares + ["-"] * (len(rows) - len(shares)), strict=True)]


def _tell_beyond(beyond: Mapping[str, Mapping[str, int]]) -> None:
    """Print a line for each folder whose predictions end before the annotations do."""
    for folder, rows in beyond.items():
        if rows:
            some = ", ".join(f"{name}: {count}" for name, count in list(rows.items())[:NAMED])
            more = f" and {len(rows) - NAMED} more videos" if len(rows) > NAMED else ""
            say(f"{folder}: {sum(rows.values())} annotated rows lie beyond the end of the prediction and do not count ({some}{more})")


def _print_difference(found: dict, measure: str, first: str, second: str) -> None:
    """Print in a line which of two systems is better on the same videos, and how sure that is."""
    own = found["pooled"][measure]
    sure = "no interval with fewer than two videos" if own["low"] is None else f"95 % interval {own['low']:z.3f} to {own['high']:z.3f}"
    say(f"{first} less {second}: {own['difference']:+z.3f} ({sure}; paired, {found['videos']} videos)")
