"""What a run takes: proportional to the videos, true to what streams take on disk, less what is there already."""

import json
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
import yaml
from small_run import Run
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.errors import InputError, MediaError, WeightsError
from affpipe.data.manifest import Row
from affpipe.encoders.logmel.worker import logmel
from affpipe.encoders.mesh.worker import mesh
from affpipe.encoders.qwen3vl.spec import TEXT_TOKENS, tokens
from affpipe.encoders.table import ENCODERS
from affpipe.faces import workers as face_stages
from affpipe.faces.stages import LANDMARK_BYTES
from affpipe.jobs import durations, estimate, sizes
from affpipe.jobs.doctor import examine
from affpipe.jobs.durations import Length, Lengths
from affpipe.media import workers as media_stages
from affpipe.media.declared import declared
from affpipe.models.table import MODELS
from affpipe.plan import config
from affpipe.plan.plan import Plan
from affpipe.plan.settings import Settings
from affpipe.plan.stages import STAGES
from affpipe.system.job_record import JobRecord
from affpipe.system.weights.network_sizes import PUBLISHED, network

ROOT = Path(__file__).resolve().parents[2]
FPS = 25
RAS = [ROOT / "config.yaml", ROOT / "recipes/ras.yaml"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Records of jobs are looked for in the working directory."""
    monkeypatch.chdir(tmp_path)


def plan_of(settings: Settings, folder: Path, count: int) -> Plan:
    rows = []
    for i in range(count):
        video, labels = folder / f"v{i}.mp4", folder / f"v{i}.txt"
        video.write_bytes(f"video {i}".encode())
        labels.write_text("valence,arousal\n0,0\n")
        rows.append(Row(f"v{i}", video, "largest", "train" if i % 4 else "validation", {"va": labels}))
    return Plan(settings, rows)


def ras(folder: Path, **change) -> Settings:
    data: dict = {}
    for path in RAS:
        data = config.overlay(data, config.read_yaml(path))
    return config.parse(config.overlay(data, {"cache": str(folder / "cache"), "weights": str(folder / "weights"), **change}))


def same(plan: Plan, frames: int = 9000) -> Lengths:
    """All videos of one length."""
    return Lengths({item.id: Length(frames, frames / 30, True, "given") for item in plan.items("frames")})


def parts(plan: Plan, long: Lengths) -> dict[str, estimate.Part]:
    return {part.name: part for part in estimate.of(plan, long)}


# ---- laws -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_twice_the_videos_are_twice_the_hours_and_the_disk(tmp_path, device):
    one, two = (plan_of(ras(tmp_path, device=device), tmp_path, count) for count in (8, 16))
    first, second = parts(one, same(one)), parts(two, same(two))
    assert list(first) == list(second) == [*_in_order(one), "publish"]
    for name, part in first.items():
        assert second[name].seconds == pytest.approx(2 * part.seconds), name
        assert second[name].gpu == part.gpu
        if not name.startswith("fit "):  # a model has one size
            assert second[name].disk == pytest.approx(2 * part.disk), name
            assert second[name].items == 2 * part.items


def _in_order(plan: Plan) -> list[str]:
    return [label for name in plan.names for label in ([f"fit {name}"] if name in plan.settings.models else []) + [name]]


def test_twice_the_length_is_twice_the_time_and_about_twice_the_disk(tmp_path):
    plan = plan_of(ras(tmp_path), tmp_path, 8)
    short, long = parts(plan, same(plan, 9000)), parts(plan, same(plan, 18000))
    for name, part in short.items():
        assert long[name].seconds == pytest.approx(2 * part.seconds, rel=0.02), name  # a window less at the end
    less, more = (sum(p.disk for n, p in found.items() if not n.startswith("fit ")) for found in (short, long))
    assert more == pytest.approx(2 * less, rel=0.05)  # a file's head counts once, and its last chunk whole


def test_what_runs_on_a_cpu_takes_no_gpu_memory(tmp_path):
    on_gpu = plan_of(ras(tmp_path), tmp_path, 4)
    wants = {name for name, part in parts(on_gpu, same(on_gpu)).items() if part.gpu}
    assert wants == {"faces", "grada", "qwen", "odyssey", *on_gpu.settings.models, *(f"fit {m}" for m in on_gpu.settings.models)}
    on_cpu = plan_of(ras(tmp_path, device="cpu"), tmp_path, 4)
    assert not any(part.gpu for part in parts(on_cpu, same(on_cpu)).values())


def test_the_large_network_takes_its_weights_and_its_tokens(tmp_path):
    """Qwen3-VL-4B in bfloat16: 8.9 GB of weights; at 448 x 256 8 x 112 tokens of video a segment, and more pixels take more of all."""
    plan = plan_of(ras(tmp_path), tmp_path, 4)
    small = plan_of(ras(tmp_path, features={"qwen": {"min_pixels": 1024, "max_pixels": 448 * 256}}), tmp_path, 4)
    assert tokens(small.settings.features["qwen"]) == 8 * 112 + TEXT_TOKENS
    assert 8.9e9 < sizes.gpu(small, "qwen") < sizes.gpu(plan, "qwen") < 2 * 8.9e9
    assert parts(small, same(small))["qwen"].seconds < parts(plan, same(plan))["qwen"].seconds


def test_folds_multiply_fits_and_nothing_else(tmp_path):
    one, folds = (plan_of(ras(tmp_path, cross_fit=k), tmp_path, 8) for k in (0, 5))
    first, second = parts(one, same(one)), parts(folds, same(folds))
    assert second["fit grada_transformer"].seconds == pytest.approx(6 * first["fit grada_transformer"].seconds)
    assert second["grada"] == first["grada"]


def test_a_video_without_sound_costs_the_audio_stages_nothing(tmp_path):
    plan = plan_of(ras(tmp_path), tmp_path, 1)
    silent = Length(9000, 300.0, False, "declared")
    count = {name: sizes.rows(plan, name, silent) for name in plan.names}
    assert {name for name, rows in count.items() if rows == 0} == {"audio", "odyssey", "wavlm_chunks"}
    assert sizes.disk(plan, "odyssey", plan.items("odyssey")[0], silent) == 0


# ---- disk -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [60, 400, 1900])
def test_disk_is_within_a_fifth_of_what_streams_take(tmp_path, monkeypatch, count):
    """Streams as the stages themselves write them, of arrays that are made up where a network would give them."""
    features = {"mesh": {"encoder": "mesh"}, "log": {"encoder": "logmel"}}
    models = {"face": {"kind": "transformer", "reads": "mesh"}, "voice": {"kind": "chunk_asp", "reads": "log"}}
    base = {"features": features, "models": models, "publish": "face", "cache": str(tmp_path / "cache")}
    plan = plan_of(config.parse(base), tmp_path, 1)
    item, axis = plan.items("subject")[0], np.arange(count) / FPS
    ends, rng = axis + 1 / FPS, np.random.default_rng(0)

    job = plan.job("frames", plan.items("frames")[0])
    video = {"width": 640, "height": 360, "audio": {"codec": "aac"}}
    every = np.ones(count, bool)
    shown = np.full((count, 1), 0.04, np.float32)
    job.write(job.header(Fraction(FPS), video=video), values=shown, start_s=axis, end_s=ends, valid=every)
    crop = rng.bytes(3000)
    face = {"track": 0, "score": 1.0, "detected": True, "box": np.array([9, 9, 99, 99]), "crop_box": np.array([0, 0, 99, 99]), "crop": crop}
    job = plan.job("faces", plan.items("faces")[0])
    with job.writing(job.header(Fraction(FPS))) as out:
        face_stages._write(out, ({**face, "frame": i} for i in range(count)), job.axis())
    face_stages.subject(plan.context("subject"))(plan.job("subject", item))
    job = plan.job("landmarks", item)
    with job.writing(job.header(Fraction(FPS))) as out:
        for at in range(0, count, face_stages.BLOCK):
            block = slice(at, min(at + face_stages.BLOCK, count))
            points = rng.normal(100, 30, (block.stop - at, 478, 3)).astype(np.float32)
            out.append(values=points, start_s=axis[block], end_s=ends[block], valid=every[block])
    for name in ("mouth", "speech"):
        getattr(face_stages, name)(plan.context(name))(plan.job(name, item))
    mesh(plan.context("mesh"))(plan.job("mesh", item))
    sound = rng.normal(0, 0.03, round(count / FPS * 16000)).astype(np.float32)  # noise: the least that FLAC can do with sound as loud
    monkeypatch.setattr(media_stages, "extract", lambda *_, **__: [sound])
    media_stages.audio(plan.context("audio"))(plan.job("audio", plan.items("audio")[0]))
    logmel(plan.context("log"))(plan.job("log", plan.items("log")[0]))
    job = plan.job("face", item)
    rows = {
        "values": np.zeros((count, 256), np.float16),
        "prediction": np.zeros((count, 2), np.float32),
        "source": np.zeros(count, np.uint8),
    }
    job.write(job.header(Fraction(FPS)), start_s=axis, end_s=ends, valid=every, **rows)

    monkeypatch.setattr(sizes, "crop_bytes", lambda *_: len(crop))
    long = durations.of(plan).videos["v0"]
    assert (long.frames, long.source) == (count, "measured")
    for name in ("frames", "faces", "subject", "landmarks", "mouth", "speech", "mesh", "audio", "log", "face"):
        real = plan.stream(name, item).stat().st_size
        assert sizes.disk(plan, name, item, long) == pytest.approx(real, rel=0.35 if name == "audio" else 0.2), name


def test_what_is_there_is_measured_and_subtracted(tmp_path):
    run = Run(tmp_path, streams={f"v{i}": "train" if i else "validation" for i in range(4)}, shards=1)
    run.index()
    whole = parts(run.plan, durations.of(run.plan))
    assert all(part.left_s == part.left_disk == 0 for name, part in whole.items() if name not in ("audio", "publish"))  # it writes no sound
    taken = sum(run.plan.stream("mesh", item).stat().st_size for item in run.plan.items("mesh"))
    assert (whole["mesh"].disk, whole["mesh"].disk_basis, whole["mesh"].time_basis) == (taken, "measured here", "default")
    for path in run.plan.indexes("mesh"):
        Path(path).unlink()
    for item in run.plan.items("mesh")[:1]:
        run.plan.stream("mesh", item).unlink()
    less = parts(run.plan, durations.of(run.plan))["mesh"]
    assert less.left_disk == pytest.approx(taken / 4)
    assert less.left_s == pytest.approx(less.seconds / 4)
    assert less.seconds == pytest.approx(whole["mesh"].seconds)


# ---- time -------------------------------------------------------------------------------------------------------------------------------


def test_records_of_jobs_come_before_defaults(tmp_path):
    plan = plan_of(ras(tmp_path), tmp_path, 4)
    for run, seconds, rows in (("one", 30.0, 1000), ("two", 50.0, 1000)):  # runs of this workspace that share the stage
        JobRecord("apply_landmarks", key=plan.key("landmarks"), working_s=seconds, rows=rows, made=1).write(
            Path(f"logs/{run}/apply_landmarks/fit000.json")
        )
    JobRecord("apply_mouth", key="another", working_s=999.0, rows=1).write(Path("logs/one/apply_mouth/fit000.json"))
    found = parts(plan, same(plan))
    assert found["landmarks"].seconds == pytest.approx(0.04 * 4 * 9000)
    assert (found["landmarks"].time_basis, found["mouth"].time_basis) == ("measured here", "default")


def test_streams_that_are_not_to_be_had_are_not_left(tmp_path):
    run = Run(tmp_path, streams={"v1": "train", "v2": "validation", "p1": "predict"}, shards=1)  # p1 has no sound
    run.index()
    for item in run.plan.items("wavlm"):
        run.plan.stream("wavlm", item).unlink()
    found = parts(run.plan, durations.of(run.plan))["wavlm"]
    assert found.left_s == pytest.approx(found.seconds * 2 / 3)


def test_a_fit_takes_what_its_record_says(tmp_path):
    run = Run(tmp_path, streams={"v1": "train", "v2": "validation"}, shards=1)
    record = JobRecord("fit_face", key=run.plan.key("face"), state="done", unit="epochs", total=3, done=3)
    record.started -= 240
    record.write(run.plan.record_of_fit("face"))
    found = parts(run.plan, durations.of(run.plan))["fit face"]
    assert (found.seconds, found.left_s, found.time_basis) == (pytest.approx(240, abs=1), 0, "measured here")


# ---- lengths ----------------------------------------------------------------------------------------------------------------------------


def test_lengths_come_from_containers_and_hours_from_a_person(tmp_path):
    clips.write(tmp_path / "a.mp4", count=50, fps=25)
    clips.write(tmp_path / "b.mp4", count=100, fps=50)
    (tmp_path / "c.mp4").write_bytes(b"no video")
    plan = Plan(ras(tmp_path), [Row(n, tmp_path / f"{n}.mp4", "largest", "predict") for n in "abc"])
    found = durations.of(plan)
    assert (found.videos["a"].frames, found.videos["b"].frames, found.videos["c"].frames) == (50, 100, 75)
    assert found.videos["a"].seconds == found.videos["c"].seconds == pytest.approx(2)
    assert found.sources == {"declared": 2, "taken for the mean": 1}
    assert len(found.faults) == 1
    assert "c.mp4" in found.faults[0]
    given = durations.of(plan, 3.0)
    assert given.hours == pytest.approx(3)
    assert given.sources == {"given": 3}
    assert given.videos["a"].frames == 3600 * durations.USUAL_FPS
    opened = durations.of(plan, opened={tmp_path / "b.mp4": declared(tmp_path / "b.mp4")})
    assert opened.sources == {"declared": 1, "taken for the mean": 2}
    with pytest.raises(InputError, match="want a video that opens, got none; mend them, or say --hours"):
        durations.of(plan, opened={})


def test_a_container_says_its_rate_and_whether_it_varies(tmp_path):
    clips.write(tmp_path / "even.mp4", count=40, fps=25)
    pts = [i * 2 + (i > 20) * 3 for i in range(40)]
    clips.write(tmp_path / "odd.mp4", count=40, fps=25, pts=pts)
    even, odd = declared(tmp_path / "even.mp4", first_frame=True), declared(tmp_path / "odd.mp4")
    assert (even.frames, even.fps, even.width, even.height, even.audio, even.variable_rate) == (
        40,
        25,
        clips.WIDTH,
        clips.HEIGHT,
        False,
        False,
    )
    assert odd.variable_rate
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(MediaError, match="want a readable video"):
        declared(tmp_path / "text.mp4")


# ---- networks ---------------------------------------------------------------------------------------------------------------------------


def test_the_size_of_a_network_is_read_from_its_checkpoint(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    head = json.dumps({"a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}, "__metadata__": {}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(48))
    (folder / "pytorch_model.bin").write_bytes(bytes(999))
    (folder / "config.json").write_text(json.dumps({"text_config": {"hidden_size": 5}}))
    found = network(folder, ENCODERS["qwen3vl"].network)
    assert (found.parameters, found.width, found.known) == (12, 5, True)
    assert network(tmp_path / "odyssey", ENCODERS["wavlm"].network) == PUBLISHED["odyssey"]
    assert not network(tmp_path / "unheard-of", ENCODERS["grada"].network).known
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(WeightsError, match="want a safetensors file, got"):
        network(folder, ENCODERS["qwen3vl"].network)


@pytest.mark.parametrize("name", ["face", "behaviour", "fused"])
def test_parameters_of_a_model_are_those_of_its_matrices(tmp_path, name):
    from affpipe.models.predictor import Predictor

    settings = config.load([ROOT / "config.yaml"])
    plan = plan_of(settings, tmp_path, 1)
    model = settings.models[name]
    dims = {m: settings.models[m].hidden for m in model.members} or {model.reads: sizes.feature_width(plan, model.reads)}
    real = sum(p.numel() for p in Predictor(model, dims, None, outputs=2).parameters())
    assert sizes.parameters(plan, name) == pytest.approx(real, rel=0.25)


VARIANTS = {  # model of ras.yaml -> what the public code has there
    "grada_transformer": {"embedding": "head", "activation": "gelu"},
    "qwen_visual_mamba": {"block": "ras2026"},
    "qwen_multimodal_mamba": {"block": "ras2026"},
    "dcmmoe_face_audio": {"kind": "cross_attention", "query": "grada_transformer", "context": "wavlm_chunks"}
    | {"positions": "every_layer", "inputs": "embedding_and_prediction"},
    "raav_face_multimodal_audio": {"compat": "ras2026", "inputs": "embedding"},
}


@pytest.mark.parametrize("change", [{}, VARIANTS], ids=["paper", "public code"])
def test_every_matrix_of_a_model_is_counted(tmp_path, change):
    plan = plan_of(ras(tmp_path, models=change), tmp_path, 1)
    models = plan.settings.models
    for name, model in models.items():
        more = 2 if getattr(model, "inputs", "") == "embedding_and_prediction" else 0
        dims = {m: models[m].hidden + more for m in model.members} or {model.reads: sizes.feature_width(plan, model.reads)}
        real = sum(p.numel() for p in MODELS[model.kind].build(model, dims, 2).parameters())
        encoder = 12 * 4 * 1024**2 if name == "wavlm_chunks" else 0  # its four trained layers of WavLM-Large, in round figures
        assert sizes.parameters(plan, name) == real + encoder, name


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_models_of_the_public_code_are_estimated_too(tmp_path, device):
    plan = plan_of(ras(tmp_path, models=VARIANTS, device=device), tmp_path, 4)
    found = parts(plan, same(plan))
    for name in VARIANTS:
        assert found[name].seconds > 0
        assert found[f"fit {name}"].seconds > 0
        assert (found[f"fit {name}"].gpu is not None) is (device == "cuda")
    usual = parts(plan_of(ras(tmp_path, device=device), tmp_path, 4), same(plan))
    assert found["fit qwen_visual_mamba"].disk < usual["fit qwen_visual_mamba"].disk  # no expansion
    assert found["dcmmoe_face_audio"].disk < usual["dcmmoe_face_audio"].disk  # no gate


# ---- the command ------------------------------------------------------------------------------------------------------------------------


def test_the_command_adds_up(tmp_path):
    plan = plan_of(ras(tmp_path), tmp_path, 4)
    rows = "".join(f"{r.stream_id},{r.video.name},{r.partition},{r.labels['va'].name}\n" for r in plan.rows)
    (tmp_path / "m.csv").write_text(f"stream_id,video,partition,va\n{rows}")
    settings = plan.settings.model_dump(mode="json") | {"manifest": "m.csv", "data_root": "."}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    words = ["estimate", "--config", "c.yaml", "--hours", "28"]
    found = json.loads(CliRunner().invoke(main.app, [*words, "--json"], catch_exceptions=False).output)
    assert found["media"]["hours"] == pytest.approx(28)
    assert [part["name"] for part in found["parts"]] == [*_in_order(plan), "publish"]
    out = CliRunner().invoke(main.app, words, catch_exceptions=False).output
    total = sum(part["disk"] for part in found["parts"]) / 1e9
    assert f"{total:.1f} GB" in next(line for line in out.splitlines() if "in all" in line)
    assert "Defaults are rough" in " ".join(out.split())


# ---- stages that the tables do not know -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mesh", "wavlm", "transformer", "mouth", "faces", "chunk_asp", "grada"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_stage_new_to_the_tables_is_unknown_and_no_traceback(tmp_path, monkeypatch, kind, device):
    """An encoder, model or stage that was added without a thought of the estimate, as the guides once had it."""
    for table, unknown in (
        (STAGES, {"cost": None}),
        (ENCODERS, {"cost": None, "row_bytes": None, "network": None}),
        (MODELS, {"row_s": None}),
    ):
        if kind in table:
            monkeypatch.setitem(table, kind, replace(table[kind], **unknown))
    mesh = {"features": {"mesh": {"encoder": "mesh"}}, "models": {"look": {"kind": "transformer", "reads": "mesh"}}}
    plan = plan_of(ras(tmp_path, device=device, faces={"detector": "mediapipe"}, **mesh), tmp_path, 4)
    found = parts(plan, same(plan))
    assert list(found) == [*_in_order(plan), "publish"]
    new = {name for name, part in found.items() if part.time_basis == estimate.UNKNOWN}
    assert new
    assert all(found[name].seconds == found[name].disk == 0 for name in new)
    known = set(found) - new
    assert all(found[name].seconds > 0 for name in known)
    assert not any(estimate.is_new(plan, name.removeprefix("fit ")) for name in known - {"publish"})


def test_what_a_new_stage_took_is_measured_by_its_own_jobs(tmp_path, monkeypatch):
    monkeypatch.setitem(STAGES, "mouth", replace(STAGES["mouth"], cost=None))
    settings = {
        "features": {"wavlm": {"encoder": "wavlm"}},
        "models": {"voice": {"kind": "chunk_asp", "reads": "wavlm"}},
        "publish": "voice",
        "cache": str(tmp_path / "cache"),
    }
    plan = plan_of(config.parse(settings), tmp_path, 4)
    shard = next(iter(plan.shards))
    JobRecord("apply_mouth", shard, plan.key("mouth"), state="done", made=2, working_s=6.0).write(plan.record("mouth", shard))
    for item in plan.items("mouth")[:2]:
        path = plan.stream("mouth", item)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    part = parts(plan, same(plan))["mouth"]
    assert (part.seconds, part.left_s, part.disk, part.left_disk) == (12.0, 6.0, 4000.0, 2000.0)
    assert (part.time_basis, part.disk_basis) == (estimate.MEASURED, estimate.MEASURED)


def test_what_is_measured_of_a_new_model_is_not_called_unknown(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "transformer", replace(MODELS["transformer"], row_s=None))
    features, models = {"mesh": {"encoder": "mesh"}}, {"face": {"kind": "transformer", "reads": "mesh"}}
    settings = {"features": features, "models": models, "publish": "face", "cache": str(tmp_path / "cache")}
    plan = plan_of(config.parse(settings), tmp_path, 4)
    monkeypatch.setattr("affpipe.jobs.start.plan_of", lambda paths: plan)
    monkeypatch.setattr(durations, "of", lambda plan, hours: same(plan))
    line = "new to the tables, so not known and not in the sums: "
    assert f"{line}fit face (time and disk), face (time and disk)" in " ".join(said_of("estimate").split())
    record = JobRecord("fit_face", "", plan.key("face"), state="done", unit="epochs", done=3, seconds=42.0)
    record.write(plan.record_of_fit("face"))
    assert f"{line}fit face (disk), face (time and disk)" in " ".join(said_of("estimate").split())


def said_of(*words: str) -> str:
    return CliRunner().invoke(main.app, words, catch_exceptions=False).output


@pytest.mark.parametrize(
    ("declared", "count"),
    [
        ({"axis": "steps", "step_s": 0.2}, 1500),
        ({"axis": "steps", "step_s": lambda context: 1 / len(context.name)}, 1200),
        ({"axis": "samples"}, 4_800_000),
        ({"axis": "frames"}, 9000),
    ],
)
def test_an_encoder_has_rows_by_the_axis_that_it_declares(tmp_path, monkeypatch, declared, count):
    monkeypatch.setitem(ENCODERS, "mesh", replace(ENCODERS["mesh"], **declared))
    features, models = {"mesh": {"encoder": "mesh"}}, {"face": {"kind": "transformer", "reads": "mesh"}}
    settings = {"features": features, "models": models, "publish": "face", "cache": str(tmp_path / "cache")}
    plan = plan_of(config.parse(settings), tmp_path, 2)
    assert sizes.rows(plan, "mesh", Length(9000, 300.0, True, "given")) == count
    monkeypatch.setitem(ENCODERS, "mesh", replace(ENCODERS["mesh"], row_bytes=None))
    plan = plan_of(config.parse(settings), tmp_path, 2)
    assert parts(plan, same(plan))["mesh"].disk_basis == estimate.UNKNOWN


def test_a_doctor_asks_the_estimate_and_ends_well(tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "wavlm", replace(ENCODERS["wavlm"], cost=None))
    plan = plan_of(ras(tmp_path), tmp_path, 2)
    monkeypatch.setattr(examine.durations, "of", lambda plan, **_: same(plan))
    found, told = examine._parts(plan, {})
    assert told == []
    assert {part.name for part in found if part.time_basis == estimate.UNKNOWN} == {"odyssey", "wavlm_chunks", "fit wavlm_chunks"}


def test_landmarks_of_streams_with_few_pictures_are_estimated_by_their_pictures(tmp_path):
    settings = config.parse(
        {
            "features": {"mesh": {"encoder": "mesh"}},
            "models": {"face": {"kind": "transformer", "reads": "mesh"}},
            "publish": "face",
            "faces": {"source": "images"},
            "cache": str(tmp_path / "cache"),
        }
    )
    (tmp_path / "v.mp4").write_bytes(b"v")
    for name, count in (("one", 1), ("many", 500)):
        (tmp_path / name).mkdir()
        for i in range(count):
            (tmp_path / name / f"{i + 1:05d}.jpg").write_bytes(b"")
    rows = [Row(name, tmp_path / "v.mp4", "largest", "predict", {}, {}, images=tmp_path / name) for name in ("one", "many")]
    plan, length = Plan(settings, rows), Length(18000, 600.0, True, "declared")
    disk = {item.id: sizes.disk(plan, "landmarks", item, length) for item in plan.items("landmarks")}
    assert disk["one"] < 1e6
    assert disk["many"] > 18000 * LANDMARK_BYTES  # a picture may lie in each chunk
