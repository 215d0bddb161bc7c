"""Laws of the demo set: its layout, its clocks, its labels, its sound, its faces."""

import json
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import mediapipe as mp
import numpy as np
import pytest

from affpipe.demo import stage
from affpipe.demo.clips import CLIPS, LABELS, Absence, Clip, manifest_text
from affpipe.demo.film import write_film
from affpipe.demo.render import drives, render, render_clip
from affpipe.demo.signals import RATE, correlation
from affpipe.errors import SettingsError
from affpipe.media.probe import DEMO_COMMENT, probe

SMALL = (240, 180)
AWAY = Absence(1.0, 2.0)
TINY = (
    Clip("away", "train", 3, Fraction(30000, 1001), SMALL, absences=(AWAY, Absence(2.5, 2.8, slides=True))),
    Clip("late", "train", 6, Fraction(5), SMALL, audio_start_s=0.8),
    Clip("vary", "validation", 3, size=SMALL, variable=True),
    Clip("pair", "test", 1, Fraction(25), SMALL, people=2, audio=False),
)
SEED = 3
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "set"
    seen: list[tuple[int, int]] = []
    render(out, seed=SEED, jobs=2, clips=TINY, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    return out


def frame_times(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.array([float(frame.pts * frame.time_base) for frame in container.decode(video=0)])


def labels(path: Path) -> np.ndarray:
    assert path.read_text().startswith("valence,arousal\n")
    return np.loadtxt(path, delimiter=",", skiprows=1)


def by_name(name: str) -> Clip:
    return next(clip for clip in TINY if clip.name == name)


def test_committed_manifest_is_the_generated_one():
    assert (ROOT / "data_manifest.csv").read_text() == manifest_text()
    rows = [line.split(",") for line in manifest_text().splitlines()]
    assert rows[0] == ["stream_id", "video", "subject", "partition", "annotation"]
    assert all((row[3] == "test") == (row[4] == "") for row in rows[1:])
    assert len({row[0] for row in rows}) == len(rows)


def test_set_has_every_oddity_and_honest_partitions():
    assert {clip.fps for clip in CLIPS} == {Fraction(25), Fraction(30000, 1001), Fraction(30)}
    assert len({clip.size for clip in CLIPS}) == 2
    assert sum(clip.variable for clip in CLIPS) == sum(not clip.audio for clip in CLIPS) == sum(clip.people == 2 for clip in CLIPS) == 1
    assert [clip.audio_start_s for clip in CLIPS if clip.audio_start_s] == [0.8]
    assert Counter(clip.partition for clip in CLIPS) == {"train": 10, "validation": 3, "test": 3}


def test_layout(demo: Path):
    files = {str(path.relative_to(demo)) for path in demo.rglob("*") if path.is_file()}
    assert files == {
        "demo.json",
        "data_manifest.csv",
        *(f"videos/{name}.mp4" for name in ("away", "late", "vary", "pair")),
        *(f"{LABELS}/Train_Set/{name}.txt" for name in ("away", "late")),
        f"{LABELS}/Validation_Set/vary.txt",
        f"{LABELS}/test_template.txt",
        *(f"truth/Test_Set/pair_{side}.txt" for side in ("left", "right")),
    }
    assert (demo / "data_manifest.csv").read_text() == manifest_text(TINY)
    assert not [path for path in demo.parent.iterdir() if path != demo]


def test_template_has_a_row_for_each_test_frame(demo: Path):
    rows = (demo / LABELS / "test_template.txt").read_text().splitlines()
    assert rows[:3] == ["image_location,valence,arousal", "pair_left/00001.jpg,", "pair_left/00002.jpg,"]
    assert len(rows) == 1 + 2 * 25
    assert rows[-1] == "pair_right/00025.jpg,"


@pytest.mark.parametrize("clip", TINY, ids=lambda clip: clip.name)
def test_a_label_row_is_the_drive_at_the_frames_own_time(demo: Path, clip: Clip):
    times = frame_times(demo / clip.video)
    for stream, person in zip(clip.streams, drives(clip, SEED), strict=True):
        rows = labels(demo / stream.labels)
        assert len(rows) == len(times)
        away = np.zeros(len(times), bool)
        for absence in clip.absences:
            away |= (times >= absence.start_s) & (times < absence.end_s)
        assert (rows[away] == -5).all()
        grid = np.arange(len(person.valence)) / RATE
        want = np.stack([np.interp(times, grid, person.valence), np.interp(times, grid, person.arousal)], axis=1)
        np.testing.assert_allclose(rows[~away], want[~away], atol=6e-5)
        assert (np.abs(rows[~away]) <= 1).all()


def test_frame_clocks(demo: Path):
    np.testing.assert_allclose(frame_times(demo / "videos/away.mp4"), np.arange(90) * 1001 / 30000, atol=1e-9)
    steps = np.diff(frame_times(demo / "videos/vary.mp4"))
    assert len(np.unique(np.rint(steps * 90000))) >= 4
    assert steps.min() > 0.02
    assert steps.max() > 2 * steps.min()


def test_the_face_is_gone_while_labelled_invalid(demo: Path):
    with av.open(str(demo / "videos/away.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    gone = labels(demo / LABELS / "Train_Set/away.txt")[:, 0] == -5
    wall = np.mean([frame for frame, away in zip(frames, gone, strict=True) if away], axis=0)
    off = np.array([np.abs(frame - wall)[30:120, 80:160].mean() for frame in frames])  # where the head is
    assert off[gone].max() < 3
    assert np.median(off[~gone]) > 30


def test_the_bytes_of_a_film_do_not_depend_on_what_lies_in_memory(tmp_path: Path):
    """A width that is no multiple of 64, where x264's AVX-512 code reads beyond the picture; pictures with which it shows."""
    rng = np.random.default_rng(3)
    wall = stage._wall(480, 480, rng).astype(int)
    blocks = rng.integers(0, 40, (60, 60, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    pictures = [np.clip(wall + blocks * (k % 2), 0, 255).astype(np.uint8) for k in range(4)]

    def amid_litter() -> Iterator[np.ndarray]:
        for picture in pictures:
            litter = [np.full(int(n), rng.integers(256), np.uint8) for n in rng.integers(1000, 3_000_000, 30)]
            del litter
            yield picture

    seen = set()
    for i in range(8):
        write_film(tmp_path / f"{i}.mp4", amid_litter(), np.arange(4), Fraction(1, 25), fps=Fraction(25), size=(480, 480), sound=None)
        seen.add((tmp_path / f"{i}.mp4").read_bytes())
    assert len(seen) == 1


def test_same_seed_same_bytes_whatever_the_process(demo: Path, tmp_path: Path):
    clip = by_name("vary")
    render_clip(tmp_path, clip, SEED)
    for name in (clip.video, clip.streams[0].labels):
        assert (tmp_path / name).read_bytes() == (demo / name).read_bytes()
    other = drives(clip, SEED + 1)[0]
    assert not np.allclose(other.valence, drives(clip, SEED)[0].valence)


@pytest.mark.parametrize(
    ("suffix", "comment", "synthetic"), [(".mkv", DEMO_COMMENT, True), (".mp4", "holiday", False), (".mp4", None, False)]
)
def test_films_say_that_they_are_a_demo(demo: Path, tmp_path: Path, suffix: str, comment: str | None, synthetic: bool):
    """In the container, so that a copy under another name and in another container says so too; no other film does."""
    assert all(probe(demo / clip.video).synthetic for clip in TINY)
    copy = tmp_path / f"copy{suffix}"
    with av.open(str(demo / "videos/vary.mp4")) as source, av.open(str(copy), "w") as out:
        if comment:
            out.metadata["comment"] = comment
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    info = probe(copy)
    assert info.synthetic is synthetic
    assert info.facts()["synthetic"] is synthetic


def loudness(path: Path, step_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Start of each step and its RMS, by the container's clock."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    start = float(frames[0].pts * frames[0].time_base)
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(float)
    step = round(step_s * frames[0].sample_rate)
    sound = sound[: len(sound) // step * step].reshape(-1, step)
    return start + np.arange(len(sound)) * step_s, np.sqrt((sound**2).mean(axis=1))


def onsets(curve: np.ndarray, pause: int) -> list[int]:
    """Rows where a curve passes 0.1 for the first time after at least `pause` rows below."""
    loud = np.flatnonzero(curve > 0.1)
    return [int(now) for before, now in pairwise(loud) if now - before > pause]


def test_late_audio_starts_late_and_sounds_in_step(demo: Path):
    clip, step = by_name("late"), 0.005
    times, rms = loudness(demo / clip.video, step)
    assert times[0] == pytest.approx(0.8, abs=0.001)
    person = drives(clip, SEED)[0]
    opening, arousal = (person.at(times + step / 2, curve) for curve in ("opening", "arousal"))
    level = opening * 10 ** (8 * arousal / 20)  # 8 dB a unit of arousal
    lags = np.arange(-20, 21)
    match = [np.corrcoef(level[30:-30], np.roll(rms, -lag)[30:-30])[0, 1] for lag in lags]
    assert abs(lags[int(np.argmax(match))]) * step <= 0.02
    assert max(match) > 0.85
    shut = opening == 0
    assert rms[shut][5:-5].max() < 0.01 < 0.08 < rms.max()
    # Onsets after a pause of 0.3 s, by the same threshold on each side.
    due, heard = (onsets(curve / curve.max(), round(0.3 / step)) for curve in (level, rms))
    assert len(due) >= 1
    assert len(heard) == len(due)
    assert np.abs(times[heard] - times[due]).max() <= 0.02


def test_no_audio_track_when_the_clip_has_none(demo: Path):
    with av.open(str(demo / "videos/pair.mp4")) as container:
        assert not container.streams.audio


def test_signals_forget_within_a_second_and_are_independent():
    people = [(clip, person) for clip in CLIPS for person in drives(clip)]
    curves = np.array([curve[: 15 * RATE] for _, person in people for curve in (person.valence, person.arousal)])
    for clip, person in people:
        for curve in (person.valence, person.arousal):
            assert np.abs(curve).max() <= 1
            assert abs(curve.mean()) < 0.2
            assert curve.std() > 0.3
            assert correlation(curve, curve, lag=round(25 / float(clip.fps) * RATE)) <= 0.42
            assert correlation(curve, curve, lag=RATE) <= 0.4
        assert abs(correlation(person.valence, person.arousal)) <= 0.15
    cross = np.corrcoef(curves)[np.triu_indices(len(curves), 1)]
    assert np.mean(cross**2) < 0.12
    assert abs(cross.mean()) < 0.05


def test_talking_pauses_and_never_sounds_from_an_absent_face():
    for clip in CLIPS:
        for person in drives(clip):
            opening, times = person.opening, np.arange(len(person.opening)) / RATE
            assert 0.15 < (opening[: int(clip.duration_s * RATE)] < 0.01).mean() < 0.75
            assert 0.5 < opening.max() <= 1
            for absence in clip.absences:
                assert opening[(times >= absence.start_s) & (times < absence.end_s)].max() == 0


def test_face_mesh_follows_the_drives(tmp_path: Path):
    clip = Clip("follow", "train", 10, Fraction(8), (400, 360), audio=False)
    render_clip(tmp_path, clip, SEED)
    times, person = frame_times(tmp_path / clip.video), drives(clip, SEED)[0]
    measured = []
    with (
        av.open(str(tmp_path / clip.video)) as container,
        mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1) as mesh,
    ):
        for frame in container.decode(video=0):
            found = mesh.process(frame.to_ndarray(format="rgb24")).multi_face_landmarks
            points = np.array([[p.x * 400, p.y * 360] for p in found[0].landmark])
            width = np.linalg.norm(points[454] - points[234])
            smile, gap = np.linalg.norm(points[291] - points[61]), np.linalg.norm(points[14] - points[13])
            brow = np.linalg.norm(points[[105, 334]] - points[[145, 374]], axis=1).mean()
            measured.append(np.array([smile, brow, gap]) / width)
    for values, curve in zip(np.array(measured).T, ("valence", "arousal", "opening"), strict=True):
        assert np.corrcoef(values, person.at(times, curve))[0, 1] > 0.8, curve


def brief(name: str = "brief") -> tuple[Clip, ...]:
    return (Clip(name, "train", 0.4, Fraction(10), (96, 64), audio=False),)


def test_a_complete_set_is_left_alone_and_an_incomplete_one_is_mended(tmp_path: Path):
    out, clips = tmp_path / "set", brief()
    render(out, clips=clips, jobs=1)
    video = out / clips[0].video
    before = video.stat().st_mtime_ns, video.read_bytes()
    render(out, clips=clips, jobs=1)
    assert (video.stat().st_mtime_ns, video.read_bytes()) == before
    video.write_bytes(before[1][:-1])
    (out / "notes.txt").write_text("mine")
    render(out, clips=clips, jobs=1)
    assert video.read_bytes() == before[1]
    assert (out / "notes.txt").read_text() == "mine"
    (out / "demo.json").write_text('{"files": {}}')  # what a move that was cut short leaves
    render(out, clips=clips, jobs=1)
    assert json.loads((out / "demo.json").read_text())["seed"] == 7


def test_an_interrupted_render_leaves_nothing(tmp_path: Path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "set", clips=brief(), jobs=1, progress=stop)
    assert not list(tmp_path.iterdir())


def test_refuses_what_is_no_demo(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match="want a new or empty folder or an earlier demo"):
        render(tmp_path)
    (tmp_path / "demo.json").write_text("{")
    with pytest.raises(SettingsError, match=r"demo\.json is damaged"):
        render(tmp_path)
    with pytest.raises(SettingsError, match="want jobs >= 1, got 0"):
        render(tmp_path / "new", jobs=0)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
