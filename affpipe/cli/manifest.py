"""Commands for the manifest: make it from a folder, check it."""

from pathlib import Path
from typing import Annotated

import typer

from affpipe.cli.console import print_table, progress
from affpipe.core.alike import told
from affpipe.core.plain import say
from affpipe.data.importers.collection import Collection

manifest_app = typer.Typer(no_args_is_help=True, help="The manifest: make it from a folder, check it.")
Root = Annotated[Path, typer.Argument(help="folder that holds videos and annotations: the setting data_root")]
Out = Annotated[Path, typer.Option(help="manifest to write; the audit goes beside it")]
Quick = Annotated[bool, typer.Option("--quick", help="count packets instead of decoded frames")]
Jobs = Annotated[int, typer.Option(min=1, help="processes that decode at the same time")]
Force = Annotated[bool, typer.Option("--force", help="replace a file with other content; that one is kept as .old")]


@manifest_app.command("affwild2")
def manifest_affwild2(
    root: Root,
    out: Out = Path("data_manifest.csv"),
    task: Annotated[list[str] | None, typer.Option(help="va, expr or au; may be repeated; default: all that are found")] = None,
    quick: Quick = False,
    jobs: Jobs = 2,
    force: Force = False,
) -> None:
    """Write the manifest of Aff-Wild2, as it is distributed, and an audit of it."""
    from affpipe.data.importers import affwild2

    _make(affwild2.collect(root, task or ()), out, quick=quick, jobs=jobs, force=force)


@manifest_app.command("folder")
def manifest_folder(
    root: Root,
    out: Out = Path("data_manifest.csv"),
    partition: Annotated[
        str, typer.Option(help="partition of videos whose folders name none; default: predict, or a split of videos with annotations")
    ] = "",
    validation_share: Annotated[float, typer.Option(help="share of the videos in that split")] = 0.2,
    quick: Quick = False,
    jobs: Jobs = 2,
    force: Force = False,
) -> None:
    """Write a manifest of own videos, and an audit of it."""
    from affpipe.data.importers import folder

    _make(folder.collect(root, partition, validation_share), out, quick=quick, jobs=jobs, force=force)


def _make(collection: Collection, out: Path, *, quick: bool, jobs: int, force: bool) -> None:
    from affpipe.data.importers.write_manifest import make

    with progress() as show:
        made = make(collection, out, quick=quick, jobs=jobs, force=force, progress=show)
    print_table(str(out), *made.audit.table())
    say(*made.audit.lines())
    kept = f", the one before is {made.old}" if made.old else ""
    say(f"{out}: {made.streams} streams, {len(made.audit.findings)} findings{kept}; all in {made.audit_csv} and {made.audit_json}")


@manifest_app.command("check")
def manifest_check(
    manifest: Annotated[Path, typer.Argument(help="manifest")] = Path("data_manifest.csv"),
    data_root: Annotated[Path, typer.Option(help="folder that its paths are relative to")] = Path("."),
    media: Annotated[bool, typer.Option("--media", help="decode every video too, and compare rows with frames")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="the same by packets, without decoding")] = False,
    jobs: Jobs = 2,
    config: Annotated[list[Path] | None, typer.Option(help="settings that name tasks of your own")] = None,
    every: Annotated[bool, typer.Option("--all", help="a line for each fault, however many are similar")] = False,
) -> None:
    """Find all faults of a manifest and of the annotations that it names; exit status 2 if there are any."""
    from affpipe.data.importers.counts import HEAD
    from affpipe.data.importers.manifest_check import check
    from affpipe.plan.config import known_tasks

    with progress() as show:
        report = check(
            manifest, data_root, known_tasks(config or ()), media="quick" if quick else "full" if media else "", jobs=jobs, progress=show
        )
    print_table(str(manifest), HEAD, [count.cells() for count in report.counts])
    warnings, faults = (lines if every else told(lines, more="--all") for lines in (report.warnings, report.faults))
    say(*warnings, *faults, f"{len(report.faults)} faults, {len(report.warnings)} warnings")
    raise typer.Exit(2 if report.faults else 0)
