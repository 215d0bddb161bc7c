"""Environment files: one set of pins, everything asked for is pinned, one build of OpenCV."""

import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """envs/make.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("envs_make", ROOT / "envs/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pins(make) -> dict[str, str]:
    """Canonical name -> exact version."""
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in make.pins())}


def test_the_lock_names_each_package_once_with_an_exact_version(make, pins):
    assert len(pins) == len(make.pins()) > 100
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==\d[0-9A-Za-z.]*", line) for line in make.pins())


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_conda_environments_hold_the_pins_of_the_lock(make, kind):
    text = (ROOT / f"envs/{kind}.yaml").read_text()
    assert text == make.environment(kind), "run `python envs/make.py`"
    found = yaml.safe_load(text)
    assert found["name"] == f"affpipe-{kind}"
    assert found["dependencies"][:2] == ["python=3.11", "pip"]
    beyond = list(make.GPU) if kind == "gpu" else []
    assert found["dependencies"][2]["pip"] == make.pins() + beyond


def test_the_gpu_environment_adds_the_extra_of_the_project(make):
    assert list(make.GPU) == EXTRAS["gpu"]


@pytest.mark.parametrize("wanted", [*PROJECT["dependencies"], *EXTRAS["slurm"], *EXTRAS["dev"]])
def test_what_the_project_asks_for_is_pinned_within_its_bounds(pins, wanted):
    want = Requirement(wanted)
    assert want.specifier.contains(pins[canonicalize_name(want.name)])


def test_the_lock_holds_one_build_of_opencv(pins):
    assert [name for name in pins if name.startswith("opencv")] == ["opencv-contrib-python-headless"]


def test_one_build_of_opencv_is_installed():
    found = {canonicalize_name(d.metadata["Name"]) for d in importlib.metadata.distributions() if d.metadata["Name"]}
    assert sorted(name for name in found if name.startswith("opencv")) == ["opencv-contrib-python-headless"]


def test_packages_whose_versions_alter_values_are_installed_as_pinned(pins):
    """A build tag (2.13.0+cpu) may follow the version."""
    for name in (
        "torch",
        "torchvision",
        "transformers",
        "mediapipe",
        "av",
        "numpy",
        "scipy",
        "scikit-image",
        "opencv-contrib-python-headless",
    ):
        assert importlib.metadata.version(name).split("+")[0] == pins[name], name
