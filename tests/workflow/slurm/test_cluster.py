"""The stand-in cluster takes nothing that is not its own, and leaves nothing behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cluster as harness
import pytest

PROGRAMS = {"munged", "slurmctld", "slurmd", "slurmstepd"}


def running() -> set[str]:
    """Processes of the cluster, and of its jobs."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, told = (folder / "comm").read_text().strip(), (folder / "environ").read_bytes()
        except OSError:  # over in the meantime
            continue
        if name in PROGRAMS or b"SLURM_CLUSTER_NAME=loopback" in told:
            found.add(f"{folder.name} {name}")
    return found


def left() -> list[str]:
    return sorted(running()) + [str(harness.ETC / name) for name in ("slurm.conf", "gres.conf") if (harness.ETC / name).exists()]


def fail_while_a_job_runs() -> None:
    with harness.cluster() as node:
        script = "sleep 1000 & sleep 1000"
        subprocess.run(["sbatch", "--output=/dev/null", "--mem=100", "--wrap", script], check=True, stdout=subprocess.DEVNULL)
        harness.wait_until(lambda: harness.ask("squeue", "--noheader", "--format=%T %N") == f"RUNNING {node}", "a running job")
        raise ZeroDivisionError


def test_a_job_that_still_runs_ends_with_the_cluster_also_after_a_failure():
    with pytest.raises(ZeroDivisionError):
        fail_while_a_job_runs()
    assert left() == []


def test_a_configuration_of_the_machine_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "ETC", tmp_path)
    (tmp_path / "gres.conf").write_text("Name=gpu\n")
    with pytest.raises(harness.NoCluster, match="want no configuration of SLURM, got one of this machine"), harness.cluster():
        pass
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("gres.conf", "Name=gpu\n")]
    assert running() == set()


def test_a_second_cluster_is_refused_while_one_runs():
    with harness.cluster():
        with pytest.raises(harness.NoCluster, match="want one cluster of this kind at a time"), harness.cluster():
            pass
        assert harness.ask("sinfo", "--noheader", "--format=%T") == "idle"
    assert left() == []


def test_daemons_end_with_a_process_that_is_killed_and_the_next_cluster_takes_over():
    started = subprocess.Popen([sys.executable, harness.__file__], stdout=subprocess.PIPE, text=True)
    assert "is idle" in started.stdout.readline()
    assert len(running()) >= 3
    os.kill(started.pid, signal.SIGKILL)
    started.communicate()
    over = time.monotonic() + 30
    while running() and time.monotonic() < over:
        time.sleep(0.1)
    assert running() == set()
    (state,) = re.findall(r"^StateSaveLocation=(.+)$", (harness.ETC / "slurm.conf").read_text(), re.MULTILINE)
    with harness.cluster():
        pass
    shutil.rmtree(Path(state).parent)  # all that nobody was left to remove
    assert left() == []
