"""Files that are written: locked till they have their name, of a name that fits and follows no link, on the disk with their folder."""

import errno
import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from limits import refused
from safetensors.torch import save_file
from small_run import Run

from affpipe.core.errors import SettingsError, StoreError
from affpipe.data.demo import render
from affpipe.data.demo.clips import CLIPS
from affpipe.data.manifest import ID_BYTES
from affpipe.faces.mouth_files import to_csv
from affpipe.jobs.doctor import disks
from affpipe.jobs.doctor.finding import FINE
from affpipe.models import epochs, predictor
from affpipe.results.report.views import fit_record
from affpipe.store import cache as caches
from affpipe.store.streams import file_name
from affpipe.system import disk, outputs
from affpipe.system.job_record import JobRecord
from affpipe.system.weights import records

DEEP = "[" * 100_000
NOBODY = 65534


# ---- half-written files -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch) -> None:
    """As from another container of the same host name: no process of this one is seen there."""
    monkeypatch.setattr(disk, "is_running", lambda _: False)


def text(part: Path) -> None:
    part.write_text("whole")


def hdf5(part: Path) -> None:
    with h5py.File(part, "w") as file:
        file["x"] = np.arange(3)


def lightning(part: Path) -> None:
    from lightning.fabric.utilities.cloud_io import _atomic_save

    _atomic_save({"x": torch.zeros(3)}, part)


WAYS = {
    "text": text,
    "HDF5": hdf5,
    "torch": lambda part: torch.save({"x": torch.zeros(3)}, part),
    "safetensors, a file of its own": lambda part: save_file({"x": torch.zeros(3)}, part),
    "Lightning, a file of its own": lightning,
}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_being_written_is_not_swept_from_another_container(tmp_path, monkeypatch, way):
    """Neither before nor after it is written, nor while it is flushed; afterwards it is whole."""
    flush, seen = os.fsync, []

    def sweep() -> None:
        disk.sweep(tmp_path)
        assert list(caches.verify(tmp_path)) == []

    def flushed(file: int) -> None:
        seen.append(file)
        sweep()
        flush(file)

    monkeypatch.setattr(os, "fsync", flushed)
    with disk.atomic(tmp_path / "x") as part:
        sweep()
        WAYS[way](part)
        if "its own" not in way:
            sweep()
        written = part.read_bytes() if part.exists() else None
    assert (tmp_path / "x").read_bytes() == written
    assert seen
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("first", ["import h5py", "import os; os.environ['HDF5_USE_FILE_LOCKING'] = 'TRUE'"])
def test_a_stream_is_written_whatever_was_said_of_locks_before(tmp_path, first):
    code = (
        f"{first}\nimport sys; from pathlib import Path; from fractions import Fraction; import numpy as np; \n"
        "from affpipe.store import streams\n"
        "header = streams.Header('mesh', '0' * 12, 'one', '0' * 16, {}, 1, {}, Fraction(25)); t = np.arange(4.0)\n"
        "streams.write(Path(sys.argv[1]), header, values=t, start_s=t, end_s=t + 1, valid=t >= 0)\n"
        "print(len(streams.Stream(Path(sys.argv[1]))))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "one.h5")], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("4\n", "")


def test_a_part_of_a_live_writer_is_not_swept_and_one_of_a_killed_writer_is(tmp_path, monkeypatch):
    """The writer is a process of its own; the name of its host is ours, its number is nobody's here."""
    code = (
        "import sys, time; from affpipe.system import disk; from pathlib import Path\n"
        "with disk.atomic(Path(sys.argv[1])): print(flush=True); time.sleep(600)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x")], stdout=subprocess.PIPE)
    try:
        writer.stdout.readline()
        (part,) = tmp_path.iterdir()
        assert disk.PART.search(part.name)["host"] == disk._host()
        monkeypatch.setattr(disk, "is_running", lambda _: False)
        for day in (None, 0):  # a day old, too: a long fit
            if day is not None:
                os.utime(part, (day, day))
            disk.sweep(tmp_path)
            assert part.exists()
        assert disks.parts(tmp_path).level == FINE
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    disk.sweep(tmp_path)
    assert not part.exists()


def test_another_pid_namespace_sees_no_writer_and_leaves_what_it_writes(tmp_path):
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespaces here")
    code = (
        "import sys; from pathlib import Path; from affpipe.system import disk\n"
        "(part,) = Path(sys.argv[1]).iterdir()\n"
        "print(disk.is_running(int(disk.PART.search(part.name)['pid'])))\n"
        "disk.sweep(part.parent)\n"
        "print(part.exists())"
    )
    with disk.atomic(tmp_path / "x") as part:
        part.write_text("whole")
        done = subprocess.run([*apart, sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert (tmp_path / "x").read_text() == "whole"


def test_without_locks_the_name_and_the_age_decide(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with disk.atomic(tmp_path / "x") as living:
        living.write_text("x")
        dead = living.with_name(living.name.replace(f"-{os.getpid()}-", "-999999999-"))
        other = living.with_name(".y.elsewhere-1-01234567.part")
        for path in (dead, other):
            path.write_text("x")
        disk.sweep(tmp_path)
        assert (living.exists(), dead.exists(), other.exists()) == (True, False, True)


def test_what_another_user_left_and_nobody_else_may_remove_is_let_be(tmp_path, monkeypatch):
    left = tmp_path / ".x.0a1b.part"
    left.touch()
    os.utime(left, (0, 0))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "unlink", refuse)
    disk.sweep(tmp_path)
    assert left.exists()


@pytest.mark.usefixtures("elsewhere")
def test_a_file_that_is_swept_before_it_is_locked_is_begun_again(tmp_path, monkeypatch):
    lock, swept = disk._locked, []

    def late(file: int) -> bool:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        return lock(file)

    monkeypatch.setattr(disk, "_locked", late)
    disk.write_text(tmp_path / "x", "whole")
    assert swept
    assert (tmp_path / "x").read_text() == "whole"


def test_a_model_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o022)
    try:
        predictor.save(
            tmp_path / "m.safetensors", SimpleNamespace(state_dict=lambda: {"x": torch.zeros(3)}, dims={}, outputs=2), {"key": "k"}
        )
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.safetensors").stat().st_mode) == 0o644
    assert predictor.read_record(tmp_path / "m.safetensors", "k")["outputs"] == 2


# ---- names ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["h" * 64, "node-1.cluster.example", "x" * 300], ids=len)
@pytest.mark.parametrize("id", ["a" * ID_BYTES, "я" * (ID_BYTES // 2), "日" * (ID_BYTES // 3)], ids=["latin", "cyrillic", "han"])
def test_names_as_long_as_may_be_are_written_on_hosts_of_long_names(tmp_path, monkeypatch, host, id):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    for name in (file_name(id, "0" * 16), file_name(id, "0" * 16, ".flac"), f"{id}.csv", "n" * 255):
        with disk.atomic(tmp_path / name) as part:
            assert len(os.fsencode(part.name)) <= 255
            part.write_text("x")
            assert disk.PART.search(part.name)["pid"] == str(os.getpid())
        assert (tmp_path / name).read_text() == "x"


def planted(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> Path:
    """A link under every name that a process of this number might take, to a file that is not its."""
    precious = folder / "precious"
    precious.write_text("here")
    for planted in (f".{name}.{os.getpid()}", f".affpipe-doctor-{os.getpid()}", f".affpipe-doctor-{os.getpid()}.moved"):
        (folder / planted).symlink_to(precious)
    monkeypatch.setattr(disk.secrets, "token_hex", Tokens())
    (folder / f".{name}.{disk._host()}-{os.getpid()}-{'0' * 8}.part").symlink_to(precious)
    return precious


class Tokens:
    """Draws of which the first is known to whoever planted a link."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, size: int) -> str:
        self.drawn += 1
        return f"{self.drawn - 1:0{2 * size}x}"


@pytest.mark.parametrize("what", ["weights record", "mouth windows"])
def test_a_link_under_a_temporary_name_is_not_written_through(tmp_path, monkeypatch, what):
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"weights")
    name = f"w.pt.{records.RECORD}" if what == "weights record" else "out.csv"
    precious = planted(monkeypatch, tmp_path, name)

    if what == "weights record":
        records.record(weights, name="w", source="test")
    else:
        outputs.write_text(tmp_path / name, to_csv([]))
    assert (tmp_path / name).is_file()
    assert precious.read_text() == "here"


def test_what_doctor_tries_follows_no_link(tmp_path, monkeypatch):
    precious = planted(monkeypatch, tmp_path, "x")
    assert [found.level for found in disks.written("cache", tmp_path)] == [FINE, FINE, FINE]
    assert precious.read_text() == "here"


def test_a_record_of_weights_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "w.pt").write_bytes(b"weights")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused(lambda: records.record(tmp_path / "w.pt", name="w", source="test"), StoreError, "got No space left on device; free space")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


# ---- on the disk ------------------------------------------------------------------------------------------------------------------------


def test_a_file_then_its_name_then_new_folders_are_brought_to_the_disk(tmp_path, monkeypatch):
    done: list[str] = []
    flush, rename = os.fsync, os.replace

    def flushed(file: int) -> None:
        done.append(Path(f"/proc/self/fd/{file}").readlink().name if stat.S_ISDIR(os.fstat(file).st_mode) else "the file")
        flush(file)

    def renamed(*names: Path) -> None:
        done.append("its name")
        rename(*names)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    disk.write_text(tmp_path / "a/b/x", "x")
    assert done == ["the file", "its name", "b", "a", tmp_path.name]
    done.clear()
    disk.write_text(tmp_path / "a/b/y", "y")
    assert done == ["the file", "its name", "b"]


@pytest.mark.parametrize(("number", "said"), [(errno.EINVAL, ""), (errno.EIO, "got Input/output error; check the disk or mount")])
def test_a_file_system_that_flushes_no_folders_is_none_that_fails(tmp_path, monkeypatch, number, said):
    flush = os.fsync

    def flushed(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        flush(file)

    monkeypatch.setattr(os, "fsync", flushed)
    if said:
        refused(lambda: disk.write_text(tmp_path / "x", "x"), StoreError, said)
    else:
        disk.write_text(tmp_path / "x", "x")
    assert (tmp_path / "x").read_text() == "x"


# ---- the lock of another user -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that others may look into, unlike those of tests."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="wants root, to be somebody else")
@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_lock_of_another_user_is_held_where_it_can_be_read_and_else_gone_on_without(public, mode):
    lock = public / "fit.lock"
    lock.touch()
    lock.chmod(mode)
    code = (
        "import os, sys; from affpipe.system import disk; from pathlib import Path\n"
        f"os.setuid({NOBODY})\n"
        "with disk.alone(Path(sys.argv[1])): print('inside', flush=True); sys.stdin.readline()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "inside\n", other.stderr.read()
        with lock.open("rb") as file:
            if mode == 0o644:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        _, said = other.communicate("\n", timeout=60)
    assert other.returncode == 0
    assert ("another user's, who lets nobody read it; going on without the lock" in said) == (mode == 0o600)


def test_a_lock_that_may_not_be_made_is_one_line(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)

    def lock() -> None:
        with disk.alone(tmp_path / "fit.lock"):
            pass

    refused(lock, StoreError, "fit.lock: want to use it, got Permission denied; make it writable or choose another folder")


# ---- JSON -------------------------------------------------------------------------------------------------------------------------------


def test_json_of_any_depth_is_one_line_wherever_it_is_read(tmp_path, monkeypatch):
    """Indexes, settings, records of weights and runs: test_bombs."""
    run = Run(tmp_path)
    Path(run.plan.fitted("face")).write_text(DEEP)
    refused(lambda: fit_record(run.plan, "face"), StoreError, "want the record of a fitted model, got lists within lists without end")
    (tmp_path / "job.json").write_text(DEEP)
    assert JobRecord.read(tmp_path / "job.json") is None  # it only informs
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / render.MARK).write_text(DEEP)
    refused(lambda: render._complete(tmp_path / "demo", 7, CLIPS), SettingsError, f"{render.MARK} is damaged")
    monkeypatch.setattr(epochs, "read", lambda *_: {"curves": DEEP})
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / epochs.LAST).touch()
    assert epochs.found(folder) == []
