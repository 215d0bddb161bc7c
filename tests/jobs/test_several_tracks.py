"""Files of several video or sound tracks, and files of which no player makes a video: what is taken, what is said."""

from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest
import skimage.data
from av.stream import Disposition
from clips import Heard, Seen, pulses
from PIL import Image

from affpipe.core.errors import MediaError
from affpipe.data.importers.manifest_check import check
from affpipe.data.manifest import Row
from affpipe.faces.which import share_with_face
from affpipe.jobs import apply, workers
from affpipe.media.declared import declared
from affpipe.media.picture import decode
from affpipe.media.probe import probe
from affpipe.media.sound import audio
from affpipe.media.sound import heard as found
from affpipe.media.tracks import audio_track, video_track
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.store import streams
from affpipe.store.index import Entry

CLICK = pulses((0.5, 0.9))[None]
STILL = [np.full((64, 96, 3), 90, np.uint8)]
DEFAULT, NONE = Disposition.default, Disposition(0)


def sound(path: Path, **how: object) -> np.ndarray:
    return np.concatenate(list(audio.extract(path, probe(path).axis, **how)))


# ---- video ------------------------------------------------------------------------------------------------------------------------------

COVERS = {
    "marked default, after": ("mkv", [Seen(marks=NONE), Seen(STILL, "mjpeg", DEFAULT)], 0),
    "before": ("mp4", [Seen(STILL, "mjpeg"), Seen()], 1),
    "before, marked default": ("mkv", [Seen(STILL, "mjpeg", DEFAULT), Seen(marks=NONE)], 1),
    "attached": ("mkv", [Seen(marks=NONE), Seen(STILL, "mjpeg", Disposition.attached_pic | DEFAULT)], 0),
    "two": ("mkv", [Seen(STILL, "mjpeg", DEFAULT), Seen(marks=NONE), Seen(STILL, "mjpeg", NONE)], 1),
}


@pytest.mark.parametrize("name", COVERS)
def test_a_still_picture_is_not_the_video(tmp_path, name):
    suffix, seen, wanted = COVERS[name]
    path = clips.tracks(tmp_path / f"x.{suffix}", seen)
    choice = video_track(path)
    assert (choice.index, choice.of) == (wanted, len(seen))
    assert set(choice.others) <= set(range(len(seen))) - {wanted}
    if name != "attached":
        assert f"took video track {wanted} of {len(seen)}" in choice.said
        assert "is a still picture" in choice.said
    assert len(probe(path).axis) == declared(path).frames == 30
    assert [clips.number(image) for _, _, image in decode.frames(path)] == list(range(30))


OTHERS = {
    "much shorter": ([Seen(10), Seen(30)], "is shorter than half"),
    "an addition": ([Seen(30, marks=DEFAULT | Disposition.comment), Seen(30, marks=NONE)], "is marked as an addition"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_the_main_video_is_left(tmp_path, name):
    seen, why = OTHERS[name]
    choice = video_track(clips.tracks(tmp_path / "x.mkv", seen))
    assert choice.index == 1
    assert choice.others == {0: why}


@pytest.mark.parametrize(("first", "second", "taken"), [(0.0, 1.0, 1), (0.0, 0.0, 0), (1.0, 0.6, 0), (0.6, 1.0, 0), (0.2, 1.0, 1)])
def test_the_track_with_faces_is_taken_where_they_tell(tmp_path, first, second, taken):
    path = clips.tracks(tmp_path / "x.mkv", [Seen(marks=DEFAULT), Seen(marks=NONE)])
    asked = []
    choice = video_track(path, faces=lambda video, track, times: asked.append((video, track, times)) or (first, second)[track])
    assert choice.index == taken
    assert [(video, track) for video, track, _ in asked] == [(path, 0), (path, 1)]
    assert all(0 <= time < 1.2 for *_, times in asked for time in times)
    assert choice.others[1 - taken]


def test_a_camera_is_told_from_a_screen_by_its_face(tmp_path):
    screen = [np.full((240, 240, 3), i * 5, np.uint8) for i in range(12)]
    camera = [skimage.data.astronaut()[:240, 104:344]] * 12
    path = clips.tracks(tmp_path / "x.mp4", [Seen(screen), Seen(camera)])
    assert share_with_face(path, 0, [0.0, 0.2]) == 0
    assert share_with_face(path, 1, [0.0, 0.2]) == 1
    choice = video_track(path, faces=share_with_face)
    assert choice.said == "took video track 1 of 2 (0 shows fewer faces); `video_track` names another"


def test_the_only_video_is_not_looked_at(tmp_path):
    path = clips.tracks(tmp_path / "x.mp4", [Seen()])
    choice = video_track(path, faces=lambda *_: pytest.fail("nothing to choose"))
    assert (choice.index, choice.of, choice.others, choice.said) == (0, 1, {}, "")
    assert video_track(path, 0).asked


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_track_that_is_named_is_taken_or_refused(tmp_path, kind):
    number = {"video": video_track, "audio": audio_track}[kind]
    path = clips.tracks(tmp_path / "x.mkv", [Seen(30), Seen(12)], [Heard(CLICK), Heard(0 * CLICK)])
    assert (number(path).index, number(path, 1).index, number(path, 1).asked) == (0, 1, True)
    with pytest.raises(MediaError, match=f"want {kind} track 2, got a file with 2, numbered from 0; mend `{kind}_track`"):
        number(path, 2)
    assert len(probe(path, track=1).axis) == sum(1 for _ in decode.frames(path, track=1)) == 12


def test_decord_knows_no_track(tmp_path):
    path = clips.tracks(tmp_path / "x.mp4", [Seen(), Seen()])
    for call in (lambda: probe(path, backend="decord"), lambda: next(decode.frames(path, backend="decord", track=0))):
        with pytest.raises(MediaError, match="decord: want one video track, got 2; use the pyav backend"):
            call()


# ---- sound ------------------------------------------------------------------------------------------------------------------------------

SOUNDS = {
    "an empty microphone": ([Heard(0 * CLICK, marks=DEFAULT), Heard(CLICK, marks=NONE)], "is silent"),
    "a microphone that hears its own noise": (
        [Heard(1e-3 * np.random.default_rng(0).standard_normal((1, 57600)), marks=DEFAULT), Heard(CLICK, marks=NONE)],
        "is over 20 dB quieter",
    ),
    "a commentary": ([Heard(CLICK, marks=DEFAULT | Disposition.comment), Heard(0.5 * CLICK, marks=NONE)], "is marked as an addition"),
    "a jingle": ([Heard(CLICK[:, :28000], marks=DEFAULT), Heard(CLICK, marks=NONE)], "is shorter than half"),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_the_sound_is_chosen_by_what_it_holds(tmp_path, name):
    heard, why = SOUNDS[name]
    path = clips.tracks(tmp_path / "x.mkv", [Seen()], heard)
    choice = audio_track(path)
    assert choice.index == 1
    assert choice.others == {0: why}
    level = np.abs(heard[1].samples).max()
    assert np.abs(sound(path)).max() == pytest.approx(level, abs=0.05)
    counts = found.Heard()
    sound(path, heard=counts)
    assert counts.faults[0] == choice.said
    assert counts.facts()["track"] == {"index": 1, "of": 2, "asked": False, "others": {"0": why}}


def test_of_sounds_alike_the_one_that_players_take_is_taken(tmp_path):
    path = clips.tracks(
        tmp_path / "x.mkv", [Seen()], [Heard(CLICK, marks=NONE), Heard(0.5 * CLICK, marks=DEFAULT), Heard(CLICK, marks=NONE)]
    )
    assert audio_track(path).index == 1
    assert np.abs(sound(path)).max() == pytest.approx(0.4, abs=0.01)
    assert np.abs(sound(path, track=0)).max() == pytest.approx(0.8, abs=0.01)


def test_of_many_planes_the_level_is_measured(tmp_path):
    loud = np.zeros((8, 57600))
    loud[2] = CLICK
    path = clips.tracks(tmp_path / "x.mkv", [Seen()], [Heard(0 * loud, "aac", "7.1", DEFAULT), Heard(loud, "aac", "7.1", NONE)])
    assert audio_track(path).index == 1


def test_a_track_that_does_not_decode_gives_way_to_one_that_does(tmp_path):
    whole = clips.tracks(tmp_path / "whole.mp4", [Seen()], [Heard(CLICK, "aac", marks=DEFAULT), Heard(CLICK, "aac", marks=NONE)])
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        for packet in container.demux(container.streams.audio[0]):
            if packet.size:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    (tmp_path / "x.mp4").write_bytes(data)
    assert audio_track(tmp_path / "x.mp4").others == {0: "cannot be decoded"}
    assert np.abs(sound(tmp_path / "x.mp4")).max() == pytest.approx(0.8, abs=0.05)


# ---- what is no video -------------------------------------------------------------------------------------------------------------------

KEY = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_encrypted_file_is_called_so(tmp_path, codec):
    path = clips.tracks(tmp_path / "x.mp4", [Seen(codec=codec)], [Heard(CLICK, "aac")], **KEY)
    for call in (lambda: probe(path), lambda: list(decode.frames(path)), lambda: declared(path, first_frame=True)):
        with pytest.raises(MediaError, match=r"want a video that may be read, got an encrypted one \(DRM\); get it without"):
            call()
    axis = probe(clips.tracks(tmp_path / "open.mp4", [Seen()])).axis
    with pytest.raises(MediaError, match="got an encrypted one"):
        list(audio.extract(path, axis))


def test_a_tag_of_no_letters_is_no_lock(tmp_path):
    path = clips.tracks(tmp_path / "x.mp4", [Seen()], [Heard(CLICK, "aac")])
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"mp4\xff"))
    with av.open(str(path)) as container, pytest.raises(UnicodeDecodeError):  # PyAV wants ASCII
        container.streams.audio[0].codec_context.codec_tag  # noqa: B018
    assert len(sound(path)) == 19200


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_an_animated_picture_is_a_video_and_a_still_one_is_none(tmp_path, suffix):
    images = [Image.fromarray(clips.picture(i)) for i in range(10)]
    path = tmp_path / f"x.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=40)
    info = probe(path)
    assert (len(info.axis), info.fps, info.faults) == (10, 25, ())
    assert declared(path).frames == 10
    assert [clips.number(image) for _, _, image in decode.frames(path)] == list(range(10))
    images[0].save(path)
    with pytest.raises(MediaError, match="want a video, got a still picture"):
        probe(path)


def test_an_animated_webp_is_called_so(tmp_path):
    images = [Image.fromarray(clips.picture(i)) for i in range(3)]
    images[0].save(tmp_path / "x.webp", save_all=True, append_images=images[1:], duration=40)
    with pytest.raises(MediaError, match="got an animated WebP, which FFmpeg does not play; convert it"):
        probe(tmp_path / "x.webp")
    images[0].save(tmp_path / "still.webp")
    with pytest.raises(MediaError, match="got a still picture"):
        probe(tmp_path / "still.webp")


@pytest.mark.parametrize("pictures", [30, 7])
def test_a_webm_without_a_duration_is_no_fault(tmp_path, pictures):
    path = clips.tracks(tmp_path / "x.webm", [Seen(pictures, "libvpx")], live="1")
    with av.open(str(path)) as container:
        assert container.duration is None
    found = declared(path, first_frame=True)
    assert (found.frames, found.fps) == (pictures, 25)
    assert found.duration_s == pytest.approx(pictures / 25, abs=0.002)


def test_a_raw_dv_is_as_long_as_its_frames(tmp_path):
    with av.open(str(tmp_path / "x.dv"), "w", format="dv") as out:
        video, track = out.add_stream("dvvideo", rate=25), out.add_stream("pcm_s16le", rate=48000, layout="stereo")
        video.width, video.height, video.pix_fmt = 720, 576, "yuv420p"
        packets = []
        for i in range(5):
            picture = av.VideoFrame.from_ndarray(clips.picture(i, 720, 576), format="rgb24")
            wave = av.AudioFrame.from_ndarray(np.full((1, 3840), 1000, np.int16), format="s16", layout="stereo")
            picture.pts, picture.time_base = i, Fraction(1, 25)
            wave.pts, wave.time_base, wave.sample_rate = 1920 * i, Fraction(1, 48000), 48000
            packets += [*track.encode(wave), *video.encode(picture)]
        for packet in packets + video.encode(None):
            out.mux(packet)
    found = declared(tmp_path / "x.dv")
    assert (found.frames, found.fps, found.duration_s) == (5, 25, pytest.approx(0.2))
    assert len(probe(tmp_path / "x.dv").axis) == 5


# ---- stages and the manifest ------------------------------------------------------------------------------------------------------------

RUN = {
    "features": {"log": {"encoder": "logmel"}},
    "models": {"voice": {"kind": "chunk_asp", "reads": "log"}},
    "publish": "voice",
}


def run(folder: Path, video: Path, *, cells: dict | None = None, **sections: object) -> tuple[Plan, dict[str, Entry]]:
    """The stages frames and audio of a video: the plan, and what became of it by stage."""
    plan = Plan(parse({**RUN, "cache": str(folder / "cache"), **sections}), [Row("s", video, "largest", "predict", **(cells or {}))])
    entries: dict[str, dict[str, Entry]] = {}
    for name in ("frames", "audio", "log"):
        entries[name] = apply.apply(plan, name, plan.items(name), entries, workers.start, lambda *_: None)
    return plan, {name: next(iter(made.values())) for name, made in entries.items()}


def made(plan: Plan, name: str) -> dict:
    return streams.attributes(plan.stream(name, plan.items(name)[0]))["extra"]


def test_stages_take_one_track_and_say_which(tmp_path, caplog):
    path = clips.tracks(tmp_path / "x.mkv", [Seen(STILL, "mjpeg", DEFAULT), Seen(marks=NONE)], [Heard(0 * CLICK), Heard(CLICK)])
    plan, entries = run(tmp_path, path)
    assert {name: entry.status for name, entry in entries.items()} == dict.fromkeys(entries, "done")
    assert entries["frames"].rows == 30
    assert made(plan, "frames")["video"]["track"] == {"index": 1, "of": 2, "asked": False, "others": {"0": "is a still picture"}}
    assert plan.job("audio", plan.items("audio")[0]).video_track() == 1
    told = made(plan, "audio")["sound"]
    assert told["track"] == {"index": 1, "of": 2, "asked": False, "others": {"0": "is silent"}}
    assert told["faults"][0] == "took audio track 1 of 2 (0 is silent); `audio_track` names another"
    assert f"frames: {path}: took video track 1 of 2 (0 is a still picture)" in caplog.text
    assert f"audio: {path}: took audio track 1 of 2 (0 is silent)" in caplog.text
    with plan.streams(plan.items("frames")[0]).open("frames") as frames:
        assert len(frames) == 30
    assert np.abs(streams.Sound(plan.stream("audio", plan.items("audio")[0]))[:]).max() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("where", ["settings", "manifest"])
def test_settings_and_manifest_decide_the_manifest_first(tmp_path, where):
    path = clips.tracks(tmp_path / "x.mkv", [Seen(30), Seen(20)], [Heard(CLICK), Heard(0.5 * CLICK)])
    wanted, other = {"video_track": 1, "audio_track": 1}, {"video_track": 7, "audio_track": 7}
    settings = wanted if where == "settings" else other
    sections = {"frames": {"video_track": settings["video_track"]}, "audio": {"audio_track": settings["audio_track"]}}
    plan, entries = run(tmp_path, path, cells=wanted if where == "manifest" else None, **sections)
    assert (entries["frames"].status, entries["frames"].rows, entries["audio"].status) == ("done", 20, "done")
    assert made(plan, "frames")["video"]["track"] == {"index": 1, "of": 2, "asked": True, "others": {}}
    assert made(plan, "audio")["sound"]["track"]["index"] == 1
    _, entries = run(tmp_path, path, cells=other)
    assert entries["frames"].status == entries["log"].status == "failed"
    assert "want video track 7, got a file with 2, numbered from 0; mend `video_track`" in entries["frames"].reason


def test_a_silent_track_is_absent_for_what_reads_it_with_the_reason(tmp_path):
    path = clips.tracks(tmp_path / "x.mkv", [Seen()], [Heard(0 * CLICK)])
    plan, entries = run(tmp_path, path)
    assert [entries[name].status for name in ("frames", "audio", "log")] == ["done", "absent", "absent"]
    assert entries["log"].reason == f"{path}: want sound, got an audio track that is digitally silent; leave the audio modality out for it"
    assert not plan.stream("audio", plan.items("audio")[0]).exists()


def test_a_plain_file_has_shares_and_nothing_to_say(tmp_path, caplog):
    wave = 0.3 * np.sin(2 * np.pi * 300 * np.arange(57600) / 48000)[None]
    plan, _ = run(tmp_path, clips.tracks(tmp_path / "x.mkv", [Seen()], [Heard(wave)]))
    told = made(plan, "audio")["sound"]
    assert told["faults"] == []
    assert told["shares"] == dict.fromkeys(("missing", "silent", "holes", "cut", "clipped", "louder", "mended"), 0.0)
    assert (told["rate_hz"], told["samples"]) == (48000, 57600)
    assert "audio:" not in caplog.text.replace("audio: 1 made", "")


def test_the_manifest_check_says_what_the_stages_would(tmp_path):
    paths = {
        "tracks": clips.tracks(
            tmp_path / "tracks.mkv", [Seen(STILL, "mjpeg", DEFAULT), Seen(marks=NONE)], [Heard(0 * CLICK), Heard(CLICK)]
        ),
        "silent": clips.tracks(tmp_path / "silent.mkv", [Seen()], [Heard(0 * CLICK)]),
        "nan": clips.tracks(
            tmp_path / "nan.mkv",
            [Seen()],
            [Heard(np.where(np.arange(57600) == 9, np.nan, 0.1 * np.sin(np.arange(57600)))[None], "pcm_f32le")],
        ),
        "mute": clips.tracks(tmp_path / "mute.mkv", [Seen()]),
        "named": clips.tracks(tmp_path / "named.mkv", [Seen()], [Heard(CLICK)]),
    }
    text = "stream_id,video,partition,audio_track\n" + "".join(f"{name},{name}.mkv,predict,{3 * (name == 'named')}\n" for name in paths)
    text = text.replace(",0\n", ",\n")
    (tmp_path / "m.csv").write_text(text)
    report = check(tmp_path / "m.csv", tmp_path, media="full", progress=lambda *_: None)
    said = {name: [line.split(".mkv: ", 1)[1] for line in report.warnings if f"/{name}.mkv" in line] for name in paths}
    assert said["tracks"][:2] == [
        "took video track 1 of 2 (0 is a still picture); `video_track` names another",
        "took audio track 1 of 2 (0 is silent); `audio_track` names another",
    ]
    assert said["silent"] == ["want sound, got an audio track that is digitally silent; leave the audio modality out for it"]
    assert said["nan"] == ["1 samples that are no number, set to 0"]
    assert said["mute"] == []
    assert [line.split(".mkv: ")[1] for line in report.faults] == [
        "want audio track 3, got a file with 1, numbered from 0; mend `audio_track`"
    ]
    quick = check(tmp_path / "m.csv", tmp_path, media="quick", progress=lambda *_: None)
    assert [line.split(".mkv: ")[1] for line in quick.warnings] == said["tracks"][:2]
    assert quick.faults == report.faults
