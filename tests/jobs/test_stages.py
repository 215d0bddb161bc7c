"""What stages add to the functions that they call: settings handed on, files that changed, checkpoints that must stay the same."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from affpipe.core.errors import MediaError, SettingsError, WeightsError
from affpipe.data.manifest import Row
from affpipe.faces import landmarks
from affpipe.faces import workers as face_stages
from affpipe.faces.detect import Detection
from affpipe.media import workers as media_stages
from affpipe.media.picture import decode
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.store.streams import Stream
from affpipe.system.weights.pin import checkpoint
from affpipe.system.weights.records import read_record, record

FPS, FRAMES = 25, 40
BOX = np.array([20, 20, 60, 60], np.float32)


def planned(tmp_path: Path, **sections) -> Plan:
    (tmp_path / "a.mp4").write_bytes(b"a")
    base = {
        "cache": str(tmp_path / "cache"),
        "weights": str(tmp_path / "weights"),
        "features": {"grada": {"encoder": "grada", "weights": "mine"}},
        "models": {"face": {"kind": "transformer", "reads": "grada"}},
        "publish": "face",
    }
    return Plan(parse(base | sections), [Row("a", tmp_path / "a.mp4", "largest", "predict")])


def frames(plan: Plan, count: int = FRAMES) -> None:
    """The stream `frames` of a video of so many frames."""
    job, times = plan.job("frames", plan.items("frames")[0]), np.arange(count) / FPS
    header = job.header(Fraction(FPS), video={"width": 80, "height": 80})
    job.write(header, values=np.full((count, 1), 1 / FPS, np.float32), start_s=times, end_s=times + 1 / FPS, valid=np.ones(count, bool))


# ---- faces ------------------------------------------------------------------------------------------------------------------------------


def found(plan: Plan, monkeypatch: pytest.MonkeyPatch, seen: set[int], decoded: int = FRAMES) -> Stream:
    """The stream `faces` of a video in which a face is seen in some frames."""
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(10, axis=0).repeat(10, axis=1)

    class Detector:
        def detect(self, images: list[np.ndarray]) -> list[list[Detection]]:
            return [[Detection(BOX, 0.9)] if int(image[0, 0, 0]) in seen else [] for image in images]

    def fake(video: Path, **_: object):
        for i in range(decoded):
            image = picture.copy()
            image[0, 0, 0] = i
            yield i, i / FPS, image

    monkeypatch.setattr(decode, "frames", fake)
    monkeypatch.setattr(face_stages, "_detector", lambda context: (Detector(), ()))
    frames(plan)
    job = plan.job("faces", plan.items("faces")[0])
    face_stages.faces(plan.context("faces"))(job)
    return Stream(job.path, key=plan.key("faces"), identity=job.item.identity)


@pytest.mark.parametrize(("gap", "tracks"), [(4, 2), (5, 1)])
def test_frames_that_are_not_looked_at_are_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap: int, tracks: int) -> None:
    """Looked for at 0, 5, 10, ...; missed once, at 10: from 5 to 15 there are nine frames without a box, five of which count."""
    plan = planned(tmp_path, faces={"every": 5, "max_gap_frames": gap})
    with found(plan, monkeypatch, set(range(FRAMES)) - {10}) as stream:
        assert len(set(stream.rows("track").tolist())) == tracks
        frame = stream.rows("frame").tolist()
        assert frame == [*range(6), *range(15, FRAMES)] if tracks == 2 else set(frame) >= {*range(6), *range(15, FRAMES)}
        assert [f["frames"] for f in stream.attributes["extra"]["tracks"]] == np.bincount(stream.rows("track")).tolist()


@pytest.mark.parametrize("decoded", [FRAMES - 1, 0])
def test_a_video_that_changed_since_it_was_probed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: int) -> None:
    plan = planned(tmp_path)
    with pytest.raises(MediaError, match=rf"want {FRAMES} frames as when it was probed, got {decoded}; the file changed: run again"):
        found(plan, monkeypatch, set(range(FRAMES)), decoded)
    assert not plan.stream("faces", plan.items("faces")[0]).exists()


# ---- audio ------------------------------------------------------------------------------------------------------------------------------


def test_an_offset_moves_sound_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(media_stages, "extract", lambda video, axis, **how: asked.append((axis, how)) or [np.zeros(1600, np.float32)])
    features = {"log": {"encoder": "logmel"}}
    models = {"voice": {"kind": "chunk_asp", "reads": "log"}}
    plan = planned(tmp_path, audio={"offset_s": 0.5}, features=features, models=models, publish="voice")
    frames(plan)
    media_stages.audio(plan.context("audio"))(plan.job("audio", plan.items("audio")[0]))
    axis, how = asked[0]
    np.testing.assert_allclose(axis.times_s, np.arange(FRAMES) / FPS)
    assert how["offset_s"] == 0.5


# ---- checkpoints ------------------------------------------------------------------------------------------------------------------------


def test_a_file_that_a_person_put_there_is_recorded_and_must_stay(tmp_path: Path) -> None:
    plan, weights = planned(tmp_path), tmp_path / "weights/mine"
    with pytest.raises(WeightsError, match=r"want weights, got nothing; put the file there, run `affpipe weights fetch mine`"):
        checkpoint(plan.context("grada"))
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    assert checkpoint(plan.context("grada")) == checkpoint(plan.context("grada")) == (weights, ())
    assert json.loads((plan.cache / "weights/mine.json").read_text())["name"] == "mine"
    weights.write_bytes(b"two")
    with pytest.raises(WeightsError, match="want sha256"):
        checkpoint(plan.context("grada"))
    weights.with_name("mine.affpipe-weights.json").unlink()
    with pytest.raises(WeightsError, match="want the weights mine that this cache began with, got others"):
        checkpoint(plan.context("grada"))


def with_revision(plan: Plan, revision: str | None) -> Plan:
    section = plan.settings.features["grada"].model_copy(update={"weights_revision": revision})
    return Plan(plan.settings.model_copy(update={"features": {"grada": section}}), plan.rows)


def test_replaced_weights_are_used_under_their_old_name_by_stating_their_revision(tmp_path: Path) -> None:
    """And never pass for the old ones: under each revision the cache knows its own."""
    plan, weights = planned(tmp_path), tmp_path / "weights/mine"
    weights.parent.mkdir()
    digests = {}
    for content in ("one", "two"):
        weights.write_text(content)
        weights.with_name("mine.affpipe-weights.json").unlink(missing_ok=True)
        digests[content] = record(weights, name="mine", source="a test").digest
        stated = with_revision(plan, digests[content][:12])
        assert checkpoint(stated.context("grada")) == (weights, ())
        if content == "one":
            checkpoint(plan.context("grada"))
    first, second = (digests[content][:12] for content in ("one", "two"))
    old, new = with_revision(plan, first), with_revision(plan, second)
    assert len({p.key(name) for p in (plan, old, new) for name in ("grada", "face")}) == 6
    with pytest.raises(WeightsError, match=rf'began with, got others; give .* or state them: weights_revision: "{second}"') as e:
        checkpoint(plan.context("grada"))
    assert "\n" not in str(e.value)
    with pytest.raises(WeightsError, match=rf"mine: want weights of weights_revision {first}, got {second}; put those there") as e:
        checkpoint(old.context("grada"))
    assert "\n" not in str(e.value)
    checkpoint(with_revision(plan, digests["two"]).context("grada"))  # the whole digest will do
    pin = plan.cache / f"weights/mine@{second}.json"
    assert json.loads(pin.read_text())["digest"] == digests["two"]
    pin.write_text(json.dumps({"name": "mine", "digest": digests["one"]}))  # as if others had come under that revision
    with pytest.raises(WeightsError, match="that this cache began with, got others"):
        checkpoint(new.context("grada"))


def test_a_commit_is_a_revision_and_holds_the_bytes_that_came_first_under_it(tmp_path: Path) -> None:
    commit, plan, folder = "ebb281ec70b05090aa6165b016eac8ec08e71b17", planned(tmp_path), tmp_path / "weights/mine"
    folder.mkdir(parents=True)
    (folder / "x.pth").write_bytes(b"one")
    record(folder, name="mine", source="the hub", revision=commit)
    stated = with_revision(plan, commit)
    assert checkpoint(stated.context("grada")) == (folder, ())
    with pytest.raises(WeightsError, match=f"want weights of weights_revision {'f' * 40}, got {commit}; put those there"):
        checkpoint(with_revision(plan, "f" * 40).context("grada"))
    (folder / "x.pth").write_bytes(b"two")
    (folder / "affpipe-weights.json").unlink()
    record(folder, name="mine", source="the hub", revision=commit)
    with pytest.raises(WeightsError, match="want the weights mine that this cache began with, got others"):
        checkpoint(stated.context("grada"))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"features": {"grada": {"encoder": "grada", "weights_revision": "12345678901"}}}, "want"),  # eleven digits
        ({"features": {"grada": {"encoder": "grada", "weights_revision": "ABCDEF012345"}}}, "want"),
        (
            {"features": {"grada": {"encoder": "grada", "weights_revision": 123456789012}}},
            "want text, got 123456789012; put it between quotes",
        ),
        ({"faces": {"weights_revision": "0123456789ab"}}, "faces: weights_revision: it is of the weights of yolo, got detector mediapipe"),
        ({"landmarks": {"weights_revision": "0123456789ab"}}, "landmarks: weights_revision: .* got the bundled one; take it out"),
    ],
)
def test_a_revision_that_can_hold_nothing_is_refused(tmp_path: Path, sections: dict, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        planned(tmp_path, **sections)
    assert "weights_revision" in str(raised.value)


def test_every_section_that_names_weights_states_their_revision_and_no_key_moves_without_it(tmp_path: Path) -> None:
    features = {"g": {"encoder": "grada"}, "q": {"encoder": "qwen3vl"}, "w": {"encoder": "wavlm"}}
    models = {"face": {"kind": "transformer", "reads": "g"}, "voice": {"kind": "chunk_asp", "reads": "w"}}
    base = {"features": features, "models": models, "faces": {"detector": "yolo"}, "landmarks": {"model": "mesh.task"}}
    plan = planned(tmp_path, **base)
    for name in ("faces", "landmarks", "g", "q", "w"):
        assert "weights_revision" not in plan.spec(name)
        own = {"weights_revision": "0123456789ab"}
        more = {"features": features | {name: features[name] | own}} if name in features else {name: base[name] | own}
        moved = planned(tmp_path, **base | more)
        assert moved.key(name) != plan.key(name)
        assert moved.key(name) == planned(tmp_path, **base | more).key(name)
    direct = {"models": models | {"voice": models["voice"] | {"cache_frozen": False}}}  # the encoder runs within the model
    keys = [
        planned(tmp_path, **base | direct | {"features": features | {"w": features["w"] | own}}).key("voice")
        for own in ({}, {"weights_revision": "0123456789ab"})
    ]
    assert keys[0] != keys[1]


def test_a_folder_wants_a_record_which_says_whether_it_is_random(tmp_path: Path) -> None:
    plan, folder = planned(tmp_path), tmp_path / "weights/mine"
    folder.mkdir(parents=True)
    (folder / "x.pth").write_bytes(b"one")
    with pytest.raises(WeightsError, match=r"has no affpipe-weights\.json"):
        checkpoint(plan.context("grada"))
    record(folder, name="mine", source="a test", random=True)
    assert checkpoint(plan.context("grada")) == (folder, ("mine",))


def test_another_face_mesh_under_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "FaceMesh", lambda model: None)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mesh.task").write_text(folder)
    mesh, models = {"mesh": {"encoder": "mesh"}}, {"face": {"kind": "transformer", "reads": "mesh"}}
    plans = [planned(tmp_path, features=mesh, models=models, landmarks={"model": str(tmp_path / f / "mesh.task")}) for f in ("one", "two")]
    face_stages.landmarks(plans[0].context("landmarks"))
    with pytest.raises(WeightsError, match=r"want the weights mesh\.task that this cache began with, got others"):
        face_stages.landmarks(plans[1].context("landmarks"))
    known = read_record(tmp_path / "two/mesh.task")
    stated = {"model": str(tmp_path / "two/mesh.task"), "weights_revision": known.digest[:16]}
    face_stages.landmarks(planned(tmp_path, features=mesh, models=models, landmarks=stated).context("landmarks"))
    stated["weights_revision"] = "0123456789ab"
    with pytest.raises(WeightsError, match="want weights of weights_revision 0123456789ab"):
        face_stages.landmarks(planned(tmp_path, features=mesh, models=models, landmarks=stated).context("landmarks"))
