"""Videos that are still being fetched: room was made for them and is zeros, or they change while they are read."""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest

from affpipe.core.errors import MediaError
from affpipe.data.manifest import Row
from affpipe.faces import workers as face_stages
from affpipe.media import unfinished
from affpipe.media import workers as sound_stages
from affpipe.media.declared import declared
from affpipe.media.probe import probe
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan

SIZE, COUNT, ZEROS = (1280, 960), 40, 1 << 16
FILMS = {  # name -> codec, options of the container
    "fast.mp4": ("mpeg4", {"movflags": "faststart"}),
    "parts.mp4": ("mpeg4", {"movflags": "frag_keyframe+empty_moov"}),
    "a.mkv": ("mpeg2video", {}),
    "live.mkv": ("mpeg2video", {"live": "1"}),
    "a.avi": ("mpeg4", {}),
    "a.ts": ("mpeg2video", {}),
    "a.mpg": ("mpeg2video", {}),
}


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name, (codec, options) in FILMS.items():
        how = {"options": {"g": "1", "b": "60M"}, "container_options": options, "time_base": Fraction(1, 25)}
        path = clips.write(folder / name, count=COUNT, codec=codec, size=SIZE, **how)
        assert path.stat().st_size > 6 * ZEROS
    return folder


@pytest.fixture
def few(monkeypatch) -> None:
    """Fewer zeros count, as the films are small."""
    monkeypatch.setattr(unfinished, "ZEROS", ZEROS)


def rest_is_zeros(path: Path, out: Path, share: float) -> int:
    """Write a film of which so much is there yet; return how much that is."""
    data = path.read_bytes()
    there = int(share * len(data))
    out.write_bytes(data[:there] + bytes(len(data) - there))
    return there


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("name", FILMS)
def test_a_download_into_room_that_was_made_for_it_is_not_taken_for_the_file(films, tmp_path, name, share):
    there = rest_is_zeros(films / name, path := tmp_path / name, share)
    for read in (probe, declared):
        with pytest.raises(MediaError) as caught:
            read(path)
        said = str(caught.value)
        assert "\n" not in said
        assert said.startswith(f"{path}: want a file that is there whole, got zeros from byte ")
        assert 0 <= there - int(said.split("from byte ")[1].split()[0]) < 64
        assert said.endswith("as of a download that goes on; fetch it whole, or if it plays to its end, remux it")
    assert len(probe(films / name).axis) == COUNT


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("name", "part"), [("a.mkv", b"\x1f\x43\xb6\x75"), ("a.avi", b"00dc")])
def test_a_download_that_has_come_to_the_end_of_a_part_is_told_by_the_length_of_the_whole(films, tmp_path, name, part):
    data = (films / name).read_bytes()
    at = data.rindex(part, 0, len(data) - 2 * ZEROS)
    (path := tmp_path / name).write_bytes(data[:at] + bytes(len(data) - at))
    with pytest.raises(MediaError, match="as of a download that goes on"):
        probe(path)


def free(data: bytes) -> bytes:
    return data + (8 + (1 << 21)).to_bytes(4, "big") + b"free" + bytes(1 << 21)


def junk(data: bytes) -> bytes:
    return data + b"JUNK" + (1 << 21).to_bytes(4, "little") + bytes(1 << 21)


def void(data: bytes) -> bytes:
    return data + b"\xec" + (1 << 56 | 1 << 21).to_bytes(8, "big") + bytes(1 << 21)


def padded(data: bytes) -> bytes:
    return data + bytes(1 << 21)


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("fast.mp4", free),
        ("fast.mp4", padded),
        ("parts.mp4", padded),
        ("a.avi", junk),
        ("a.avi", padded),
        ("a.mkv", void),
        ("a.mkv", padded),
    ],
)
def test_zeros_where_a_container_has_no_data_are_no_fault(films, tmp_path, name, ends):
    path = tmp_path / name
    path.write_bytes(ends((films / name).read_bytes()))
    assert len(probe(path).axis) == COUNT


def test_silence_at_the_end_is_no_fault(tmp_path):
    """Samples that are zeros, with the index in front of them."""
    sound = clips.Sound(length_s=4.0, click_s=(0.2,), sample_rate_hz=48000, levels=(0.8, 0.8), codec="pcm_s16le")
    plain = clips.write(tmp_path / "plain.mov", count=50, codec="mjpeg", size=SIZE, sound=sound)
    path = clips.remux(plain, tmp_path / "fast.mov", movflags="faststart")
    assert path.read_bytes().endswith(bytes(200_000))
    assert len(probe(path).axis) == 50


def test_few_zeros_at_the_end_are_no_fault(films, tmp_path):
    data = bytearray((films / "a.ts").read_bytes())
    data[-ZEROS:] = bytes(ZEROS)
    (path := tmp_path / "a.ts").write_bytes(data)
    assert len(probe(path).axis) > COUNT // 2


def test_a_file_of_zeros_is_none(tmp_path):
    (path := tmp_path / "a.mp4").write_bytes(bytes(1 << 20))
    with pytest.raises(MediaError, match="got zeros from byte 0 of 1048576 to its end"):
        probe(path)


# ---- while it is read -------------------------------------------------------------------------------------------------------------------


def plan_of(video: Path, folder: Path) -> Plan:
    voice = {"features": {"wavlm": {"encoder": "wavlm"}}, "models": {"voice": {"kind": "chunk_asp", "reads": "wavlm"}}, "publish": "voice"}
    return Plan(parse({"cache": str(folder / "cache"), **voice}), [Row(video.stem, video, "largest", "predict")])


def between(path: Path) -> None:
    """A byte that the fingerprint does not see."""
    with path.open("r+b") as file:
        file.seek(80_000)
        byte = file.read(1)[0]
        file.seek(80_000)
        file.write(bytes([byte ^ 1]))


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def anew(path: Path) -> None:
    copy = shutil.copy2(path, path.with_suffix(".new"))
    os.replace(copy, path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (between, "want a file that nobody writes to, got one that changed; run again once it is whole"),
        (os.utime, "want a file that nobody writes to, got one that changed"),
        (anew, "want a file that nobody writes to, got one that changed"),
        (longer, "want the files that were there when the run was planned, got others; run again"),
    ],
)
@pytest.mark.parametrize("stage", ["frames", "audio"])
def test_a_video_that_changes_while_it_is_read_gives_no_stream(tmp_path, monkeypatch, stage, change, said):
    video = clips.write(tmp_path / "a.mp4", count=50, codec="mjpeg", sound=clips.Sound(hum=0.1))
    with video.open("ab") as file:
        file.write(
            (1_500_000).to_bytes(4, "big") + b"free" + np.random.default_rng(0).bytes(1_500_000 - 8)
        )  # larger than what is read whole
    plan = plan_of(video, tmp_path)
    if stage == "audio":
        face_stages.frames(plan.context("frames"))(plan.job("frames", plan.items("frames")[0]))
    name = "probe" if stage == "frames" else "extract"
    module = face_stages if stage == "frames" else sound_stages
    real = getattr(module, name)

    def amid(path: Path, *given, **more):
        out = real(path, *given, **more)
        change(path)
        return out

    monkeypatch.setattr(module, name, amid)
    job = plan.job(stage, plan.items(stage)[0])
    with pytest.raises(MediaError) as caught:
        getattr(module, stage)(plan.context(stage))(job)
    assert str(caught.value).startswith(f"{video}: {said}")
    assert list(job.path.parent.iterdir()) == []
