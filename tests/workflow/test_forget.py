"""`affpipe cache forget` leaves nothing of a person below cache, results and logs, and everything of the others."""

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from fakes.workspace import Workspace
from small_run import Run
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.errors import InputError
from affpipe.encoders.table import ENCODERS
from affpipe.jobs import forget
from affpipe.results import published
from affpipe.results.publish import publish
from affpipe.store import cache, streams
from affpipe.store.index import Entry
from affpipe.system import disk
from affpipe.system.job_record import JobRecord

RECIPE = """
shards: 1
features: {qwen3vl: null}
models: {behaviour: null, voice: {speech_only: never}, fused: {reads: [face, voice]}}
late_fusion: {draws: 20}
"""
VIDEOS = {"quilla": "train", "bo": "train", "cy": "train", "wystan": "validation", "eve": "validation", "yorick": "test"}
LINE = "not looked into: videos, annotations and tables of yours; what submit, predict and faces review wrote; .snakemake/log; copies"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("forget") / "finished", VIDEOS, recipe=RECIPE)
    made.snakemake()
    return made


def sample(path: Path) -> bytes:
    """Bytes of a stream's values as they lie in its file, enough to be nobody else's."""
    if path.suffix == ".flac":
        soundfile.info(path)
        return path.read_bytes()[-200:]
    with h5py.File(path, "r") as file:
        name = max(("prediction", "values", "crops"), key=lambda name: file[name].size if name in file else 0)
        return file[name][:].tobytes()[:400].strip(b"\0")


def files(workspace: Workspace) -> dict[str, Path]:
    return {str(p.relative_to(workspace.folder)): p for top in ("cache", "results", "logs") for p in (workspace.folder / top).rglob("*")}


def forgets(workspace: Workspace, *words: str) -> str:
    return workspace.run(
        "-m", "affpipe", "cache", "forget", *words, *("--config", "config.yaml", "--config", "base.yaml"), "--config", "recipe.yaml"
    )


@pytest.mark.parametrize("name", ["quilla", "wystan", "yorick"])
def test_nothing_of_a_person_is_left_and_all_of_the_others(finished, tmp_path, name):
    workspace = finished.copy(tmp_path / "workspace")
    streams = [path for path in workspace.folder.glob(f"cache/*/*/{name}.*") if path.parents[1].name != "labels"]
    assert len(streams) == 10  # labels of fakes are alike
    samples = [sample(path) for path in streams]
    assert all(len(data) > 15 for data in samples)
    texts = [
        workspace.folder / f"results/run/{place}/{name}.txt" for place in ("official/va", "models/face/va", "late_fusion/va/predictions")
    ]
    samples += [path.read_bytes().split(b"\n")[3] for path in texts]
    before = {text: path.read_bytes() for text, path in files(workspace).items() if path.is_file()}

    listed = forgets(workspace, name)
    assert {text: path.read_bytes() for text, path in files(workspace).items() if path.is_file()} == before
    assert "files and folders can be deleted with --yes" in listed
    said = forgets(workspace, name, "--yes")
    assert f"{name}: still in data_manifest.csv: take the rows out, or the next run makes all of it again" in said
    assert LINE in said
    after = {text: path.read_bytes() for text, path in files(workspace).items() if path.is_file()}
    assert not [text for text in files(workspace) if name in Path(text).name]
    assert not [text for text, data in after.items() if name.encode() in data]
    assert not [text for text, data in after.items() for part in samples if part in data]
    gone = set(before) - set(after)
    assert gone == {line.split(": ")[0].removeprefix(f"{workspace.folder}/") for line in said.splitlines() if ": " in line} & set(before)

    models = {text for text in gone if text.endswith((".safetensors", "fit.json"))}
    assert len(models) == (0 if name == "yorick" else 6)
    assert (f"model.safetensors: of a model that learned from {name}" in said) == (name == "quilla")
    assert (f"model.safetensors: of a model that was chosen by {name}" in said) == (name == "wystan")
    others = {text for text in before if any(f"/{other}." in text for other in VIDEOS if other != name)}
    assert len(others) > 60
    assert {text: after[text] for text in others} == {text: before[text] for text in others}
    assert not (workspace.folder / "results/run/run.json").exists()

    workspace.manifest({video: partition for video, partition in VIDEOS.items() if video != name})
    workspace.forget()
    workspace.snakemake()
    made = workspace.videos()
    fitted = 0 if name == "yorick" else 5
    assert made == {model: fitted for model in ("face", "voice", "fused") if fitted}  # nothing of the media, and no feature
    assert workspace.planned() == {}
    published_now = {p.stem for p in (workspace.folder / "results/run/predictions").iterdir()}
    assert published_now == set(VIDEOS) - {name}
    if name == "quilla":
        alone = Workspace(tmp_path / "alone", {v: p for v, p in VIDEOS.items() if v != name}, recipe=RECIPE)
        alone.snakemake()
        assert alone.values().items() <= workspace.values().items()
    left = [text for text, path in files(workspace).items() if path.is_file() and name.encode() in path.read_bytes()]
    assert left == []


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    made = Run(tmp_path, streams={"a_left": "train", "a_right": "train", "v1": "validation", "p": "predict"})
    made.index()
    publish(made.plan, made.entries)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("affpipe.jobs.start.plan_of", lambda paths: made.plan)
    return made


def command(*words: str) -> str:
    result = CliRunner().invoke(main.app, ["cache", "forget", "--yes", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def republish(run: Run) -> None:
    """Publish the run without the stream p."""
    for entries in run.entries.values():
        if "p" in entries:
            entries["p"] = Entry("absent", reason="forgotten")
    publish(run.plan, run.entries)
    assert (run.plan.results / "run.json").exists()


def streams_of(run: Run, id: str) -> set[str]:
    return {path.parents[1].name for path in run.plan.cache.glob(f"*/*/{id}.*")}


def test_a_video_of_two_people_stays_as_long_as_one_of_them_does(run):
    assert "faces" in streams_of(run, "a")
    said = command("a_left")
    assert "pictures and sound of a stay: a_right is in that video too; take it out as well, or cut the video" in said
    assert streams_of(run, "a_left") == set()
    assert "faces" in streams_of(run, "a")
    assert "mesh" in streams_of(run, "a_right")
    command("a_left", "a_right")
    assert streams_of(run, "a") == set() == streams_of(run, "a_right")
    assert "mesh" in streams_of(run, "v1")


def test_streams_of_an_encoder_whose_package_is_gone_go_too(run, monkeypatch):
    """And those of a model that has the name of an encoder of videos: what a file is of, it says itself."""
    assert "wavlm" in streams_of(run, "a")
    assert "face" in streams_of(run, "a_left")
    monkeypatch.setattr(forget, "ENCODERS", {"face": ENCODERS["wavlm"]})
    command("a_left", "a_right")
    assert [streams_of(run, id) for id in ("a", "a_left", "a_right")] == [set()] * 3


@pytest.fixture
def gone(run) -> Path:
    """A stream of video a, by an encoder whose package is not installed any more; beside it one of video v1."""
    folder = run.plan.cache / "loudness" / "0123456789ab"
    for video in ("a", "v1"):
        item = next(item for item in run.plan.items("frames") if item.id == video)
        named = streams.Header("loudness", folder.name, video, item.identity, {"encoder": "loudness"}, 1, {}, Fraction(25))
        times = np.arange(3) / 25
        path = folder / streams.file_name(video, item.identity)
        streams.write(path, named, values=np.ones((3, 1)), start_s=times, end_s=times + 0.04, valid=np.ones(3, bool))
    return folder


@pytest.mark.parametrize("damaged", [False, True])
def test_streams_of_an_encoder_that_is_not_installed_any_more_go_too(run, gone, damaged):
    (own,) = gone.glob("a.*")
    if damaged:
        own.write_bytes(own.read_bytes()[:500])
    command("a_left")
    assert own.exists(), "a_right is in that video too"
    said = command("a_left", "a_right")
    assert f"{own}: a stream" in said
    assert [path.name.split(".")[0] for path in gone.iterdir()] == ["v1"]


def test_a_stream_of_a_model_is_none_of_a_video_of_that_name(tmp_path):
    """Somebody else's video has the name of this stream."""
    made = Run(tmp_path, streams={"a_left": "train", "v1": "validation"})
    (item,) = (item for item in made.plan.items("face") if item.id == "a_left")
    path = made.plan.stream("face", item)
    named = streams.attributes(path)
    assert named["spec"]["kind"]
    whom = forget.Person(frozenset({"x"}), frozenset({"a_left"}), {}, True, ())
    (folder,) = (folder for folder in cache.folders(made.plan.cache) if folder.stage == "face")
    assert list(forget._streams(folder, whom)) == []
    whom = forget.Person(frozenset({"a_left"}), frozenset(), {}, True, ())
    assert list(forget._streams(folder, whom)) == [(path, "a stream")]


def test_an_id_is_no_other_that_begins_or_ends_so(run):
    before = {id: streams_of(run, id) for id in ("a", "a_left", "a_right", "v1")}
    command("p", "v", "left", "a_")
    assert {id: streams_of(run, id) for id in before} == before
    assert streams_of(run, "p") == set()


def test_a_stream_that_left_the_manifest_and_a_video_of_predict_are_found_by_their_names(run):
    plan = run.plan
    plan.rows[:] = [row for row in plan.rows if row.stream_id != "p"]
    whom = forget.person(plan, ["p"])
    assert (whom.streams, whom.videos, whom.listed) == ({"p"}, {"p"}, ())
    assert "p: still in" not in command("p")
    assert streams_of(run, "p") == set()


def test_the_state_of_a_stopped_fit_and_half_written_files_go(run):
    face = run.plan.folder("face")
    state = face / "checkpoints/last.ckpt"
    disk.write_text(state, "numbers")
    (face / "fit.json").unlink()
    part = run.plan.folder("faces") / ".a.01234567.h5.elsewhere-1-0123abcd.part"
    part.write_text("half")
    cut = run.plan.folder("faces") / f".{'n' * 200}.elsewhere-1-0123abcd.part"  # a name of 180 bytes on a host of a long one
    others = [path for path in run.plan.folder("voice").iterdir() if path.is_file() and not path.name.startswith("p.")]
    cut.write_text("half")
    for path in (cut, *others):
        os.utime(path, (0, 0))
    command("p")
    assert state.exists(), "no model learns from what is only predicted"
    assert not cut.exists()
    assert others
    assert all(path.exists() for path in others)
    command("a_left", "a_right")
    assert not state.parent.exists()
    assert not part.exists()


def test_a_run_that_did_not_have_the_person_stays_published(run):
    out = run.plan.results
    command("nobody")
    assert (out / "run.json").exists()
    said = command("p")
    assert f"{out}/report.html: of the run as a whole; the next run publishes it anew" in said
    assert {str(p.relative_to(out)) for p in out.rglob("*.csv")} == {f"predictions/{id}.csv" for id in ("a_left", "a_right", "v1")}
    assert published.files(out) == {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} - {"files.txt", "published/lock"}
    republish(run)


def test_files_of_others_in_the_results_stay(run):
    out = run.plan.results
    disk.write_text(out / "predictions/mine.csv", "mine of p")
    disk.write_text(out / "notes.txt", "mine of p")
    command("p")
    assert (out / "predictions/mine.csv").exists()
    assert (out / "notes.txt").exists()


@pytest.mark.parametrize(("name", "text"), [("files.txt", "p.mp4\npredictions/p.csv\n"), ("run.json", '{"run": "p", "settings": {}}')])
def test_a_folder_of_another_program_beside_the_results_is_let_be(run, name, text):
    other = run.plan.results.parent / "other"
    for file in ("p.mp4", "predictions/p.csv", "report.html"):
        disk.write_text(other / file, "p")
    disk.write_text(other / name, text)
    before = sorted(other.rglob("*"))
    command("p")
    assert sorted(other.rglob("*")) == before
    assert not list(run.plan.results.rglob("p.*"))


def test_results_of_a_version_that_made_no_list_are_cleared_too(run):
    out = run.plan.results
    (out / "files.txt").unlink()
    command("p")
    assert not list(out.rglob("p.*"))
    assert (out / "predictions/v1.csv").exists()
    republish(run)


def test_nothing_is_forgotten_while_a_job_is_at_work(run, tmp_path):
    path = tmp_path / "logs/small/apply_mesh/x.json"
    JobRecord("apply_mesh", "fit000").write(path)
    before = streams_of(run, "p")
    with pytest.raises(InputError, match="want no job at work on the cache, got apply_mesh fit000; wait for its end, or stop the run"):
        CliRunner().invoke(main.app, ["cache", "forget", "--yes", "p"], catch_exceptions=False)
    assert streams_of(run, "p") == before


def test_what_lies_behind_a_link_is_named_and_stays(run, tmp_path):
    shutil.move(run.plan.cache / "faces", tmp_path / "elsewhere")
    (run.plan.cache / "faces").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    said = command("p")
    assert "faces: a link, not followed" in said
    assert list((tmp_path / "elsewhere").glob("*/p.*"))


def test_models_are_named_with_whom_they_learned_from(run):
    record = json.loads((run.plan.folder("voice") / "fit.json").read_text())
    record["train"] = ["a_right"]
    (run.plan.folder("voice") / "fit.json").write_text(json.dumps(record))
    said = command("a_left")
    assert f"{run.plan.folder('face')}/fit.json: of a model that learned from a_left" in said
    assert not (run.plan.folder("face") / "fit.json").exists()
    assert (run.plan.folder("voice") / "fit.json").exists()
