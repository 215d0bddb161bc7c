"""Two workflows on one store at once: they end where one alone does, and neither takes from the other what it has made."""

import time

from fakes.workspace import POLL_S, Workspace

VIDEOS = {"clip1": "train", "clip4": "validation"}
FACE = "shards: 1\nfeatures: {qwen3vl: null, wavlm: null}\nmodels: {behaviour: null, voice: null, fused: null}\npublish: face\n"


def test_two_workflows_on_one_store_at_once_end_where_one_alone_does(tmp_path):
    cache = tmp_path / "cache"
    pair = [Workspace(tmp_path / name, VIDEOS, recipe=f"{FACE}cache: {cache}\n") for name in ("left", "right")]
    running = [(workspace, workspace.start(*workspace.workflow())) for workspace in pair]
    for workspace, process in running:
        assert process.wait(timeout=300) == 0, (workspace.folder / "output.txt").read_text()
    alone = Workspace(tmp_path / "alone", VIDEOS, recipe=FACE)
    alone.snakemake()
    for workspace in pair:
        assert workspace.values(cache) == alone.values()
        assert workspace.left_over(cache) == []
    jobs = len(alone.loads())
    assert jobs <= sum(sum(workspace.loads().values()) for workspace in pair) <= 2 * jobs


def test_what_another_workflow_made_since_planning_stays_in_the_store(tmp_path):
    cache = tmp_path / "cache"
    slow, quick = (Workspace(tmp_path / name, VIDEOS, recipe=f"{FACE}cache: {cache}\n") for name in ("slow", "quick"))
    slow.amid(hold=["frames/clip4"])
    running = slow.start(*slow.workflow("--until", "apply_subject"))
    slow.wait_for("frames/clip4", running)
    quick.snakemake("--until", "apply_subject")
    made, indexes = quick.values(cache), list(cache.glob("*/*/shards/*.json"))
    assert len(indexes) == 3
    slow.go_on("frames/clip4")
    while running.poll() is None:  # a job takes half a second before it writes its index
        assert all(index.exists() for index in indexes)
        time.sleep(POLL_S)
    assert running.returncode == 0
    assert slow.values(cache) == made
    assert slow.videos() == {"frames": 2}  # the other one made all that comes after
