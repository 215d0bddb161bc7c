"""Videos that changed since they were read: told by their identity, and where that does not see it by the checksum of the whole file."""

import hashlib
from pathlib import Path
from typing import Any

import av
import clips
import numpy as np
import pytest
import yaml
from small_run import Run
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.errors import MediaError
from affpipe.data import manifest
from affpipe.jobs import apply, stale, workers
from affpipe.jobs.doctor import videos
from affpipe.jobs.doctor.finding import FAULT, FINE, WARNING
from affpipe.jobs.stale import Made
from affpipe.media.identity import BLOCK, BLOCKS, fingerprint
from affpipe.plan import config
from affpipe.plan.plan import Plan
from affpipe.store import cache as caches
from affpipe.store import streams
from affpipe.store.index import Entry, write_index

RATE_HZ, FPS, COUNT = 48000, 5, 200
SPOKEN_S = (19.5, 19.6)  # what is blanked: less than what lies between two blocks
SETTINGS: dict[str, Any] = {
    "manifest": "m.csv",
    "features": {"wavlm": {"encoder": "wavlm"}},
    "models": {"voice": {"kind": "chunk_asp", "reads": "wavlm"}},
    "publish": "voice",
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Two videos of some megabytes of sound as it is, of which frames and sound are in the cache with their indexes."""
    monkeypatch.chdir(tmp_path)
    lines = ["stream_id,video,partition"]
    for number, id in enumerate("ab"):
        sound = clips.Sound(length_s=COUNT / FPS, click_s=(1.0,), sample_rate_hz=RATE_HZ, hum=0.1 + 0.1 * number, codec="pcm_s16le")
        clips.write(tmp_path / f"{id}.mov", count=COUNT, fps=FPS, codec="mjpeg", sound=sound)
        lines.append(f"{id},{id}.mov,predict")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    make()
    return tmp_path


def planned() -> Plan:
    return Plan(config.load([Path("config.yaml")]), manifest.read(Path("m.csv"), Path()))


def make() -> dict[str, dict[str, Entry]]:
    """Frames and sound of all videos, what is missing of them."""
    plan, entries = planned(), {}
    for name in ("frames", "audio"):
        entries[name] = apply.apply(plan, name, plan.items(name), entries, workers.start, lambda *_: None)
        assert {entry.status for entry in entries[name].values()} == {"done"}
        for shard in plan.shards:
            write_index(Path(plan.index(name, shard)), {item.id: entries[name][item.id] for item in plan.items(name, shard)})
    return entries


def blank(video: Path, where: tuple[float, float] = SPOKEN_S) -> None:
    """Blank what is said in a stretch, where it lies in the file; its size stays."""
    with av.open(str(video)) as container:
        (track,) = container.streams.audio
        spoken = [(p.pos, p.size) for p in container.demux(track) if p.size and where[0] <= p.pts * p.time_base < where[1]]
    with video.open("r+b") as file:
        for at, length in spoken:
            file.seek(at)
            file.write(bytes(length))


def verify(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main.app, ["cache", "verify", *words], catch_exceptions=False)
    return result.exit_code, result.output


def sound(plan: Plan, id: str) -> np.ndarray:
    (item,) = (item for item in plan.items("audio") if item.id == id)
    track = streams.Sound(plan.stream("audio", item))
    return track[: len(track)]


# ---- identity ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, BLOCKS * BLOCK])
def test_every_byte_of_a_small_file_is_in_its_identity(tmp_path, size):
    (path := tmp_path / "x").write_bytes(data := np.random.default_rng(0).bytes(size))
    seen = {fingerprint(path)}
    for at in sorted({0, size // 3, size // 2, size - 1}):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        seen.add(fingerprint(path))
    assert len(seen) == 1 + len({0, size // 3, size // 2, size - 1})


def test_sixteen_blocks_of_a_large_file_are_in_its_identity(tmp_path):
    size = 5_000_000
    (path := tmp_path / "x").write_bytes(data := np.random.default_rng(0).bytes(size))
    starts = [i * (size - BLOCK) // 15 for i in range(16)]
    whole = hashlib.sha256(f"{size}:".encode() + b"".join(data[at : at + BLOCK] for at in starts))
    assert fingerprint(path) == whole.hexdigest()[:16]
    for at in [*starts, *(start + BLOCK - 1 for start in starts)]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert fingerprint(path) != whole.hexdigest()[:16]
    between = starts[7] + BLOCK + 1000
    path.write_bytes(data[:between] + bytes([data[between] ^ 1]) + data[between + 1 :])
    assert fingerprint(path) == whole.hexdigest()[:16]  # what the checksum in `frames` is for


def test_a_second_of_speech_that_is_blanked_makes_another_video(project):
    """Longer than what lies between two blocks: the identity sees it, and the next run hears nothing there."""
    before, after = planned(), planned()
    assert len(before.items("audio")) == 2  # looked at now
    blank(project / "a.mov", (18.0, 24.0))
    assert [i.id for i, j in zip(before.items("audio"), after.items("audio"), strict=True) if i.identity != j.identity] == ["a"]
    make()
    assert np.abs(sound(before, "a")[20 * 16000 : 22 * 16000]).max() > 0.05
    assert np.median(np.abs(sound(after, "a")[20 * 16000 : 22 * 16000])) < 0.001


# ---- the whole file ---------------------------------------------------------------------------------------------------------------------


def test_the_stream_frames_has_the_checksum_of_its_video(project):
    plan = planned()
    for item in plan.items("frames"):
        assert stale.read_then(plan.stream("frames", item)) == hashlib.sha256(item.row.video.read_bytes()).hexdigest()


def test_verify_compares_the_videos_of_the_settings_and_finds_nothing_in_sound_ones(project):
    assert verify() == (0, "2 videos compared with what was read of them\n4 streams read, 0 faults\n")
    (project / "b.mov").rename(project / "elsewhere.mov")  # not found: its streams stay
    assert verify() == (0, "1 videos compared with what was read of them\n4 streams read, 0 faults\n")
    (project / "config.yaml").unlink()
    code, said = verify()
    assert code == 0
    assert said.startswith("videos not compared with what was read of them: config.yaml: want a readable settings file, got No such file")
    assert "4 streams read, 0 faults" in said


def test_an_edit_that_the_identity_does_not_see_is_found_by_verify_and_made_again(project):
    before = planned()
    heard = sound(before, "b").copy()
    blank(project / "a.mov")
    plan = planned()
    assert plan.items("frames") == before.items("frames")  # what the page says
    assert np.abs(sound(plan, "a")[round(19.54 * 16000) : round(19.56 * 16000)]).max() > 0.05
    code, said = verify()
    assert code == 1
    (frames, audio) = (plan.stream(name, plan.items(name)[0]) for name in ("frames", "audio"))
    for path in (frames, audio):
        assert f"{path}: deleted: a.mov has changed since it was read, though its identity has not\n" in said
        assert not path.exists()
    assert "4 faults; run the workflow again" in said  # two streams, two indexes
    make()
    assert np.median(np.abs(sound(plan, "a")[round(19.54 * 16000) : round(19.56 * 16000)])) < 0.001
    np.testing.assert_array_equal(sound(plan, "b"), heard)
    assert verify()[0] == 0


def test_settings_laid_over_tell_where_videos_are(project):
    (project / "other").mkdir()
    for id in "ab":
        (project / f"{id}.mov").rename(project / f"other/{id}.mov")
    (project / "there.yaml").write_text("data_root: other\n")
    assert verify()[1].startswith("0 videos compared")
    assert verify("there.yaml")[1].startswith("2 videos compared")


def test_a_video_that_cannot_be_read_is_said_and_its_streams_stay(project, monkeypatch):
    def refuse(video: Path, _: str) -> bool:
        if video.stem == "a":
            raise MediaError(f"{video}: want a readable file, got 'Input/output error'; make it readable")
        return False

    monkeypatch.setattr(stale, "changed", refuse)
    code, said = verify()
    assert code == 0
    assert said.startswith("a.mov: want a readable file, got 'Input/output error'; make it readable\n1 videos compared")


# ---- models -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path)


def made(run: Run, id: str) -> Made:
    plan = run.plan
    own = {item for name in plan.names for item in plan.items(name) if item.row.stream_id == id}
    files = frozenset(streams.file_name(item.id, item.identity, end) for item in own for end in (".h5", ".flac"))
    (row,) = (row for row in plan.rows if row.stream_id == id)
    frames = next(item for item in plan.items("frames") if item.id == id)
    return Made(row.video, streams.file_name(id, frames.identity), files, frozenset({id}), row.fits)


def test_videos_are_those_of_the_manifest_with_all_that_is_made_of_them(run, tmp_path):
    lines = ["stream_id,video,partition,va", *(f"{r.stream_id},{r.video.name},{r.partition},{r.stream_id}.va.txt" for r in run.plan.rows)]
    lines.append("lost,lost.mp4,predict,")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    settings = run.plan.settings.model_copy(update={"manifest": str(tmp_path / "m.csv"), "data_root": str(tmp_path)})
    found = {made.video.stem: made for made in stale.videos(settings)}
    assert sorted(found) == sorted(row.video_id for row in run.plan.rows)
    for row in run.plan.rows:
        for folder in caches.folders(run.plan.cache):
            own = {path.name for path in folder.files if path.name.startswith(f"{row.stream_id}.")}
            assert own <= found[row.video_id].files
        assert (found[row.video_id].ids, found[row.video_id].fits) == ({row.stream_id}, row.fits)


def test_models_fitted_on_a_changed_video_go_with_all_that_they_predicted(run):
    plan = run.plan
    one = made(run, "v1")
    gone = {path for path, _ in stale.forget(plan.cache, one)}
    models = {plan.folder(model) for model in plan.settings.models}
    assert models <= gone
    left = [path for folder in caches.folders(plan.cache) for path in folder.files]
    assert left
    assert not {path.name for path in left} & one.files
    assert {path.name.partition(".")[0] for path in left if path.suffix == ".h5"} >= {"a one", "v2", "t+1", "p1"}
    assert not any(folder.exists() for folder in models)


def test_a_changed_video_that_is_only_predicted_leaves_models(run):
    plan, one = run.plan, made(run, "p1")
    before = {path for folder in caches.folders(plan.cache) for path in folder.files}
    gone = {path for path, _ in stale.forget(plan.cache, one)}
    assert gone == {path for path in before if path.name in one.files}
    assert all(Path(plan.fitted(model)).exists() for model in plan.settings.models)


@pytest.mark.parametrize("what", ["state", "model without a record", "damaged record"])
def test_a_model_that_does_not_say_on_what_it_was_fitted_goes_too(run, what):
    folder = run.plan.cache / "other" / ("0" * 12)
    folder.mkdir(parents=True)
    if what == "state":
        (folder / "fold1" / streams.STATE).mkdir(parents=True)
    elif what == "model without a record":
        (folder / streams.MODEL).touch()
    else:
        (folder / streams.FIT).write_text("{")
    assert folder in {path for path, _ in stale.forget(run.plan.cache, made(run, "v1"))}


def test_a_model_of_other_streams_stays(run):
    folder = run.plan.cache / "other" / ("0" * 12)
    folder.mkdir(parents=True)
    (folder / streams.FIT).write_text('{"train": ["x"], "validation": ["y"]}')
    assert folder not in {path for path, _ in stale.forget(run.plan.cache, made(run, "v1"))}
    assert folder.exists()


# ---- doctor -----------------------------------------------------------------------------------------------------------------------------


def test_doctor_tells_of_videos_that_have_changed(project):
    plan = planned()
    assert [(f.level, f.found) for f in videos.unchanged(plan, 60)] == [(FINE, "2 videos are what was read of them")]
    blank(project / "a.mov")
    (finding,) = videos.unchanged(plan, 60)
    assert finding.level == FAULT
    assert finding.found == "a.mov: want the file that was read, got one that has changed since, though its identity has not"
    assert finding.remedy == "`affpipe cache verify` deletes what was made of it; then run again"
    (project / "a.mov").unlink()
    found = list(videos.unchanged(plan, 60))
    assert [f.found for f in found if f.level == FAULT] == ["a.mov: want a readable file, got 'No such file or directory'"]
    (finding,) = videos.unchanged(plan, 0)
    assert (finding.level, finding.remedy) == (WARNING, "give more --seconds")
    assert finding.found == "2 of 2 videos not compared with what was read, for want of time"


def test_doctor_says_nothing_of_videos_that_nobody_read(project):
    plan = Plan(config.parse({**SETTINGS, "cache": "none"}), planned().rows)
    assert list(videos.unchanged(plan, 60)) == []
