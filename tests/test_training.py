"""From streams and labels to a fitted model and its streams, on a store written by hand: known signals, known answers."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from affpipe import frames, predictor, sequences
from affpipe.config import parse
from affpipe.errors import AbsentError, ManifestError, StoreError
from affpipe.formats import write_va
from affpipe.frames import NEAREST, NONE, OBSERVED
from affpipe.jobs import Context, Job
from affpipe.manifest import read
from affpipe.metrics import va_scores
from affpipe.plan import Plan
from affpipe.predict import stage, to_frames
from affpipe.predictor import Predictor, model_path
from affpipe.sequences import Packed
from affpipe.store import Entry
from affpipe.training import fit

FPS, FRAMES, STREAMS = Fraction(25), 200, ("a", "b", "c", "d")
PARTITION = {"a": "train", "b": "train", "c": "validation", "d": "test"}
SMALL = {"hidden": 16, "dropout": 0.0, "standardise": True, "training": {"epochs": 12, "learning_rate": 1e-2}}
MODELS = {
    "face": {"kind": "transformer", "reads": "mesh", "layers": 1, "heads": 2, "feedforward": 32, "window": 50, "stride": 20, **SMALL},
    "behaviour": {"kind": "mamba", "reads": "qwen3vl", "layers": 1, "window": 4, "stride": 2, "head_hidden": 16, **SMALL},
    "voice": {"kind": "chunk_asp", "reads": "wavlm", "attention_hidden": 8, **SMALL},
    "fused": {
        "kind": "dcmmoe",
        "reads": ["face", "behaviour", "voice"],
        "layers": 1,
        "heads": 2,
        "feedforward": 32,
        "window": 50,
        "stride": 20,
    }
    | {**SMALL, "standardise": False},
}


def truth(stream: str) -> np.ndarray:
    """(T, 2) smooth curves, other ones for each stream."""
    t = np.arange(FRAMES) / float(FPS)
    phase = STREAMS.index(stream)
    return 0.6 * np.stack([np.sin(1.3 * t + phase), np.cos(0.9 * t + 2 * phase)], axis=1)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A store in which every feature carries the labels, linearly mixed; stream d has no audio."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(2, 6))
    lines = ["stream_id,video,subject,partition,annotation"]
    for id in STREAMS:
        (tmp_path / f"{id}.mp4").write_bytes(id.encode() * 9)
        write_va(tmp_path / f"{id}.txt", truth(id), np.ones(FRAMES, bool))
        lines.append(f"{id},{id}.mp4,largest,{PARTITION[id]},{id}.txt" if PARTITION[id] != "test" else f"{id},{id}.mp4,largest,test,")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    features = {name: {"encoder": name} for name in ("mesh", "qwen3vl", "wavlm")}
    data = {"cache": str(tmp_path / "cache"), "manifest": str(tmp_path / "manifest.csv"), "features": features, "models": MODELS}
    made = Plan(parse(data | {"publish": "fused"}), read(tmp_path / "manifest.csv", tmp_path))
    for item in made.items("subject"):
        write_streams(made, item, mix)
    return made


def write_streams(plan: Plan, item, mix: np.ndarray) -> None:
    times = np.arange(FRAMES) / float(FPS)
    axis = frames.FrameAxis(times, FPS)
    values = (truth(item.id) @ mix).astype(np.float32)
    every = np.ones(FRAMES, bool)

    def put(name: str, values: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, valid: np.ndarray, **more: np.ndarray) -> None:
        job = Job(plan, name, plan.item(name, item))
        job.write(job.header(FPS), values=values, start_s=start_s, end_s=end_s, valid=valid, **more)

    put("frames", np.zeros((FRAMES, 1), np.float32), times, axis.ends_s, every)
    seen = every.copy()
    seen[60:80] = False
    put("mesh", np.where(seen[:, None], values, 0), times, axis.ends_s, seen)
    cut = frames.segments(0.0, axis.end_s, length_s=4.0, hop_s=2.0)
    pooled, _ = frames.pool(values, every, times, cut[:, 0], cut[:, 1])
    put("qwen3vl", pooled.astype(np.float16), cut[:, 0], cut[:, 1], np.ones(len(cut), bool))
    retained = np.ones(len(cut), np.float32)
    retained[-1] = 0
    put("speech", np.stack([retained, retained, retained], axis=1), cut[:, 0], cut[:, 1], np.ones(len(cut), bool))
    if item.id != "d":
        steps = np.array([[start + 0.02 * i for i in range(199)] for start in cut[:, 0]])
        states = values[np.clip((steps * float(FPS)).astype(int), 0, FRAMES - 1)].astype(np.float16)
        real = np.round((cut[:, 1] - cut[:, 0]) * 50 - 1).astype(np.int32)
        put("wavlm", states, cut[:, 0], cut[:, 1], np.ones(len(cut), bool), steps=real)


def entries(plan: Plan) -> dict[str, dict[str, Entry]]:
    done = {name: {id: Entry("done") for id in STREAMS} for name in plan.names}
    for name in ("wavlm", "voice"):
        done[name]["d"] = Entry("absent", reason="no audio track")
    return done


def fit_and_apply(plan: Plan, names=tuple(MODELS)) -> None:
    for name in names:
        fit(plan, name, entries(plan))
        work = stage(Context(plan, name))
        for item in plan.items(name):
            if entries(plan)[name][item.id].status == "done":
                work(Job(plan, name, item))


def test_the_whole_chain_learns_what_is_there_to_learn(plan):
    fit_and_apply(plan)
    (item,) = [i for i in plan.items("fused") if i.id == "c"]
    for name, least in {"face": 0.9, "fused": 0.9}.items():
        job = Job(plan, name, item)
        with job.open(name) as stream:
            found = to_frames(stream, job.axis())
        assert va_scores(truth("c"), found.values, found.valid)["ccc"] > least
        assert (found.source[60:80] == NEAREST).all()
        assert (np.delete(found.source, np.s_[60:80]) == OBSERVED).all()


def test_a_stream_without_audio_is_fused_from_the_rest(plan):
    fit_and_apply(plan)
    (item,) = [i for i in plan.items("fused") if i.id == "d"]
    with Job(plan, "fused", item).open("fused") as stream:
        gate, experts = stream.rows("gate"), stream.attributes["extra"]["experts"]
        assert stream.valid.all()
        assert np.isfinite(stream.rows("prediction")).all()
    np.testing.assert_allclose(gate.sum(axis=1), 1, atol=1e-5)
    silent = [i for i, expert in enumerate(experts) if expert.startswith("voice<-")]
    assert len(silent) == 2
    assert (gate[:, silent] == 0).all()


def test_fitting_twice_gives_the_same_weights_and_a_present_model_is_not_fitted(plan, tmp_path):
    fit(plan, "face", entries(plan))
    path = model_path(plan.folder("face"))
    first = path.read_bytes()
    stamp = path.stat().st_mtime_ns
    fit(plan, "face", entries(plan))
    assert path.stat().st_mtime_ns == stamp
    path.unlink()
    fit(plan, "face", entries(plan))
    assert path.read_bytes() == first


def test_a_fit_that_was_stopped_ends_where_an_undisturbed_one_does(plan):
    from lightning.pytorch.callbacks import Callback

    class Stop(Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 5:
                raise RuntimeError("stopped")

    record = fit(plan, "behaviour", entries(plan))
    path = model_path(plan.folder("behaviour"))
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(RuntimeError, match="stopped"):
        fit(plan, "behaviour", entries(plan), progress=Stop())
    assert not path.exists()
    resumed = fit(plan, "behaviour", entries(plan))
    assert [c["epoch"] for c in resumed["curves"]] == [c["epoch"] for c in record["curves"]]
    assert path.read_bytes() == whole


def test_the_best_epoch_is_kept(plan):
    record = fit(plan, "face", entries(plan))
    assert record["best"]["validation_ccc"] == max(c["validation_ccc"] for c in record["curves"])
    model, _ = predictor.load(model_path(plan.folder("face")), plan.key("face"), plan.settings.models["face"], torch.device("cpu"))
    (item,) = [i for i in plan.items("face") if i.id == "c"]
    sequence = sequences.read(Job(plan, "face", item), plan.settings.models["face"])
    target, known = sequences.labels(sequence, item.row.annotation)
    rows = predictor.run(model, sequence, torch.device("cpu"))
    score = va_scores(target.reshape(-1, 2), rows.prediction.reshape(-1, 2), known.ravel())["ccc"]
    assert score == pytest.approx(record["best"]["validation_ccc"], abs=1e-6)


def test_standardisation_uses_observed_rows_of_the_training_streams(plan):
    settings = plan.settings.models["face"]
    read_all = [sequences.read(Job(plan, "face", i), settings) for i in plan.items("face") if i.row.partition == "train"]
    model = Predictor(settings, {"mesh": 6})
    model.measure(read_all)
    rows = np.concatenate([s.inputs["mesh"] for s in read_all]).astype(np.float64)
    np.testing.assert_allclose(model.mean_mesh, rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(model.deviation_mesh, rows.std(0), atol=1e-5)


def test_audio_windows_give_a_row_a_second_and_drop_what_was_not_retained(plan):
    settings = plan.settings.models["voice"]
    (item,) = [i for i in plan.items("voice") if i.id == "a"]
    sequence = sequences.read(Job(plan, "voice", item), settings)
    assert sequence.start_s[1].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert sequence.end_s.max() == pytest.approx(8.0)
    assert sequence.present[:, 0].tolist() == [True, True, False]
    target, known = sequences.labels(sequence, item.row.annotation)
    np.testing.assert_allclose(target[1, 2], truth("a")[100:125].mean(axis=0), atol=1e-5)
    assert not known[2].any()


@pytest.mark.parametrize("length", [30, 50, 200])
def test_packed_windows_are_views_of_their_streams(plan, length):
    settings = plan.settings.models["face"].model_copy(update={"window": length, "stride": 20})
    items = [i for i in plan.items("face") if i.row.partition == "train"]
    read_all = [sequences.read(Job(plan, "face", i), settings) for i in items]
    targets = [sequences.labels(s, i.row.annotation) for s, i in zip(read_all, items, strict=True)]
    packed = Packed(read_all, targets, settings)
    starts = frames.split(FRAMES, length=length, stride=20)
    assert len(packed) == 2 * len(starts)
    batch = packed[[len(starts), 0]]
    np.testing.assert_array_equal(batch["inputs"]["mesh"][0], read_all[1].inputs["mesh"][:length])
    np.testing.assert_array_equal(batch["target"][1, :, 0], targets[0][0][:length, 0])
    assert batch["present"].all()


def test_a_short_stream_is_padded_and_masked(plan):
    settings = plan.settings.models["face"].model_copy(update={"window": 300})
    (item,) = [i for i in plan.items("face") if i.id == "a"]
    sequence = sequences.read(Job(plan, "face", item), settings)
    packed = Packed([sequence], [sequences.labels(sequence, item.row.annotation)], settings)
    batch = packed[[0]]
    assert batch["present"][0, :, 0].sum() == FRAMES
    assert not batch["known"][0, FRAMES:].any()


def test_windows_without_labels_are_left_out(plan):
    settings = plan.settings.models["face"]
    (item,) = [i for i in plan.items("face") if i.id == "a"]
    sequence = sequences.read(Job(plan, "face", item), settings)
    target, known = sequences.labels(sequence, item.row.annotation)
    known[:100] = False
    packed = Packed([sequence], [(target, known)], settings)
    assert all(start + rows > 100 for start, rows in packed.windows)


def test_predictions_do_not_depend_on_the_batch_size(plan):
    fit(plan, "face", entries(plan))
    (item,) = [i for i in plan.items("face") if i.id == "c"]
    answers = []
    for size in (1, 3, 8):
        settings = plan.settings.models["face"]
        settings = settings.model_copy(update={"training": settings.training.model_copy(update={"batch_size": size})})
        model, _ = predictor.load(model_path(plan.folder("face")), plan.key("face"), settings, torch.device("cpu"))
        sequence = sequences.read(Job(plan, "face", item), settings)
        answers.append(predictor.run(model, sequence, torch.device("cpu")).prediction)
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    np.testing.assert_allclose(answers[0], answers[2], atol=1e-6)


def test_a_stream_with_nothing_to_predict_from_is_absent_with_its_reason(plan):
    fit(plan, "face", entries(plan))
    (item,) = [i for i in plan.items("face") if i.id == "d"]
    job = Job(plan, "mesh", item)
    times = np.arange(FRAMES) / float(FPS)
    nothing = np.zeros(FRAMES, bool)
    job.write(job.header(FPS), values=np.zeros((FRAMES, 6), np.float32), start_s=times, end_s=times + 0.04, valid=nothing)
    sequence = sequences.read(Job(plan, "face", item), plan.settings.models["face"])
    assert (sequence.source == NONE).all()
    with pytest.raises(AbsentError, match="d: want something to predict from, got no usable row of mesh"):
        stage(Context(plan, "face"))(Job(plan, "face", item))


def test_a_partition_without_usable_labels_is_named(plan):
    for item in plan.items("face"):
        if item.row.partition == "train":
            write_va(item.row.annotation, np.zeros((FRAMES, 2)), np.zeros(FRAMES, bool))
    with pytest.raises(ManifestError, match="face: want labelled frames in partition train, got none"):
        fit(plan, "face", entries(plan))


def test_a_model_file_that_is_no_model_is_named(plan, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(StoreError, match=r"model\.safetensors: want a fitted model, got no file"):
        predictor.read_record(path, "0" * 12)
    path.write_bytes(b"nonsense")
    with pytest.raises(StoreError, match="want a fitted model"):
        predictor.read_record(path, "0" * 12)


def test_segments_cover_the_frames_that_they_span(plan):
    """Two overlapping segments of known values: a frame under both gets their mean, one under a single one its value."""
    (item,) = [i for i in plan.items("behaviour") if i.id == "d"]
    job = Job(plan, "behaviour", item)
    rows = {"prediction": np.array([[0.2, 0.0], [0.6, -1.5]], np.float32), "source": np.full(2, OBSERVED, np.uint8)}
    job.write(job.header(FPS), values=np.zeros((2, 4), np.float16), start_s=[0.0, 2.0], end_s=[4.0, 6.0], valid=np.ones(2, bool), **rows)
    with job.open("behaviour") as stream:
        found = to_frames(stream, job.axis())
    np.testing.assert_allclose(found.values[49], [0.2, 0.0], atol=1e-7)
    np.testing.assert_allclose(found.values[50], [0.4, -0.75], atol=1e-7)
    np.testing.assert_allclose(found.values[100], [0.6, -1.0], atol=1e-7)  # clipped
    np.testing.assert_allclose(found.values[199], [0.6, -1.0], atol=1e-7)  # beyond the last segment: the nearest frame's
    assert found.source[199] == NEAREST
    assert found.source[149] == OBSERVED


def test_records_hold_what_the_report_needs(plan):
    record = fit(plan, "voice", entries(plan))
    assert {"model", "key", "best", "curves", "train", "validation", "parameters", "random"} <= set(record)
    assert record["train"] == ["a", "b"]
    stored = predictor.read_record(model_path(plan.folder("voice")), plan.key("voice"))
    assert json.loads(json.dumps(record)) == {k: v for k, v in stored.items() if k != "dims"}
