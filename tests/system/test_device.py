"""Each job its own GPU. The devices are names: no GPU is needed to hand them out."""

import ctypes
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from affpipe.core.errors import SettingsError
from affpipe.system import device

CHOOSE = "import logging, os, sys; logging.basicConfig(level='INFO', format='%(message)s', stream=sys.stdout); "
CHOOSE += "from affpipe.system import device; "
CHOOSE += "device.POLL_S = 0.05; device.choose(); print('has', os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No scheduler, no device listed, locks of one's own."""
    for name in (*device.JOB_IDS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def job() -> Callable[[], subprocess.Popen]:
    """Start a process that takes a device and keeps it until its input ends."""
    started = []

    def start() -> subprocess.Popen:
        started.append(subprocess.Popen([sys.executable, "-c", CHOOSE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


@pytest.mark.parametrize("listed", ["0,1", "2, 3", "MIG-7a5c,GPU-8f6e"])
def test_jobs_at_once_have_a_device_each_and_the_next_waits_for_the_first_that_ends(job, monkeypatch, listed):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    a, b = listed.replace(" ", "").split(",")
    first, second = job(), None
    assert says(first) == f"has {a}"
    second = job()
    assert says(second) == f"has {b}"
    third = job()
    assert says(third) == f"device: all 2 GPUs ({a}, {b}) are taken by other jobs: waiting for one"
    second.kill()  # a job that was killed gives its device back too
    assert says(third) == f"has {b}"


def test_a_lock_that_was_left_behind_holds_nothing(job, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    first = job()
    assert says(first) == "has 0"
    first.kill()
    first.wait()
    (lock,) = tmp_path.iterdir()
    assert lock.stat().st_mode & 0o777 == 0o644  # of other users too
    assert says(job()) == "has 0"


@pytest.mark.parametrize("name", device.JOB_IDS)
def test_the_device_that_a_scheduler_gave_is_left_as_it_is(monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, "17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    device.choose()
    assert device.os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    device.choose()
    assert "CUDA_VISIBLE_DEVICES" not in device.os.environ
    assert list(tmp_path.iterdir()) == []


def test_jobs_within_one_allocation_of_several_devices_share_them_out(job, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert [says(job()), says(job())] == ["has 0", "has 1"]
    monkeypatch.setenv("SLURM_JOB_ID", "18")  # of another allocation, device 0 may be another
    assert says(job()) == "has 0"


@pytest.mark.parametrize(
    ("listed", "found"),
    [("", []), ("-1", []), ("NoDevFiles", []), ("1", ["1"]), ("0,-1,1", ["0"]), (" 0 ,2", ["0", "2"]), ("MIG-a/1/0", ["MIG-a/1/0"])],
)
def test_devices_are_listed_as_cuda_reads_the_list(monkeypatch, listed, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert device.visible() == found


def test_without_a_list_cuda_is_asked_in_another_process(monkeypatch):
    def run(command, **_):
        assert command[0] == sys.executable
        return subprocess.CompletedProcess(command, 0, stdout="2\n")

    monkeypatch.setattr(device.subprocess, "run", run)
    assert device.visible() == ["0", "1"]


@pytest.mark.parametrize(("faults", "devices"), [((0, 0), 3), ((100, 0), 0), ((0, 1), 0)])
def test_the_driver_counts_and_its_faults_are_no_devices(monkeypatch, capsys, faults, devices):
    class Driver:
        def cuInit(self, flags):
            return faults[0]

        def cuDeviceGetCount(self, count):
            count._obj.value = 3
            return faults[1]

    monkeypatch.setattr(ctypes, "CDLL", lambda name: {"libcuda.so.1": Driver()}[name])
    monkeypatch.setitem(sys.modules, "torch", None)  # to import it would fail
    exec(device.COUNT)
    assert capsys.readouterr().out == f"{devices}\n"


def test_where_there_is_no_such_driver_torch_counts(monkeypatch, capsys):
    def missing(name):
        raise OSError(name)

    torch = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 2))
    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setitem(sys.modules, "torch", torch)
    exec(device.COUNT)
    assert capsys.readouterr().out == "2\n"


@pytest.mark.parametrize("scheduler", [False, True])
@pytest.mark.parametrize("listed", ["", "-1", "NoDevFiles"])
def test_a_job_without_a_gpu_fails_at_once(monkeypatch, tmp_path, listed, scheduler):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    if scheduler:
        monkeypatch.setenv("SLURM_JOB_ID", "17")
    with pytest.raises(
        SettingsError, match="device: want a CUDA device as set, got none on this node; run on a GPU node or set device: cpu"
    ):
        device.claim()
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_cuda_does_not_have_is_none(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(SettingsError, match="got none on this node"):
        device.claim()


def test_planning_imports_no_torch():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, affpipe.system.device; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout == "False\n"
