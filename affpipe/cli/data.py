"""Commands for the inputs of a run: demo data, weights, faces to decide on, mouth masks made elsewhere."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from affpipe.cli.console import progress
from affpipe.cli.options import DEFAULT_CONFIG, ConfigOption, Recipes
from affpipe.core.plain import say
from affpipe.system import disk, outputs
from affpipe.system.weights.records import WeightsRecord, used

demo = typer.Typer(no_args_is_help=True, help="Data for a first run.")
weights_app = typer.Typer(no_args_is_help=True, help="Checkpoints: tiny random ones, or the published ones.")
faces_app = typer.Typer(no_args_is_help=True, help="Whose face is meant.")
mouth_app = typer.Typer(no_args_is_help=True, help="The mouth-opening filter by itself.")


@demo.command("render")
def demo_render(
    out: Annotated[Path, typer.Argument(help="folder to make")],
    seed: Annotated[int, typer.Option(min=0)] = 7,
    jobs: Annotated[int, typer.Option(min=1, help="processes")] = 2,
) -> None:
    """Render the demo data: an Aff-Wild2-shaped folder of animated faces with sound and labels."""
    from affpipe.data.demo.render import render

    with disk.telling(out), progress() as show:
        render(out, seed=seed, jobs=jobs, progress=lambda done, total: show("render", done, total))


@weights_app.command("tiny")
def weights_tiny(out: Annotated[Path, typer.Argument(help="folder of checkpoints")], seed: int = 0) -> None:
    """Make tiny random checkpoints of the real architectures."""
    from affpipe.encoders.tiny_weights import make_tiny

    with disk.telling(out):
        make_tiny(out, seed=seed)


@weights_app.command("fetch")
def weights_fetch(
    name: Annotated[str, typer.Argument(help="catalogue name; an unknown one lists them")],
    out: Annotated[Path, typer.Option(help="folder of checkpoints")] = Path("weights"),
    revision: Annotated[str | None, typer.Option(help="commit; default: the pinned one")] = None,
) -> None:
    """Download a published checkpoint: pinned revision, checksums, resumable."""
    from affpipe.system.weights.fetch import fetch

    with disk.telling(out / name):
        found = fetch(name, out, revision=revision)
    _tell(out / name, found)


@weights_app.command("show")
def weights_show(
    name: Annotated[str, typer.Argument(help="its name, as in the setting `weights` of a feature or detector")],
    weights: Annotated[Path, typer.Option(help="folder of checkpoints")] = Path("weights"),
) -> None:
    """Check a checkpoint's checksums, and print what it is and which setting pins it."""

    _tell(weights / name, used(weights, name, "weights"))


def _tell(path: Path, found: WeightsRecord) -> None:
    what = f"{found.name}, {'random, ' if found.random else ''}from {found.source}{f', {found.revision}' if found.revision else ''}"
    say(f"{path}: as recorded: {what}; digest {found.digest}")
    say(f'in the settings, beside their name: weights_revision: "{found.pinned}"')


@weights_app.command("convert")
def weights_convert(
    file: Annotated[Path, typer.Argument(help="checkpoint that torch wrote (.pt, .pth, .bin, .ckpt)")],
    out: Annotated[Path, typer.Argument(help="new file, *.safetensors")],
    trust: Annotated[
        bool, typer.Option("--trust", help="unpickle a file that asks for more than tensors: it runs whatever program is in it")
    ] = False,
) -> None:
    """Write the tensors of a checkpoint as safetensors, which run nothing when they are read."""
    from affpipe.system.weights.convert import convert

    made = convert(file, out, trust=trust)
    say(f"{made.path}: {made.tensors} tensors{f' from {made.under}' if made.under else ''}")
    if made.left_out:
        say(f"left out, as they are no tensors: {', '.join(made.left_out)}")


@faces_app.command("review")
def faces_review(
    recipes: Recipes = None,
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="folder for review.html and curation.csv")] = Path("review"),
    stream: Annotated[list[str] | None, typer.Option(help="only this stream and those of its video; may be repeated")] = None,
) -> None:
    """Write a sheet of all face tracks, ambiguous streams first, and the file in which to decide."""
    from affpipe.plan.config import load
    from affpipe.results.review.review import review

    files = [*config, *(recipes or [])]
    command = f"snakemake --cores 2 --until apply_faces --configfile {shlex.join(map(str, files))}"
    with progress() as show:
        made = review(load(files), out, streams=stream or (), command=command, progress=show)
    for fault in made.faults:
        say(fault)
    missing = f", {made.missing} without faces ({command})" if made.missing else ""
    step = "run the workflow" if made.in_force else f"set `subject: {{curation: {made.decisions}}}` and run the workflow"
    say(
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
    from affpipe.faces.mouth_files import parity_windows, to_csv

    outputs.write_text(out, to_csv(parity_windows(openmouth, windows, compat)))
