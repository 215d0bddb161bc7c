"""Two people in one picture, through the stages: `_left` and `_right` get the right faces; and what a stream of faces holds."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from affpipe.core.errors import SettingsError, WeightsError
from affpipe.data.demo.clips import CLIPS
from affpipe.data.demo.render import render_clip
from affpipe.data.manifest import Row
from affpipe.faces import workers as stages
from affpipe.faces.crop import decode_jpeg, square
from affpipe.media.picture.decode import frames as decode
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan
from affpipe.store.streams import Stream

CONFIG = yaml.safe_load((Path(__file__).resolve().parents[2] / "config.yaml").read_text())
SIDES = ("left", "right")


@dataclass
class Run:
    """The stages up to `subject` over one video with two people."""

    plan: Plan

    def stream(self, name: str, item: int = 0) -> Stream:
        return self.plan.streams(self.plan.items(name)[item]).open(name)


def run(video: Path, cache: Path, **faces) -> Run:
    settings = parse(overlay(CONFIG, {"cache": str(cache), "faces": faces}))
    plan = Plan(settings, [Row(f"{video.stem}_{side}", video, side, "predict") for side in SIDES])
    for name, stage in (("frames", stages.frames), ("faces", stages.faces), ("subject", stages.subject)):
        worker = stage(plan.context(name))
        for item in plan.items(name):
            worker(plan.job(name, item))
    return Run(plan)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Three seconds of the demo's clip of two people, each in a half of the picture."""
    folder = tmp_path_factory.mktemp("demo")
    clip = replace(next(c for c in CLIPS if c.people == 2), duration_s=3)
    render_clip(folder, clip, seed=7)
    return folder / clip.video


@pytest.fixture(scope="module")
def films(demo, media) -> dict[str, Path]:
    return {"demo": demo, "grid": media / "two_people_grid.mp4"}


@pytest.fixture(scope="module", params=[("grid", 1), ("grid", 3), ("demo", 1), ("demo", 3)], ids=lambda p: f"{p[0]}-{p[1]}")
def made(request, films, tmp_path_factory) -> tuple[Run, Path, int]:
    name, every = request.param
    return run(films[name], tmp_path_factory.mktemp("cache"), every=every), films[name], every


def test_left_and_right_get_the_right_faces_in_99_of_100_frames(made):
    done, video, _ = made
    images = [image for _, _, image in decode(video)]
    half = images[0].shape[1] // 2
    for i, side in enumerate(SIDES):
        with done.stream("subject", i) as subject:
            row, box = subject.rows("row"), subject.rows()
        right = (row >= 0) & (box[:, [0, 2]] >= half * i).all(axis=1) & (box[:, [0, 2]] <= half * (i + 1)).all(axis=1)
        assert len(row) == len(images) == 75
        assert right.mean() >= 0.99, side


def test_crops_are_the_pixels_of_their_own_frame(made):
    done, video, _ = made
    images = [image for _, _, image in decode(video)]
    with done.stream("faces") as found:
        frame, box, crop_box = found.rows("frame"), found.rows(), found.rows("crop_box")
        for row in range(0, len(frame), 13):
            x0, y0, x1, y1 = crop_box[row]
            assert crop_box[row].tolist() == square(box[row], 0.5).tolist()
            room = 400
            padded = np.pad(images[frame[row]], ((room, room), (room, room), (0, 0)))[y0 + room : y1 + room, x0 + room : x1 + room]
            crop = decode_jpeg(found.blob("crop", row))
            want = cv2.resize(padded, crop.shape[:2], interpolation=cv2.INTER_AREA).astype(int)
            assert np.abs(crop - want).mean() < 3


def test_one_track_a_person_and_its_sums_in_the_header(made):
    done, _, every = made
    with done.stream("faces") as found:
        frame, track, box, score = (found.rows(name) for name in ("frame", "track", "values", "score"))
        detected, tracks, start_s = found.rows("detected"), found.attributes["extra"]["tracks"], found.start_s
    assert sorted(np.bincount(track).tolist()) == [75, 75]
    np.testing.assert_array_equal(detected, (frame % every == 0) | (frame == 74))
    np.testing.assert_allclose(start_s, frame / 25, atol=1e-6)
    assert (np.diff(frame) >= 0).all()
    assert [t["track"] for t in tracks] == [0, 1]
    for t in tracks:
        own = track == t["track"]
        assert (t["frames"], t["first"], t["last"]) == (own.sum(), frame[own].min(), frame[own].max())
        np.testing.assert_allclose(t["mean_box"], box[own].mean(axis=0), atol=0.01)
        np.testing.assert_allclose(t["mean_area"], np.prod(box[own, 2:].astype(float) - box[own, :2], axis=1).mean(), atol=0.1)
        np.testing.assert_allclose(t["mean_score"], score[own].mean(), atol=1e-4)


def test_faces_do_not_depend_on_the_batch(films, tmp_path):
    one, eight = (run(films["grid"], tmp_path / str(n), every=2, batch_size=n) for n in (1, 8))
    with one.stream("faces") as a, eight.stream("faces") as b:
        for name in ("values", "frame", "track", "score", "detected", "crop_box", "crop", "start_s"):
            np.testing.assert_array_equal(a.rows(name), b.rows(name))


def test_a_video_without_a_face_is_a_stream_of_no_rows(tmp_path):
    video = tmp_path / "grey.avi"
    out = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 64))
    for _ in range(5):
        out.write(np.full((64, 96, 3), 90, np.uint8))
    out.release()
    with run(video, tmp_path / "cache", every=2).stream("faces") as found:
        assert len(found) == 0
        assert found.attributes["extra"]["tracks"] == []
        assert found.attributes["random"] == []


def test_yolo_wants_its_weights(films, tmp_path):
    settings = parse(overlay(CONFIG, {"cache": str(tmp_path), "weights": str(tmp_path), "faces": {"detector": "yolo"}}))
    plan = Plan(settings, [Row("a_left", films["demo"], "left", "predict")])
    with pytest.raises(WeightsError, match=r"yolov8n-face\.pt: want weights, got nothing"):
        stages.faces(plan.context("faces"))
    with pytest.raises(SettingsError):
        parse(overlay(CONFIG, {"faces": {"detector": "retina"}}))
