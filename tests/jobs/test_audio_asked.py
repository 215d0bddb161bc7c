"""Sound is asked everywhere: which windows a model learns from and which it is applied to, seconds on frames, a window's own rows."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learnable import FRAMES, MODELS, PARTITION, entries, fit_and_apply, make_plan

from affpipe.core.align import align, interpolate
from affpipe.core.axis import FrameAxis, segments
from affpipe.core.errors import SettingsError
from affpipe.core.item import Item
from affpipe.core.tasks.metrics import scores
from affpipe.core.tasks.table import VA
from affpipe.data.annotations import write_labels
from affpipe.data.manifest import read
from affpipe.data.workers import labels
from affpipe.faces import mouth
from affpipe.jobs.apply import inherited
from affpipe.jobs.fitting import examples
from affpipe.models import inputs, predictor
from affpipe.models.fusions.raav.network import RAAV
from affpipe.models.heads.chunk_asp.spec import ChunkModel
from affpipe.models.predictor import Predictor
from affpipe.models.targets import row_labels
from affpipe.models.windows import Packed, windows
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.results.frames import frames_of
from affpipe.store.index import Entry

SECONDS = 4
RATES = (Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(24000, 1001))


def axis_of(count: int, fps: Fraction) -> FrameAxis:
    return FrameAxis(np.arange(count) / float(fps), fps)


def windows_of(axis: FrameAxis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, end and validity (R,) of the seconds of 4 s windows every 2 s, one window after another, as a model's stream has them."""
    cut = segments(axis.start_s, axis.end_s, length_s=4.0, hop_s=2.0)
    start_s = cut[:, :1] + np.arange(SECONDS)
    end_s = np.minimum(start_s + 1, cut[:, 1:])
    return start_s.ravel(), end_s.ravel(), (end_s > start_s).ravel()


# ---- seconds to frames ------------------------------------------------------------------------------------------------------------------


def published(values: np.ndarray, axis: FrameAxis, cut: np.ndarray) -> np.ndarray:
    """The public code's way, by a plain loop: four values stretched over the frames of each window, windows averaged."""
    fps, total, count = float(axis.fps), np.zeros((len(axis), values.shape[-1])), np.zeros(len(axis))
    for window, (start_s, end_s) in zip(values, cut, strict=True):
        first, stop = round(start_s * fps), round(end_s * fps)
        for j in range(stop - first):
            place = min(max((j + 0.5) * SECONDS / (stop - first) - 0.5, 0), SECONDS - 1)
            low = min(int(place), SECONDS - 2)
            total[first + j] += window[low] + (place - low) * (window[low + 1] - window[low])
            count[first + j] += 1
    return total / count[:, None]


@pytest.mark.parametrize("fps", RATES[:2], ids=str)
def test_four_seconds_are_stretched_over_a_windows_frames_as_in_the_public_code(fps):
    axis = axis_of(10 * int(fps), fps)  # windows at 0, 2, 4 and 6 s, all whole
    values = np.random.default_rng(0).normal(size=(4, SECONDS, 2)).astype(np.float32)
    start_s, end_s, valid = windows_of(axis)
    found, covered = interpolate(values.reshape(-1, 2), valid, start_s, end_s, axis, rows=SECONDS)
    assert covered.all()
    cut = segments(0.0, axis.end_s, length_s=4.0, hop_s=2.0)
    np.testing.assert_allclose(found, published(values, axis, cut), atol=2e-6)


def test_a_last_window_that_is_cut_short_keeps_its_seconds_at_their_time():
    axis = axis_of(5, Fraction(2))  # frames are shown for half a second each, to 2.5 s
    rows = np.array([[0.0], [1.0], [4.0], [9.0]], np.float32)  # middles at 0.5, 1.5 and, of the cut second, 2.25; the fourth is beyond
    start_s, end_s, valid = windows_of(axis)
    assert valid.tolist() == [True, True, True, False]
    found, _ = interpolate(rows, valid, start_s, end_s, axis, rows=SECONDS)
    np.testing.assert_allclose(found[:, 0], [0, 0.25, 0.75, 1 + 3 * 0.25 / 0.75, 4], atol=1e-6)  # shown at .25 .75 1.25 1.75 2.25


@pytest.mark.parametrize("fps", RATES, ids=str)
def test_linear_covers_the_frames_that_constant_does_and_keeps_what_does_not_change(fps):
    axis = axis_of(311, fps)
    start_s, end_s, valid = windows_of(axis)
    valid[8:12] = False  # a window that was not asked
    same = np.full((len(valid), 3), 0.25, np.float32)
    linear, asked = interpolate(same, valid, start_s, end_s, axis, rows=SECONDS)
    _, covered = align(same, valid, start_s, end_s, axis.times_s)
    np.testing.assert_array_equal(asked, covered)
    np.testing.assert_allclose(linear[asked], 0.25, atol=1e-7)
    assert (linear[~asked] == 0).all()


def test_a_row_that_is_not_there_changes_nothing():
    axis = axis_of(200, Fraction(25))
    start_s, end_s, valid = windows_of(axis)
    values = np.random.default_rng(1).normal(size=(len(valid), 2)).astype(np.float32)
    found, _ = interpolate(values, valid, start_s, end_s, axis, rows=SECONDS)
    other = np.where(valid[:, None], values, np.nan)
    np.testing.assert_array_equal(interpolate(other, valid, start_s, end_s, axis, rows=SECONDS)[0], found)
    none, covered = interpolate(values, np.zeros_like(valid), start_s, end_s, axis, rows=SECONDS)
    assert not covered.any()
    assert (none == 0).all()


def test_a_step_at_a_known_time_is_crossed_within_the_second_around_it():
    axis = axis_of(200, Fraction(25))
    start_s, end_s, valid = windows_of(axis)
    values = (start_s >= 3).astype(np.float32)[:, None]
    linear, _ = interpolate(values, valid, start_s, end_s, axis, rows=SECONDS)
    constant, _ = align(values, valid, start_s, end_s, axis.times_s)
    assert np.flatnonzero(np.diff(constant[:, 0]))[0] + 1 == 75  # the first frame of second 3
    rising = np.flatnonzero((linear[:, 0] > 0) & (linear[:, 0] < 1))
    assert rising.tolist() == list(range(63, 87))  # shown between 2.5 and 3.5 s; frame 62's middle is 2.5 itself
    assert linear[74, 0] + linear[75, 0] == pytest.approx(1)  # half way at 3 s


# ---- what the rules are worth -----------------------------------------------------------------------------------------------------------


def made_up(folder: Path, rule: str, expand: str, streams: int = 10) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels of all frames of made-up streams, predictions where every second is known, and the share of the windows that were retained.

    The labels wander; the mouth opens and closes. Everything between is the product's: windows, retention, labels of seconds, expansion.
    """
    rng = np.random.default_rng(7)
    lines, made = ["stream_id,video,partition,va"], {}
    for n in range(streams):
        fps, count = RATES[n % 4], int(rng.integers(600, 1800))
        wander = np.stack([drift(rng, count, seconds * float(fps)) for seconds in (1.1, 0.9)], axis=1)
        truth = np.clip(rng.normal(size=2) * (0.24, 0.16) + 0.2 * wander, -1, 1)
        opens = np.repeat(rng.random(count // 20 + 1) < 0.3, 20)[:count]
        made[f"s{n}"] = (axis_of(count, fps), truth, opens)
        (folder / f"s{n}.mp4").write_bytes(bytes([n]) * 9)
        write_labels(VA, folder / f"s{n}.txt", truth, np.ones(count, bool))
        lines.append(f"s{n},s{n}.mp4,{'train' if n == 0 else 'validation'},s{n}.txt")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    voice = {"kind": "chunk_asp", "reads": "wavlm", "speech_only": rule, "expand": expand}
    data = {"features": {"wavlm": {"encoder": "wavlm"}}, "models": {"voice": voice}, "publish": "voice", "cache": str(folder / "cache")}
    plan = Plan(parse(data), read(folder / "m.csv", folder))
    truths, found, retained = [], [], []
    for item in plan.items("voice"):
        axis, truth, opens = made[item.id]
        put(plan, "frames", item, np.zeros((len(axis), 1), np.float32), axis.times_s, axis.ends_s)
        cut = segments(axis.start_s, axis.end_s, length_s=4.0, hop_s=2.0)
        table = mouth.windows(opens, np.ones(len(axis), bool), axis, cut)
        rows = np.stack([table.open_s, table.coverage, table.retained], axis=1).astype(np.float32)
        put(plan, "speech", item, rows, *cut.T, columns=("open_s", "coverage", "retained"))
        put(plan, "wavlm", item, np.ones((len(cut), 199, 1), np.float16), *cut.T, steps=np.full(len(cut), 199, np.int32))
        labels(plan.context("labels"))(plan.job("labels", plan.item("labels", item)))
        job, settings = plan.job("voice", item), plan.settings.models["voice"]
        sequence = inputs.read(job, settings)
        exact, known = row_labels(job, sequence, settings, item.row.partition)
        assert known.all(axis=2)[sequence.usable].all()
        times = {"start_s": sequence.start_s.ravel(), "end_s": sequence.end_s.ravel(), "valid": sequence.usable.ravel()}
        source = np.repeat(sequence.source, SECONDS)
        job.write(
            job.header(axis.fps, thresholds=None), values=exact.reshape(-1, 2), prediction=exact.reshape(-1, 2), source=source, **times
        )
        truths.append(truth.round(4))
        found.append(frames_of(plan, "voice", item)[1].values["va"])
        retained.append(table.retained)
    return np.concatenate(truths), np.concatenate(found), float(np.concatenate(retained).mean())


def drift(rng: np.random.Generator, count: int, forgets: float) -> np.ndarray:
    """(count,) a smooth random curve of deviation 1, as annotations are: noise that is forgotten within `forgets` frames, twice."""
    kernel = np.exp(-np.arange(int(8 * forgets)) / forgets)
    out = np.convolve(np.convolve(rng.normal(size=count + 2 * len(kernel) - 2), kernel, "valid"), kernel, "valid")
    return (out - out.mean()) / out.std()


def put(
    plan: Plan, name: str, item: Item, values: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, columns: tuple = (), **more: Any
) -> None:
    job, fps = plan.job(name, plan.item(name, item)), min(RATES, key=lambda fps: abs(1 / float(fps) - (start_s[1] - start_s[0])))
    times = {"start_s": start_s, "end_s": end_s, "valid": np.ones(len(values), bool)}
    job.write(job.header(fps, columns=columns), values=values, **times, **more)


def test_asking_every_window_leaves_a_third_of_what_the_old_rule_lost(tmp_path):
    lost = {}
    for rule, expand in (("always", "constant"), ("training", "constant"), ("training", "linear")):
        folder = tmp_path / f"{rule} {expand}"
        folder.mkdir()
        truth, found, retained = made_up(folder, rule, expand)
        figures = scores(VA, truth, found, np.ones(len(truth), bool))
        lost[rule, expand] = 1 - np.array([figures["ccc_valence"], figures["ccc_arousal"]])
        assert 0.5 < retained < 0.75  # of the real windows .61
    np.testing.assert_allclose(1 - lost["always", "constant"], (0.93, 0.88), atol=0.01)  # as on the real labels
    assert (lost["training", "linear"] <= lost["always", "constant"] / 3).all()
    assert (lost["training", "linear"] < lost["training", "constant"]).all()


# ---- which windows ----------------------------------------------------------------------------------------------------------------------


def plan_with(folder: Path, **voice: Any) -> Plan:
    return make_plan(folder, models=MODELS | {"voice": MODELS["voice"] | voice})


@pytest.mark.parametrize(("rule", "applied", "fitted"), [("always", 2, 2), ("training", 3, 2), ("never", 3, 3)])
def test_a_rule_says_which_windows_are_learned_from_and_which_are_asked(tmp_path, rule, applied, fitted):
    plan = plan_with(tmp_path, speech_only=rule)
    settings = plan.settings.models["voice"]
    (item,) = [i for i in plan.items("voice") if i.id == "a"]  # three windows, of which the mouth retained two
    assert inputs.read(plan.job("voice", item), settings).present.sum() == applied
    assert inputs.read(plan.job("voice", item), settings, fitting=True).present.sum() == fitted
    for partition, own in {"train": fitted, "validation": applied}.items():
        assert {len(s) for s, *_ in examples(plan, "voice", entries(plan), partition)} == {own}


def test_true_and_false_of_before_are_always_and_never_and_their_keys_too(tmp_path):
    old = {rule: ChunkModel(reads="x", speech_only=rule) for rule in (True, False)}
    assert old[True] == ChunkModel(reads="x", speech_only="always")
    assert old[False] == ChunkModel(reads="x", speech_only="never")
    assert [old[rule].spec()["speech_only"] for rule in (True, False)] == [True, False]
    assert ChunkModel(reads="x", speech_only="training").spec()["speech_only"] == "training"
    with pytest.raises(SettingsError, match=r"models.voice.speech_only: want 'always', 'training' or 'never', got 'sometimes'"):
        plan_with(tmp_path, speech_only="sometimes")


def test_a_stream_without_a_mouth_is_left_out_of_training_and_asked_all_the_same(tmp_path):
    plan = plan_with(tmp_path, speech_only="training")
    assert plan.reads("voice") == ("frames", "wavlm")
    assert plan.learns("voice") == ("frames", "wavlm", "speech", "labels")
    found = entries(plan)
    found["speech"]["a"] = found["speech"]["c"] = Entry("absent", reason="no face")
    assert [s.id for s, *_ in examples(plan, "voice", found, "train")] == ["b"]
    assert [s.id for s, *_ in examples(plan, "voice", found, "validation")] == ["c"]
    item = next(i for i in plan.items("voice") if i.id == "c")
    assert inherited(plan, "voice", item, found) is None


def test_the_mouth_stays_in_the_key_of_a_model_that_learns_by_it(tmp_path):
    def key(rule: str, **speech: float) -> str:
        folder = tmp_path / f"{rule}{len(speech)}"
        folder.mkdir(exist_ok=True)
        return make_plan(folder, models=MODELS | {"voice": MODELS["voice"] | {"speech_only": rule}}, speech=speech).key("voice")

    assert key("training") != key("training", min_coverage=0.7)
    assert key("never") == key("never", min_coverage=0.7)
    assert len({key("training"), key("always"), key("never")}) == 3


# ---- RAAV -------------------------------------------------------------------------------------------------------------------------------


RAAV_MODEL = {"kind": "raav", "reads": ["face", "behaviour"], "audio": "voice", "hidden": 16, "heads": 2, "feedforward": 32, "dropout": 0.0}


def raav_plan(folder: Path, **raav: Any) -> Plan:
    voice = MODELS["voice"] | {"speech_only": "training"}
    return make_plan(folder, models=MODELS | {"voice": voice, "fused": RAAV_MODEL | {"training": {"epochs": 1}} | raav})


@pytest.fixture
def own(tmp_path) -> Plan:
    plan = raav_plan(tmp_path, audio_rows="window", speech_only="training")
    fit_and_apply(plan, ("face", "behaviour", "voice"))
    return plan


def read_of(plan: Plan, id: str, **how: bool) -> inputs.Sequence:
    (item,) = [i for i in plan.items("fused") if i.id == id]
    return inputs.read(plan.job("fused", item), plan.settings.models["fused"], **how)


def test_a_window_hears_its_own_four_rows_and_not_its_neighbours(own):
    sequence = read_of(own, "a")
    (item,) = [i for i in own.items("fused") if i.id == "a"]
    with own.streams(item).open("voice") as stream:
        rows, valid = stream.rows(), stream.valid
    assert list(sequence.inputs) == ["face", "behaviour"]
    np.testing.assert_array_equal(sequence.own["voice"], rows.reshape(3, 4, 16))
    np.testing.assert_array_equal(sequence.heard, valid.reshape(3, 4))
    assert sequence.present.shape == (FRAMES, 3)
    assert inputs.widths([sequence]) == {"face": 16, "behaviour": 16, "voice": 16}


def test_only_in_training_is_a_window_without_an_open_mouth_not_heard(own):
    assert read_of(own, "a").heard.all()
    heard = read_of(own, "a", fitting=True)
    assert heard.heard.tolist() == [[True] * 4, [True] * 4, [False] * 4]  # speech of the last window: open 0 s, seen 0
    assert heard.present[:, 2].tolist() == [True] * 150 + [False] * 50  # from 6 s on only the last window is there


def test_without_sound_or_mouth_nothing_is_heard(own):
    silent = read_of(own, "d")
    assert silent.own["voice"].shape == (3, 4, 0)
    assert not silent.heard.any()
    inputs.widen(silent, {"face": 16, "behaviour": 16, "voice": 16})
    assert silent.own["voice"].shape == (3, 4, 16)
    (item,) = [i for i in own.items("fused") if i.id == "b"]
    own.stream("speech", item).unlink()
    assert not read_of(own, "b", fitting=True).heard.any()
    assert read_of(own, "b").heard.all()


def test_batches_give_each_window_its_own_rows(own):
    found = [read_of(own, id) for id in ("a", "b")]
    shape = (FRAMES, 1)
    targets = [(np.zeros((*shape, 2), np.float32), np.ones((*shape, 1), bool)) for _ in found]
    targets[0][1][:100] = False  # the first window of a has no label and is left out
    packed = Packed(found, targets, own.settings.models["fused"])
    assert packed.windows.tolist() == [[50, 100], [100, 100], [200, 100], [250, 100], [300, 100]]
    batch = packed[[3, 0]]
    np.testing.assert_array_equal(batch["inputs"]["voice"][0], found[1].own["voice"][1].astype(np.float32))
    np.testing.assert_array_equal(batch["inputs"]["voice"][1], found[0].own["voice"][1].astype(np.float32))
    assert batch["heard"].shape == (2, 4)
    assert batch["inputs"]["face"].shape == (2, 100, 16)


def test_a_window_is_predicted_from_its_frames_and_its_own_rows(own):
    sequence, settings = read_of(own, "a"), own.settings.models["fused"]
    model = Predictor(settings, {"face": 16, "behaviour": 16, "voice": 16}, outputs=2).eval()
    found = predictor.run(model, sequence, torch.device("cpu"))
    total, count = np.zeros((FRAMES, 2)), np.zeros(FRAMES)
    for w, (first, rows) in enumerate(windows(sequence, settings)):
        at = slice(first, first + rows)
        streams = {n: torch.from_numpy(v[None, at]).float() for n, v in sequence.inputs.items()}
        streams["voice"] = torch.from_numpy(sequence.own["voice"][w : w + 1]).float()
        with torch.no_grad():
            out = model.model(streams, torch.from_numpy(sequence.present[None, at]), torch.from_numpy(sequence.heard[w : w + 1]))
        total[at] += out.prediction[0].numpy()
        count[at] += 1
    np.testing.assert_allclose(found.prediction[:, 0], total / count[:, None], atol=1e-6)


def test_rows_of_its_own_are_read_as_rows_on_the_frames_are():
    """One row a frame, every frame heard: the two ways in are one formula."""
    torch.manual_seed(0)
    model = RAAV(
        {"a": 5, "s": 3}, visual=("a",), priors=(1.0,), audio="s", hidden=8, latents=2, layers=1, heads=2, feedforward=8, dropout=0.0
    )
    streams, present = {"a": torch.randn(2, 6, 5), "s": torch.randn(2, 6, 3)}, torch.ones(2, 6, 2, dtype=torch.bool)
    on_frames, as_own = model(streams, present), model(streams, present, present[..., 1])
    torch.testing.assert_close(on_frames.prediction, as_own.prediction)
    fewer = torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
    streams["s"] = streams["s"][:, :4]
    short = model(streams, present, fewer).prediction
    streams["s"] = torch.where(fewer[..., None], streams["s"], torch.full_like(streams["s"], 9))
    torch.testing.assert_close(model(streams, present, fewer).prediction, short)  # a row that is not there changes nothing


def test_a_fit_hears_windows_of_its_own_and_is_applied_to_every_stream(own):
    fit_and_apply(own, ("fused",))
    for item in own.items("fused"):
        axis, found = frames_of(own, "fused", item)
        assert found.valid.all()
        assert len(axis) == len(found.values["va"])


GRID = {"audio_rows": "window", "window_s": 6.0}


@pytest.mark.parametrize(
    ("raav", "message"),
    [
        ({"audio_rows": "window", "level": "frame"}, "audio_rows: window wants level: window, got frame; set audio_rows: frames"),
        (GRID, r"audio_rows: window wants window_s, hop_s as length_s, hop_s of features.wavlm, got \(6.0, 2.0\) and \(4.0, 2.0\)"),
        (
            {"audio": "mesh_again", "audio_rows": "window"},
            r"audio_rows: window wants a model of audio windows \(chunk_asp\), got 'mesh_again', a mamba",
        ),
    ],
)
def test_what_cannot_be_heard_so_is_refused(tmp_path, raav, message):
    more = {"mesh_again": MODELS["behaviour"] | {"reads": "mesh"}}
    with pytest.raises(SettingsError, match=message):
        make_plan(tmp_path, models=MODELS | more | {"fused": RAAV_MODEL | raav})


def test_the_mask_of_raav_wants_speech_on_the_grid_of_its_sound(tmp_path):
    with pytest.raises(SettingsError, match=r"models.fused: speech_only wants features.wavlm and speech on one grid, got length_s, hop_s"):
        make_plan(
            tmp_path,
            models=MODELS | {"fused": RAAV_MODEL | {"speech_only": "training"}, "voice": MODELS["voice"] | {"speech_only": "never"}},
            speech={"hop_s": 1.0},
        )


def test_masked_windows_do_not_reach_frames_either(tmp_path):
    plan = raav_plan(tmp_path, speech_only="training")
    fit_and_apply(plan, ("face", "behaviour", "voice"))
    assert read_of(plan, "a").present[:, 2].all()
    masked = read_of(plan, "a", fitting=True)
    assert masked.present[:, 2].tolist() == [True] * 150 + [False] * 50
    assert masked.heard is None
    assert PARTITION["a"] == "train"
    assert replace(masked, id="x").own == {}
