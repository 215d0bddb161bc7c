"""The fakes of workspaces: what stops, fails or kills a job amid an item, and that they stand in for what the workflow calls."""

import inspect
import os
import signal
import sys
from pathlib import Path

import pytest
from fakes.workspace import SITE, Workspace

VIDEOS = {"clip1": "train", "clip4": "validation"}
UNTIL = ("--until", "apply_frames")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "here", VIDEOS, recipe="shards: 1")


def test_a_kill_amid_an_item_loses_that_item_and_the_next_run_makes_it(workspace):
    workspace.amid(hold=["frames/clip4"])
    running = workspace.start(*workspace.workflow(*UNTIL))
    workspace.wait_for("frames/clip4", running)
    (worker,) = (int(line.split()[1]) for line in (workspace.events / "loads").read_text().splitlines())
    assert len(workspace.left_over()) == 1  # what it was writing
    os.kill(worker, signal.SIGKILL)
    assert running.wait(timeout=60) != 0
    assert list(workspace.values()) == [
        f"cache/{p.relative_to(workspace.folder / 'cache')}" for p in workspace.folder.glob("cache/frames/*/*.h5")
    ]
    assert len(workspace.values()) == 1
    workspace.amid()
    workspace.forget()
    workspace.snakemake(*UNTIL)
    assert (workspace.loads(), workspace.videos()) == ({"frames": 1}, {"frames": 1})
    assert len(workspace.values()) == 2


@pytest.mark.parametrize(("fault", "log"), [("media", "want a sound file"), ("memory", "memory: want more than there is"), ("kill", "")])
def test_faults_fail_the_job(workspace, fault, log):
    workspace.amid(fault={"frames/clip1": fault})
    workspace.snakemake(*UNTIL, fails=True)
    (text,) = (path.read_text() for path in workspace.folder.glob("logs/run/apply_frames/*.log"))
    assert log in text
    assert len(workspace.values()) == (1 if fault == "media" else 0)  # a fault of one video does not stop the others
    assert len(workspace.left_over()) == (1 if fault == "kill" else 0)


def test_values_change_with_what_they_are_made_of_alone(workspace):
    workspace.snakemake("--until", "apply_mouth")
    before = workspace.values()
    workspace.film("clip1", take=2)
    workspace.snakemake("--until", "apply_mouth")
    after = workspace.values()
    assert {name: after[name] for name in before} == before
    new = {name.split("/")[1]: value for name, value in after.items() if name not in before}
    assert set(new) == {"frames", "faces", "subject", "landmarks", "mouth"}
    assert not set(new.values()) & set(before.values())


def test_the_fakes_have_the_form_of_what_they_stand_in_for(monkeypatch, tmp_path):
    from affpipe.jobs import fitting, workers

    monkeypatch.syspath_prepend(SITE)
    monkeypatch.setenv("AFFPIPE_FAKES", str(tmp_path))
    import fake_training
    import fake_workers

    assert inspect.signature(fake_workers.start) == inspect.signature(workers.start)
    assert list(inspect.signature(fake_training.fit).parameters) == list(inspect.signature(fitting.fit).parameters)
    for name in ("fake_training", "fake_workers", "fake_events"):
        sys.modules.pop(name)
