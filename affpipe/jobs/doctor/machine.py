"""The machine that a run starts on: limits, locks that an earlier run left, its GPU, and SLURM if it is there."""

import importlib.metadata
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from affpipe.jobs.doctor.finding import Finding, fault, fine, warning

FILES = 1024  # files that a process must be able to open: libraries of networks, HDF5 files, media
PLUGIN = "snakemake-executor-plugin-slurm"
ANSWER_S = 10  # seconds in which a command of SLURM must answer
MIN_JOB_AGE_S = 120  # SLURM forgets an ended job after this time; Snakemake asks every 40 s or so
SPARE = 1.1  # GPU memory is cut into blocks, so this much more is wanted than arithmetic says


def check(folder: Path) -> Iterator[Finding]:
    """Yield findings on the machine; folder: the folder in which Snakemake is started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FILES:
        more = f"ulimit -n {FILES if hard < 0 else min(hard, 4096)}"
        yield warning("open files", f"want {FILES} open files a process, got {soft}", more)
    else:
        yield fine("open files", f"{'no limit' if soft < 0 else soft} a process")
    yield locks(folder)


def locks(folder: Path) -> Finding:
    """Check Snakemake's locks of a folder: they are of a running run, or of one that was killed."""
    found = sorted((folder / ".snakemake" / "locks").glob("*.lock"))
    if not found:
        return fine("Snakemake", "no lock")
    if pid := _at_work(folder):
        return fine("Snakemake", f"a run is at work here, process {pid}")
    remedy = "if no run is at work here, on another node either: snakemake --unlock"
    return fault("Snakemake", f"{len(found)} locks in {found[0].parent}, and no Snakemake on this machine that holds them", remedy)


def _at_work(folder: Path) -> int | None:
    """Return the id of a Snakemake process of this machine that was started in a folder; None if there is none."""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            here = os.path.samefile(process / "cwd", folder)
        except OSError:  # ended meanwhile, or another user's
            continue
        if (
            here
            and any(os.path.basename(word) in (b"snakemake", b"__main__.py") for word in words[:3])
            and b"snakemake" in b" ".join(words)
        ):
            return int(process.name)
    return None


def gpu(device: str, need: float | None) -> Finding:
    """Check the GPU that torch sees. need: bytes that the largest stage takes."""
    if device == "cpu":
        return fine("GPU", "none wanted, as device is cpu")
    try:
        import torch
    except (ImportError, OSError):  # the check of packages says why
        return fault("GPU", "want torch to ask for one, got none that imports", "mend torch")
    if not torch.cuda.is_available():
        remedy = "run on a GPU node, see whether nvidia-smi finds its driver, or set device: cpu"
        if shutil.which("sinfo"):
            return warning("GPU", "none on this node; with SLURM jobs run on others", "srun --gres=gpu:1 affpipe doctor")
        return fault("GPU", "want a CUDA device, as device is cuda, got none", remedy)
    card = torch.cuda.get_device_properties(0)
    sizes = f"{torch.cuda.device_count()} x {card.name} of {card.total_memory / 1e9:.0f} GB"
    if need is not None and need * SPARE > card.total_memory:
        remedy = "lower batch_size of the stage that `affpipe estimate` shows, or max_pixels, or take a larger GPU"
        return fault("GPU", f"want {need * SPARE / 1e9:.1f} GB (arithmetic), got {sizes}", remedy)
    return fine("GPU", sizes + ("" if need is None else f"; the largest stage wants {need / 1e9:.1f} GB (arithmetic)"))


def slurm(device: str) -> Iterator[Finding]:
    """Yield findings on partitions, on the plugin, and on the accounting that it uses."""
    if shutil.which("sinfo") is None:
        yield fine("SLURM", "none here")
        return
    listed = _answer("sinfo", "-h", "-o", "%P %G")
    if listed is None:
        yield fault("SLURM", f"sinfo does not answer within {ANSWER_S} s", "ask whoever runs the cluster")
        return
    nodes = [line.partition(" ") for line in listed.splitlines() if line.strip()]
    partitions, gpus = sorted({name.rstrip("*") for name, _, _ in nodes}), any("gpu" in resources for _, _, resources in nodes)
    if device == "cuda" and not gpus:
        yield fault(
            "SLURM", f"want a partition with GPUs, got {', '.join(partitions) or 'none'}", "ask for access to GPU nodes, or set device: cpu"
        )
    else:
        yield fine("SLURM", f"partitions {', '.join(partitions)}{', with GPUs' if gpus else ''}")
    try:
        yield fine("SLURM plugin", f"{PLUGIN} {importlib.metadata.version(PLUGIN)}")
    except importlib.metadata.PackageNotFoundError:
        yield fault("SLURM plugin", f"want {PLUGIN}, got none", f"pip install {PLUGIN}")
    yield _accounting()


def _accounting() -> Finding:
    """Check how Snakemake learns of a job's end: from sacct, or from scontrol, which forgets."""
    if _answer("sacct", "-n", "-X", "-S", "now-1minutes") is not None:
        return fine("SLURM accounting", "sacct answers")
    config = _answer("scontrol", "show", "config") or ""
    found = re.search(r"MinJobAge\s*=\s*(\d+)", config)
    age_s = int(found[1]) if found else 0
    if age_s >= MIN_JOB_AGE_S:
        return warning(
            "SLURM accounting",
            f"sacct does not answer; ended jobs are known for {age_s} s",
            "while jobs run do not stop Snakemake for longer",
        )
    remedy = f"ask for accounting (slurmdbd), or MinJobAge of {MIN_JOB_AGE_S} s or more"
    return fault("SLURM accounting", f"sacct does not answer, and ended jobs are forgotten after {age_s} s: failures may go unseen", remedy)


def _answer(*command: str) -> str | None:
    """Return the output of a command; None if it does not exist, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
