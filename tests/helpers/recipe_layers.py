"""The recipes, and what each is laid over."""

from pathlib import Path

from affpipe.plan import config
from affpipe.plan.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
UNDER = {"ras-recommended": "ras", "ras-code": "ras", "ras-code-demo": "ras-demo"}  # recipe -> the one below it, of those that have one


def layers(recipe: str) -> list[Path]:
    """Files of a recipe, config.yaml first."""
    names = [UNDER[recipe]] if recipe in UNDER else []
    return [ROOT / "config.yaml", *(ROOT / "recipes" / f"{name}.yaml" for name in (*names, recipe))]


def load(recipe: str) -> Settings:
    """Settings of a recipe, with all that it is laid over."""
    return config.load(layers(recipe))
