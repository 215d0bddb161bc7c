"""Laws of the demo set: its layout, its clocks, its labels, its sound, its faces."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import mediapipe as mp
import numpy as np
import pytest

from affpipe.core.errors import SettingsError
from affpipe.core.tasks.table import TASKS
from affpipe.data import manifest
from affpipe.data.annotations import read_labels
from affpipe.data.demo import labels, scene
from affpipe.data.demo.clips import CLIPS, Absence, Clip, Hidden, Unlabelled, manifest_text
from affpipe.data.demo.film import write_film
from affpipe.data.demo.own_labels import own_labels, own_manifest
from affpipe.data.demo.render import drives, render, render_clip
from affpipe.data.demo.signals import RATE, Drive, correlation
from affpipe.data.demo.synthetic_voice import SAMPLE_RATE, speak
from affpipe.faces.detect import MediaPipeDetector
from affpipe.media.probe import DEMO_COMMENT, probe

SMALL = (240, 180)
AWAY = Absence(1.0, 2.0)
TINY = (
    Clip(
        "away",
        "train",
        3,
        Fraction(30000, 1001),
        SMALL,
        absences=(AWAY, Absence(2.5, 2.8, slides=True)),
        unlabelled=(Unlabelled("expr", 0.7, 1.2),),
    ),
    Clip("late", "train", 6, Fraction(5), SMALL, audio_start_s=0.8, unlabelled=(Unlabelled("au", 2.0, 3.0),)),
    Clip("vary", "validation", 3, size=SMALL, variable=True, hidden=(Hidden(1.0, 1.8),)),
    Clip("pair", "test", 1, Fraction(25), SMALL, people=2, audio=False),
)
SEED = 3
CHALLENGES = {"va": "VA_Estimation_Challenge", "expr": "EXPR_Recognition_Challenge", "au": "AU_Detection_Challenge"}
UNITS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26")
FACES = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
HEADERS = {"va": "valence,arousal", "expr": ",".join(FACES), "au": ",".join(UNITS)}
INVALID = {"va": -5, "expr": -1, "au": -1}
ROOT = Path(__file__).resolve().parents[2]


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


def read(path: Path, task: str = "va") -> np.ndarray:
    """(T, columns) float64 of a label file whose header is right and which writes whole numbers as such."""
    text = path.read_text()
    assert text.startswith(HEADERS[task] + "\n")
    assert task == "va" or "." not in text
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)


def by_name(name: str) -> Clip:
    return next(clip for clip in TINY if clip.name == name)


def test_committed_manifest_is_the_generated_one():
    assert (ROOT / "data_manifest.csv").read_text() == manifest_text()
    rows = [line.split(",") for line in manifest_text().splitlines()]
    assert rows[0] == ["stream_id", "video", "subject", "partition", "va", "expr", "au"]
    folders = {"train": "Train_Set", "validation": "Validation_Set"}
    for name, _, _, partition, *paths in rows[1:]:
        want = ["", "", ""]
        if partition != "test":
            want = [f"annotations/{challenge}/{folders[partition]}/{name}.txt" for challenge in CHALLENGES.values()]
        assert paths == want
    assert len({row[0] for row in rows}) == len(rows)


def test_set_has_every_oddity_and_honest_partitions():
    assert {clip.fps for clip in CLIPS} == {Fraction(25), Fraction(30000, 1001), Fraction(30)}
    assert len({clip.size for clip in CLIPS}) == 2
    assert sum(clip.variable for clip in CLIPS) == sum(not clip.audio for clip in CLIPS) == sum(clip.people == 2 for clip in CLIPS) == 1
    assert [clip.audio_start_s for clip in CLIPS if clip.audio_start_s] == [0.8]
    assert Counter(clip.partition for clip in CLIPS) == {"train": 10, "validation": 3, "test": 3}
    left_out = [(stretch.task, clip.partition, stretch.end_s - stretch.start_s) for clip in CLIPS for stretch in clip.unlabelled]
    assert sorted(left_out) == [("au", "train", 1), ("expr", "train", 1)]
    assert not [clip for clip in CLIPS if clip.unlabelled and clip.absences]  # the face is there all along


def test_faces_are_hidden_in_nearly_every_clip_and_seldom():
    """Apart from absences and from what annotators left out; at most 15 % of what train and validation have labelled."""
    assert [clip.name for clip in CLIPS if not clip.hidden] == ["clip05"]  # of two people
    for clip in CLIPS:
        for hidden in clip.hidden:
            assert 1 < hidden.start_s < hidden.end_s < clip.duration_s - 1
            for other in (*clip.absences, *clip.unlabelled):
                assert hidden.end_s < other.start_s - 1 or hidden.start_s > other.end_s + 1
    frames = {"labelled": 0, "hidden": 0}
    for clip in (clip for clip in CLIPS if clip.partition != "test"):
        times = np.arange(0, clip.duration_s, 0.01)
        here = labels.labelled("va", clip, times)
        frames["labelled"] += here.sum() * clip.people
        frames["hidden"] += sum((here & (times >= h.start_s) & (times < h.end_s)).sum() for h in clip.hidden)
    assert 0.1 < frames["hidden"] / frames["labelled"] < 0.15


def test_layout(demo: Path):
    files = {str(path.relative_to(demo)) for path in demo.rglob("*") if path.is_file()}
    assert files == {
        "demo.json",
        "data_manifest.csv",
        *(f"videos/{name}.mp4" for name in ("away", "late", "vary", "pair")),
        *(f"annotations/{challenge}/Train_Set/{name}.txt" for challenge in CHALLENGES.values() for name in ("away", "late")),
        *(f"annotations/{challenge}/Validation_Set/vary.txt" for challenge in CHALLENGES.values()),
        *(f"annotations/{challenge}/test_template.txt" for challenge in CHALLENGES.values()),
        *(f"truth/{task}/pair_{side}.txt" for task in CHALLENGES for side in ("left", "right")),
        "own_manifest.csv",
        *(own_labels(task, stream) for task in ("mood", "dominance", "pain") for clip in TINY for stream in clip.streams),
    }
    assert (demo / "own_manifest.csv").read_text() == own_manifest(TINY)
    assert (demo / "data_manifest.csv").read_text() == manifest_text(TINY)
    assert not [path for path in demo.parent.iterdir() if path != demo]


def test_the_pipeline_reads_the_manifest_and_the_labels(demo: Path):
    rows = manifest.read(demo / "data_manifest.csv", demo)
    assert [(row.stream_id, row.labelled(CHALLENGES, row.partition)) for row in rows] == [
        ("away", ("va", "expr", "au")),
        ("late", ("va", "expr", "au")),
        ("vary", ("va", "expr", "au")),
        ("pair_left", ()),
        ("pair_right", ()),
    ]
    for task, count in (("va", 30), ("expr", 30), ("au", 25)):  # of the 30 frames of "late", those without a second of units
        values, valid = read_labels(TASKS[task], rows[1].labels[task])
        assert valid.sum() == count
        assert (values == np.where(valid[:, None], read(rows[1].labels[task], task), 0)).all()


@pytest.mark.parametrize("task", CHALLENGES)
def test_template_has_a_row_for_each_test_frame(demo: Path, task: str):
    rows = (demo / "annotations" / CHALLENGES[task] / "test_template.txt").read_text().splitlines()
    assert rows[:3] == [f"image_location,{HEADERS[task]}", "pair_left/00001.jpg,", "pair_left/00002.jpg,"]
    assert len(rows) == 1 + 2 * 25
    assert rows[-1] == "pair_right/00025.jpg,"


def face(valence: float, arousal: float) -> str:
    """The expression by the angle between -180 and 180 degrees, 0 being positive valence and 90 high arousal."""
    angle = math.degrees(math.atan2(arousal, valence))
    if valence**2 + arousal**2 < 0.16:
        return "Neutral"
    bounds = {-155: "Disgust", -85: "Sadness", -30: "Other", 70: "Happiness", 110: "Surprise", 135: "Fear", 180: "Anger"}
    return next((name for bound, name in bounds.items() if angle < bound), "Disgust")


def units(v: float, a: float, o: float) -> set[str]:
    """The units that are on at valence v, arousal a, opening o."""
    on = {unit for unit, above in (("AU1", 0.25), ("AU2", 0.5)) if a > above}
    on |= {"AU4"} if a < -0.4 else set()
    on |= {unit for unit, above in (("AU12", 0.25), ("AU6", 0.5)) if v > above}
    on |= {"AU15"} if v < -0.4 else set()
    on |= {unit for unit, above in (("AU25", 0.15), ("AU26", 0.5)) if o > above}
    on |= {"AU7"} if "AU12" in on and a < -0.25 else set()
    on |= {"AU10"} if {"AU15", "AU25"} <= on else set()
    if o < 0.05:
        on |= ({"AU24"} if "AU15" in on else set()) | ({"AU23"} if "AU1" in on and v < 0 else set())
    return on


@pytest.mark.parametrize("task", CHALLENGES)
@pytest.mark.parametrize("clip", TINY, ids=lambda clip: clip.name)
def test_a_label_row_is_the_drive_at_the_frames_own_time(demo: Path, clip: Clip, task: str):
    times = frame_times(demo / clip.video)
    for stream, person in zip(clip.streams, drives(clip, SEED), strict=True):
        rows = read(demo / stream.labels(task), task)
        assert len(rows) == len(times)
        out = np.zeros(len(times), bool)
        hidden = clip.hidden if task == "au" else ()  # valence, arousal and the expression of a hidden face are told by hands and voice
        for stretch in (*clip.absences, *hidden, *(left_out for left_out in clip.unlabelled if left_out.task == task)):
            out |= (times >= stretch.start_s) & (times < stretch.end_s)
        assert (rows[out] == INVALID[task]).all()
        grid = np.arange(len(person.valence)) / RATE
        v, a, o = (np.interp(times, grid, curve) for curve in (person.valence, person.arousal, person.opening))
        if task == "va":
            want = np.stack([v, a], axis=1)
        elif task == "expr":
            want = np.array([[FACES.index(face(*at))] for at in zip(v, a, strict=True)])
        else:
            want = np.array([[unit in units(*at) for unit in UNITS] for at in zip(v, a, o, strict=True)])
        np.testing.assert_allclose(rows[~out], want[~out], atol=6e-5)


def test_a_brow_rises_in_the_first_frame_after_the_moment():
    """Arousal climbs by 1 a second from -0.3 and passes 0.25 at 0.55 s: after frame 16 (0.534 s), before 17 (0.567 s) of 30000/1001 fps."""
    person = Drive(np.full(200, -0.1), np.arange(200) / RATE - 0.3, np.zeros(200), np.zeros((200, 4)))
    clip = Clip("ramp", "train", 1.5, Fraction(30000, 1001), absences=(Absence(0.0, 0.1),), unlabelled=(Unlabelled("au", 1.2, 1.3),))
    times = np.arange(45) * 1001 / 30000
    head, *rows = labels.label_text("au", clip, person, times).splitlines()
    none, inner, both, gone = (",".join(row) for row in ("000000000000", "100000001000", "110000001000", ["-1"] * 12))
    assert head == HEADERS["au"]
    # The face comes at frame 3 (0.1001 s); the outer brows, above 0.5 from 0.8 s on, at 24; frames 36 (1.2012 s) to 38 are left out.
    assert rows == [gone] * 3 + [none] * 14 + [inner] * 7 + [both] * 12 + [gone] * 3 + [both] * 6
    head, *rows = labels.label_text("expr", clip, person, times).splitlines()
    assert head == HEADERS["expr"]
    # 0.4 from the origin where arousal is the square root of 0.16 - 0.01, at 0.687 s: Surprise from frame 21 on.
    assert rows == ["-1"] * 3 + ["0"] * 18 + ["6"] * 24


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("Happiness", -29, 69),
        ("Surprise", 71, 109),
        ("Fear", 111, 134),
        ("Anger", 136, 179),
        ("Disgust", 180, 204),
        ("Sadness", 206, 274),
        ("Other", 276, 329),
    ],
)
def test_an_expression_is_a_sector_of_the_plane(name: str, first: int, last: int):
    """Angles in degrees, from positive valence towards high arousal; Neutral within 0.4 of the origin."""
    angles = np.radians([first, (first + last) / 2, last])
    for radius, want in ((0.0, "Neutral"), (0.39, "Neutral"), (0.41, name), (1.2, name)):
        classes = labels.expression(radius * np.cos(angles), radius * np.sin(angles))
        assert [FACES[c] for c in classes] == [want] * 3


def test_every_class_and_unit_is_learnable_and_can_be_scored():
    """In each partition every class occurs and every unit is on and off; classes are uneven, but none is a handful."""
    for partition in ("train", "validation", "test"):
        classes, on = [], []
        for clip in (clip for clip in CLIPS if clip.partition == partition):
            times = np.arange(0, clip.duration_s, 0.04)
            for person in drives(clip):
                classes.append(labels.values("expr", person, times)[labels.labelled("expr", clip, times), 0])
                on.append(labels.values("au", person, times)[labels.labelled("au", clip, times)])
        share = np.bincount(np.concatenate(classes), minlength=8) / sum(map(len, classes))
        rate = np.concatenate(on).mean(axis=0)
        assert share.min() > 0.02
        assert share.max() > 4 * share.min()
        assert rate.shape == (12,)
        assert (rate > 0.03).all()
        assert (rate < 0.6).all()


def test_frame_clocks(demo: Path):
    np.testing.assert_allclose(frame_times(demo / "videos/away.mp4"), np.arange(90) * 1001 / 30000, atol=1e-9)
    steps = np.diff(frame_times(demo / "videos/vary.mp4"))
    assert len(np.unique(np.rint(steps * 90000))) >= 4
    assert steps.min() > 0.02
    assert steps.max() > 2 * steps.min()


def test_the_face_is_gone_while_labelled_invalid(demo: Path):
    with av.open(str(demo / "videos/away.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    gone = read(demo / "annotations/VA_Estimation_Challenge/Train_Set/away.txt")[:, 0] == -5
    wall = np.mean([frame for frame, away in zip(frames, gone, strict=True) if away], axis=0)
    off = np.array([np.abs(frame - wall)[30:120, 80:160].mean() for frame in frames])  # where the head is
    assert off[gone].max() < 3
    assert np.median(off[~gone]) > 30


def test_the_bytes_of_a_film_do_not_depend_on_what_lies_in_memory(tmp_path: Path):
    """A width that is no multiple of 64, where x264's AVX-512 code reads beyond the picture; pictures with which it shows."""
    rng = np.random.default_rng(3)
    wall = scene._wall(480, 480, rng).astype(int)
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
    for name in (clip.video, *(clip.streams[0].labels(task) for task in CHALLENGES)):
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
            for hidden in clip.hidden:
                heard = opening[(times >= hidden.start_s) & (times < hidden.end_s)]
                assert heard.max() > 0.5
                assert (heard < 0.05).mean() < 0.1  # no pause


def test_the_voice_is_bright_with_valence_and_loud_with_arousal():
    """The centre of the spectrum follows valence best at lag 0 and leaves the level alone; both hold whatever the other does."""
    times = np.arange(8 * RATE) / RATE
    valence, arousal = 0.8 * np.sin(2 * np.pi * 0.5 * times), 0.8 * np.sin(2 * np.pi * 0.3 * times + 1)
    still = np.zeros_like(times)
    step = SAMPLE_RATE // 50  # 20 ms, 2 samples of a curve

    def heard(valence: np.ndarray, arousal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centre of the spectrum in octaves, and level in dB, of each step of a vowel."""
        sound = speak(Drive(valence, arousal, still + 0.7, np.zeros((len(times), 4))), 0, 7.9, np.random.default_rng(0))
        parts = sound.astype(float).reshape(-1, step)
        power = np.abs(np.fft.rfft(parts * np.hanning(step))) ** 2
        hz = np.fft.rfftfreq(step, 1 / SAMPLE_RATE)
        return np.log2((power * hz).sum(axis=1) / power.sum(axis=1)), 10 * np.log10((parts**2).mean(axis=1))

    centre, level = heard(valence, still)
    lags = np.arange(-10, 11)
    match = [np.corrcoef(valence[1::2][20:375], centre[20 + lag : 375 + lag])[0, 1] for lag in lags]
    assert max(match) > 0.95
    assert abs(lags[int(np.argmax(match))]) <= 1
    assert np.ptp(level) < 3
    assert np.corrcoef(valence[1::2][:395], heard(valence, arousal)[0])[0, 1] > 0.8
    assert np.corrcoef(arousal[1::2][:395], heard(valence, arousal)[1])[0, 1] > 0.9


def test_hands_tell_valence_and_arousal_and_paper_hides_the_face(tmp_path: Path):
    """The real detector finds the face in every frame but those in which it is hidden; these are labelled, and hands go on."""
    hidden = Hidden(2.0, 4.0)
    clip = Clip("hide", "train", 6, Fraction(10), (480, 360), audio=False, hidden=(hidden,))
    render_clip(tmp_path, clip, SEED)
    with av.open(str(tmp_path / clip.video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    times, person = frame_times(tmp_path / clip.video), drives(clip, SEED)[0]
    away = (times >= hidden.start_s) & (times < hidden.end_s)
    moving = ~away & (times > hidden.start_s - 0.3) & (times < hidden.end_s + 0.3)
    detector = MediaPipeDetector()
    found = np.array([len(faces) for faces in detector.detect(frames)])
    detector.close()
    assert (found[away] == 0).all()
    assert (found[~away & ~moving] == 1).all()
    for task, labelled in (("va", True), ("expr", True), ("au", False)):
        rows = read(tmp_path / clip.streams[0].labels(task), task)
        assert ((rows[away] != INVALID[task]).all(axis=1) == labelled).all()
        assert (rows[~away] != INVALID[task]).all()
    red, green = (np.stack(frames).astype(int)[..., channel] for channel in (0, 1))
    blue = np.stack(frames).astype(int)[..., 2]
    for colour, other, curve in ((red, green, "valence"), (green, red, "arousal")):
        sleeve = (colour - other > 90) & (colour - blue > 90)
        for part in (away, ~away):
            assert np.corrcoef(sleeve.sum(axis=(1, 2))[part], person.at(times, curve)[part])[0, 1] > 0.9, curve


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
    smile, brow, gap = np.array(measured).T
    on = dict(zip(UNITS, read(tmp_path / clip.streams[0].labels("au"), "au").T == 1, strict=True))
    for values, more, less in ((smile, on["AU12"], on["AU15"]), (brow, on["AU1"], on["AU4"]), (gap, on["AU26"], ~on["AU25"])):
        assert np.quantile(values[more], 0.1) > np.quantile(values[less], 0.9)


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
