"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[list[Path], typer.Option("--config", help="settings file; several are laid over each other")]
DEFAULT_CONFIG = [Path("config.yaml")]
