"""Images of cropped faces in place of detection: which frames have a face, what is stored of them, and what a change of them alters."""

import json
import logging
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import clips
import cv2
import numpy as np
import pytest
import yaml

from affpipe.core.errors import InputError, ManifestError, MediaError, SettingsError
from affpipe.data.manifest import Row
from affpipe.encoders.grada.worker import inner
from affpipe.faces import crop, images
from affpipe.faces.crop import cut, decode_jpeg, encode_jpeg
from affpipe.faces.detect import MediaPipeDetector
from affpipe.jobs import apply, workers
from affpipe.jobs.predict import predict
from affpipe.media.picture.decode import frames as decode
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan
from affpipe.results import publish
from affpipe.results.review.review import review
from affpipe.store.index import Entry
from affpipe.store.streams import Stream
from affpipe.system import disk

DEFAULT = yaml.safe_load((Path(__file__).resolve().parents[2] / "config.yaml").read_text())
TICKS = (0, 1, 3, 4, 8, 9, 10, 15, 16, 20, 21, 30)  # of a twentieth of a second: a rate that varies
TIMES = [tick / 20 for tick in TICKS]
FRAMES = len(TICKS)


def picture(value: int, side: int = 112) -> np.ndarray:
    """A square that differs with `value`."""
    return np.random.default_rng(value).integers(0, 256, (8, 8, 3), np.uint8).repeat(side // 8, axis=0).repeat(side // 8, axis=1)


def fill(folder: Path, *numbers: int, seed: int = 0, side: int = 112) -> Path:
    """A folder of images as they are handed out."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        (folder / f"{n:05d}.jpg").write_bytes(encode_jpeg(picture(seed + n, side), 90))
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "pair.mp4"
    return clips.write(path, fps=20, pts=[tick * 4500 for tick in TICKS], time_base=Fraction(1, 90000))


class Made:
    """Some stages over streams of one video whose faces are images."""

    def __init__(self, cache: Path, film: Path, folders: dict[str, Path], *stages: str):
        settings = parse(overlay(DEFAULT, {"cache": str(cache), "faces": {"source": "images"}}))
        rows = [Row(f"pair_{side}", film, side, "predict", images=folder) for side, folder in folders.items()]
        self.plan = Plan(settings, rows)
        self.entries: dict[str, dict[str, Entry]] = {}
        for name in ("frames", *stages):
            self.entries[name] = apply.apply(self.plan, name, self.plan.items(name), self.entries, workers.start, lambda *_: None)

    def open(self, name: str, stream: str) -> Stream:
        item = next(i for i in self.plan.items("subject") if i.id == stream)
        return self.plan.streams(item).open(name)


# ---- a folder ---------------------------------------------------------------------------------------------------------------------------


def test_files_are_numbered_whatever_their_zeros_and_strays_are_left_out(tmp_path):
    for name in ("00010.jpg", "2.jpeg", "003.JPG", ".DS_Store", "._00010.jpg", "Thumbs.db", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    assert images.numbered(tmp_path) == {2: tmp_path / "2.jpeg", 3: tmp_path / "003.JPG", 10: tmp_path / "00010.jpg"}
    assert list(images.numbered(tmp_path)) == [2, 3, 10]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["00001.png"], r"00001\.png: want JPEG images .*, got \.png; convert"),
        (["1.jpg", "2.BMP"], r"2\.BMP: want JPEG images"),
        (["1.Jpg"], r"1\.Jpg: want JPEG images .* got \.Jpg"),
        (["face.jpg"], r"face\.jpg: want the number of a frame, from 1, as in 00001\.jpg, got face\.jpg; rename"),
        (["00000.jpg"], r"00000\.jpg: want the number of a frame, from 1"),
        (["-1.jpg"], r"-1\.jpg: want the number of a frame"),
        (["1_2.jpg"], r"1_2\.jpg: want the number of a frame"),
        (["²².jpg"], "want the number of a frame"),
        (["00001.jpg", "1.jpg"], r"1\.jpg: want an image a frame, got 00001\.jpg for number 1 already; remove one"),
        (["7.jpeg", "7.jpg"], r"got 7\.jpeg for number 7 already"),
    ],
)
def test_a_name_that_is_no_number_of_a_frame_is_refused(tmp_path, names, said):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(MediaError, match=said):
        images.numbered(tmp_path)


def test_a_folder_that_is_gone_is_named(tmp_path):
    for use in (images.numbered, images.fingerprint):
        with pytest.raises(MediaError, match=r"lost: want a readable folder of images, got 'No such file or directory'"):
            use(tmp_path / "lost")


WHOLE = encode_jpeg(picture(1), 90)
BEGIN = WHOLE.index(b"\xff\xc0") + 5  # of height and width in the header
DAMAGED = {
    "empty": b"",
    "text": b"no image",
    "cut in the header": WHOLE[:100],
    "cut in half": WHOLE[: len(WHOLE) // 2],
    "cut by a byte": WHOLE[:-1],
    "half of a progressive one": cv2.imencode(".jpg", picture(1), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()[:1500],
    "a size that cannot be": WHOLE[:BEGIN] + b"\x9c\x40\x9c\x40" + WHOLE[BEGIN + 4 :],  # 40000x40000
    "PNG by another name": cv2.imencode(".png", picture(1))[1].tobytes(),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_does_not_decode_to_its_end_is_no_image(tmp_path, what, capfd):
    path = tmp_path / "1.jpg"
    path.write_bytes(DAMAGED[what])
    assert crop.read_square(path) is None


@pytest.mark.parametrize("side", [8, 112, 400])
def test_an_image_is_its_bytes_and_its_side(tmp_path, side):
    path = fill(tmp_path, 1, side=side) / "00001.jpg"
    assert crop.read_square(path) == (path.read_bytes(), side)


def test_a_grey_image_is_one_and_an_oblong_one_is_refused(tmp_path):
    grey, oblong = tmp_path / "1.jpg", tmp_path / "2.jpg"
    cv2.imwrite(str(grey), picture(1)[:, :, 0])
    cv2.imwrite(str(oblong), picture(1)[:96])
    assert crop.read_square(grey) == (grey.read_bytes(), 112)
    with pytest.raises(MediaError, match=r"2\.jpg: want a square image of a face, got 112x96; take the cropped and aligned images"):
        crop.read_square(oblong)


def test_what_cannot_be_read_is_an_error_not_a_gap(tmp_path):
    (tmp_path / "00001.jpg").mkdir()
    for use, path in ((crop.read_square, tmp_path / "00001.jpg"), (images.fingerprint, tmp_path)):
        with pytest.raises(MediaError, match=r"00001\.jpg: want a readable file, got 'Is a directory'"):
            use(path)


def test_the_fingerprint_is_of_the_images(tmp_path):
    folder = fill(tmp_path / "a", 1, 2, 3, 5, 6)
    first = images.fingerprint(folder)
    assert images.fingerprint(fill(tmp_path / "elsewhere", 6, 5, 3, 2, 1)) == first
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    (folder / ".DS_Store").touch()
    (folder / "Thumbs.db").touch()
    assert images.fingerprint(folder) == first
    seen = {first}
    for number in (1, 3, 6):  # the first, the middle and the last of five
        before = (folder / f"{number:05d}.jpg").read_bytes()
        fill(folder, number, seed=1000)
        seen.add(images.fingerprint(folder))
        (folder / f"{number:05d}.jpg").write_bytes(before)
    assert images.fingerprint(folder) == first
    fill(folder, 4)
    seen.add(images.fingerprint(folder))
    (folder / "00004.jpg").rename(folder / "00007.jpg")
    seen.add(images.fingerprint(folder))
    for name in ("00007.jpg", "00002.jpg"):
        (folder / name).unlink()
    seen.add(images.fingerprint(folder))
    (tmp_path / "none").mkdir()
    seen.add(images.fingerprint(tmp_path / "none"))
    assert len(seen) == 8
    assert all(len(found) == 16 for found in seen)


def test_a_fingerprint_reads_three_images_however_many_there_are(tmp_path, monkeypatch):
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(1, 500):
        (folder / f"{n}.jpg").touch()
    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or b"")
    images.fingerprint(folder)
    assert len(read) == 3


# ---- the stages -------------------------------------------------------------------------------------------------------------------------

LEFT, RIGHT = (1, 2, 5, 6, 9, 12, 13, 40), (3,)


@pytest.fixture(scope="module")
def pair(film, tmp_path_factory) -> tuple[Made, dict[str, Path]]:
    """Two people of one video: one in some frames and beyond the last, one in a single frame, in images of another size."""
    folder = tmp_path_factory.mktemp("images")
    folders = {"left": fill(folder / "pair_left", *LEFT), "right": fill(folder / "pair_right", *RIGHT, seed=500, side=64)}
    return Made(folder / "cache", film, folders, "faces", "subject", "landmarks"), folders


@pytest.mark.parametrize(("side", "numbers"), [("left", LEFT), ("right", RIGHT)])
def test_a_frame_has_a_face_where_it_has_an_image(pair, side, numbers):
    made, folders = pair
    frame = [n - 1 for n in numbers if n <= FRAMES]
    pixels = {"left": 112, "right": 64}[side]
    with made.open("faces", f"pair_{side}") as found, made.open("subject", f"pair_{side}") as who:
        assert found.rows("frame").tolist() == frame
        np.testing.assert_allclose(found.start_s, np.array(TIMES)[frame], atol=1e-6)
        inside = np.array(frame) < FRAMES - 1
        np.testing.assert_allclose(found.end_s[inside], [TIMES[f + 1] for f in frame if f < FRAMES - 1], atol=1e-6)
        assert [found.blob("crop", i) for i in range(len(found))] == [(folders[side] / f"{n + 1:05d}.jpg").read_bytes() for n in frame]
        for name in ("values", "crop_box"):
            assert found.rows(name).tolist() == [[0, 0, pixels, pixels]] * len(frame)
        assert set(found.rows("track").tolist()) == {0}
        assert set(found.rows("score").tolist()) == {1.0}
        assert found.rows("detected").all()
        np.testing.assert_allclose(who.start_s, TIMES, atol=1e-6)
        assert np.flatnonzero(who.valid).tolist() == frame
        assert who.rows("row")[frame].tolist() == list(range(len(frame)))
        assert (who.rows("row")[~who.valid] == -1).all()
        assert (who.rows()[frame] == found.rows()).all()
        facts, tracks = found.attributes["extra"]["images"], found.attributes["extra"]["tracks"]
        assert who.attributes["extra"]["reason"] == f"images: a face in {len(frame)} of {FRAMES} frames"
    assert facts == {"files": len(numbers), "beyond": len(numbers) - len(frame), "damaged": 0, "first_damaged": []}
    assert [(t["track"], t["frames"], t["first"], t["last"]) for t in tracks] == [(0, len(frame), frame[0], frame[-1])]


def test_rows_have_the_form_of_those_that_are_detected(pair, film, tmp_path):
    """Whatever reads the one stream reads the other."""
    made, _ = pair
    plan = Plan(parse(overlay(DEFAULT, {"cache": str(tmp_path)})), made.plan.rows)
    entries: dict[str, dict[str, Entry]] = {}
    for name in ("frames", "faces"):
        entries[name] = apply.apply(plan, name, plan.items(name), entries, workers.start, lambda *_: None)
    with made.open("faces", "pair_left") as ours, plan.streams(plan.items("faces")[0]).open("faces") as theirs:
        assert len(theirs) == 0  # bars on grey
        assert ours.names == theirs.names
        for name in ours.names:
            assert (ours.rows(name).dtype, ours.shape_of(name)[1:]) == (theirs.rows(name).dtype, theirs.shape_of(name)[1:]), name


def test_what_an_encoder_of_faces_sees_is_the_whole_image(pair):
    made, folders = pair
    for side, numbers in (("left", LEFT), ("right", RIGHT)):
        with made.open("faces", f"pair_{side}") as found:
            for row, n in enumerate(n for n in numbers if n <= FRAMES):
                whole = decode_jpeg((folders[side] / f"{n:05d}.jpg").read_bytes())
                seen = inner(decode_jpeg(found.blob("crop", row)), found.rows("crop_box")[row], found.rows()[row], 0.0)
                np.testing.assert_array_equal(seen, whole)


def test_more_images_than_a_block_are_all_kept(film, tmp_path, monkeypatch):
    monkeypatch.setattr("affpipe.faces.workers.BLOCK", 4)
    made = Made(tmp_path / "cache", film, {"left": fill(tmp_path / "a", *range(1, 10))}, "faces", "subject")
    with made.open("subject", "pair_left") as who:
        assert np.flatnonzero(who.valid).tolist() == list(range(9))


def test_a_damaged_image_is_a_frame_without_a_face_and_is_named(film, tmp_path, caplog):
    folder = fill(tmp_path / "a", *range(1, 12))
    for number, data in zip((2, 4, 5, 7), list(DAMAGED.values())[:4], strict=True):
        (folder / f"{number:05d}.jpg").write_bytes(data)
    with caplog.at_level(logging.WARNING, "affpipe"):
        made = Made(tmp_path / "cache", film, {"left": folder}, "faces", "subject")
    with made.open("faces", "pair_left") as found, made.open("subject", "pair_left") as who:
        assert np.flatnonzero(who.valid).tolist() == [n - 1 for n in (1, 3, 6, 8, 9, 10, 11)]
        facts = found.attributes["extra"]["images"]
    assert facts == {"files": 11, "beyond": 0, "damaged": 4, "first_damaged": ["00002.jpg", "00004.jpg", "00005.jpg"]}
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("faces:")]
    assert line == (
        f"faces: pair_left: 4 of 11 images in {folder} are damaged (00002.jpg, 00004.jpg, 00005.jpg, ...): these frames have no face"
    )


@pytest.mark.parametrize(
    ("numbers", "bad", "got"),
    [
        ((1, 2), (1, 2), r"got 2 files, 0 of them beyond and 2 damaged \(00001\.jpg, 00002\.jpg\)"),
        ((20, 30), (), "got 2 files, 2 of them beyond and 0 damaged"),
        ((1, 20), (1,), r"got 2 files, 1 of them beyond and 1 damaged \(00001\.jpg\)"),
    ],
)
def test_images_none_of_which_is_of_use_are_a_fault(film, tmp_path, numbers, bad, got):
    folder = fill(tmp_path / "a", *numbers)
    for number in bad:
        (folder / f"{number:05d}.jpg").write_bytes(WHOLE[:200])
    made = Made(tmp_path / "cache", film, {"left": folder}, "faces", "subject")
    entry = made.entries["faces"]["pair_left"]
    assert entry.status == made.entries["subject"]["pair_left"].status == "failed"
    with pytest.raises(MediaError, match=rf"a: want JPEG images of frames 1 to {FRAMES}, {got}; check the folder"):
        raise MediaError(entry.reason)
    assert not [p for p in made.plan.folder("faces").rglob("*") if p.is_file()]


def test_a_fault_of_one_folder_loses_no_other_stream(film, tmp_path):
    folders = {"left": fill(tmp_path / "a", 1), "right": fill(tmp_path / "b", 1)}
    (folders["left"] / "00002.png").touch()
    made = Made(tmp_path / "cache", film, folders, "faces", "subject")
    assert {i: e.status for i, e in made.entries["subject"].items()} == {"pair_left": "failed", "pair_right": "done"}
    assert "00002.png: want JPEG images" in made.entries["subject"]["pair_left"].reason


def test_an_empty_folder_is_a_stream_that_never_has_a_face(film, tmp_path):
    folder = fill(tmp_path / "a")
    (folder / "Thumbs.db").touch()
    made = Made(tmp_path / "cache", film, {"left": folder}, "faces", "subject")
    with made.open("faces", "pair_left") as found, made.open("subject", "pair_left") as who:
        assert len(found) == 0
        assert found.attributes["extra"]["tracks"] == []
        assert found.attributes["extra"]["images"]["files"] == 0
        assert len(who) == FRAMES
        assert not who.valid.any()


def test_a_mesh_is_found_in_tight_images_of_a_real_face(media, tmp_path):
    """112 pixels and no room round the face, as such images are handed out."""
    clip = media / "pyfeat_single_face.mp4"
    detector = MediaPipeDetector()
    folder, numbers = fill(tmp_path / "a"), []
    for index, _, image in decode(clip):
        if index % 10 == 0:
            crop, _ = cut(image, detector.detect([image])[0][0].box, 0.0, 112)
            (folder / f"{index + 1:05d}.jpg").write_bytes(encode_jpeg(cv2.resize(crop, (112, 112)), 90))
            numbers.append(index + 1)
    detector.close()
    made = Made(tmp_path / "cache", clip, {"left": folder}, "faces", "subject", "landmarks", "mouth")
    with made.open("landmarks", "pair_left") as mesh, made.open("mouth", "pair_left") as lips:
        assert np.flatnonzero(mesh.valid).tolist() == [n - 1 for n in numbers]
        points = mesh.rows()[mesh.valid][:, :, :2]
        assert (points.mean(axis=1) > 28).all()  # the middle of the mesh in the middle half of the image
        assert (points.mean(axis=1) < 84).all()
        np.testing.assert_array_equal(lips.valid, mesh.valid)


# ---- names ------------------------------------------------------------------------------------------------------------------------------


def plan_of(tmp_path: Path, film: Path, change: dict[str, Any] | None = None, *, source: str = "images") -> Plan:
    folders = {side: tmp_path / side for side in ("left", "right")}
    settings = parse(overlay(overlay(DEFAULT, {"cache": str(tmp_path / "cache"), "faces": {"source": source}}), change or {}))
    return Plan(settings, [Row(f"pair_{side}", film, side, "predict", images=folder) for side, folder in folders.items()])


@pytest.fixture
def two(tmp_path) -> Path:
    for side in ("left", "right"):
        fill(tmp_path / side, 1, 2, 3, 4, 5)
    return tmp_path


AFTER_FACES = {"faces", "subject", "landmarks", "mouth", "speech", "mesh", "face", "voice", "fused"}


def test_faces_of_images_are_of_a_stream_and_have_keys_of_their_own(two, film):
    of_images, of_video = plan_of(two, film), plan_of(two, film, source="video")
    assert {n for n in of_video.names if of_video.key(n) != of_images.key(n)} == AFTER_FACES
    assert {n for n in of_video.names if of_video.level(n) != of_images.level(n)} == {"faces"}
    assert of_images.level("faces") == "stream"
    assert [i.id for i in of_images.items("faces")] == ["pair_left", "pair_right"]
    left, right = (of_images.stream("faces", item) for item in of_images.items("mesh"))
    assert left.name.startswith("pair_left.")
    assert right.name.startswith("pair_right.")


@pytest.mark.parametrize("change", [{"every": 3}, {"detector": "yolo"}, {"crop_side": 64, "min_score": 0.9}])
def test_no_setting_of_detection_counts_with_images(two, film, change):
    def keys(source: str, change: dict[str, Any]) -> list[str]:
        plan = plan_of(two, film, {"faces": change}, source=source)
        return [plan.key(name) for name in plan.names]

    assert keys("images", change) == keys("images", {})
    assert keys("video", change) != keys("video", {})


def test_images_alter_the_identity_of_their_stream_alone_and_only_where_they_are_read(two, film):
    def identities(source: str = "images") -> dict[str, dict[str, str]]:
        plan = plan_of(two, film, source=source)
        return {name: {i.id: i.identity for i in plan.items(name)} for name in plan.names}

    before, of_video = identities(), identities("video")
    for path in (two / "left").iterdir():
        os.utime(path)
    assert identities() == before
    left = two / "left"
    for alter in (
        lambda: fill(left, 3, seed=900),
        lambda: fill(left, 6),
        lambda: (left / "00002.jpg").unlink(),
    ):
        alter()
        after = identities()
        differ = {(name, id) for name in after for id in after[name] if after[name][id] != before[name][id]}
        plan = plan_of(two, film)
        assert differ == {(name, "pair_left") for name in plan.names if plan.level(name) == "stream"}
        before = after
    assert identities("video") == of_video
    run = plan_of(two, film).run
    (left / "00001.jpg").unlink()
    assert plan_of(two, film).run != run


def test_every_stream_wants_a_folder_of_its_own_before_anything_is_made(two, film):
    plan = plan_of(two, film)
    first, second = plan.rows
    without = [first, replace(second, images=None)]
    said = (
        r"data_manifest\.csv: stream pair_right: want a folder of images, .* name one in the column `images`, or set faces\.source: video"
    )
    with pytest.raises(ManifestError, match=said):
        Plan(plan.settings, without)
    with pytest.raises(ManifestError, match=r"stream pair_right: .*left has the images of stream pair_left already; name its own"):
        Plan(plan.settings, [first, replace(second, images=first.images)])
    Plan(plan_of(two, film, source="video").settings, without)  # a detector asks for none


# ---- settings and commands --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subject": {"curation": "c.csv"}}, r"subject\.curation: want none, as faces\.source is images"),
        ({"features": {"grada": {"encoder": "grada", "margin": 0.2}}}, r"features\.grada\.margin: want 0, as faces\.source is images"),
        ({"faces": {"source": "folder"}}, r"faces\.source: .*'video' or 'images'"),
    ],
)
def test_settings_that_images_leave_no_room_for_are_refused(change, said):
    of_images = overlay(DEFAULT, {"faces": {"source": "images"}})
    with pytest.raises(SettingsError, match=said):
        parse(overlay(of_images, change))
    parse(overlay(of_images, {"features": {"grada": {"encoder": "grada"}}}))


def test_there_is_nothing_to_review(two, film):
    settings = plan_of(two, film).settings
    with pytest.raises(InputError, match=r"faces review: want faces found in videos, got faces\.source: images"):
        review(settings, two / "review", progress=lambda *_: None)
    assert not (two / "review").exists()


def test_videos_of_the_user_have_no_images(two, film):
    plan = plan_of(two, film, {"results": str(two / "results"), "name": "mine"})
    run = two / "results" / "mine"
    disk.write_text(run / "run.json", json.dumps(publish.record(plan)))
    with pytest.raises(InputError, match=r"mine: want a run that finds faces in videos, got one with faces\.source: images"):
        predict([film], run, two / "out", subject="largest", progress=lambda *_: None, done=[])
