"""Commands for before and during a run: whether all is well, what it will take, and its state."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from affpipe.cli.console import print_table
from affpipe.cli.options import DEFAULT_CONFIG, ConfigOption, Recipes, planned
from affpipe.core.alike import told
from affpipe.core.plain import say, say_text
from affpipe.core.progress import duration, size

app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
SHOWN = 10  # stopped jobs that are listed one by one
NAMED = 3  # stages named in a line


@app.command("status")
def status_command(recipes: Recipes = None, config: ConfigOption = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show the state of a run and how long the rest may take; exit status 0 finished, 3 finished with faults skipped, 1 not finished."""
    from affpipe.jobs import status

    found = status.of(planned(config, recipes))
    if as_json:
        say_text(json.dumps(found.plain(), indent=1))
        raise typer.Exit(found.exit_status)
    head = ("stage", "done", "missing", "absent", "failed", "running", "left")
    print_table(found.name, head, [_status_cells(stage) for stage in found.stages])
    stopped = {log: reason for stage in found.stages for log, reason in stage.stopped.items()}
    jobs = told([f"{log}: {reason}" for log, reason in stopped.items()])
    for line in jobs[:SHOWN]:
        say(line)
    if len(jobs) > SHOWN:
        say(f"and {len(jobs) - SHOWN} more lines: --json has all jobs that stopped")
    left = f"{duration(found.left_s)} left" if found.left_s else "nothing left"
    if found.unknown:
        unmeasured = f"not measured yet: {', '.join(found.unknown) if len(found.unknown) <= NAMED else f'{len(found.unknown)} stages'}"
        left = f"at least {left} ({unmeasured})" if found.left_s else f"time left unknown ({unmeasured})"
    if not found.published and found.percent == 100:
        left = "jobs that stopped are to be run again" if stopped else "indexes or results are left to write"
    many = f"{len(found.faulty)} {'stream' if len(found.faulty) == 1 else 'streams'} at fault"
    faults = f"; {many}: {found.failures or 'the logs of their jobs say why'}" if found.faulty else ""
    say(f"{found.name}: {found.percent:.0f} % of streams and fits, {left}{faults}")
    raise typer.Exit(found.exit_status)


def _status_cells(stage) -> tuple[str, ...]:

    running = str(stage.running or "")
    if stage.epochs:
        running += f" (epoch {stage.epochs[0]} of {stage.epochs[1]})"
    left = "unknown" if stage.left_s is None else duration(stage.left_s) if stage.missing else ""
    counts = (str(number or "") for number in (stage.missing, stage.absent, stage.failed))
    return (stage.name, f"{stage.done} of {stage.total}", *counts, running, left)


@app.command("estimate")
def estimate_command(
    recipes: Recipes = None,
    config: ConfigOption = DEFAULT_CONFIG,
    hours: Annotated[float | None, typer.Option(min=0.0, help="hours of all videos together, instead of opening them")] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate a run: hours, GPU memory and disk of each stage, in all and what is left."""
    from affpipe.jobs import durations, estimate

    plan = planned(config, recipes)
    long = durations.of(plan, hours)
    parts = estimate.of(plan, long)
    if as_json:
        media = {"hours": long.hours, "videos": len(long.videos), "sources": long.sources, "faults": list(long.faults)}
        whole = {"run": plan.settings.name, "device": plan.settings.device, "media": media}
        say_text(json.dumps({**whole, "parts": list(map(asdict, parts))}, indent=1))
        return
    device = plan.settings.device
    head = ("stage", "items", f"time ({device})", "left", "GPU memory", "disk", "left", "basis: time, disk")
    total = ("in all", "", *_taken(sum(p.seconds for p in parts), sum(p.left_s for p in parts)))
    most = max((part.gpu for part in parts if part.gpu), default=None)
    rows = [(p.name, str(p.items), *_taken(p.seconds, p.left_s), *_held(p.gpu, p.disk, p.left_disk), _basis(p)) for p in parts]
    rows.append((*total, *_held(most, sum(p.disk for p in parts), sum(p.left_disk for p in parts)), ""))
    print_table(f"{plan.settings.name}: {len(long.videos)} videos, {long.hours:.2f} hours", head, rows)
    for fault in long.faults:
        say(fault)
    if unknown := [f"{p.name}{what}" for p in parts if (what := _unknown(p.time_basis, p.disk_basis))]:
        say(f"new to the tables, so not known and not in the sums: {', '.join(unknown)}")
    for name in plan.unread:
        say(f"features.{name}: no model reads it, so it is not made")
    sources = ", ".join(f"{count} {source}" for source, count in long.sources.items())
    say(
        f"lengths of videos: {sources}. Time is that of one job after another: divide by the jobs that run at once. "
        "Defaults are rough: a factor of two for stages on a CPU, of five or more for fits and on a GPU. Once a shard is done, ask again."
    )


def _taken(seconds: float, left_s: float) -> tuple[str, str]:

    return duration(seconds), duration(left_s) if left_s else ""


def _held(gpu: float | None, disk: float, left: float) -> tuple[str, str, str]:

    return f"{gpu / 1e9:.1f} GB" if gpu else "", size(disk), size(left) if left else ""


def _unknown(*bases: str) -> str:
    """Return what is unknown of a part, to follow its name: " (time and disk)", or one of them; "" if both are known."""
    from affpipe.jobs.estimate import UNKNOWN

    what = [word for word, basis in zip(("time", "disk"), bases, strict=True) if basis == UNKNOWN]
    return f" ({' and '.join(what)})" if what else ""


def _basis(part) -> str:
    return ", ".join(dict.fromkeys((part.time_basis, part.disk_basis)))


@app.command()
def doctor(
    recipes: Recipes = None,
    config: ConfigOption = DEFAULT_CONFIG,
    media: Annotated[bool, typer.Option("--media/--no-media", help="open every video of the manifest too")] = True,
    seconds: Annotated[float, typer.Option(min=1, help="seconds for videos and checksums in all; what is not reached is reported")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Check all that a run needs, before it is started; exit status 2 if anything is at fault."""
    from affpipe.jobs.doctor.examine import examine
    from affpipe.jobs.doctor.finding import FAULT, WARNING

    found = list(examine([*config, *(recipes or [])], media=media, limit_s=seconds))
    if as_json:
        say_text(json.dumps(list(map(asdict, found)), indent=1))
    else:
        print_table("doctor", ("check", "", "found", "do"), [(f.check, f.level, f.found, f.remedy) for f in found], left=True)
    counts = {level: sum(f.level == level for f in found) for level in (FAULT, WARNING)}
    if not as_json:
        say(f"{len(found)} checks, {counts[FAULT]} faults, {counts[WARNING]} warnings")
    raise typer.Exit(2 if counts[FAULT] else 0)
