"""Fixtures that several test modules share."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest
import yaml

from affpipe.data.manifest import Row
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan
from affpipe.system.compat import ensure_torchvision

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads that wait for a busy core cost more than they give

LONG = ("test_workflow.py", "test_faults.py", "test_reruns.py", "test_recipes.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: run in parallel by file, they are what the others end before."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Commands that run within a test's process set how much of the log is told; the next test finds it as it was."""
    log = logging.getLogger("affpipe")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture
def with_torchvision() -> None:
    """For packages that look for torchvision when they are imported."""
    ensure_torchvision()


@pytest.fixture
def small_plan(tmp_path: Path) -> Callable[..., Plan]:
    """Makes plans: of videos to predict, whose names are their bytes, with config.yaml and what is laid over it; a folder each."""
    default = yaml.safe_load((Path(__file__).resolve().parents[1] / "config.yaml").read_text())
    number = count()

    def make(names: Iterable[str], **over: object) -> Plan:
        folder = tmp_path / f"plan{next(number)}"
        folder.mkdir()
        for name in names:
            (folder / f"{name}.mp4").write_bytes(name.encode())
        settings = parse(overlay(default, {"cache": str(folder / "cache"), **over}))
        return Plan(settings, [Row(name, folder / f"{name}.mp4", "largest", "predict") for name in names])

    return make


def _test_data(folder: str) -> Path:
    default = Path(__file__).resolve().parents[2] / "shared"
    path = Path(os.environ.get("AFFPIPE_TEST_DATA", default)) / folder
    if not path.is_dir():
        pytest.skip(f"no {path}: set AFFPIPE_TEST_DATA to a folder that holds {folder}/")
    return path


@pytest.fixture(scope="session")
def media() -> Path:
    """Folder of real clips; tests that want them skip where it is absent."""
    return _test_data("media")


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of reference results of the mouth-opening filter."""
    return _test_data("parity")


@pytest.fixture(scope="session")
def papers() -> Path:
    """Folder of the papers' texts."""
    return _test_data("papers")
