"""Options that several commands share, and the plan from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from affpipe.plan.plan import Plan

ConfigOption = Annotated[list[Path], typer.Option("--config", help="settings file; several are laid over each other")]
DEFAULT_CONFIG = [Path("config.yaml")]
Recipes = Annotated[list[Path] | None, typer.Argument(help="settings laid over --config")]


def planned(config: list[Path], recipes: list[Path] | None = None) -> "Plan":
    """Return the plan of settings files, recipes laid over the others."""
    from affpipe.jobs.start import plan_of

    return plan_of([*config, *(recipes or [])])
