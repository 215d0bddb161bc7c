"""What the doctor finds: each planted fault, named, with what to do about it; and nothing where all is well."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import clips
import pytest
import yaml
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.jobs.doctor import checkpoints, disks, machine, packages, videos
from affpipe.jobs.doctor.examine import examine
from affpipe.jobs.doctor.finding import FAULT, FINE, WARNING, Finding
from affpipe.system import disk
from affpipe.system.weights import records

FOLDERS = {"cache": Path("cache"), "results": Path("results"), "logs": Path("logs")}
SETTINGS = {
    "name": "small",
    "data_root": "videos",
    "manifest": "m.csv",
    "features": {"grada": {"encoder": "grada", "weights": "mine.pth"}},
    "models": {"face": {"kind": "transformer", "reads": "grada"}},
    "publish": "face",
}
MANIFEST = "stream_id,video,partition,va\none,one.mp4,train,one.txt\ntwo,two.mp4,validation,one.txt\nthree,three.mp4,test,\n"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder in which nothing is wrong: three clips, one without sound and one of variable rate, and weights of unknown origin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # no SLURM
    (tmp_path / "videos").mkdir()
    clips.write(tmp_path / "videos/one.mp4", count=20, fps=25, sound=clips.Sound(length_s=0.8, click_s=(0.4,)))
    clips.write(tmp_path / "videos/two.mp4", count=20, fps=25)
    varying = [i * 2 + (i > 10) * 3 for i in range(20)]
    clips.write(tmp_path / "videos/three.mp4", count=20, fps=25, pts=varying, sound=clips.Sound(length_s=0.8, click_s=(0.4,)))
    (tmp_path / "videos/one.txt").write_text("valence,arousal\n" + "0.1,0.2\n" * 20)
    (tmp_path / "m.csv").write_text(MANIFEST)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/mine.pth").write_bytes(b"weights")
    return tmp_path


def faults(found) -> list[Finding]:
    return [f for f in found if f.level == FAULT]


def only(found) -> Finding:
    (one,) = list(found)
    return one


# ---- all of it --------------------------------------------------------------------------------------------------------------------------


def test_a_sound_project_has_no_fault(project):
    out = CliRunner().invoke(main.app, ["doctor", "--json"], catch_exceptions=False)
    found = {f["check"]: f for f in json.loads(out.output)}
    assert out.exit_code == 0, out.output
    assert found["media"]["found"] == "3 videos opened, 0.0 hours, 0 faults, 1 without audio, 1 of variable rate"
    assert found["manifest"]["found"] == "m.csv: 3 streams of 3 videos"
    for check in ("settings", "python", "OpenCV", "torch", "Snakemake", "SLURM", "GPU", "cache folder", "clock", "half-written files"):
        assert found[check]["level"] == FINE, check
    assert sorted(os.listdir(project)) == ["config.yaml", "m.csv", "videos", "weights"]  # it leaves nothing behind
    assert os.listdir(project / "weights") == ["mine.pth"]


def test_all_that_is_wrong_is_told_at_once(project):
    (project / "videos/two.mp4").write_bytes(b"no video at all")
    (project / "weights/mine.pth").unlink()
    (project / "cache").write_text("a file in the way")
    lock = project / ".snakemake/locks/0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    out = CliRunner().invoke(main.app, ["doctor"], catch_exceptions=False)
    assert out.exit_code == 2
    assert out.output.splitlines()[-1].split(", ")[1] == "5 faults"  # the cache is one to the settings, too
    text = CliRunner().invoke(main.app, ["doctor", "--json"], catch_exceptions=False).output
    for words in ("two.mp4", "want weights/mine.pth, got nothing", "Not a directory", "snakemake --unlock"):
        assert words in text, words


def test_every_fault_of_a_manifest_is_listed(project):
    (project / "m.csv").write_text(MANIFEST.replace("one.mp4", "lost.mp4").replace("test", "exam"))
    found = list(examine([Path("config.yaml")], media=False))
    assert [f.found for f in faults(found)] == [
        "m.csv: row 2: want a video file, got no videos/lost.mp4",
        "m.csv: row 4: want partition one of train, validation, test, predict, got 'exam'",
    ]
    assert all(f.remedy for f in faults(found))
    assert "disk and GPU memory are not compared" in only(f for f in found if f.check == "estimate").found


def test_settings_that_do_not_read_leave_the_rest_to_be_checked(project):
    (project / "bad.yaml").write_text("faces: {score: 1}\n")
    found = list(examine([Path("config.yaml"), Path("bad.yaml")]))
    assert only(faults(found)).found == "config.yaml, bad.yaml: faces.score: unknown key"
    assert {"python", "packages", "Snakemake"} <= {f.check for f in found}


def test_a_partition_without_streams_is_a_fault(project):
    (project / "m.csv").write_text(MANIFEST.replace("validation", "train"))
    found = faults(examine([Path("config.yaml")], media=False))
    assert "want rows of partition validation with a cell `va`" in only(found).found


# ---- weights ----------------------------------------------------------------------------------------------------------------------------


def test_weights_that_are_missing_altered_other_ones_or_random(project):
    weights, cache = project / "weights", project / "cache"
    for name, random in {"good": False, "dice": True, "altered": False, "other": False, "cut": False, "unrecorded": False}.items():
        (weights / name).mkdir()
        (weights / name / "x.bin").write_text(name)
        if name != "unrecorded":
            records.record(weights / name, name=name, source="a test", random=random)
    (weights / "altered/x.bin").write_text("something else")
    (cache / "weights").mkdir(parents=True)
    (cache / "weights/other.json").write_text(json.dumps({"name": "other", "digest": "0"}))
    (cache / "weights/cut.json").write_text('{"name": "cut", ')
    names = ["good", "dice", "altered", "other", "cut", "unrecorded", "wavlm-base", "mine.pth"]
    found = list(checkpoints.check([checkpoints.Wanted(weights / n) for n in names], cache, 60))
    by_text = {name: only(f for f in found if f"weights/{name}" in f.found) for name in names}
    levels = {name: f.level for name, f in by_text.items()}
    bad = dict.fromkeys(("altered", "other", "cut", "unrecorded", "wavlm-base"), FAULT)
    assert levels == {"good": FINE, "mine.pth": FINE, "dice": WARNING} | bad
    assert by_text["wavlm-base"].remedy == "affpipe weights fetch wavlm-base"
    assert "want sha256" in by_text["altered"].found
    assert "the weights that" in by_text["other"].found
    assert by_text["cut"].remedy == "delete the file if you know them"


def test_only_the_weights_that_a_run_loads_are_wanted():
    from affpipe.plan.config import parse

    two = {"grada": {"encoder": "grada", "weights": "a.pth"}, "mesh": {"encoder": "mesh"}, "ears": {"encoder": "wavlm", "weights": "b"}}
    named = {"faces": {"detector": "yolo", "weights": "y.pt"}, "landmarks": {"model": "models/mesh.task"}}
    settings = parse(SETTINGS | {"features": two} | named)
    stages = ["frames", "labels", "faces", "subject", "landmarks", "grada", "mesh"]
    found = checkpoints.wanted(settings, stages)
    assert [path for path, _ in found] == [Path("weights/a.pth"), Path("weights/y.pt"), Path("models/mesh.task")]
    assert all(revision is None for _, revision in found)
    some = checkpoints.wanted(settings, ["frames", "labels", "faces", "subject", "grada"])
    assert [path for path, _ in some] == [Path("weights/a.pth"), Path("weights/y.pt")]
    assert [path for path, _ in checkpoints.wanted(settings, ["frames", "labels", "audio", "ears"])] == [Path("weights/b")]


def test_weights_are_held_against_the_revision_that_settings_state(project):
    from affpipe.plan.config import parse

    weights, cache = project / "weights", project / "cache"
    known = records.record(weights / "mine.pth", name="mine.pth", source="a test")
    right, wrong = known.digest[:12], "0123456789ab"
    feature = {"encoder": "grada", "weights": "mine.pth"}
    both = {"grada": feature | {"weights_revision": right}, "other": feature | {"weights_revision": wrong}}
    wanted = checkpoints.wanted(parse(SETTINGS | {"features": both, "weights": str(weights)}), ["grada", "other"])
    assert wanted == [(weights / "mine.pth", right), (weights / "mine.pth", wrong)]
    (cache / "weights").mkdir(parents=True)
    (cache / "weights/mine.pth.json").write_text(json.dumps({"name": "mine.pth", "digest": "0"}))  # begun with others, unnamed ones
    held, other, bare = checkpoints.check([*wanted, checkpoints.Wanted(weights / "mine.pth")], cache, 60)
    assert (held.level, other.level, bare.level) == (FINE, FAULT, FAULT)
    assert other.found.endswith(f"mine.pth: want weights_revision {wrong}, got {right}")
    assert other.remedy == f'put those there, or state these: weights_revision: "{right}"'
    assert "began with" in bare.found
    assert bare.remedy.endswith(f'or state them: weights_revision: "{right}"')


# ---- disks ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "level"), [(0.9e9, FAULT), (1.1e9, WARNING), (1.3e9, FINE)])
def test_free_space_is_held_against_what_is_still_to_be_written(project, monkeypatch, free, level):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free / 4096, f_frsize=4096, f_files=0, f_favail=0))
    found = only(disks.room(FOLDERS, {"cache": 0.9e9, "results": 0.1e9}, 10))  # one file system, one account
    assert (found.check, found.level) == ("disk", level)


def test_free_inodes_are_counted_too(project, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1e9, f_frsize=4096, f_files=1000, f_favail=99))
    found = only(f for f in disks.room(FOLDERS, {"cache": 1.0, "results": 0.0}, 100) if f.check == "files")
    assert (found.level, found.found) == (FAULT, "want 100 new files, got 99 free inodes")


def test_a_folder_that_takes_no_file_is_found(project, monkeypatch):
    assert [f.level for f in disks.written("cache", project / "new/deep")] == [FINE, FINE, FINE]
    assert not (project / "new").exists()
    (project / "way").write_text("")
    assert only(disks.written("cache", project / "way/cache")).level == FAULT

    def refuse(_: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", refuse)
    found = only(disks.written("logs", project))
    assert (found.level, found.remedy) == (FAULT, "make it writable, or set another folder")
    assert "Read-only file system" in found.found
    assert not [name for name in os.listdir(project) if "doctor" in name]


def about(check: str, cache: Path) -> Finding:
    return only(f for f in disks.written("cache", cache) if f.check == check)


@pytest.mark.parametrize(("apart_s", "level"), [(0, FINE), (20, WARNING), (-20, WARNING), (500, FAULT)])
def test_clocks_that_are_apart(project, monkeypatch, apart_s, level):
    now = time.time
    monkeypatch.setattr(disks.time, "time", lambda: now() + apart_s)
    assert about("clock", project).level == level


def test_a_file_system_without_locks(project, monkeypatch):
    def refuse(*_) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    assert about("file locks", project).level == FINE
    monkeypatch.setattr(disks, "kind", lambda _: "lustre")
    assert about("file locks", project).level == WARNING
    monkeypatch.setattr(fcntl, "flock", refuse)
    found = about("file locks", project)
    assert (found.level, found.remedy) == (WARNING, "run one workflow at a time on this cache")
    assert os.strerror(errno.ENOLCK) in found.found


def test_half_written_files_of_killed_jobs(project):

    folder = project / "cache/mesh/0123456789ab"
    folder.mkdir(parents=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid in (ended.pid, os.getpid()):
        (folder / f".a.h5.{disk._host()}-{pid}-00000000.part").write_bytes(bytes(1_000_000))
    found = disks.parts(project / "cache")
    assert found.level == WARNING
    assert found.found.startswith("1 of killed jobs, 1.0 MB")  # the other one is being written


# ---- machine ----------------------------------------------------------------------------------------------------------------------------


def test_locks_of_a_killed_run_and_of_one_at_work(project):
    lock = project / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    assert machine.locks(project).level == FINE
    lock.touch()
    assert (machine.locks(project).level, "snakemake --unlock" in machine.locks(project).remedy) == (FAULT, True)
    (project / "snakemake").write_text("import time; open('started', 'w').close(); time.sleep(60)")
    at_work = subprocess.Popen([sys.executable, "snakemake"], cwd=project)
    try:
        while not (project / "started").exists():
            time.sleep(0.01)
        assert machine.locks(project).found == f"a run is at work here, process {at_work.pid}"
    finally:
        at_work.kill()
        at_work.wait()


def test_a_low_limit_of_open_files(project, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 100_000))
    found = next(machine.check(project))
    assert (found.level, found.remedy) == (WARNING, "ulimit -n 4096")


# ---- packages ---------------------------------------------------------------------------------------------------------------------------


def test_versions_are_held_against_what_is_asked_for_and_locked():
    import numpy

    assert packages.versions(["numpy>=1.26,<2", "nothing-of-this-name; extra == 'gpu'"], {"numpy": numpy.__version__}).level == FINE
    wrong = packages.versions(["numpy>=3", "nothing-of-this-name>=1"], {})
    assert wrong.level == FAULT
    assert f"numpy {numpy.__version__} (want >=3), nothing-of-this-name none (want >=1)" in wrong.found
    other = packages.versions(["numpy"], {"numpy": "1.0.0"})
    assert (other.level, "may give other values" in other.found) == (WARNING, True)


@pytest.mark.parametrize(
    ("names", "level"),
    [
        (["opencv-contrib-python-headless", "numpy"], FINE),
        (["opencv_contrib_python_headless", "opencv-python"], FAULT),
        (["opencv-python-headless"], FAULT),
        ([], FAULT),
    ],
)
def test_exactly_one_build_of_opencv(names, level):
    assert packages.opencv(names).level == level


def test_torch_must_be_of_the_kind_that_is_asked_for(monkeypatch):
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    assert packages.torch_builds("cpu").level == FINE
    found = packages.torch_builds("cuda")
    assert (found.level, "want a CUDA build" in found.found) == (FAULT, True)


# ---- GPU and SLURM ----------------------------------------------------------------------------------------------------------------------


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Stand-ins for commands of SLURM."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in scripts.items():
        path = folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"))


def test_a_gpu_that_is_not_there_or_too_small(tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpu("cpu", None).level == FINE
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.gpu("cuda", 1e9).level == FAULT
    commands(tmp_path, monkeypatch, sinfo="echo main gpu:2")
    assert machine.gpu("cuda", 1e9).level == WARNING  # its jobs run on other nodes
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="Small", total_memory=8e9))
    assert machine.gpu("cuda", 7e9).level == FINE
    small = machine.gpu("cuda", 12e9)
    assert (small.level, small.found) == (FAULT, "want 13.2 GB (arithmetic), got 1 x Small of 8 GB")


def test_slurm_is_asked_for_partitions_gpus_and_accounting(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [f.found for f in machine.slurm("cuda")] == ["none here"]
    age = "echo MinJobAge = {} sec".format
    commands(tmp_path, monkeypatch, sinfo="echo 'main* gpu:2'; echo 'long (null)'", sacct="exit 1", scontrol=age(30))
    first, _, last = machine.slurm("cuda")
    assert first.found == "partitions long, main, with GPUs"
    assert (last.level, "forgotten after 30 s" in last.found) == (FAULT, True)
    commands(tmp_path, monkeypatch, scontrol=age(300))
    assert list(machine.slurm("cuda"))[-1].level == WARNING
    commands(tmp_path, monkeypatch, sacct="exit 0", sinfo="echo 'gpu* (null)'")
    first, *_, last = machine.slurm("cuda")
    assert (first.level, last.level) == (FAULT, FINE)  # a partition of that name that has none
    assert next(iter(machine.slurm("cpu"))).level == FINE


# ---- media ------------------------------------------------------------------------------------------------------------------------------


def test_videos_are_opened_and_what_is_odd_is_counted(project):
    paths = sorted((project / "videos").glob("*.mp4"))
    broken = project / "videos/broken.mp4"
    broken.write_bytes(paths[0].read_bytes()[:600])
    opened, found = videos.check([*paths, broken], 60)
    assert set(opened) == set(paths)
    assert opened[paths[1]].variable_rate
    assert str(broken) in only(faults(found)).found
    assert found[-1].found == "3 videos opened, 0.0 hours, 1 faults, 1 without audio, 1 of variable rate"


def test_videos_that_time_does_not_suffice_for_are_said(project):
    paths = sorted((project / "videos").glob("*.mp4"))
    opened, found = videos.check(paths, 0.0)
    assert opened == {}
    assert only(found).level == WARNING
    assert only(found).found.endswith("3 not reached within 0 s")
