"""`affpipe cache gc` frees what no run uses, whoever's run it is, and says what it spares and how to free that too."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import IO

import pytest
from fakes.workspace import Workspace
from small_run import Run
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.errors import StoreError
from affpipe.jobs.start import freeze
from affpipe.plan.plan import Plan
from affpipe.results import runs
from affpipe.results.publish import publish
from affpipe.store import cache as caches
from affpipe.system import disk

DAY_S = 24 * 3600
VIDEOS = {"clip1": "train", "clip4": "validation"}
FACE = "shards: 1\nfeatures: {qwen3vl: null, wavlm: null}\nmodels: {behaviour: null, voice: null, fused: null}\npublish: face\n"


def age(path: Path, days: float) -> None:
    """Date a file, or a folder and all in it, back."""
    for file in (path, *(path.rglob("*") if path.is_dir() else ())):
        os.utime(file, (time.time() - days * DAY_S,) * 2, follow_symlinks=False)


def fill(file: IO[bytes]) -> None:
    """Write until the disk takes no more."""
    while True:
        file.write(bytes(1 << 16))


class Checkout:
    """A folder from which a run is started on a cache that others use."""

    def __init__(self, folder: Path, cache: Path, monkeypatch, **more: object):
        self.folder, self.monkeypatch = folder, monkeypatch
        folder.mkdir(exist_ok=True)
        self.run = Run(folder, cache=str(cache), results=str(folder / "results"), **more)
        self.run.index()

    @property
    def plan(self) -> Plan:
        return self.run.plan

    @property
    def own(self) -> list[Path]:
        return [self.plan.folder(name) for name in self.plan.names]

    def start(self) -> Path:
        """Start the run; return its file in the cache."""
        before = set(self.plan.cache.glob("runs/*.json"))
        self.monkeypatch.chdir(self.folder)
        freeze(self.plan.settings)
        runs.register(self.plan)
        (made,) = set(self.plan.cache.glob("runs/*.json")) - before
        return made

    def gc(self, *options: str) -> str:
        self.monkeypatch.chdir(self.folder)
        self.monkeypatch.setattr("affpipe.jobs.start.plan_of", lambda paths: self.plan)
        result = CliRunner().invoke(main.app, ["cache", "gc", "--yes", *options], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output


@pytest.fixture
def two(tmp_path, monkeypatch) -> tuple[Checkout, Checkout]:
    """Two checkouts on one cache whose settings have not one key in common."""
    pair = tuple(
        Checkout(tmp_path / name, tmp_path / "cache", monkeypatch, name=name, frames=frames)
        for name, frames in (("left", {}), ("right", {"tone_map": False}))
    )
    shared = set(pair[0].own) & set(pair[1].own)
    assert not shared
    return pair


def there(checkout: Checkout) -> bool:
    assert len({path.exists() for path in checkout.own}) == 1
    return checkout.own[0].exists()


def test_a_run_that_was_started_is_kept_whoever_frees(two):
    left, right = two
    for checkout in two:
        checkout.start()
    age(left.plan.cache, 20)
    said = [left.gc(), right.gc()]
    assert there(left)
    assert there(right)
    for text, other in zip(said, reversed(two), strict=True):
        assert "0.0 MB freed" in text
        assert f"of the run {other.plan.settings.name} of {other.folder}, 20 days ago; to free what it alone uses, delete" in text


def test_what_nobody_started_is_freed(two):
    left, right = two
    left.start()
    age(left.plan.cache, 20)
    for path in right.plan.cache.glob("settings/*"):
        path.unlink()
    said = left.gc()
    assert all(f"{path}: " in said for path in right.own)
    assert there(left)
    assert not there(right)


def test_a_run_counts_for_days_and_its_results_as_long_as_they_are_there(two):
    left, right = two
    record = right.start()
    publish(right.plan, right.run.entries)
    left.start()
    age(left.plan.cache, runs.KEEP_DAYS + 1)
    said = left.gc()
    assert f"{record}: counts no more: no job of it for 31 days" in said
    assert not record.exists()
    assert f"of the run published in {right.plan.results}; to free what it alone uses, delete {right.plan.results}" in said
    assert there(right)


def test_the_results_of_another_checkout_are_found_once_a_run_of_it_is_known(two):
    """Also of a run that the cache has no file of, beside one that it has."""
    left, right = two
    publish(right.plan, right.run.entries)
    (right.folder / "results/other").mkdir()
    record = right.start()
    found = json.loads(record.read_text())
    record.write_text(json.dumps(found | {"results": [str(right.folder / "results/other"), "../right/results/other"], "keys": []}))
    age(left.plan.cache, 20)
    left.gc()
    assert there(right)


def test_an_abandoned_run_is_freed_in_the_end(two):
    left, right = two
    right.start()
    age(left.plan.cache, runs.KEEP_DAYS + 1)
    left.gc()
    assert not there(right)


def test_each_job_of_a_run_puts_its_end_off(two):
    left, right = two
    right.start()
    age(left.plan.cache, runs.KEEP_DAYS + 1)
    runs.touch(right.plan)
    left.gc()
    assert there(right)


def test_a_checkout_that_is_gone_is_said_and_counts_no_more(two, tmp_path):
    left, right = two
    record = right.start()
    age(left.plan.cache, 10)
    right.folder.rename(tmp_path / "moved")
    assert f"{record}: counts no more: {right.folder} is gone" in left.gc()
    assert not there(right)


@pytest.mark.parametrize("moves", ["both", "cache"])
def test_a_run_is_found_again_where_the_cache_and_its_checkout_have_moved(two, tmp_path, monkeypatch, moves):
    left, right = two
    right.start()
    age(left.plan.cache, 10)
    (tmp_path / "there").mkdir()
    for name in ("left", "right", "cache") if moves == "both" else ("cache",):
        (tmp_path / name).rename(tmp_path / "there" / name)
    cache = tmp_path / "there/cache"
    monkeypatch.chdir(tmp_path)
    moved = Plan(
        left.plan.settings.model_copy(update={"cache": str(cache)}), [], model_keys=dict.fromkeys(left.plan.settings.models, "0" * 12)
    )
    claims, gone = runs.claims(moved)
    assert gone == {}
    assert {right.plan.key(name) for name in right.plan.names} <= frozenset().union(*(claim.keys for claim in claims))


def test_a_checkout_of_another_machine_is_kept(two, tmp_path):
    """It may be there and not be seen from here."""
    left, right = two
    record = right.start()
    record.write_text(json.dumps(json.loads(record.read_text()) | {"host": "elsewhere"}))
    right.folder.rename(tmp_path / "moved")
    age(left.plan.cache, 100)
    assert f"delete {record}" in left.gc()
    assert there(right)
    record.unlink()
    left.gc()
    assert not there(right)


def test_what_changed_lately_is_spared_unless_it_is_asked_for(two):
    left, right = two
    left.start()
    age(left.plan.cache, 10)
    age(right.plan.folder("mesh"), 6)
    for path in right.plan.cache.glob("settings/*"):
        path.unlink()
    said = left.gc()
    assert "MB that no run uses, changed within 7 days; --days 0 frees it too" in said
    assert right.plan.folder("mesh").exists()
    assert not right.plan.folder("frames").exists()
    assert "spared" not in left.gc("--days", "0")
    assert not right.plan.folder("mesh").exists()


def test_settings_without_a_file_of_their_run_keep_their_streams_and_all_models_of_their_names(two):
    """A version of affpipe that wrote no such files may be at work."""
    left, right = two
    freeze(right.plan.settings)
    age(left.plan.cache, 20)
    left.gc()
    assert there(right)
    age(left.plan.cache, runs.KEEP_DAYS + 1)
    left.gc()
    assert not there(right)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"run": "x"}', '{"run": 3, "host": "", "settings": "", "workspace": 1}'], ids=repr)
def test_a_file_of_a_run_that_does_not_read_frees_nothing(two, text):
    left, right = two
    record = right.start()
    record.write_text(text)
    age(left.plan.cache, 100)
    with pytest.raises(StoreError, match=r"want the file of a run, got .*; delete it if you know that run to be over") as raised:
        left.gc()
    assert "\n" not in str(raised.value)
    assert there(right)


@pytest.mark.parametrize("started", [True, False])
def test_a_full_disk_is_really_freed(tmp_path, monkeypatch, started):
    cache = tmp_path / "cache"
    cache.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", cache], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot mount a small disk: {made.stderr.strip()}")
    try:
        left = Checkout(tmp_path / "left", cache, monkeypatch)
        if started:
            left.start()
        old = cache / "faces/0123456789ab/old.0123abcd.h5"
        old.parent.mkdir(parents=True)
        with old.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            fill(file)
        size = old.stat().st_size
        age(cache, 10)
        said = left.gc()
        assert f"{size / 1e6:.1f} MB freed" in said
        assert not old.parent.exists()
        assert there(left)
        (cache / "new").write_bytes(bytes(size // 2))
    finally:
        subprocess.run(["umount", "--lazy", cache], check=True)


def test_a_record_of_another_program_beside_the_results_is_no_run(two):
    left, _ = two
    left.start()
    disk.write_text(left.folder / "results/other/run.json", "{}")
    left.gc()


def test_a_published_run_whose_record_is_damaged_keeps_what_it_was_started_with(two):
    left, right = two
    record = right.start()
    publish(right.plan, right.run.entries)
    (right.plan.results / "run.json").write_text("{")
    age(left.plan.cache, runs.KEEP_DAYS + 1)
    left.gc()
    assert there(right)
    assert not record.exists()


def test_a_folder_that_is_half_freed_is_no_damage(two, monkeypatch):
    """Killed amid it: no index, and no record of a fit, names what is gone."""
    left, _ = two
    (folder,) = (f for f in caches.folders(left.plan.cache) if f.path == left.plan.folder("mesh"))
    monkeypatch.setattr(caches.shutil, "rmtree", lambda path: folder.files[0].unlink())
    caches.free(folder)
    assert list(caches.verify(left.plan.cache)) == []
    assert len(list(folder.path.glob("*.h5"))) == len(folder.files) - 1


def test_no_run_starts_while_a_cache_is_freed(two):
    left, _ = two
    import threading

    thread = threading.Thread(target=runs.register, args=(left.plan,))
    with runs.alone(left.plan.cache):
        thread.start()
        time.sleep(0.2)
        assert list(left.plan.cache.glob("runs/*.json")) == []
    thread.join()
    assert len(list(left.plan.cache.glob("runs/*.json"))) == 1


# ---- with the workflow -------------------------------------------------------------------------------------------------------------------


def gc(workspace: Workspace) -> str:
    return workspace.run("-m", "affpipe", "cache", "gc", "--yes", "--days", "0", "base.yaml", "recipe.yaml")


def test_two_checkouts_free_one_cache_while_a_run_goes_on_and_lose_nothing(tmp_path):
    cache = tmp_path / "cache"
    left, right = (
        Workspace(tmp_path / name, VIDEOS, recipe=f"{FACE}cache: {cache}\n{more}")
        for name, more in (("left", ""), ("right", "faces: {min_score: 0.6}\n"))
    )
    left.snakemake()
    made = left.values(cache)
    right.amid(hold=["mesh/clip4"])
    running = right.start(*right.workflow())
    right.wait_for("mesh/clip4", running)
    disk.write_text(cache / "mesh/0123456789ab/old.h5", "")
    assert "of the run run of" in gc(left)
    assert not (cache / "mesh/0123456789ab").exists()
    right.go_on("mesh/clip4")
    assert running.wait(timeout=300) == 0, (right.folder / "output.txt").read_text()
    assert right.videos() == {"faces": 2, "subject": 2, "landmarks": 2, "mesh": 2, "face": 2}
    assert f"the run published in {left.folder}/results/run" in gc(right)
    gc(left)
    for workspace in (left, right):
        workspace.forget()
        assert workspace.planned() == {}
    assert left.values(cache).items() >= made.items()


def test_a_stopped_run_with_settings_of_its_own_is_not_freed(tmp_path):
    workspace = Workspace(tmp_path / "workspace", VIDEOS, recipe=FACE)
    workspace.snakemake()
    workspace.settings(f"{FACE}name: other\nfaces: {{min_score: 0.6}}\n")
    workspace.amid(fault={"mesh/clip4": "media"})
    workspace.snakemake(fails=True)
    workspace.settings(FACE)
    gc(workspace)
    workspace.settings(f"{FACE}name: other\nfaces: {{min_score: 0.6}}\n")
    workspace.amid()
    workspace.forget()
    workspace.snakemake()
    assert workspace.videos() == {"mesh": 1, "face": 2}
