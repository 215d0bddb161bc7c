"""Sound that is not as it should be: stray timestamps, joined clocks, many channels, channels that cancel, samples that are no number."""

from dataclasses import replace
from fractions import Fraction
from math import sqrt
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from clips import Sound

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import AbsentError
from affpipe.media.probe import probe
from affpipe.media.sound import audio, laying, mixing, soundclock
from affpipe.media.sound.heard import Heard

RATE, STEP = 16000, 320  # of the frames made here: 20 ms each
NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, 4 * RATE).astype(np.float32)


def frames(samples: np.ndarray, at_ms: list[float | None], rate: int = RATE, layout: str = "mono", size: int = STEP) -> list[av.AudioFrame]:
    """Frames of (C, N) float32 samples with such timestamps."""
    out = []
    for i, ms in enumerate(at_ms):
        cut = np.ascontiguousarray(samples[:, i * size : (i + 1) * size].T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(cut, format="flt", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, 1000000), None if ms is None else round(ms * 1000)
        out.append(frame)
    return out


def laid(given: list[av.AudioFrame], seconds: float, **how: object) -> tuple[np.ndarray, Heard]:
    heard = Heard()
    blocks = laying.lay(given, heard, start_s=0.0, sample_rate_hz=RATE, samples=round(seconds * RATE), **how)
    return np.concatenate(list(blocks)), heard


def extract(path: Path, **how: object) -> tuple[np.ndarray, Heard]:
    heard = Heard()
    return np.concatenate(list(audio.extract(path, probe(path).axis, heard=heard, **how))), heard


def clicks(samples: np.ndarray, count: int) -> list[float]:
    """Times of the loudest peaks, sorted."""
    level, found = np.abs(samples).copy(), []
    for _ in range(count):
        found.append(int(level.argmax()) / RATE)
        level[max(0, int(level.argmax()) - RATE // 10) : int(level.argmax()) + RATE // 10] = 0
    return sorted(found)


# ---- timestamps -------------------------------------------------------------------------------------------------------------------------

STRAY = {
    "jitter": np.random.default_rng(1).uniform(-100, 100, 200),
    "late by chance": np.random.default_rng(2).exponential(40, 200),
    "bursts of ten": -20.0 * (np.arange(200) % 10),
    "bursts of a second": -20.0 * (np.arange(200) % 50),
    "one a minute late": 60000.0 * (np.arange(200) == 90),
    "one at zero": -20.0 * 90 * (np.arange(200) == 90),
    "late for 0.2 s": 70.0 * ((np.arange(200) > 50) & (np.arange(200) < 60)),
}


@pytest.mark.parametrize("kind", STRAY)
def test_stray_timestamps_do_not_tear_the_sound(kind):
    stray = STRAY[kind] * (np.arange(200) > 0)
    out, heard = laid(frames(NOISE[None], (20 * np.arange(200) + stray).tolist()), 4.0)
    start = int(np.correlate(out[:4800], NOISE[:1600]).argmax())  # jitter may move the whole, as the first timestamp may be stray too
    assert start <= (0.04 if kind == "late by chance" else soundclock.TOLERANCE_S) * RATE
    assert np.array_equal(out[start:], NOISE[: len(out) - start])
    assert (heard.holes, heard.cut) == (0, 0)
    assert heard.clock.stray > 0


def test_a_first_timestamp_that_strays_does_not_move_the_whole():
    at = 20 * np.arange(200) + np.random.default_rng(1).uniform(-60, 60, 200)
    at[0] = 500 + 90.0
    at[1:] += 500
    out, _ = laid(frames(NOISE[None], at.tolist()), 4.0)
    start = int(np.flatnonzero(out)[0])
    assert start == pytest.approx(0.5 * RATE, abs=0.02 * RATE)
    assert np.array_equal(out[start:], NOISE[: len(out) - start])


def test_a_gap_among_stray_timestamps_has_its_length():
    stray = np.random.default_rng(1).uniform(-40, 40, 150)
    stray[0] = 0
    out, heard = laid(frames(NOISE[None], (20 * np.arange(150) + 700 * (np.arange(150) >= 60) + stray).tolist()), 3.7)
    assert np.array_equal(out[: 60 * STEP], NOISE[: 60 * STEP])
    after = int(np.flatnonzero(out[60 * STEP :])[0])
    assert after == pytest.approx(0.7 * RATE, abs=0.03 * RATE)
    assert np.array_equal(out[60 * STEP + after :], NOISE[60 * STEP :][: len(out) - 60 * STEP - after])
    assert heard.holes == after


@pytest.mark.parametrize("millionths", [-1000, -300, 300, 1000, 5000])
def test_drift_is_followed_where_timestamps_are_rounded(millionths):
    """A recorder's clock beside the video's, in a container of whole milliseconds: each click is where its timestamp says."""
    true = 1 + millionths * 1e-6
    signal = np.zeros(120 * RATE, np.float32)
    signal[:: 5 * RATE] = 1
    out, heard = laid(frames(signal[None], np.round(20 * np.arange(6000) * true).tolist()), 121.0)
    assert np.flatnonzero(out) / RATE == pytest.approx(5 * true * np.arange(24), abs=soundclock.TOLERANCE_S + 0.001)
    assert heard.clock.joins == 0


def test_timestamps_that_jump_about_are_said():
    stray = STRAY["jitter"] * (np.arange(200) > 0)
    _, heard = laid(frames(NOISE[None], (20 * np.arange(200) + stray).tolist()), 4.0)
    assert heard.faults == (f"{heard.clock.stray / 200:.0%} of the timestamps of the sound jump about, passed over",)


@pytest.mark.parametrize("every", [2, 5, 30])
def test_lost_packets_leave_silence_of_their_own_length(every):
    kept = np.flatnonzero(np.arange(200) % every != every - 1)
    whole = frames(NOISE[None], (20.0 * np.arange(200)).tolist())
    out, heard = laid([whole[i] for i in kept], 4.0)
    want = NOISE.copy().reshape(200, STEP)
    want[every - 1 :: every] = 0
    assert np.array_equal(out, want.ravel())
    last = every - 1 + every * ((199 - (every - 1)) // every)
    assert heard.holes == STEP * (200 // every - (last == 199))


def test_a_drifting_clock_is_followed():
    out, _ = laid(frames((np.arange(4 * RATE) % 1600 == 0)[None].astype(np.float32), (20.2 * np.arange(200)).tolist()), 4.04)
    found = np.flatnonzero(out > 0.9) / RATE
    assert len(found) == 40
    assert np.abs(found - 0.101 * np.arange(40)).max() <= soundclock.TOLERANCE_S + 2e-4


def test_a_clock_that_starts_anew_goes_on_where_the_video_says_or_else_where_the_sound_ended():
    at = [20.0 * i for i in range(100)] + [20.0 * i for i in range(100)]
    out, heard = laid(frames(NOISE[None], at), 4.0)
    assert np.array_equal(out, NOISE)
    assert (heard.clock.joins, heard.clock.stray) == (1, 0)
    out, heard = laid(frames(NOISE[None], at), 4.1, joins=lambda: [(0.01, 2.06)])  # the video's second part begins 60 ms later, at 10 ms
    want = np.concatenate([NOISE[: 2 * RATE], np.zeros(round(0.05 * RATE), np.float32), NOISE[2 * RATE :], np.zeros(800, np.float32)])
    assert np.array_equal(out, want)


def test_no_more_than_some_seconds_of_frames_are_held():
    taken = 0

    def long():
        nonlocal taken
        for i in range(3000):
            taken = i + 1
            yield from frames(NOISE[None, :STEP].repeat(2, axis=0), [20.0 * i], layout="stereo")

    given, most = 0, 0.0
    for block in laying.lay(long(), Heard(), start_s=0.0, sample_rate_hz=RATE, samples=60 * RATE):
        most = max(most, taken * 0.02 - given / RATE)
        given += len(block)
    assert given == 60 * RATE
    assert most <= soundclock.LOOK_S + laying.BLOCK / RATE + 2 * mixing.STRETCH_S + 0.1


# ---- joined files -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def part(tmp_path_factory) -> Path:
    """1.2 s with a click at 0.3 s and 0.9 s, whose sound is a little longer than its video."""
    sound = Sound(length_s=1.2, click_s=(0.3, 0.9), codec="mp2", sample_rate_hz=44100)
    return clips.write(tmp_path_factory.mktemp("part") / "part.ts", count=30, sound=sound)


def test_a_part_may_be_shorter_than_a_second():
    at = [20.0 * (i % 20) for i in range(200)]  # ten parts of 0.4 s
    out, heard = laid(frames(NOISE[None], at), 4.0)
    assert np.array_equal(out, NOISE)
    assert (heard.clock.joins, heard.clock.stray, heard.cut) == (9, 0, 0)


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize("offset_s", [0.0, 0.1])
def test_joined_files_keep_the_sound_of_every_part_in_its_place(tmp_path, part, times, offset_s):
    (tmp_path / "joined.ts").write_bytes(times * part.read_bytes())
    out, heard = extract(tmp_path / "joined.ts", offset_s=offset_s)
    assert len(out) == round(1.2 * times * RATE)
    want = [1.2 * k + at + offset_s for k in range(times) for at in (0.3, 0.9)]
    assert clicks(out, 2 * times) == pytest.approx(want, abs=0.0015)
    assert heard.clock.joins == times - 1
    assert any("starts anew" in fault for fault in heard.faults)


def test_of_an_axis_of_a_part_the_sound_is_joined_to_itself(tmp_path, part):
    (tmp_path / "joined.ts").write_bytes(2 * part.read_bytes())
    whole = probe(tmp_path / "joined.ts").axis
    blocks = audio.extract(tmp_path / "joined.ts", FrameAxis(whole.times_s[:50], whole.fps))
    assert clicks(np.concatenate(list(blocks)), 3) == pytest.approx([0.3, 0.9, 1.5], abs=0.06)


# ---- channels ---------------------------------------------------------------------------------------------------------------------------

HALF, DOWN = 0.5, sqrt(0.5)
LAYOUTS = {
    "mono": (1.0,),
    "stereo": (HALF, HALF),
    "downmix": (HALF, HALF),
    "2.1": (HALF, HALF, 0.0),
    "3.0": (HALF, HALF, DOWN),
    "quad": (HALF, HALF, DOWN / 2, DOWN / 2),
    "5.0": (HALF, HALF, DOWN, DOWN / 2, DOWN / 2),
    "5.1": (HALF, HALF, DOWN, 0.0, DOWN / 2, DOWN / 2),
    "5.1(side)": (HALF, HALF, DOWN, 0.0, DOWN / 2, DOWN / 2),
    "6.1": (HALF, HALF, DOWN, 0.0, HALF, DOWN / 2, DOWN / 2),
    "7.1": (HALF, HALF, DOWN, 0.0, DOWN / 2, DOWN / 2, DOWN / 2, DOWN / 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_downmix_is_that_of_bs775(layout):
    levels = 0.3 * np.random.default_rng(3).uniform(0.5, 1, len(LAYOUTS[layout]))
    out, heard = laid(frames(levels[:, None] * NOISE[:RATE], [20.0 * i for i in range(50)], layout=layout), 1.0)
    np.testing.assert_allclose(out, np.dot(LAYOUTS[layout], levels) * NOISE[:RATE], atol=1e-6)
    assert heard.louder == 0


def test_speech_in_the_centre_is_heard_3_db_down():
    wave = np.zeros((6, RATE))
    wave[2] = 0.8 * NOISE[:RATE]
    out, _ = laid(frames(wave, [20.0 * i for i in range(50)], layout="5.1"), 1.0)
    np.testing.assert_allclose(out, 0.8 * DOWN * NOISE[:RATE], atol=1e-6)


def test_channels_without_a_place_are_averaged(tmp_path):
    weights = mixing.weights(av.AudioLayout("5.1"))
    assert weights.sum() > 1  # a film's channels are not added up at full scale; what is beyond is clipped and counted
    loud = np.full((6, RATE), 0.9)
    out, heard = laid(frames(loud, [20.0 * i for i in range(50)], layout="5.1"), 1.0)
    assert out.max() == 1.0
    assert heard.shares["clipped"] == 1.0
    assert any("beyond full scale" in fault for fault in heard.faults)


@pytest.mark.parametrize("right", [-1.0, -0.95])
def test_channels_that_cancel_are_heard_by_the_louder_one(right):
    out, heard = laid(frames(np.stack([NOISE, right * NOISE]), [20.0 * i for i in range(200)], layout="stereo"), 4.0)
    assert np.array_equal(out, NOISE)
    assert heard.shares["louder"] == 1.0
    assert any("from one channel" in fault for fault in heard.faults)


@pytest.mark.parametrize("right", [1.0, 0.0, -0.5])
def test_ordinary_stereo_stays_its_plain_mean_to_the_bit(right):
    wave = np.stack([NOISE, np.float32(right) * NOISE])
    out, heard = laid(frames(wave, [20.0 * i for i in range(200)], layout="stereo"), 4.0)
    assert np.array_equal(out, wave.mean(axis=0))
    assert heard.louder == 0


def test_a_cable_that_is_turned_half_way_is_heard_before_and_after():
    wave = np.stack([NOISE, np.where(np.arange(len(NOISE)) < 2 * RATE, 1, -1) * NOISE])
    out, heard = laid(frames(wave, [20.0 * i for i in range(200)], layout="stereo"), 4.0)
    assert np.array_equal(out[: 2 * RATE], NOISE[: 2 * RATE])
    faded = slice(2 * RATE, round((2 + mixing.FADE_S) * RATE))
    assert np.array_equal(out[faded.stop :], NOISE[faded.stop :])
    assert (np.abs(out[faded]) <= np.abs(NOISE[faded])).all()
    assert heard.shares["louder"] == 0.5


def test_noise_that_cancels_is_no_loss():
    quiet = np.stack([NOISE, -NOISE]) * 1e-4
    out, heard = laid(frames(quiet, [20.0 * i for i in range(200)], layout="stereo"), 4.0)
    assert not out.any()
    assert heard.louder == 0


# ---- forms of samples -------------------------------------------------------------------------------------------------------------------

FORMS = [
    ("mkv", c) for c in ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "flac", "alac", "libmp3lame", "ac3", "libopus")
]


@pytest.mark.parametrize(("suffix", "codec"), [*FORMS, ("avi", "pcm_u8"), ("mov", "pcm_alaw"), ("mkv", "wavpack"), ("mov", "pcm_s16be")])
def test_a_click_keeps_its_time_and_level_in_every_form(tmp_path, suffix, codec):
    path = write(tmp_path / f"x.{suffix}", codec, clips.pulses((0.5, 0.9))[None])
    out, heard = extract(path)
    assert clicks(out, 2) == pytest.approx([0.5, 0.9], abs=0.0015)
    assert np.abs(out).max() == pytest.approx(0.8, abs=0.06)
    assert (heard.mended, heard.cut, heard.holes, heard.clock.joins) == (0, 0, 0, 0)


def write(path: Path, codec: str, wave: np.ndarray, layout: str = "mono") -> Path:
    return clips.tracks(path, [clips.Seen()], [clips.Heard(wave, codec, layout)])


def test_the_eight_planes_of_a_decoder_are_read(tmp_path):
    wave = np.zeros((8, 57600))
    wave[2] = clips.pulses((0.5, 0.9))
    out, _ = extract(write(tmp_path / "x.mkv", "aac", wave, "7.1"))
    assert clicks(out, 2) == pytest.approx([0.5, 0.9], abs=0.0015)
    assert np.abs(out).max() == pytest.approx(0.8 * DOWN, abs=0.05)


@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_number_becomes_zero_and_is_counted(tmp_path, codec, bad):
    wave = clips.pulses((0.5, 0.9))[None]
    wave[0, [100, 30000]] = bad
    out, heard = extract(write(tmp_path / "x.mkv", codec, wave))
    assert np.isfinite(out).all()
    assert clicks(out, 2) == pytest.approx([0.5, 0.9], abs=0.0015)
    assert heard.mended == 2
    assert heard.shares["mended"] == pytest.approx(2 / wave.size)
    assert "2 samples that are no number, set to 0" in heard.faults


def test_a_change_of_channels_or_rate_does_not_tear_the_sound():
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * 48000) / 48000)
    first = frames(tone[None, :48000].repeat(2, axis=0), [20.0 * i for i in range(50)], rate=48000, layout="stereo", size=960)
    second = frames(tone[None, 48000:72000], [1000 + 20.0 * i for i in range(25)], rate=48000, size=960)
    slow = 0.5 * np.sin(2 * np.pi * 440 * (1.5 + np.arange(12000) / 24000))
    third = frames(slow[None], [1500 + 20.0 * i for i in range(25)], rate=24000, size=480)
    out, heard = laid([*first, *second, *third], 2.0)
    want = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    edges = np.abs(np.arange(2 * RATE)[:, None] - np.array([0, 1.0, 1.5, 2.0]) * RATE).min(axis=1) < 40
    assert np.abs(out - want)[~edges].max() < 2e-3
    assert np.abs(out - want).max() < 0.3  # a filter's edge, no hole of many samples
    assert (heard.holes, heard.cut) == (0, 0)


# ---- silence ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac", "mp2"])
@pytest.mark.parametrize("step", [0.0, 1 / 32768])
def test_a_digitally_silent_track_is_absent(tmp_path, codec, step):
    if step and codec != "pcm_s16le":
        pytest.skip("a lossy codec keeps no dither")
    dither = step * np.random.default_rng(0).integers(-1, 2, (1, 57600))
    path = write(tmp_path / "x.mkv", codec, dither)
    with pytest.raises(AbsentError, match="got an audio track that is digitally silent; leave the audio modality out"):
        extract(path)


@pytest.mark.parametrize(("codec", "level"), [("pcm_alaw", 0.0), ("pcm_mulaw", 0.0), ("pcm_s16le", 0.25), ("pcm_u8", -0.01)])
def test_a_constant_is_silence(tmp_path, codec, level):
    """A-law has no zero: the least that it can say is 8 of 32768."""
    path = write(tmp_path / "x.mov", codec, np.full((1, 57600), level))
    with pytest.raises(AbsentError, match="got an audio track that is digitally silent"):
        extract(path)
    both = clips.tracks(
        tmp_path / "y.mov", [clips.Seen()], [clips.Heard(np.full((1, 57600), level), codec), clips.Heard(0.01 * clips.pulses((0.5,))[None])]
    )
    assert extract(both)[1].track.index == 1
    half = np.where(np.arange(57600) < 28800, level, 0.5 * np.sin(np.arange(57600)))[None]
    _, heard = extract(write(tmp_path / "z.mov", codec, half))
    assert heard.shares["silent"] == pytest.approx(0.5, abs=0.08)


def test_of_samples_that_are_none_silence_says_so(tmp_path):
    path = write(tmp_path / "x.mkv", "pcm_f32le", np.full((1, 57600), np.nan))
    with pytest.raises(AbsentError, match="is digitally silent but for 57600 samples that are no number"):
        extract(path)


def test_shares_are_of_the_axis(tmp_path):
    sound = Sound(start_s=0.4, length_s=1.2, click_s=(), codec="pcm_s16le")
    path = clips.write(tmp_path / "x.mkv", sound=replace(sound, click_s=(0.5,)))
    _, heard = extract(path)
    assert heard.shares["missing"] == pytest.approx(0.4, abs=1e-3)  # 0.4 s before, 0.4 s after, of 2 s
    assert heard.shares["silent"] > 0.9
    assert any("of the sound is silent" in fault for fault in heard.faults)
    assert heard.facts()["shares"] == heard.shares
