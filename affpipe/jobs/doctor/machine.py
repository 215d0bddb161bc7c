"""The machine that a run starts on: limits, and locks that an earlier run left."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from affpipe.jobs.doctor.finding import Finding, fault, fine, warning

FILES = 1024  # that a process may open: libraries of networks, HDF5 files, media


def check(folder: Path) -> Iterator[Finding]:
    """Findings on the machine; folder: where Snakemake is started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FILES:
        more = f"ulimit -n {FILES if hard < 0 else min(hard, 4096)}"
        yield warning("open files", f"want {FILES} open files a process, got {soft}", more)
    else:
        yield fine("open files", f"{'no limit' if soft < 0 else soft} a process")
    yield locks(folder)


def locks(folder: Path) -> Finding:
    """Snakemake's locks of a folder: of a run at work, or of one that was killed."""
    found = sorted((folder / ".snakemake" / "locks").glob("*.lock"))
    if not found:
        return fine("Snakemake", "no lock")
    if pid := _at_work(folder):
        return fine("Snakemake", f"a run is at work here, process {pid}")
    remedy = "if no run is at work here, on another node either: snakemake --unlock"
    return fault("Snakemake", f"{len(found)} locks in {found[0].parent}, and no Snakemake on this machine that holds them", remedy)


def _at_work(folder: Path) -> int | None:
    """A Snakemake process of this machine that was started in a folder."""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            here = os.path.samefile(process / "cwd", folder)
        except OSError:  # gone meanwhile, or another user's
            continue
        if (
            here
            and any(os.path.basename(word) in (b"snakemake", b"__main__.py") for word in words[:3])
            and b"snakemake" in b" ".join(words)
        ):
            return int(process.name)
    return None
