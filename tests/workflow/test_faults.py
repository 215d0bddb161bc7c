"""What disturbs a run: afterwards one more run finishes, and equals the undisturbed one bit for bit.

The workflow is real, its encoders are fakes whose values are functions of everything they read.
"""

import csv
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest
from fakes.workspace import Workspace

RECIPE = """
shards: 1
features: {qwen3vl: null}
models: {behaviour: null, fused: null, voice: {speech_only: false}}
publish: face
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("faults") / "finished", recipe=RECIPE)
    made.snakemake()
    return made


@pytest.fixture(scope="module")
def sound(finished) -> dict[str, str]:
    """Digests of the undisturbed run."""
    return finished.values()


@pytest.fixture
def workspace(finished, sound, tmp_path) -> Workspace:
    return finished.copy(tmp_path / "workspace")


def without(workspace: Workspace, *stages: str) -> None:
    """Take stages out of the store, so that they are made again, and what says that the run is published."""
    for stage in stages:
        shutil.rmtree(workspace.folder / "cache" / stage)
    shutil.rmtree(workspace.folder / "results")
    workspace.forget()


def stream(workspace: Workspace, stage: str, video: str) -> Path:
    (path,) = workspace.folder.glob(f"cache/{stage}/*/{video}.*")
    return path


def values_at(path: Path) -> int:
    """Where in a stream's file its values lie: there is room in it that nothing uses."""
    if path.suffix == ".flac":
        return path.stat().st_size // 2
    with h5py.File(path, "r") as file:
        return file["prediction" if "prediction" in file else "values"].id.get_chunk_info(0).byte_offset


def fails(workspace: Workspace, *options: str) -> str:
    """Run the workflow, which fails and says why in one line; return its output."""
    said = workspace.snakemake("--rerun-incomplete", *options, fails=True)
    assert "Traceback" not in said
    assert "\naffpipe: " in said
    return said


def recovers(workspace: Workspace, sound: dict[str, str]) -> None:
    """One more run finishes, and everything is as if nothing had happened."""
    workspace.snakemake("--rerun-incomplete")
    assert workspace.values() == sound
    assert workspace.left_over() == []


def ledger(workspace: Workspace) -> list[dict[str, str]]:
    with (workspace.folder / "results/run/failures.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


# ---- the store, behind the workflow's back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "stage", "read_by"),
    [("cut", "faces", "subject"), ("flipped", "faces", "subject"), ("flipped", "audio", "wavlm"), ("flipped", "face", "")],
)
def test_a_damaged_stream_is_found_by_who_reads_it(workspace, sound, damage, stage, read_by):
    path = stream(workspace, stage, "clip2")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[values_at(path) + 5] ^= 0x10
    path.write_bytes(data)
    without(workspace, *read_by.split())  # models are read by publishing
    said = fails(workspace)
    assert f"{path.relative_to(workspace.folder)}: want" in said
    workspace.forget()
    recovers(workspace, sound)
    assert workspace.videos()[stage] == 1  # that stream, and no other


@pytest.mark.parametrize("change", ["less", "lost"])
def test_an_index_that_disagrees_with_the_store_is_found(workspace, sound, change):
    index = next(p for p in workspace.folder.glob("cache/mesh/*/shards/fit*.json") if "clip1" in p.read_text())
    if change == "less":
        index.write_text("{}\n")
    else:
        stream(workspace, "mesh", "clip1").unlink()
    without(workspace, "face")
    fails(workspace)
    workspace.forget()
    recovers(workspace, sound)
    assert workspace.videos()["mesh"] == (change == "lost")


# ---- the disk ----------------------------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(workspace: Workspace, kilobytes: int) -> Iterator[str]:
    """The store on a disk of its own, that can be made larger or read-only; skips where it cannot be mounted."""
    cache = workspace.folder / "cache"
    cache.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", cache], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot mount a small disk: {made.stderr.strip()}")
    try:
        yield str(cache)
    finally:
        subprocess.run(["umount", "--lazy", cache], check=True)


def test_a_full_disk_loses_nothing_that_is_finished(finished, sound, tmp_path):
    workspace = finished.copy(tmp_path / "workspace")
    without(workspace)
    shutil.rmtree(workspace.folder / "cache")
    with small_disk(workspace, kilobytes=200) as cache:
        said = fails(workspace)
        assert "got No space left on device; free space" in said
        made = workspace.videos().total()
        assert made > 3
        assert workspace.left_over() == []
        subprocess.run(["mount", "-o", "remount,size=64m", cache], check=True)
        recovers(workspace, sound)
        assert workspace.videos().total() <= sum(len(list(Path(cache).glob(f"{s.name}/*/*.*"))) for s in Path(cache).iterdir()) + 1


def test_a_read_only_store_is_named(finished, sound, tmp_path):
    workspace = finished.copy(tmp_path / "workspace")
    without(workspace, "mesh")
    with small_disk(workspace, kilobytes=65536) as cache:
        subprocess.run(["cp", "-a", *finished.folder.glob("cache/*"), cache], check=True)
        shutil.rmtree(Path(cache) / "mesh")
        subprocess.run(["mount", "-o", "remount,ro", cache], check=True)
        said = workspace.snakemake(fails=True)
        assert "Write-protected output files" in said  # Snakemake looks before any job begins
        subprocess.run(["mount", "-o", "remount,rw", cache], check=True)
        recovers(workspace, sound)


def test_a_folder_that_goes_away_under_a_job_costs_what_was_in_it(workspace, sound):
    without(workspace, "wavlm")
    workspace.amid(hold=["wavlm/clip2"])
    run = workspace.start(*workspace.workflow())
    wait_for(workspace.events / "held/wavlm/clip2")
    shutil.rmtree(workspace.folder / "cache/wavlm")
    (workspace.events / "go/wavlm").mkdir(parents=True)
    (workspace.events / "go/wavlm/clip2").touch()
    assert run.wait(timeout=120) != 0
    assert "the folder went away meanwhile: check the disk or mount, then run again" in (workspace.folder / "output.txt").read_text()
    workspace.amid()
    recovers(workspace, sound)


# ---- time and replaced files -------------------------------------------------------------------------------------------------------------


def test_a_clock_set_back_plans_nothing_and_fills_a_hole_as_ever(workspace, sound):
    """Everything there is seems to come from tomorrow."""
    tomorrow = time.time() + 24 * 3600
    for path in workspace.folder.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    assert workspace.planned() == {}
    without(workspace, "mesh")
    recovers(workspace, sound)
    assert workspace.videos() == {"mesh": 6}


def test_a_video_replaced_while_it_is_read_is_read_again(workspace, sound, tmp_path):
    other = workspace.copy(tmp_path / "other")
    other.film("clip1", take=2)
    other.snakemake()
    without(workspace, "faces")
    workspace.amid(hold=["faces/clip1"])
    run = workspace.start(*workspace.workflow())
    wait_for(workspace.events / "held/faces/clip1")
    workspace.film("clip1", take=2)
    (workspace.events / "go/faces").mkdir(parents=True)
    (workspace.events / "go/faces/clip1").touch()
    assert run.wait(timeout=120) != 0
    said = (workspace.folder / "output.txt").read_text()
    assert "clip1.mp4: want the files that were there when the run was planned, got others; run again" in said
    workspace.amid()
    workspace.snakemake()
    assert workspace.values().items() <= other.values().items()  # which has the first take besides
    assert workspace.left_over() == []


# ---- killed, out of memory, faulty -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("memory", "affpipe: wavlm: clip3: memory: want more than there is, got no more; give the job more (mem_mb), or lower batch_size"),
        ("kill", "killed by signal 9, most likely for want of memory; give it more mem_mb, then run again"),
    ],
)
def test_a_job_that_dies_loses_the_stream_in_progress(workspace, sound, fault, words):
    without(workspace, "wavlm")
    workspace.amid(fault={"wavlm/clip3": fault})
    assert words in fails(workspace)
    workspace.amid()
    recovers(workspace, sound)
    assert workspace.videos()["wavlm"] == 7  # six, and the one in progress again


def test_a_job_that_outlives_a_killed_workflow_disturbs_nobody(workspace, sound):
    without(workspace, "wavlm")
    workspace.amid(hold=["wavlm/clip2"])
    run = workspace.start(*workspace.workflow())
    wait_for(workspace.events / "held/wavlm/clip2")
    run.kill()
    run.wait()
    workspace.run(*workspace.workflow("--unlock"))
    again = workspace.start(*workspace.workflow("--rerun-incomplete"))
    while sum(line.startswith("wavlm clip2") for line in (workspace.events / "begun").read_text().splitlines()) < 2:
        assert again.poll() is None
        time.sleep(0.02)
    (workspace.events / "go/wavlm").mkdir(parents=True)
    (workspace.events / "go/wavlm/clip2").touch()  # both go on, with one stream
    assert again.wait(timeout=120) == 0
    workspace.amid()
    recovers(workspace, sound)


def test_a_faulty_video_stops_the_run_with_a_ledger_and_loses_no_other(workspace, sound):
    without(workspace, "faces")
    workspace.amid(fault={"faces/clip5": "media"})
    said = fails(workspace)
    assert "affpipe: stopped by faults of 1 streams: results/run/failures.csv says of each what to do" in said
    (row,) = ledger(workspace)
    assert (row["stream_id"], row["stage"], row["status"], row["remedy"]) == ("clip5", "faces", "failed", "ask for none")
    workspace.amid()
    recovers(workspace, sound)
    assert ledger(workspace) == []
    assert workspace.videos() == {"faces": 7}  # six, and the faulty one again


def test_a_skipped_video_is_in_the_ledger_until_it_is_tried_again(workspace, sound):
    """Here an exception of a library, which is as good a fault of the video as one that is foreseen."""
    without(workspace, "faces", "subject", "landmarks", "mesh", "face")
    workspace.amid(fault={"faces/clip5": "foreign"})
    said = workspace.snakemake("--config", "on_error=skip")
    assert "affpipe: 5 of 6 streams predicted, 1 with faults that were skipped (exit status 0, as on_error is skip)" in said
    (row,) = ledger(workspace)
    assert (row["stream_id"], row["stage"], row["predicted"]) == ("clip5", "faces", "no")
    assert (
        "clip5.mp4: faces: want a file that it gets through, got ArithmeticError: faces/clip5: 3 * 4 is 13 (fake_events:" in row["reason"]
    )
    assert row["remedy"] == "if the file plays elsewhere, report this"
    assert any("Traceback" in log.read_text() for log in workspace.folder.glob("logs/run/apply_faces/*.log"))
    assert row["without"] == "subject, landmarks, mesh, face"
    assert sorted(p.stem for p in workspace.folder.glob("results/run/predictions/*.csv")) == ["clip1", "clip2", "clip3", "clip4", "clip6"]
    workspace.amid()
    done = workspace.run("-m", "affpipe", "cache", "retry", "base.yaml", "recipe.yaml")
    assert "indexes with faults; run the workflow again" in done
    workspace.forget()
    recovers(workspace, sound)
    assert workspace.videos()["faces"] == 1
    assert ledger(workspace) == []
