"""Device that networks run on. torch is imported only when a device is asked for, since planning imports this module."""

import fcntl
import logging
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from affpipe.core.errors import SettingsError
from affpipe.system import memory
from affpipe.system.files import instead_of_file

if TYPE_CHECKING:
    import torch

log = logging.getLogger("affpipe")

JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")  # set within a job of a scheduler, which assigns devices itself
NAME = r"\d+|(GPU|MIG)-.+"  # name of a device in CUDA_VISIBLE_DEVICES
POLL_S = 1.0
NONE = "device: want a CUDA device as set, got none on this node; run on a GPU node or set device: cpu"
# Prints the number of CUDA devices. It asks the driver, since torch takes seconds to load; torch is asked if NVIDIA's driver is missing.
COUNT = """
import ctypes
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError:
    import torch
    print(torch.cuda.device_count())
else:
    count = ctypes.c_int()
    print(0 if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) else count.value)
"""
_held: dict[str, int] = {}  # device -> file that stays locked as long as this process lives


def pick(name: str) -> "torch.device":
    """Return the device of the setting `device`. Raises SettingsError if it asks for a GPU that is not there; never falls back."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError(NONE)
    if name == "cpu":
        memory.keep()
    return torch.device(name)


def claim() -> str | None:
    """Give a job that asked for a GPU one device, before anything is read and before CUDA is initialised.

    Returns CUDA_VISIBLE_DEVICES afterwards: one device, or None if a scheduler leaves it unset. Raises SettingsError if there is no GPU.
    """
    choose()
    pick("cuda")
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def choose() -> None:
    """Set CUDA_VISIBLE_DEVICES to one visible device that no other job has. Waits while all are taken.

    A scheduler's choice is kept, unless it is several devices: then this is one of the jobs that share its allocation.
    """
    job = next((os.environ[name] for name in JOB_IDS if name in os.environ), "")
    devices = visible() if "CUDA_VISIBLE_DEVICES" in os.environ or not job else None
    if devices == []:
        raise SettingsError(NONE)
    if _held or devices is None or (job and len(devices) == 1):
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = _take(devices, job)


def visible() -> list[str]:
    """List the devices that CUDA shows: CUDA_VISIBLE_DEVICES up to its first entry that is no device name, or all of the machine."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        # Asked in another process: counting may initialise CUDA, and then it is too late to choose.
        done = subprocess.run([sys.executable, "-c", COUNT], stdout=subprocess.PIPE, text=True, check=True)
        return [str(i) for i in range(int(done.stdout))]
    devices: list[str] = []
    for name in listed.split(","):
        if not re.fullmatch(NAME, name.strip()):
            break
        devices.append(name.strip())
    return devices


def _take(devices: Sequence[str], job: str) -> str:
    """Lock the first device that is free, and return it. Waits while all are taken.

    The locks are files in the temporary folder, one per host and device, which all users can open. So jobs of two people on one machine do
    not share a GPU if they have the same TMPDIR. Within an allocation, where each job may count its devices from 0, the locks are the
    allocation's own.
    """
    waiting = False
    while True:
        for device in devices:
            name = "-".join(filter(None, ("affpipe-gpu", socket.gethostname(), job, device)))
            if (file := _lock(Path(tempfile.gettempdir()) / f"{re.sub('[^A-Za-z0-9.-]', '_', name)}.lock")) is not None:
                _held[device] = file
                return device
        if not waiting:
            log.info("device: all %d GPUs (%s) are taken by other jobs: waiting for one", len(devices), ", ".join(devices))
            waiting = True
        time.sleep(POLL_S)


def _lock(path: Path) -> int | None:
    """Open and lock a file; None if another process has the lock.

    It is opened for reading, and created separately: another user's file in a sticky folder may be opened, but not by open-or-create.
    """
    with suppress(FileExistsError):
        created = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY)
        os.fchmod(created, 0o644)
        os.close(created)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # the folder is everybody's: a pipe there would never open
    except OSError as error:
        raise SettingsError(f"device: want a lock file {path}, got {error.strerror}; remove it, or set TMPDIR") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise SettingsError(f"device: want a lock file {path}, got {instead_of_file(path)}; remove it, or set TMPDIR")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError as error:
        log.warning("device: %s: this file system has no locks (%s); other jobs may take the same GPU", path, error.strerror)
    return file
