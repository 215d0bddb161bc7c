"""The command `affpipe`. Heavy imports sit inside the commands, so that help and planning stay quick."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from affpipe import __version__
from affpipe.errors import AffpipeError, InputError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__.split(".")[0] + ".")
demo = typer.Typer(no_args_is_help=True, help="Data for a first run.")
weights_app = typer.Typer(no_args_is_help=True, help="Checkpoints: tiny random ones, or the published ones.")
cache_app = typer.Typer(no_args_is_help=True, help="The store of streams and models.")
faces_app = typer.Typer(no_args_is_help=True, help="Whose face is meant.")
mouth_app = typer.Typer(no_args_is_help=True, help="The mouth-opening filter by itself.")
work = typer.Typer(no_args_is_help=True, help="Jobs that the workflow starts.")
for name, sub in {"demo": demo, "weights": weights_app, "cache": cache_app, "faces": faces_app, "mouth": mouth_app, "job": work}.items():
    app.add_typer(sub, name=name)

ConfigOption = Annotated[list[Path], typer.Option("--config", help="settings file; several are laid over each other")]
DEFAULT_CONFIG = [Path("config.yaml")]


def main() -> None:
    """Run the command line; an error that the user can mend is one line and exit status 2."""
    try:
        app()
    except AffpipeError as error:
        sys.exit(_fail(error))
    except KeyboardInterrupt:
        print("affpipe: stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


def _fail(error: AffpipeError) -> int:
    print(f"affpipe: {error}", file=sys.stderr)
    return 2


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    from affpipe.console import start_log

    if version:
        print(__version__)
        raise typer.Exit
    start_log()


# ---- for people -------------------------------------------------------------------------------------------------------------------------


@app.command()
def predict(
    videos: Annotated[list[Path], typer.Argument(help="video files")],
    run: Annotated[Path, typer.Option(help="folder of a finished run, results/<name>")],
    out: Annotated[Path, typer.Option(help="folder for the predictions")],
    subject: Annotated[str, typer.Option(help="which face: largest, left or right")] = "largest",
) -> None:
    """Predict new videos with the models of a run: a table and a picture each."""
    from affpipe.console import progress, quiet_log
    from affpipe.newvideo import Predicted
    from affpipe.newvideo import predict as go

    quiet_log()
    done: list[Predicted] = []
    try:
        with progress() as show:
            go(videos, run, out, subject=subject, progress=show, done=done)
    finally:
        for video in done:
            print(video.table)
            for model, reason in video.without.items():
                print(f"  without {model}: {reason}")
        for name in sorted({name for video in done for name in video.random}):
            print(f"random weights had a part, so the predictions mean nothing: {name}")


@app.command()
def evaluate(
    task: Annotated[str | None, typer.Option(help="va (the default), expr or au; of a run: only this one")] = None,
    truth: Annotated[Path | None, typer.Option(help="folder of official text files")] = None,
    pred: Annotated[list[Path] | None, typer.Option(help="folder of official text files of the same names; two are compared")] = None,
    run: Annotated[Path | None, typer.Option(help="folder of a finished run: its validation streams")] = None,
    json: Annotated[Path | None, typer.Option(help="write all figures here")] = None,
    csv: Annotated[Path | None, typer.Option(help="write figures and intervals here, a row each")] = None,
) -> None:
    """Score predictions by the rules of the challenge, pooled and within video, with intervals, beside constants."""
    from affpipe import evaluate as scoring
    from affpipe import store
    from affpipe.publish import TABLE_HEAD, read_scores, read_table
    from affpipe.tasks import TASKS

    if task is not None and task not in TASKS:
        raise InputError(f"evaluate: want --task one of {', '.join(TASKS)}, got {task!r}")
    if (run is None) == (truth is None and not pred) or (truth is None) != (not pred):
        raise InputError("evaluate: want either --truth and --pred, or --run")
    if run is not None:
        scores = {name: {t: own for t, own in found.items() if task in (None, t)} for name, found in read_scores(run).items()}
        title = f"{run}: validation streams"
    else:
        task = task or "va"
        videos = {str(folder): scoring.folders(task, truth, folder) for folder in pred}
        scores, title = {name: {task: scoring.score(task, own)} for name, own in videos.items()}, f"against {truth}"
    for name in TASKS:
        systems = {system: found[name] for system, found in scores.items() if name in found}
        if systems:
            _print_table(f"{TASKS[name].title}, {title}", scoring.TABLE_HEAD[name], scoring.table(name, systems))
    if not any(scores.values()):
        raise InputError(f"evaluate: want a scored system, got none{f' of task {task}' if task else ''} in {run}; see its failures.csv")
    if run is None and len(pred) == 2:
        _print_difference(scoring.compare(task, *videos.values()), task, *videos)
    published = read_table(run) if run is not None and task in (None, "va") else []
    if published:
        _print_table(f"{run}: beside the published table", TABLE_HEAD, published)
    if json is not None:
        store.write_text(json, scoring.to_json(scores))
    if csv is not None:
        store.write_text(csv, scoring.to_csv(scores))


@app.command()
def submit(
    template: Annotated[Path, typer.Option(help="the organisers' template; its header says which task")],
    out: Annotated[Path, typer.Option(help="folder for the files")],
    run: Annotated[Path | None, typer.Option(help="folder of a finished run, results/<name>")] = None,
    pred: Annotated[Path | None, typer.Option(help="instead of a run: folder of official text files, <stream>.txt")] = None,
    missing: Annotated[str, typer.Option(help="frames without a prediction: nearest, interpolate (va) or default")] = "nearest",
    default: Annotated[str | None, typer.Option(help="values for --missing default, with commas; not given: neutral ones")] = None,
    constant: Annotated[list[str] | None, typer.Option(help="a video that may have one value throughout; may be repeated")] = None,
) -> None:
    """Make the files that go to the organisers: predictions in the order of their template, checked and zipped."""
    from affpipe import submission
    from affpipe.template import task_of

    if (run is None) == (pred is None):
        raise InputError("submit: want either --run or --pred")
    task = task_of(template)
    folder, name = submission.of_run(run, task) if run is not None else (pred, "")
    values = None if default is None else submission.numbers(default)
    made = submission.make(task, template, folder, out, missing=missing, default=values, constant=constant or (), run=name)
    for line in made.lines():
        print(line)
    print(made.archive)


@app.command("submit-check")
def submit_check(
    file: Annotated[Path, typer.Argument(help="all rows in one file, as the organisers want it")],
    template: Annotated[Path, typer.Option(help="the organisers' template; its header says which task")],
    constant: Annotated[list[str] | None, typer.Option(help="a video that may have one value throughout; may be repeated")] = None,
) -> None:
    """Check a file of predictions against the organisers' template, whoever made it."""
    from affpipe import preflight
    from affpipe.template import task_of

    warnings: list[preflight.Fault] = []
    faults = preflight.check(task_of(template), file, template, constant=constant or (), warnings=warnings)
    for what, found in (("", faults), ("warning: ", warnings)):
        for fault in found[:20]:
            print(f"{what}{fault}")
        if len(found) > 20:
            print(f"{what}and {len(found) - 20} more")
    if faults:
        raise typer.Exit(2)
    print(f"{file}: fit to send")


@demo.command("render")
def demo_render(
    out: Annotated[Path, typer.Argument(help="folder to make")],
    seed: Annotated[int, typer.Option(min=0)] = 7,
    jobs: Annotated[int, typer.Option(min=1, help="processes")] = 2,
) -> None:
    """Render the demo data: an Aff-Wild2-shaped folder of animated faces with sound and labels."""
    from affpipe.console import progress
    from affpipe.demo.render import render

    with progress() as show:
        render(out, seed=seed, jobs=jobs, progress=lambda done, total: show("render", done, total))


@weights_app.command("tiny")
def weights_tiny(out: Annotated[Path, typer.Argument(help="folder of checkpoints")], seed: int = 0) -> None:
    """Make tiny random checkpoints of the real architectures."""
    from affpipe.weights.tiny import make_tiny

    make_tiny(out, seed=seed)


@weights_app.command("fetch")
def weights_fetch(
    name: Annotated[str, typer.Argument(help="catalogue name; an unknown one lists them")],
    out: Annotated[Path, typer.Option(help="folder of checkpoints")] = Path("weights"),
    revision: Annotated[str | None, typer.Option(help="commit; default: the pinned one")] = None,
) -> None:
    """Download a published checkpoint: pinned revision, checksums, resumable."""
    from affpipe.weights.fetch import fetch

    print(fetch(name, out, revision=revision))


@faces_app.command("review")
def faces_review(
    recipes: Annotated[list[Path] | None, typer.Argument(help="settings laid over --config")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="folder for review.html and curation.csv")] = Path("review"),
    stream: Annotated[list[str] | None, typer.Option(help="only this stream and those of its video; may be repeated")] = None,
) -> None:
    """Write a sheet of all face tracks, ambiguous streams first, and the file in which to decide."""
    import shlex

    from affpipe.config import load
    from affpipe.console import progress
    from affpipe.review.review import review

    files = [*config, *(recipes or [])]
    command = f"snakemake --cores 2 --until apply_faces --configfile {shlex.join(map(str, files))}"
    with progress() as show:
        made = review(load(files), out, streams=stream or (), command=command, progress=show)
    for fault in made.faults:
        print(fault)
    missing = f", {made.missing} without faces ({command})" if made.missing else ""
    step = "run the workflow" if made.in_force else f"set `subject: {{curation: {made.decisions}}}` and run the workflow"
    print(
        f"{made.streams} streams, {made.ambiguous} ambiguous, {made.decided} decided{missing}: "
        f"look at {made.sheet}, write tracks into {made.decisions}, then {step}"
    )


@mouth_app.command("windows")
def mouth_windows(
    openmouth: Annotated[Path, typer.Option(help="folder of STREAM.csv masks")],
    windows: Annotated[Path, typer.Option(help="CSV of stream, start_frame, end_frame, fps")],
    out: Annotated[Path, typer.Option(help="CSV to write")],
    compat: Annotated[str, typer.Option(help="ras2026 (as published) or none (frames counted properly)")] = "none",
) -> None:
    """Filter windows by mouth opening, from masks computed elsewhere."""
    from affpipe.faces.mouth_files import parity_windows, write_windows

    write_windows(parity_windows(openmouth, windows, compat), out)


@cache_app.command("ls")
def cache_ls(cache: Path = Path("cache")) -> None:
    """List stages, keys, streams and sizes."""
    from affpipe import cache as caches

    rows = [(f.stage, f.key, str(len(f.files)), str(len(f.indexes)), f"{f.bytes / 1e6:.1f} MB") for f in caches.folders(cache)]
    _print_table(str(cache), ("stage", "key", "streams", "indexes", "size"), rows)


@cache_app.command("show")
def cache_show(file: Path) -> None:
    """Print what a stored stream says of itself."""
    import json

    from affpipe import store

    print(json.dumps(store.attributes(file), indent=1, sort_keys=True))
    if file.suffix == ".h5":
        with store.Stream(file) as stream:
            for dataset in stream.names:
                print(f"{dataset}: {stream.rows(dataset, 0, 0).dtype} {stream.shape_of(dataset)}")


@cache_app.command("verify")
def cache_verify(cache: Path = Path("cache")) -> None:
    """Read every stream; delete damaged ones and drop indexes with holes, so that the next run fills them."""
    from affpipe import cache as caches

    faults = list(caches.verify(cache))
    for path, what in faults:
        print(f"{path}: {what}")
    print(
        f"{sum(len(f.files) for f in caches.folders(cache))} streams read, {len(faults)} faults"
        + ("; run the workflow again" if faults else "")
    )
    raise typer.Exit(1 if faults else 0)


@cache_app.command("gc")
def cache_gc(
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="delete; otherwise only list")] = False,
) -> None:
    """Free what neither the current settings nor a finished run uses."""
    import shutil

    from affpipe import cache as caches
    from affpipe.publish import keys_in_use
    from affpipe.run import plan_of

    plan = plan_of(config)
    rubbish = caches.garbage(plan.cache, keys_in_use(plan))
    for folder in rubbish:
        print(f"{folder.path}: {folder.bytes / 1e6:.1f} MB")
        if yes:
            shutil.rmtree(folder.path)
    print(f"{sum(f.bytes for f in rubbish) / 1e6:.1f} MB {'freed' if yes else 'can be freed with --yes'}")


@app.command("schema")
def schema_command() -> None:
    """Print the JSON schema of the settings."""
    import json

    from affpipe.config import schema

    print(json.dumps(schema(), indent=1, sort_keys=True))


# ---- for the workflow -------------------------------------------------------------------------------------------------------------------

SettingsOption = Annotated[Path, typer.Option("--settings", help="resolved settings, JSON")]


@work.command("apply")
def job_apply(settings: SettingsOption, index: Annotated[Path, typer.Option()], threads: Annotated[int, typer.Option(min=1)] = 1) -> None:
    """Apply a stage to a shard; the index that is to be written names both."""
    from affpipe.console import progress
    from affpipe.run import apply_shard

    with progress() as show:
        apply_shard(settings, index, threads=threads, progress=show)


@work.command("fit")
def job_fit(
    model: str,
    settings: SettingsOption,
    out: Annotated[Path, typer.Option()],
    fold: Annotated[int | None, typer.Option(min=0, help="training streams to leave out")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Fit a model."""
    from affpipe.run import fit_model

    fit_model(settings, model, out, fold=fold, threads=threads)


@work.command("publish")
def job_publish(settings: SettingsOption, out: Annotated[Path, typer.Option()]) -> None:
    """Write the results of a run."""
    from affpipe.run import publish_run

    publish_run(settings, out)


def _print_difference(found: dict, task: str, first: str, second: str) -> None:
    """One line: which of two systems is better on the same videos, and how sure that is."""
    from affpipe.tasks import TASKS

    own = found["pooled"][TASKS[task].measure]
    sure = "no interval with fewer than two videos" if own["low"] is None else f"95 % interval {own['low']:.3f} to {own['high']:.3f}"
    print(f"{first} less {second}: {own['difference']:+.3f} ({sure}; paired, {found['videos']} videos)")


def _print_table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for i, column in enumerate(head):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
