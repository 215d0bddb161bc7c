"""Python and its packages: the required ones, in builds that fit each other, and the parts that others add."""

import importlib.metadata
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from affpipe.core import extensions
from affpipe.core.errors import SettingsError
from affpipe.encoders.table import ENCODERS
from affpipe.jobs.doctor.finding import Finding, fault, fine, of_error, warning
from affpipe.models.table import MODELS
from affpipe.models.terms.table import TERMS

TABLES: dict[str, Mapping[str, Any]] = {"encoder": ENCODERS, "kind of model": MODELS, "term": TERMS}
LOCK = Path(__file__).resolve().parents[2] / "envs" / "lock.txt"  # it exists in a checkout; an installed package has none
ALTER = ("torch", "torchvision", "transformers", "mediapipe", "av", "numpy", "scipy", "scikit-image", "opencv-contrib-python-headless")
INSTALL = "install from envs/lock.txt (`make install`)"


def check(device: str) -> Iterator[Finding]:
    """Yield findings on packages, for the setting `device`."""
    if sys.version_info[:2] == (3, 11):
        yield fine("python", platform.python_version())
    else:
        yield fault("python", f"want Python 3.11, got {platform.python_version()}", "make the environment with python3.11")
    try:
        yield versions(importlib.metadata.requires("affpipe") or [], _pins(LOCK))
    except importlib.metadata.PackageNotFoundError:
        yield fault("packages", "affpipe itself is not installed, so nobody knows what it asks for", INSTALL)
    yield opencv([d.metadata["Name"] for d in importlib.metadata.distributions() if d.metadata["Name"]])
    yield torch_builds(device)
    if device == "cuda":
        yield mamba()


def _pins(lock: Path) -> dict[str, str]:
    """Read package -> exact version, for those that alter values."""
    if not lock.is_file():
        return {}
    lines = [line.split("==") for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in lines if canonicalize_name(name) in ALTER}


def versions(wanted: list[str], pins: dict[str, str]) -> Finding:
    """Compare packages with the project's requirements, then with the lock: another version may give other values.

    Args:
        wanted: requirements as in a package's metadata; those of extras are left out.
    """
    asked = [r for r in map(Requirement, wanted) if r.marker is None or r.marker.evaluate({"extra": ""})]
    found = {r.name: _installed(r.name) for r in asked} | {name: _installed(name) for name in pins}
    lacking = [r for r in asked if found[r.name] is None or not r.specifier.contains(found[r.name], prereleases=True)]
    if lacking:
        got = ", ".join(f"{r.name} {found[r.name] or 'none'} (want {r.specifier})" for r in lacking)
        return fault("packages", f"want the versions of pyproject.toml, got {got}", INSTALL)
    other = [f"{name} {found[name]} (lock: {pin})" for name, pin in pins.items() if (found[name] or "").split("+")[0] != pin]
    if other:
        return warning("packages", f"other versions than the lock's, which may give other values: {', '.join(other)}", INSTALL)
    return fine("packages", f"{len(asked)} as asked for{', those that alter values as locked' if pins else ''}")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def opencv(names: list[str]) -> Finding:
    """Check the builds of OpenCV. They write to one folder: of two, the one installed last half overwrites the other."""
    builds = sorted({canonicalize_name(name) for name in names} & {f"opencv-{b}" for b in _OPENCV})
    if builds == ["opencv-contrib-python-headless"]:
        return fine("OpenCV", builds[0])
    remedy = "pip uninstall -y opencv-python opencv-contrib-python opencv-python-headless, then install the one of envs/lock.txt again"
    return fault("OpenCV", f"want opencv-contrib-python-headless alone, got {', '.join(builds) or 'none'}", remedy)


_OPENCV = ("python", "contrib-python", "python-headless", "contrib-python-headless")


def torch_builds(device: str) -> Finding:
    """Check that torch is of the kind that `device` needs, and that torchvision imports beside it."""
    try:
        import torch

        from affpipe.system.compat import ensure_torchvision

        ensure_torchvision()
        import torchvision
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # errors of a build that fits none beside it
        return fault("torch", f"torch and torchvision do not import together: {' '.join(str(error).split())}", f"{INSTALL}, both at once")
    both = f"torch {torch.__version__}, torchvision {torchvision.__version__}, CUDA {torch.version.cuda or 'none'}"
    if device == "cuda" and torch.version.cuda is None:
        return fault("torch", f"want a CUDA build, as device is cuda, got {both}", "install the CUDA builds of torch and torchvision")
    return fine("torch", both)


def mamba() -> Finding:
    """Check for the fused scan, without which a Mamba head on a GPU loops over time step by step."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # noqa: F401
    except ModuleNotFoundError:
        remedy = "pip install --no-build-isolation mamba-ssm causal-conv1d"
        return warning("mamba-ssm", "not installed: Mamba heads on a GPU take a slow loop over time, with the same values", remedy)
    except (ImportError, OSError, RuntimeError) as error:
        return warning("mamba-ssm", f"does not import: {' '.join(str(error).split())}", "build it against this torch")
    return fine("mamba-ssm", f"{_installed('mamba-ssm')}")


def added() -> Iterator[Finding]:
    """Yield findings on every part that another package adds, whether the run names it or not. Imports its code, even if heavy."""
    for what, table in TABLES.items():
        for part in table.values():
            if part.origin:
                yield _part(what, part)
    for origin in extensions.misspelt():
        found = f"{origin}: nobody reads that group, so what it offers is not there; want one of {', '.join(extensions.GROUPS)}"
        yield warning("parts", found, "correct the group in that package")


def _part(what: str, part: Any) -> Finding:
    try:
        for path in filter(None, (getattr(part, name, None) for name in ("worker", "network", "within"))):
            if isinstance(path, str):  # else it is a size, or settings decide which code it is
                extensions.code(path, part.origin)
    except SettingsError as error:
        return of_error("parts", error)
    return fine("parts", f"{what} {part.name}, of the package {part.origin.package} {part.origin.version}")
