"""The store."""

from pathlib import Path
from typing import Annotated

import typer

from affpipe.commands.options import DEFAULT_CONFIG, ConfigOption
from affpipe.commands.show import print_table
from affpipe.errors import ManifestError, MediaError, SettingsError
from affpipe.plain import say, say_text

cache_app = typer.Typer(no_args_is_help=True, help="The store of streams and models.")


@cache_app.command("ls")
def cache_ls(cache: Path = Path("cache")) -> None:
    """List stages, keys, streams and sizes."""
    from affpipe import cache as caches

    rows = [(f.stage, f.key, str(len(f.files)), str(len(f.indexes)), f"{f.bytes / 1e6:.1f} MB") for f in caches.folders(cache)]
    print_table(str(cache), ("stage", "key", "streams", "indexes", "size"), rows)


@cache_app.command("show")
def cache_show(file: Path) -> None:
    """Print what a stored stream says of itself."""
    import json

    from affpipe import store

    say_text(json.dumps(store.attributes(file), indent=1, sort_keys=True))
    if file.suffix == ".h5":
        with store.Stream(file) as stream:
            for dataset in stream.names:
                say(f"{dataset}: {stream.rows(dataset, 0, 0).dtype} {stream.shape_of(dataset)}")


@cache_app.command("verify")
def cache_verify(
    recipes: Annotated[list[Path] | None, typer.Argument(help="settings laid over --config, which tell where videos are")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    cache: Path = Path("cache"),
) -> None:
    """Read all streams, and the videos of a run; delete what is damaged or of a video that has changed, so that the next run makes it."""
    from affpipe import cache as caches

    faults = [*_changed(cache, [*config, *(recipes or [])]), *caches.verify(cache)]
    _tell_links(caches.links(cache))
    for path, what in faults:
        say(f"{path}: {what}")
    say(
        f"{sum(len(f.files) for f in caches.folders(cache))} streams read, {len(faults)} faults"
        + ("; run the workflow again" if faults else "")
    )
    raise typer.Exit(1 if faults else 0)


def _changed(cache: Path, settings: list[Path]) -> list[tuple[Path, str]]:
    """Delete what was made of videos that have changed since; say how many were compared, or why none could be."""
    from affpipe import config as configs
    from affpipe import stale

    deleted: list[tuple[Path, str]] = []
    compared: set[Path] = set()
    try:
        for made, then in stale.read_videos(cache, stale.videos(configs.load(settings))):
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
def cache_retry(
    recipes: Annotated[list[Path] | None, typer.Argument(help="settings laid over --config")] = None, config: ConfigOption = DEFAULT_CONFIG
) -> None:
    """Forget the faults that a run skipped, so that the next run tries those streams again."""
    from affpipe import cache as caches
    from affpipe.run import plan_of

    plan = plan_of([*config, *(recipes or [])])
    dropped = caches.retry(Path(index) for name in plan.names for index in plan.indexes(name))
    for index in dropped:
        say(f"{index}: dropped")
    say(f"{len(dropped)} indexes with faults" + ("; run the workflow again" if dropped else ""))


@cache_app.command("gc")
def cache_gc(
    recipes: Annotated[list[Path] | None, typer.Argument(help="settings laid over --config")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="delete; otherwise only list")] = False,
) -> None:
    """Free what neither the current settings nor a finished run uses."""
    import shutil

    from affpipe import cache as caches
    from affpipe.publish import keys_in_use
    from affpipe.run import plan_of

    plan = plan_of([*config, *(recipes or [])])
    rubbish = caches.garbage(plan.cache, keys_in_use(plan))
    _tell_links(caches.links(plan.cache))
    for folder in rubbish:
        say(f"{folder.path}: {folder.bytes / 1e6:.1f} MB")
        if yes:
            shutil.rmtree(folder.path)
    say(f"{sum(f.bytes for f in rubbish) / 1e6:.1f} MB {'freed' if yes else 'can be freed with --yes'}")


def _tell_links(links: list[Path]) -> None:
    for path in links:
        say(f"{path}: a link, not followed; nothing behind it was read or deleted")
