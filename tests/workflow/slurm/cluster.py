"""A real SLURM of one node on loopback, for as long as a test needs it.

    with cluster() as node: ...
    python tests/workflow/slurm/cluster.py              # until Ctrl-C, to try things by hand

Debian's slurmctld, slurmd, slurm-client and munge are installed where they are absent, which takes root. The node has the cores of this
machine and two stand-in GPUs. There is no accounting (sacct finds nothing) and no control of memory or devices: what jobs ask for is
counted, not enforced. All state lies in a temporary folder, all daemons are children of this process, and two files under /etc/slurm are
there only in between: the step of a job drops SLURM_CONF from its environment, so no other place would be found.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}  # program -> package
ETC = Path("/etc/slurm")
MARK = "# Written by affpipe's tests/workflow/slurm/cluster.py, which also removes it.\n"
GPUS = ("/dev/null", "/dev/zero")  # any device file will do: SLURM counts them, and tells a job its own by CUDA_VISIBLE_DEVICES
PATIENCE_S = 60
# A fit asks for 32 GB, and for more with each try. The node may have less: config_overrides has SLURM believe this file.
SLURM_CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MinJobAge=3600
KillWait=2
OverTimeLimit=0
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=256000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE DefMemPerCPU=1000 State=UP
"""
GRES_CONF = "NodeName={host} Name=gpu File={file} Flags=nvidia_gpu_env\n"


class NoCluster(Exception):
    """SLURM cannot be had here; one line says why."""


def install() -> None:
    """Install what is absent."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if os.geteuid() != 0:
        raise NoCluster(f"slurm: want root to run daemons and write {ETC}, got user {os.geteuid()}; run make test-slurm as root")
    if missing and shutil.which("apt-get") is None:
        raise NoCluster(f"slurm: want {', '.join(missing)}, got no apt-get to install them with; install them, or use a Debian machine")
    if missing:
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            done = subprocess.run(["apt-get", "--quiet", *command], env=quiet, capture_output=True, text=True)
            if done.returncode:
                raise NoCluster(f"slurm: want {', '.join(missing)}, got from apt-get {command[0]}: {done.stderr.strip()[-300:]}")


def ask(*command: str) -> str:
    """What a program of SLURM prints; nothing where it fails, as while the controller starts."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


@contextmanager
def configuration(folder: Path) -> Iterator[str]:
    """The files under /etc/slurm while a block runs; the node's name. One that somebody else wrote is left alone: NoCluster."""
    host = socket.gethostname().split(".")[0]
    texts = {
        ETC / "slurm.conf": SLURM_CONF.format(host=host, folder=folder, cores=os.cpu_count(), gpus=len(GPUS)),
        ETC / "gres.conf": "".join(GRES_CONF.format(host=host, file=file) for file in GPUS),
    }
    for path in texts:
        if path.exists() and not path.read_text(encoding="utf-8").startswith(MARK):
            raise NoCluster(f"{path}: want no configuration of SLURM, got one of this machine; run the test on a machine without")
    if (ETC / "slurm.conf").exists() and "is UP" in ask("scontrol", "ping"):
        raise NoCluster("slurm: want one cluster of this kind at a time, got one that runs; wait for it")
    try:
        for path, text in texts.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(MARK + text, encoding="utf-8")
        yield host
    finally:
        for path in texts:
            path.unlink(missing_ok=True)


@contextmanager
def daemon(folder: Path, *command: str, user: str = "root") -> Iterator[None]:
    """Run a daemon in the foreground, in a session of its own, while a block runs; it dies with this process, however that ends."""
    leash = "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--pdeathsig=TERM"
    with log_of(folder, command[0]).open("w") as file:
        process = subprocess.Popen([*leash, *command], stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def log_of(folder: Path, program: str) -> Path:
    return folder / f"{program}.log"


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Return once `true()`; NoCluster if that takes too long."""
    over = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > over:
            raise NoCluster(f"slurm: want {what} within {PATIENCE_S} s, got none of it")
        time.sleep(0.1)


def end_jobs() -> None:
    """Stop all jobs, and wait for their last process."""
    ask("scancel", "--full", "--user=root")
    wait_until(lambda: not ask("squeue", "--noheader"), "an end of all jobs")


@contextmanager
def cluster() -> Iterator[str]:
    """A node that is idle and takes jobs while a block runs; its name. NoCluster where there can be none."""
    install()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)  # of mode 700 by default, where munged refuses to listen
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for path in (key.parent, key):
            shutil.chown(path, "munge", "munge")
        host = stack.enter_context(configuration(folder))
        socket_ = folder / "munge/socket"
        files = [f"--{name}-file={folder / 'munge' / name}" for name in ("key", "pid", "seed")]
        try:
            stack.enter_context(daemon(folder, "munged", "--foreground", f"--socket={socket_}", *files, user="munge"))
            wait_until(socket_.exists, "munged to listen")
            stack.enter_context(daemon(folder, "slurmctld", "-D"))
            stack.enter_context(daemon(folder, "slurmd", "-D"))
            wait_until(lambda: ask("sinfo", "--noheader", "--format=%T") == "idle", "an idle node")
        except NoCluster as error:
            last = "; ".join(f"{path.name}: {path.read_text()[-300:].strip()}" for path in sorted(folder.glob("*.log")))
            raise NoCluster(f"{error}; {last}") from None
        stack.callback(end_jobs)
        yield host


if __name__ == "__main__":
    try:
        with cluster() as name:
            ends = {signal.SIGINT, signal.SIGTERM}
            signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # not before: the daemons would inherit it
            print(f"slurm: node {name} is idle; Ctrl-C stops it", flush=True)
            signal.sigwait(ends)
    except NoCluster as error:
        sys.exit(str(error))
