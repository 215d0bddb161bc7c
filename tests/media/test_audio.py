"""The audio track on the video's clock, and FLAC files."""

import json
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from clips import Sound

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import AbsentError, InputError, MediaError
from affpipe.media.probe import probe
from affpipe.media.sound import audio, laying
from affpipe.store import flac

RATE = 16000


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """50 frames at 25 fps and a stereo click at 1 s."""
    return clips.write(tmp_path_factory.mktemp("plain") / "plain.mp4", sound=Sound(levels=(0.8, 0.2)))


def extract(path: Path, axis: FrameAxis, **how: int) -> np.ndarray:
    """The whole track."""
    return np.concatenate(list(audio.extract(path, axis, **how)))


# ---- real clips -------------------------------------------------------------------------------------------------------------------------


def test_real_track_equals_an_independent_resampling(media):
    with av.open(str(media / "grid_bbaf2n.mpg")) as container:
        raw = np.concatenate([f.to_ndarray().mean(axis=0) for f in container.decode(audio=0)]) / 32768
    axis = probe(media / "grid_bbaf2n.mpg").axis
    got = extract(media / "grid_bbaf2n.mpg", axis)
    assert len(got) == 3 * RATE
    # An independent resampler: linear interpolation of the mean channel agrees below 2 kHz.
    at = np.interp(np.arange(len(got)) / RATE, np.arange(len(raw)) / 44100, raw)
    low = np.fft.rfftfreq(len(got), 1 / RATE) < 2000
    a, b = (np.fft.irfft(np.fft.rfft(x) * low) for x in (got, at))
    assert np.corrcoef(a, b)[0, 1] > 0.999


def test_audio_that_ends_early_is_padded(media):
    path = media / "pyfeat_noface_face.mov"
    axis = probe(path).axis
    samples = extract(path, axis)
    assert len(samples) == round((axis.end_s - axis.start_s) * RATE)
    assert np.abs(samples[: round(3.9 * RATE)]).max() > 0.01
    assert not samples[round(4.0 * RATE) :].any()


# ---- audio ------------------------------------------------------------------------------------------------------------------------------


def click_times(samples: np.ndarray, axis: FrameAxis, count: int) -> list[float]:
    """Container times of the loudest peaks at least 0.1 s apart, sorted."""
    level, found = np.abs(samples).copy(), []
    for _ in range(count):
        peak = int(level.argmax())
        found.append(axis.start_s + peak / RATE)
        level[max(0, peak - RATE // 10) : peak + RATE // 10] = 0
    return sorted(found)


@pytest.mark.parametrize("kind", ["mp4 aac", "mp4 libmp3lame", "mkv aac", "mkv pcm_s16le", "mkv libopus", "ts mp2"])
@pytest.mark.parametrize(("video_s", "audio_s"), [(0, 0), (0, 0.31), (0.4, 0), (0.4, 0.7)])
def test_click_lands_on_the_video_clock(tmp_path, kind, video_s, audio_s):
    suffix, codec = kind.split()
    sound = Sound(start_s=audio_s, click_s=(1.0, 1.5), codec=codec, sample_rate_hz=48000 if codec == "libopus" else 44100)
    path = clips.write(tmp_path / f"x.{suffix}", start_s=video_s, sound=sound)
    axis = probe(path).axis
    assert axis.start_s == pytest.approx(video_s, abs=1e-9)
    samples = extract(path, axis)
    assert (samples.dtype, samples.shape) == (np.float32, (2 * RATE,))
    assert click_times(samples, axis, 2) == pytest.approx([1.0, 1.5], abs=0.0015)
    assert np.abs(samples).max() == pytest.approx(0.8, abs=0.05)
    before = round((audio_s - video_s - 0.05) * RATE)
    assert before <= 0 or not samples[:before].any()


@pytest.mark.parametrize("levels", [(0.8,), (0.8, 0.2), (0.9, -0.1)])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_mono_is_the_mean_of_the_channels(tmp_path, levels, rate):
    path = clips.write(tmp_path / "x.mkv", count=40, sound=Sound(levels=levels, sample_rate_hz=rate, codec="pcm_s16le"))
    samples = extract(path, probe(path).axis)
    t = np.arange(len(samples)) / RATE
    assert samples == pytest.approx(np.mean(levels) * np.exp(-0.5 * ((t - 1) / 0.0005) ** 2), abs=0.003)


def test_gap_becomes_silence_and_the_rest_stays_in_place(tmp_path):
    path = clips.write(tmp_path / "x.mkv", sound=Sound(click_s=(0.2, 0.5, 1.2), gaps=[(0.3, 0.8)], codec="pcm_s16le"))
    axis = probe(path).axis
    samples = extract(path, axis)
    assert click_times(samples, axis, 2) == pytest.approx([0.2, 1.2], abs=0.0006)
    assert not samples[round(0.35 * RATE) : round(0.75 * RATE)].any()


def test_other_rate_and_a_part_of_the_axis(plain):
    axis = FrameAxis(np.arange(20, 40) / 25, Fraction(25))
    samples = extract(plain, axis, sample_rate_hz=22050)
    assert len(samples) == round(0.8 * 22050)
    assert 0.8 + np.abs(samples).argmax() / 22050 == pytest.approx(1.0, abs=1e-3)


def pieces(signal: np.ndarray, pts: list[int | None], size: int, base: Fraction = Fraction(1, 1000)) -> list[av.AudioFrame]:
    out = []
    for i, ticks in enumerate(pts):
        frame = av.AudioFrame.from_ndarray(signal[None, i * size : (i + 1) * size], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE, base, ticks
        out.append(frame)
    return out


def lay(frames: list[av.AudioFrame], samples: int, start_s: float = 0.0) -> tuple[np.ndarray, tuple[int, int]]:
    """The whole track, and how many samples were heard and placed."""
    heard = audio.Heard()
    out = list(audio.lay(frames, heard, start_s=start_s, sample_rate_hz=RATE, samples=samples))
    assert max(map(len, out)) <= laying.BLOCK
    return np.concatenate(out), (heard.samples, heard.placed)


def test_drift_is_held_within_the_tolerance():
    signal = np.zeros(10 * RATE, np.float32)
    signal[:: RATE // 2] = 1  # a click each half second of samples, 1 % slower on the clock
    out, _ = lay(pieces(signal, [round(i * 20 * 1.01) for i in range(500)], 320), 10 * RATE)
    found = np.flatnonzero(out > 0.9) / RATE
    assert len(found) == 20
    assert np.abs(found - 0.505 * np.arange(20)).max() < 0.0215  # tolerance and one tick
    assert found[-1] == pytest.approx(0.505 * 19, abs=0.0215)


def test_jitter_does_not_tear_the_track():
    signal = np.random.default_rng(0).uniform(-1, 1, 2 * RATE).astype(np.float32)
    jitter = np.random.default_rng(1).integers(-8, 9, 100)
    jitter[0] = 0
    out, _ = lay(pieces(signal, [20 * i + int(j) for i, j in enumerate(jitter)], 320), len(signal))
    assert np.array_equal(out, signal)


def test_missing_timestamps_start_with_the_video_and_go_on():
    signal = np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32)
    out, counts = lay(pieces(signal, [None] * 50, 320), RATE, start_s=7.0)
    assert counts == (RATE, RATE)
    assert np.array_equal(out, signal)


def test_overlap_keeps_the_first():
    first, second = np.full(1600, 0.25, np.float32), np.full(1600, 0.5, np.float32)
    out, counts = lay(pieces(np.concatenate([first, second]), [0, 50], 1600), 3200)
    assert counts == (3200, 2400)
    assert out.tolist() == [0.25] * 1600 + [0.5] * 800 + [0.0] * 800


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 20])
def test_blocks_do_not_show(monkeypatch, block):
    """A late start, a gap, an overlap and an early end."""
    signal = np.random.default_rng(0).uniform(-1, 1, 5 * 640).astype(np.float32)
    want = np.zeros(9600, np.float32)
    want[640:1920], want[4000:5280], want[5280:5520] = signal[:1280], signal[1280:2560], signal[2960:]
    monkeypatch.setattr(laying, "BLOCK", block)
    out, counts = lay(pieces(signal, [40, 80, 250, 290, 305], 640), len(want))
    assert np.array_equal(out, want)
    assert counts == (3200, 2800)


def test_absent_audio(tmp_path):
    path = clips.write(tmp_path / "mute.mp4")
    with pytest.raises(AbsentError, match="has no audio track") as error:
        extract(path, probe(path).axis)
    assert "\n" not in str(error.value)
    assert probe(path).audio is None
    path = clips.write(tmp_path / "hollow.mkv", sound=Sound(gaps=[(-1, 9)]))
    with pytest.raises(AbsentError, match="holds no samples"):
        extract(path, probe(path).axis)
    path = clips.write(tmp_path / "after.mkv", sound=Sound(start_s=5, codec="pcm_s16le"))
    with pytest.raises(AbsentError, match="outside the time of the video"):
        extract(path, probe(path).axis)


def test_damaged_audio(tmp_path, plain, caplog):
    path = clips.damage(plain, tmp_path / "some.mp4", "audio", slice(30, 34))  # 0.70 s to 0.79 s
    samples = extract(path, probe(path).axis)
    assert "4 undecodable audio packets left as silence" in caplog.text
    assert 0.0 + np.abs(samples).argmax() / RATE == pytest.approx(1.0, abs=0.0015)
    path = clips.damage(plain, tmp_path / "all.mp4", "audio", slice(None))
    with pytest.raises(MediaError, match=r"in each of \d+ audio packets") as error:
        extract(path, probe(path).axis)
    assert "\n" not in str(error.value)


def test_a_damaged_axis_asks_for_no_memory():
    """Nor can one be made by other means than reading a video: see test_bombs."""
    with pytest.raises(InputError, match=r"want at most 24 h, got frames from 0 to 1\.8e\+07 s"):
        FrameAxis(np.array([0.0, 5000 * 3600.0]), Fraction(25))


# ---- FLAC -------------------------------------------------------------------------------------------------------------------------------


def test_flac_round_trip(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 5 * RATE).astype(np.float32)
    samples[:3] = -1, 1, 0
    comment = json.dumps({"key": "abc", "text": 'é ✓ "quoted"\nline', "many": list(range(3000))})
    path = tmp_path / "x.part-123"
    flac.write_flac(path, [samples], RATE, comment)
    assert path.read_bytes()[:4] == b"fLaC"
    assert flac.flac_comment(path) == comment
    back = flac.read_flac(path)
    assert back.dtype == np.float32
    assert np.abs(back - np.minimum(samples, 32767 / 32768)).max() <= 0.5 / 32768
    again = tmp_path / "again"
    flac.write_flac(again, [back], RATE, comment)
    assert np.array_equal(flac.read_flac(again), back)
    for start, stop in ((0, 0), (0, 10), (4000, 70001), (5 * RATE - 1, 5 * RATE)):
        assert np.array_equal(flac.read_flac(path, start, stop), back[start:stop])


def test_flac_in_blocks_is_the_same_file(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 3 * RATE).astype(np.float32)
    flac.write_flac(tmp_path / "one", [samples], RATE, "{}")
    flac.write_flac(tmp_path / "many", np.split(samples, [1, 5, 4096, 20000, 20000]), RATE, "{}")
    assert (tmp_path / "many").read_bytes() == (tmp_path / "one").read_bytes()
    assert flac.flac_samples(tmp_path / "many") == 3 * RATE


def test_a_comment_may_be_known_only_in_the_end(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 9000).astype(np.float32)
    given: list[np.ndarray] = []

    def blocks():
        for block in np.split(samples, [5000]):
            given.append(block)
            yield block

    def comment() -> str:
        return json.dumps({"é": sum(map(len, given)), "more": "x" * len(given) * (flac.RESERVED // 2 - 20)})

    flac.write_flac(tmp_path / "late", blocks(), RATE, comment)
    assert json.loads(flac.flac_comment(tmp_path / "late")) == json.loads(comment())
    flac.write_flac(tmp_path / "plain", [samples], RATE, "{}")
    assert np.array_equal(flac.read_flac(tmp_path / "late"), flac.read_flac(tmp_path / "plain"))
    longer = iter(("x", "x" * (flac.RESERVED + 2)))
    with pytest.raises(ValueError, match=f"want a comment of at most {flac.RESERVED + 1} bytes, got {flac.RESERVED + 2}"):
        flac.write_flac(tmp_path / "more", [samples], RATE, lambda: next(longer))


def test_of_a_full_disk_the_system_tells():
    noise = np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32)
    with pytest.raises(OSError, match="No space left on device"):
        flac.write_flac(Path("/dev/full"), [noise] * 9, RATE, "{}")


def test_windows_read_only_what_they_cover(tmp_path):
    samples = np.random.default_rng(0).integers(-9000, 9000, 5 * RATE).astype(np.float32) / 32768
    asked = []

    class Track:
        def __getitem__(self, cut: slice) -> np.ndarray:
            asked.append((cut.start, cut.stop))
            return samples[cut]

    begin_s = np.array([1.0, 1.5, 3.75])
    waves, lengths = audio.windows(Track(), begin_s, length_s=2.0, sample_rate_hz=RATE)
    assert asked == [(RATE, round(5.75 * RATE))]
    assert lengths.tolist() == [2 * RATE, 2 * RATE, round(1.25 * RATE)]
    for wave, at_s, count in zip(waves, begin_s, lengths, strict=True):
        assert np.array_equal(wave[:count], samples[round(at_s * RATE) :][:count])
        assert not wave[count:].any()


def test_flac_errors(tmp_path):
    path = tmp_path / "x.flac"
    flac.write_flac(path, [np.zeros(100, np.float32)], RATE, "{}")
    for start, stop in ((-1, 5), (5, 4), (0, 101)):
        with pytest.raises(InputError, match="<= 100"):
            flac.read_flac(path, start, stop)
    for bad in (np.zeros((2, 2), np.float32), np.zeros(3, np.int16), np.array([np.nan], np.float32)):
        with pytest.raises(InputError, match="want finite float samples"):
            flac.write_flac(path, [bad], RATE, "{}")
    (tmp_path / "bad.flac").write_bytes(b"no flac")
    for call in (flac.read_flac, flac.flac_comment):
        for name in ("bad.flac", "none.flac"):
            with pytest.raises(MediaError, match="make it again"):
                call(tmp_path / name)
    noise = np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32)
    flac.write_flac(path, [noise], RATE, "{}")
    path.write_bytes(path.read_bytes()[:10000])
    with pytest.raises(MediaError, match="make it again"):
        flac.read_flac(path)
    with pytest.raises(FileNotFoundError):  # the disk's own word, for who writes the store
        flac.write_flac(tmp_path / "no" / "x", [noise], RATE, "{}")
