"""Keys of every recipe, pinned: a change of the code that moves one makes all streams and models behind it anew, and has to be meant.

`PYTHONPATH=tests/helpers python tests/workflow/test_keys.py` writes the pins anew; each that moved is listed in the changelog, with the
reason.
"""

import json
import tempfile
from pathlib import Path

import pytest
from recipe_layers import RECIPES, ROOT, load

from affpipe.core.tasks.table import TASKS
from affpipe.data import manifest
from affpipe.plan import config
from affpipe.plan.plan import Plan

PINS = Path(__file__).parent / "pins" / "keys.json"
PARTITIONS = ("train", "train", "validation", "validation", "test")


def tree(folder: Path) -> Path:
    """A fixed data folder: five small files that stand for videos, labels of every task for four of them; return its manifest."""
    lines = ["stream_id,video,partition,va,expr,au"]
    for number, partition in enumerate(PARTITIONS):
        (folder / f"{number}.mp4").write_bytes(f"video {number} ".encode() * 50)
        for task in TASKS.values() if partition != "test" else ():
            (folder / f"{number}.{task.name}.txt").write_text(f"{task.header}\n" + ",".join("0" * len(task.columns)) + "\n")
        files = "" if partition == "test" else ",".join(f"{number}.{task}.txt" for task in ("va", "expr", "au"))
        lines.append(f"{number},{number}.mp4,{partition},{files or ',,'}")
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def keys(recipe: str, folder: Path) -> dict[str, str]:
    """Stage, feature or model of a recipe -> its key, and `run` -> the key of what is published."""
    settings = config.load([ROOT / "config.yaml"]) if recipe == "default" else load(recipe)
    settings = settings.model_copy(update={"cache": str(folder / "cache")})
    plan = Plan(settings, manifest.read(folder / "manifest.csv", folder))
    return {name: plan.key(name) for name in plan.names} | {"run": plan.run}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("tree")
    tree(found)
    return found


@pytest.mark.parametrize("recipe", ["default", *RECIPES])
def test_keys_are_the_pinned_ones(folder, recipe):
    assert keys(recipe, folder) == json.loads(PINS.read_text())[recipe]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        tree(Path(place))
        PINS.write_text(json.dumps({recipe: keys(recipe, Path(place)) for recipe in ("default", *RECIPES)}, indent=1) + "\n")
