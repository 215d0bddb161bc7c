"""Packages of others, as an installer leaves them in a folder on the path."""

from pathlib import Path


def entry_points(site: Path, groups: dict[str, dict[str, str]], name: str, version: str = "0.1.0") -> None:
    """The record of an installed package that offers these."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
