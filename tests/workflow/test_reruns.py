"""What is done again after a change: the plan, and the work that was really done, held together with the table in docs/reruns.md."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import pytest
from fakes.workspace import ROOT, VIDEOS, Workspace, jobs_of

STAGES = ("frames", "labels", "audio", "faces", "subject", "landmarks", "mouth", "speech", "mesh", "qwen3vl", "wavlm")
MODELS = ("face", "behaviour", "voice", "fused")
GROUPS = {  # in scenarios, for these names one by one
    "every stage": STAGES,
    "every stage but labels": tuple(name for name in STAGES if name != "labels"),
    "every stage of the subject": ("subject", "landmarks", "mouth", "speech", "mesh"),
    "every model": MODELS,
}
PAGE = ROOT / "docs/reruns.md"


@dataclass(frozen=True)
class Scenario:
    """A change of a finished run, and what the next run does.

    Attributes:
        name: the change in words, a row of the page. change: makes it in a workspace.
        jobs: the plan, "stage jobs, …, fit model, …, publish", as `snakemake -n` and every run print it.
        loads: jobs of a stage that start a worker, which loads its networks. items: videos or streams that workers make.
        fits: models that are fitted. changed: streams whose published values differ from before.
        after: the scenario in whose workspace the change is made, if not in that of the finished run.
    """

    name: str
    change: Callable[[Workspace], None]
    jobs: str = ""
    loads: str = ""
    items: str = ""
    fits: str = ""
    changed: str = ""
    after: str = ""


def settings(text: str) -> Callable[[Workspace], None]:
    return lambda workspace: workspace.settings(text)


def edit(file: str, pattern: str, new: str) -> Callable[[Workspace], None]:
    """Replace the one match of a pattern in a file of the package."""

    def change(workspace: Workspace) -> None:
        path = workspace.copy_package() / file
        text, count = re.subn(pattern, new, path.read_text())
        assert count == 1
        path.write_text(text)

    return change


def manifest(**videos: str) -> Callable[[Workspace], None]:
    """Rows of the manifest besides those that are there; "" takes one out."""
    return lambda workspace: workspace.manifest({video: part for video, part in (VIDEOS | videos).items() if part})


def touch(workspace: Workspace) -> None:
    for path in workspace.folder.rglob("*"):
        if path.is_file():
            os.utime(path)


def curate(workspace: Workspace) -> None:
    (workspace.folder / "curation.csv").write_text("stream_id,tracks\nclip6,1\n")
    workspace.settings("subject: {curation: curation.csv}")


def forget_snakemake(workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder / ".snakemake")


def lose_a_stream(workspace: Workspace) -> None:
    (path,) = workspace.folder.glob("cache/landmarks/*/clip1.*.h5")
    path.unlink()
    workspace.run("-m", "affpipe", "cache", "verify", fails=True)


def lose_an_index(workspace: Workspace) -> None:
    (path,) = workspace.folder.glob("cache/qwen3vl/*/shards/fit001-*.json")
    path.unlink()


# Six videos in three shards: one of train and validation with clip1 to clip3, one with clip4, and one of the rest with clip5 and clip6.
ALL = "clip1 clip2 clip3 clip4 clip5 clip6"
REST, CHOICE = "every stage but labels 1, every model 1", "every stage of the subject 1, every model 1"
LEARNING_RATE = "`models: {face: {training: {learning_rate: 0.002}}}`"
SCENARIOS = (
    Scenario("nothing", lambda workspace: None),
    Scenario("times of all files (`touch`)", touch),
    Scenario("`.snakemake/` is deleted", forget_snakemake),
    Scenario("a comment in a Python file of the package", edit("jobs/apply.py", r"\A", "# a remark\n")),
    Scenario(
        "`audio: {offset_s: 0.1}`",
        settings("audio: {offset_s: 0.1}"),
        jobs="audio 3, wavlm 3, fit voice, voice 3, fit fused, fused 3, publish",
        loads="audio 3, wavlm 3, voice 3, fused 3",
        items="audio 6, wavlm 6, voice 6, fused 6",
        fits="voice, fused",
        changed=ALL,
    ),
    Scenario(
        "`mouth: {smooth_frames: 15}`",
        settings("mouth: {smooth_frames: 15}"),
        jobs="mouth 3, speech 3, fit voice, voice 3, fit fused, fused 3, publish",
        loads="mouth 3, speech 3, voice 3, fused 3",
        items="mouth 6, speech 6, voice 6, fused 6",
        fits="voice, fused",
        changed=ALL,
    ),
    Scenario(
        "the revision of `speech` in `affpipe/faces/stages.py`",
        edit("faces/stages.py", r'(workers:speech",\n    revision=)\d+', r"\g<1>99"),
        jobs="speech 3, fit voice, voice 3, fit fused, fused 3, publish",
        loads="speech 3, voice 3, fused 3",
        items="speech 6, voice 6, fused 6",
        fits="voice, fused",
        changed=ALL,
    ),
    Scenario(
        LEARNING_RATE,
        settings("models: {face: {training: {learning_rate: 0.002}}}"),
        jobs="fit face, face 3, fit fused, fused 3, publish",
        loads="face 3, fused 3",
        items="face 6, fused 6",
        fits="face, fused",
        changed=ALL,
    ),
    Scenario("that setting, back to what it was", settings(""), jobs="publish", after=LEARNING_RATE),
    Scenario(
        "a second recipe: a `name` of its own, and `fused` reads face and voice alone",
        settings("name: second\nmodels: {fused: {reads: [face, voice]}}"),
        jobs="fit fused, fused 3, publish",
        loads="fused 3",
        items="fused 6",
        fits="fused",
    ),
    Scenario(
        "a label file of a video to train on",
        lambda workspace: workspace.annotate("clip2", 0.5),
        jobs="labels 1, fit every model, every model 3, publish",
        loads="labels 1, every model 3",
        items="labels 1, every model 6",
        fits="every model",
        changed=ALL,
    ),
    Scenario(
        "`subject: {curation: curation.csv}`, which decides on a stream to predict",
        curate,
        jobs=f"{CHOICE}, publish",
        loads=CHOICE,
        items=CHOICE,
        changed="clip6",
    ),
    Scenario(
        "a video to predict is added",
        manifest(clip7="predict"),
        jobs=f"{REST}, publish",
        loads=REST,
        items=REST,
        changed="clip7",
    ),
    Scenario("a video to predict is taken out", manifest(clip6=""), jobs=f"{REST}, publish", changed="clip6"),
    Scenario(
        "a video to predict is replaced by another of its name",
        lambda workspace: workspace.film("clip6", take=2),
        jobs=f"{REST}, publish",
        loads=REST,
        items=REST,
        changed="clip6",
    ),
    Scenario(
        "a video to train on is added",
        manifest(clip7="train"),
        jobs="every stage 1, fit every model, every model 3, publish",
        loads="every stage 1, every model 3",
        items="every stage 1, every model 7",
        fits="every model",
        changed=f"{ALL} clip7",
    ),
    Scenario("`shards: 1` in place of 2", settings("shards: 1"), jobs="every stage 1, fit every model, every model 1, publish"),
    Scenario(
        "a stream of `landmarks` is lost; then `affpipe cache verify`",
        lose_a_stream,
        jobs="landmarks 1, mouth 1, mesh 1, publish",
        loads="landmarks 1",
        items="landmarks 1",
    ),
    Scenario("an index of `qwen3vl` is lost", lose_an_index, jobs="qwen3vl 1, fit behaviour, behaviour 1, publish"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("reruns") / "finished")
    text = made.snakemake()
    every = {name: 2 if name == "labels" else 3 for name in (*STAGES, *MODELS)}
    assert jobs_of(text) == {f"apply_{name}": count for name, count in every.items()} | {f"fit_{m}": 1 for m in MODELS} | {"publish": 1}
    assert made.loads() == every
    assert made.videos() == {name: 4 if name == "labels" else 6 for name in every}
    assert made.fits() == dict.fromkeys(MODELS, 1)
    assert made.left_over() == []
    return made


@pytest.fixture(scope="module")
def before(finished) -> dict[str, str]:
    return finished.values()


@pytest.fixture(scope="module")
def after(finished, tmp_path_factory) -> Callable[[Scenario], tuple[Workspace, str]]:
    """Makes a scenario's change in a copy and runs the workflow, once; gives the workspace and what the run printed."""

    @cache
    def run(scenario: Scenario) -> tuple[Workspace, str]:
        begun = next((run(other)[0] for other in SCENARIOS if other.name == scenario.after), finished)
        workspace = begun.copy(tmp_path_factory.mktemp("scenario") / "copy")
        scenario.change(workspace)
        workspace.forget()
        return workspace, workspace.snakemake()

    return run


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: re.sub(r"[^a-z0-9]+", "-", s.name.lower()).strip("-"))
def test_a_change_causes_this_work_and_no_other(before, after, scenario):
    workspace, text = after(scenario)
    assert jobs_of(text) == rules(scenario.jobs)
    assert ("Nothing to be done" in text) == (not scenario.jobs)
    assert workspace.loads() == counts(scenario.loads)
    assert workspace.videos() == counts(scenario.items)
    assert workspace.fits() == counts(scenario.fits)
    now = workspace.values()
    old, new = published(before), published(now)
    assert {stream for stream in old | new if old.get(stream) != new.get(stream)} == set(scenario.changed.split())
    assert {name: value for name, value in before.items() if name.startswith("cache/")}.items() <= now.items()  # and what was lost is back
    assert workspace.left_over() == []


def test_a_dry_run_prints_the_plan_of_the_run(finished, tmp_path):
    workspace, scenario = finished.copy(tmp_path / "copy"), next(s for s in SCENARIOS if s.name == LEARNING_RATE)
    scenario.change(workspace)
    assert workspace.planned() == rules(scenario.jobs)


def counts(text: str) -> dict[str, int]:
    """'a 2, b 1' as {"a": 2, "b": 1}; 'fit a' counts 1, as 'publish' does."""
    out: dict[str, int] = {}
    for part in text.split(", ") if text else ():
        name, _, count = part.rpartition(" ")
        if not count.isdigit():
            name, count = part, "1"
        fit = name.startswith("fit ")
        names = GROUPS.get(name.removeprefix("fit "), (name.removeprefix("fit "),))
        out |= {f"fit {each}" if fit else each: int(count) for each in names}
    return out


def rules(text: str) -> dict[str, int]:
    """The same with the names of rules."""
    names = {
        name: name.replace("fit ", "fit_") if name == "publish" or name.startswith("fit ") else f"apply_{name}" for name in counts(text)
    }
    return {names[name]: count for name, count in counts(text).items()}


def published(values: Mapping[str, str]) -> dict[str, str]:
    """Stream -> digest of its official file in the results of the run `run`."""
    prefix = "results/run/official/va/"
    return {name.removeprefix(prefix).removesuffix(".txt"): value for name, value in values.items() if name.startswith(prefix)}


def table() -> str:
    """The scenarios as the page has them."""
    head = "changed", "jobs", "of these load networks", "videos or streams made", "fitted", "other predictions"
    cells = [(s.jobs, s.loads, s.items, s.fits, s.changed.replace(ALL, "all").replace(" ", ", ")) for s in SCENARIOS]
    rows = [(s.name, *(cell or "none" for cell in own)) for s, own in zip(SCENARIOS, cells, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def test_the_page_has_this_table():
    assert table() in PAGE.read_text(encoding="utf-8")
