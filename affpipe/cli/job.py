"""Jobs that the workflow starts."""

from pathlib import Path
from typing import Annotated

import typer

from affpipe.cli.console import progress

work = typer.Typer(no_args_is_help=True, help="Jobs that the workflow starts.")

SettingsOption = Annotated[Path, typer.Option("--settings", help="resolved settings, JSON")]


@work.command("apply")
def job_apply(settings: SettingsOption, index: Annotated[Path, typer.Option()], threads: Annotated[int, typer.Option(min=1)] = 1) -> None:
    """Apply a stage to a shard; the index to write names both."""
    from affpipe.jobs.apply import apply_shard

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
    from affpipe.jobs.fit import fit_model

    with progress() as show:
        fit_model(settings, model, out, fold=fold, threads=threads, progress=show)


@work.command("publish")
def job_publish(settings: SettingsOption, out: Annotated[Path, typer.Option()]) -> None:
    """Write the results of a run."""
    from affpipe.jobs.publish import publish_run

    publish_run(settings, out)
