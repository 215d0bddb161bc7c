"""Commands for the store."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affpipe.cli.console import print_table
from affpipe.cli.options import DEFAULT_CONFIG, ConfigOption, Recipes, planned
from affpipe.core.errors import ManifestError, MediaError, SettingsError
from affpipe.core.plain import say, say_text

if TYPE_CHECKING:
    from affpipe.store.cache import Folder

SPARE_DAYS = 7.0  # a folder changed more recently may belong to a job whose run is unknown here
cache_app = typer.Typer(no_args_is_help=True, help="The store of streams and models.")


@cache_app.command("ls")
def cache_ls(cache: Path = Path("cache")) -> None:
    """List stages, keys, streams and sizes."""
    from affpipe.store.cache import folders

    rows = [(f.stage, f.key, str(len(f.files)), str(len(f.indexes)), f"{f.bytes / 1e6:.1f} MB") for f in folders(cache)]
    print_table(str(cache), ("stage", "key", "streams", "indexes", "size"), rows)


@cache_app.command("show")
def cache_show(file: Path) -> None:
    """Print the attributes and datasets of a stored stream."""
    from affpipe.store.streams import Stream, attributes

    say_text(json.dumps(attributes(file), indent=1, sort_keys=True))
    if file.suffix == ".h5":
        with Stream(file) as stream:
            for dataset in stream.names:
                say(f"{dataset}: {stream.rows(dataset, 0, 0).dtype} {stream.shape_of(dataset)}")


@cache_app.command("verify")
def cache_verify(
    recipes: Annotated[list[Path] | None, typer.Argument(help="settings laid over --config, which say where videos are")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    cache: Path = Path("cache"),
) -> None:
    """Read all streams, and the videos of a run; delete streams that are damaged or whose video has changed: the next run makes them."""
    from affpipe.store.cache import folders, links, verify

    faults = [*_changed(cache, [*config, *(recipes or [])]), *verify(cache)]
    _tell_links(links(cache))
    for path, what in faults:
        say(f"{path}: {what}")
    say(f"{sum(len(f.files) for f in folders(cache))} streams read, {len(faults)} faults" + ("; run the workflow again" if faults else ""))
    raise typer.Exit(1 if faults else 0)


def _changed(cache: Path, settings: list[Path]) -> list[tuple[Path, str]]:
    """Delete what was made of videos that have changed since; report how many were compared, or why none could be."""
    from affpipe.jobs import stale
    from affpipe.plan.config import load

    deleted: list[tuple[Path, str]] = []
    compared: set[Path] = set()
    try:
        for made, then in stale.read_videos(cache, stale.videos(load(settings))):
            try:
                if stale.changed(made.video, then):
                    deleted += stale.forget(cache, made)
                compared.add(made.video)
            except MediaError as error:
                say(f"{error}")
    except (SettingsError, ManifestError, MediaError) as error:
        say(f"videos not compared with what was read of them: {error}")
    else:
        say(f"{len(compared)} videos compared with what was read of them")
    return deleted


@cache_app.command("retry")
def cache_retry(recipes: Recipes = None, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Forget the faults that a run skipped, so that the next run tries those streams again."""
    from affpipe.store.cache import retry

    plan = planned(config, recipes)
    dropped = retry(Path(index) for name in plan.names for index in plan.indexes(name))
    for index in dropped:
        say(f"{index}: dropped")
    say(f"{len(dropped)} indexes with faults" + ("; run the workflow again" if dropped else ""))


@cache_app.command("gc")
def cache_gc(
    recipes: Recipes = None,
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="delete; otherwise only list")] = False,
    days: Annotated[float, typer.Option(min=0, help="keep what changed within so many days")] = SPARE_DAYS,
) -> None:
    """Free what no run uses: neither these settings, nor a published run, nor one that was started on this cache."""
    from affpipe.results import runs
    from affpipe.store.cache import folders, free, garbage, links

    plan = planned(config, recipes)
    known = (plan.cache / "runs").is_dir()  # if no run is known there is none to wait for, and a full disk takes no lock
    with runs.alone(plan.cache) if yes and known else nullcontext():
        claims, gone = runs.claims(plan)
        every = folders(plan.cache)
        rubbish, young = garbage(every, lambda folder: any(claim.keeps(folder.stage, folder.key) for claim in claims), days)
        _tell_links(links(plan.cache))
        for path, reason in gone.items():
            say(f"{path}: counts no more: {reason}")
        for folder in rubbish:
            say(f"{folder.path}: {_megabytes([folder])}")
            if yes:
                free(folder)
        for path in gone if yes else ():
            path.unlink(missing_ok=True)
    own, *others = claims
    for claim in others:
        kept = [f for f in every if claim.keeps(f.stage, f.key) and not own.keeps(f.stage, f.key)]
        if kept:
            say(f"spared {_megabytes(kept)} of {claim.who}; to free what it alone uses, delete {claim.give_up}")
    if young:
        say(f"spared {_megabytes(young)} that no run uses, changed within {days:g} days; --days 0 frees it too")
    say(f"{_megabytes(rubbish)} {'freed' if yes else 'can be freed with --yes'}")


@cache_app.command("forget")
def cache_forget(
    streams: Annotated[list[str], typer.Argument(help="stream ids; for videos of `affpipe predict`, their names without suffix")],
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="delete; otherwise only list")] = False,
) -> None:
    """Remove all that cache and results hold of a person: streams, face crops, predictions, models that learned from them."""
    from affpipe.jobs import forget
    from affpipe.store.cache import links

    plan = planned(config)
    whom = forget.person(plan, streams)
    count = 0
    for path, what in forget.forget(plan, whom, really=yes):
        say(f"{path}: {what}")
        count += 1
    for video, other in whom.shared.items():
        say(f"pictures and sound of {video} stay: {other} is in that video too; take it out as well, or cut the video")
    if whom.listed:
        say(f"{', '.join(whom.listed)}: still in {plan.settings.manifest}: take the rows out, or the next run makes all of it again")
    _tell_links(links(plan.cache))
    say("not looked into: videos, annotations and tables of yours; what submit, predict and faces review wrote; .snakemake/log; copies")
    say(f"{count} files and folders {'deleted' if yes else 'can be deleted with --yes'}")


def _megabytes(folders: "Iterable[Folder]") -> str:
    return f"{sum(folder.bytes for folder in folders) / 1e6:.1f} MB"


def _tell_links(links: list[Path]) -> None:
    for path in links:
        say(f"{path}: a link, not followed; nothing behind it was read or deleted")
