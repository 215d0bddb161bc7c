"""Voice activity: the published network, on the video's clock, and what it does to the windows that the mouth retained."""

import json
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from affpipe.core.errors import InputError, WeightsError
from affpipe.data.demo.signals import RATE as RATE_OF_DRIVE
from affpipe.data.demo.signals import Drive
from affpipe.data.demo.synthetic_voice import SAMPLE_RATE, speak
from affpipe.data.manifest import Row
from affpipe.faces import mouth
from affpipe.faces import workers as face_stages
from affpipe.media import workers as media_stages
from affpipe.media.probe import probe
from affpipe.media.sound import voice
from affpipe.media.sound.audio import extract
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan
from affpipe.store.flac import write_flac
from affpipe.store.item_streams import Job
from affpipe.store.streams import Stream

ROOT = Path(__file__).resolve().parents[2]
RATE, STEP_S = voice.RATE_HZ, voice.STEP / voice.RATE_HZ
# Recorded sentences: where the loudness exceeds a tenth of its greatest, but for a click before the second.
SENTENCES = {"grid_bbaf2n.mpg": (0.99, 2.04), "grid_brbk7n.mpg": (0.54, 1.99), "grid_id2_vcd_swwp2s.mpg": (0.56, 2.15)}


START_S, LENGTH_S, FPS = 5.25, 10.0, 25  # of the video of the stages


@pytest.fixture(scope="module")
def detector() -> voice.Silero:
    return voice.load(voice.published(), device=torch.device("cpu"))


@pytest.fixture(scope="module")
def published() -> Callable[[np.ndarray], np.ndarray]:
    """The package's own network, a step at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network = torch.jit.load(voice.published())

    def run(samples: np.ndarray) -> np.ndarray:
        network.reset_states()
        steps = np.pad(samples, (0, -len(samples) % 512)).reshape(-1, 512)
        with torch.no_grad():
            return np.array([network(torch.from_numpy(step[None]), RATE).item() for step in steps])

    return run


@pytest.fixture(scope="module")
def utterance() -> np.ndarray:
    """A second of the voice of the demo data."""
    control = np.arange(2 * RATE_OF_DRIVE) / RATE_OF_DRIVE
    opening = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * control)
    person = Drive(np.zeros_like(control), np.zeros_like(control), opening, np.zeros((len(control), 2)))
    sound = speak(person, 0.0, 1.0, np.random.default_rng(0))
    return np.ascontiguousarray(sound[:: SAMPLE_RATE // RATE])  # it has nothing above 4.5 kHz to fold down


def _placed(sound: np.ndarray, at_s: float) -> np.ndarray:
    """The sound at a time of a silent track."""
    out = np.zeros(round(LENGTH_S * RATE), np.float32)
    out[round(at_s * RATE) :][: len(sound)] = sound
    return out


def _voiced_s(probability: np.ndarray) -> tuple[float, float]:
    steps = np.flatnonzero(probability >= 0.5)
    return float(steps[0] * STEP_S), float((steps[-1] + 1) * STEP_S)


# ---- the network ----------------------------------------------------------------------------------------------------------------------


def test_it_is_the_published_network_on_noise(detector, published):
    rng = np.random.default_rng(0)
    tone = np.sin(2 * np.pi * 180 * np.arange(RATE) / RATE) * np.sin(2 * np.pi * 4 * np.arange(RATE) / RATE)
    for sound in (rng.normal(0, 0.1, 5 * RATE + 77), tone, np.zeros(1000), rng.uniform(-1, 1, 511)):
        sound = sound.astype(np.float32)
        np.testing.assert_allclose(detector.extract(sound), published(sound), atol=1e-4)


@pytest.mark.parametrize("clip", [*SENTENCES, "pyfeat_single_face.mp4"])
def test_it_is_the_published_network_on_recordings(detector, published, media, clip):
    sound = np.concatenate(list(extract(media / clip, probe(media / clip).axis)))
    found = detector.extract(sound)
    np.testing.assert_allclose(found, published(sound), atol=1e-4)
    assert (found.max() > 0.99) == (clip in SENTENCES)  # the last one is without speech


@pytest.mark.parametrize("clip", SENTENCES)
def test_a_recorded_sentence_is_found_where_it_was_put(detector, media, clip):
    start_s, end_s = SENTENCES[clip]
    sound = np.concatenate(list(extract(media / clip, probe(media / clip).axis)))[round(start_s * RATE) : round(end_s * RATE)]
    for at_s in (3.7, 3.711):
        found = _voiced_s(detector.extract(_placed(sound, at_s)))
        assert found == pytest.approx((at_s, at_s + end_s - start_s), abs=0.1)


def test_blocks_do_not_show(detector, monkeypatch):
    sound = np.random.default_rng(1).normal(0, 0.1, 40 * 512 + 3).astype(np.float32)
    whole = detector.extract(sound)
    assert whole.shape == (41,)
    assert whole.dtype == np.float32
    for block in (1, 7, 40):
        monkeypatch.setattr(voice, "BLOCK", block)
        np.testing.assert_allclose(detector.extract(sound), whole, atol=1e-6)
    assert detector.extract(sound[:0]).shape == (0,)


def test_refusals(detector, tmp_path, monkeypatch):
    for bad in (np.zeros(9), np.zeros((2, 9), np.float32), np.full(9, np.nan, np.float32)):
        with pytest.raises(InputError, match=r"silero: want finite float32 samples \(N,\), got"):
            detector.extract(bad)
    damaged = tmp_path / "x.jit"
    damaged.write_bytes(voice.published().read_bytes()[:9000])
    with pytest.raises(WeightsError, match=r"does not read .*install silero-vad again"):
        voice.load(damaged, device=torch.device("cpu"))
    monkeypatch.setattr(voice, "SHA256", "0")
    with pytest.raises(
        WeightsError, match=r"want the weights of silero-vad 6\.2\.3, got others at .*silero_vad\.jit; install that version"
    ):
        voice.published()
    monkeypatch.setattr(voice, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=r"want the package silero-vad 6\.2\.3, got none; install it, or set vad\.model: none"):
        voice.published()


# ---- the windows that it keeps ----------------------------------------------------------------------------------------------------------


def test_voice_ratio_by_hand():
    """Steps of half a second from 10 s on, the last one short; windows may end beyond them."""
    start_s = 10 + 0.5 * np.arange(6)
    end_s = np.append(start_s[1:], 12.6)
    voiced = np.array([0, 1, 1, 0, 0, 1], bool)
    spans = np.array([[10.0, 12.0], [10.75, 11.0], [11.5, 12.5], [12.5, 12.7], [10.4, 10.9]])
    found = mouth.voice_ratio(voiced, start_s, end_s, spans)
    np.testing.assert_allclose(found, [0.5, 1.0, 0.0, 0.5, 0.8], atol=1e-12)


def test_mouth_and_voice_agree_or_one_is_enough():
    retained, ratio = np.array([1, 1, 0, 0, 1], bool), np.array([0.25, 0.2, 0.9, 0.0, 0.25 - 1e-12])
    both, either = (mouth.with_voice(retained, ratio, min_voice_ratio=0.25, combine=c) for c in ("both", "either"))
    assert both.tolist() == [True, False, False, False, True]
    assert either.tolist() == [True, True, True, False, True]


# ---- the stages -------------------------------------------------------------------------------------------------------------------------


def _plan(folder: Path, **settings) -> Plan:
    (folder / "a.mp4").write_bytes(b"a")
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    changes = {"cache": str(folder / "cache"), "speech": {"length_s": 4.0, "hop_s": 2.0}} | settings
    plan = Plan(parse(overlay(default, changes)), [Row("a", folder / "a.mp4", "largest", "predict")])
    times = START_S + np.arange(round(LENGTH_S * FPS)) / FPS
    job = _job(plan, "frames")
    job.write(
        job.header(Fraction(FPS)), values=np.ones((len(times), 1), np.float32), start_s=times, end_s=times + 1 / FPS, valid=times >= 0
    )
    return plan


def _job(plan: Plan, name: str) -> Job:
    (item,) = plan.items(name)
    return plan.job(name, item)


def _hear(plan: Plan, sound: np.ndarray) -> Stream:
    """The stream `vad` of an audio track."""
    job = _job(plan, "audio")
    job.path.parent.mkdir(parents=True, exist_ok=True)
    write_flac(job.path, [sound], RATE, json.dumps(job.header(Fraction(FPS), samples=len(sound)).attributes()))
    voice = _job(plan, "vad")
    media_stages.vad(plan.context("vad"))(voice)
    return Stream(voice.path, key=plan.key("vad"))


def _judge(plan: Plan, open_: np.ndarray) -> Stream:
    """The stream `speech` of a mouth that was seen all the time."""
    job = _job(plan, "mouth")
    with plan.streams(job.item).open("frames") as axis:
        values = np.stack([0.01 * open_, open_], axis=1).astype(np.float32)
        job.write(job.header(axis.fps), values=values, start_s=axis.start_s, end_s=axis.end_s, valid=axis.valid)
    windows = _job(plan, "speech")
    face_stages.speech(plan.context("speech"))(windows)
    return Stream(windows.path, key=plan.key("speech"))


def test_the_stage_puts_speech_on_the_clock_of_the_video(utterance, tmp_path):
    """A second of voice, 4.7 s into a video whose clock starts at 5.25 s."""
    plan = _plan(tmp_path, vad={"model": "silero"})
    with _hear(plan, _placed(utterance, 4.7)) as voice:
        assert voice.attributes["columns"] == ["probability"]
        assert voice.rows().shape == (313, 1)
        assert voice.rows().dtype == np.float32
        assert voice.valid.all()
        np.testing.assert_array_equal(voice.start_s[1:], voice.end_s[:-1])
        np.testing.assert_allclose(np.diff(voice.start_s), STEP_S)
        assert (voice.start_s[0], voice.end_s[-1]) == (START_S, START_S + LENGTH_S)  # the last step is cut short
        spoken = np.flatnonzero(voice.rows()[:, 0] >= 0.5)
        assert voice.start_s[spoken[0]] == pytest.approx(START_S + 4.7, abs=0.1)
        assert voice.end_s[spoken[-1]] == pytest.approx(START_S + 5.7, abs=0.1)


@pytest.mark.parametrize(("combine", "kept"), [("both", [0, 0, 1, 0]), ("either", [0, 1, 1, 1])])
def test_the_windows_that_are_kept(utterance, tmp_path, combine, kept):
    """The voice is in the second and third of four windows, the open mouth in the third and fourth."""
    plan = _plan(tmp_path, vad={"model": "silero"}, speech={"combine": combine, "min_voice_ratio": 0.2})
    with _hear(plan, _placed(utterance, 4.7)) as voice:
        probability, steps = voice.rows()[:, 0], voice.start_s - START_S
    with _judge(plan, np.arange(250) / FPS >= 6.5) as speech:
        assert speech.attributes["columns"] == ["open_s", "coverage", "retained", "voice"]
        open_s, coverage, retained, ratio = speech.rows().T
    np.testing.assert_allclose(open_s, [0, 0, 1.48, 3.48], atol=1e-6)  # from the first frame after 6.5 s
    np.testing.assert_allclose(coverage, 1, atol=1e-6)
    assert retained.tolist() == kept
    spans = [(0, 4), (2, 6), (4, 8), (6, 10)]
    heard = [np.minimum(steps + STEP_S, b) - np.maximum(steps, a) for a, b in spans]  # of each step in each window
    np.testing.assert_allclose(ratio, [h.clip(0)[probability >= 0.5].sum() / 4 for h in heard], atol=1e-6)
    assert ratio == pytest.approx([0, 0.25, 0.25, 0], abs=0.03)


def test_without_it_the_windows_are_as_before(tmp_path):
    plan = _plan(tmp_path)
    assert "vad" not in plan.reads("speech")
    with _judge(plan, np.arange(250) >= 150) as speech:
        assert speech.attributes["columns"] == ["open_s", "coverage", "retained"]
        np.testing.assert_allclose(speech.rows(), [[0, 1, 0], [0, 1, 0], [2, 1, 1], [4, 1, 1]], atol=1e-6)
