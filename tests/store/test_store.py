"""The store: what goes in comes out, a file is whole or absent, and damage is said in one line."""

import json
import multiprocessing
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest

from affpipe.core.errors import StoreError
from affpipe.store import cache as caches
from affpipe.store import layout, streams
from affpipe.store.flac import write_flac
from affpipe.store.index import Entry, read_index, write_index
from affpipe.store.streams import Header, Stream
from affpipe.system import disk

KEY, IDENTITY = "0123456789ab", "fedcba9876543210"
HEADER = Header(
    stage="mesh",
    key=KEY,
    id="one",
    identity=IDENTITY,
    spec={"encoder": "mesh"},
    revision=1,
    inputs={"landmarks": "ba9876543210"},
    fps=Fraction(30000, 1001),
    random=("wavlm-tiny",),
    columns=("a", "b"),
    extra={"note": "é"},
)


def block(first: int, n: int, dtype: type = np.float32) -> dict:
    """Rows first … first + n - 1, each telling its number; row i has i bytes."""
    i = np.arange(first, first + n)
    return {
        "values": np.stack([i, i / 7], axis=1).astype(dtype),
        "start_s": i / 25 + 1e-9,
        "end_s": (i + 1) / 25,
        "valid": i % 3 > 0,
        "frame": i.astype(np.int64),
        "crop": [bytes([k % 256]) * int(k) for k in i],
    }


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "cache" / "mesh" / KEY / streams.file_name("one", IDENTITY)


@pytest.fixture
def stored(path) -> Path:
    streams.write(path, HEADER, **block(0, 40))
    return path


def refused(path: Path, **want) -> str:
    """The message with which a file is refused, checked to be one line with a remedy."""
    want = {"key": KEY, "identity": IDENTITY, "deep": True} | want
    with pytest.raises(StoreError) as caught:
        streams.check(path, **want)
    message = str(caught.value)
    assert message.startswith(f"{path}: want ")
    assert "\n" not in message
    assert message.endswith(streams.REPAIR)
    return message


# ---- round trip -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("blocks", [[40], [0, 40], [0, 1, 0, 38, 1], [13, 13, 14]])
def test_rows_come_back_as_they_went_in_however_they_were_cut(path, dtype, blocks):
    with streams.writing(path, HEADER) as out:
        first = 0
        for n in blocks:
            out.append(**block(first, n, dtype))
            first += n
    want = block(0, 40, dtype)
    with Stream(path, key=KEY, identity=IDENTITY) as stream:
        assert len(stream) == 40
        assert stream.rows().dtype == dtype
        np.testing.assert_array_equal(stream.rows(), want["values"])
        for name in ("start_s", "end_s", "valid"):
            np.testing.assert_array_equal(getattr(stream, name), want[name])
        assert (stream.start_s.dtype, stream.valid.dtype) == (np.float64, bool)
        assert stream.rows("frame").dtype == np.int64
        assert [stream.blob("crop", i) for i in range(40)] == want["crop"]
        for some in ([], [39], [0], [3, 4, 9], [9, 3, 39, 3], range(40)):
            assert stream.blobs("crop", some) == [want["crop"][i] for i in some]
        np.testing.assert_array_equal(stream.rows("values", 5, 9), want["values"][5:9])
        assert stream.shape_of("values") == (40, 2)


def test_a_stream_of_no_rows_is_a_stream(path):
    streams.write(path, HEADER, **block(0, 0))
    with Stream(path) as stream:
        assert len(stream) == 0
        assert stream.rows().shape == (0, 2)
    assert streams.check(path, key=KEY, identity=IDENTITY, deep=True)["id"] == "one"


def test_a_stream_says_what_it_is(stored):
    with Stream(stored) as stream:
        said = stream.attributes
        assert stream.fps == Fraction(30000, 1001)
    assert said == streams.attributes(stored)
    assert {k: said[k] for k in ("stage", "key", "id", "identity", "spec", "revision", "inputs", "random", "columns", "extra")} == {
        "stage": "mesh", "key": KEY, "id": "one", "identity": IDENTITY, "spec": {"encoder": "mesh"}, "revision": 1,
        "inputs": {"landmarks": "ba9876543210"}, "random": ["wavlm-tiny"], "columns": ["a", "b"], "extra": {"note": "é"},
    }  # fmt: skip
    assert said["format"] == streams.FORMAT
    assert said["versions"]["h5py"] == h5py.__version__
    assert said["created"].endswith("Z")


def test_rows_must_be_as_many_in_every_array_and_of_one_kind(path):
    with pytest.raises(ValueError, match="equally many rows"):
        streams.write(path, HEADER, **(block(0, 4) | {"valid": np.ones(3, bool)}))
    with streams.writing(path, HEADER) as out:
        out.append(**block(0, 4))
        with pytest.raises(ValueError, match="values began as float32"):
            out.append(**block(4, 4, np.float16))


def test_short_streams_are_small(path):
    streams.write(path, HEADER, **block(0, 3))
    assert path.stat().st_size < 24_000
    rows = {"start_s": np.zeros(3), "end_s": np.ones(3), "valid": np.ones(3, bool)}
    streams.write(path.with_name("b.h5"), HEADER, values=np.zeros((3, 199, 1024), np.float16), **rows)
    assert path.with_name("b.h5").stat().st_size < 3 * 199 * 1024 * 2 + 40_000
    streams.write(path.with_name("c.h5"), HEADER, values=np.zeros((3, 256), np.float32), **rows)
    assert path.with_name("c.h5").stat().st_size < 300_000


# ---- whole or absent --------------------------------------------------------------------------------------------------------------------


def _fail_halfway(path: Path, fault: type[BaseException]) -> None:
    with streams.writing(path, HEADER) as out:
        out.append(**block(0, 4))
        raise fault


def test_a_failure_while_writing_leaves_nothing(path):
    with pytest.raises(ZeroDivisionError):
        _fail_halfway(path, ZeroDivisionError)
    assert list(path.parent.iterdir()) == []


def test_a_failure_while_writing_leaves_the_file_that_was_there(stored):
    before = stored.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        _fail_halfway(stored, KeyboardInterrupt)
    assert stored.read_bytes() == before
    assert list(stored.parent.iterdir()) == [stored]


def test_a_file_has_its_name_only_once_it_is_whole(path):
    with streams.writing(path, HEADER) as out:
        out.append(**block(0, 4))
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path]


def test_text_is_written_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    disk.write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    assert list(path.parent.iterdir()) == [path]


def _write_often(path: Path, first: int) -> None:
    for _ in range(15):
        streams.write(path, HEADER, **block(first, 40))


def test_two_writers_of_one_path_leave_one_whole_file(path):
    """Two nodes given the same shard by mistake: the later file wins, no reader sees a mixture."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(path, first)) for first in (0, 1000)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            with Stream(path, key=KEY, identity=IDENTITY) as stream:
                frames = stream.rows("frame")
            np.testing.assert_array_equal(np.diff(frames), 1)
            seen.add(int(frames[0]))
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen <= {0, 1000}
    assert list(path.parent.iterdir()) == [path]
    streams.check(path, key=KEY, identity=IDENTITY, deep=True)


# ---- damage -----------------------------------------------------------------------------------------------------------------------------


def test_a_sound_stream_is_accepted(stored):
    assert streams.check(stored, key=KEY, identity=IDENTITY, deep=True)["id"] == "one"


def test_a_stream_of_another_key_identity_or_format_is_refused(stored, monkeypatch):
    assert f"want key {'a' * 12}, got {KEY}" in refused(stored, key="a" * 12)
    assert f"want identity x, got {IDENTITY}" in refused(stored, identity="x")
    with pytest.raises(StoreError, match=f"want key {'a' * 12}, got {KEY}"):
        Stream(stored, key="a" * 12)
    monkeypatch.setattr(streams, "FORMAT", 2)
    assert "want format 2, got 1" in refused(stored)


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_cut_file_is_refused(stored, keep):
    content = stored.read_bytes()
    stored.write_bytes(content[: keep if keep >= 1 else int(keep * len(content))])
    refused(stored)


def test_what_is_no_stream_is_refused(path):
    path.parent.mkdir(parents=True)
    assert "got no file" in refused(path)
    path.write_text("some text that is no stream")
    assert "signature not found" in refused(path)
    with h5py.File(path, "w") as file:
        file["values"] = np.zeros(3)
    refused(path)  # HDF5, yet of another program
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match=r"got Is a directory; make it readable, remove it, or check the disk; then run again"):
        streams.check(path, key=KEY, identity=IDENTITY)


@pytest.mark.parametrize("name", streams.ROWS)
def test_a_missing_or_short_dataset_is_refused(stored, name):
    with h5py.File(stored, "r+") as file:
        file[name].resize(39, axis=0)
    assert "want 40 rows" in refused(stored)
    with h5py.File(stored, "r+") as file:
        del file[name]
    assert name in refused(stored)


@pytest.mark.parametrize("said", ["5", "[]", "{}", "not json", '{"format": 1}'])
def test_attributes_that_say_nothing_are_refused(stored, said):
    with h5py.File(stored, "r+") as file:
        file.attrs["affpipe"] = said
    refused(stored)


def test_a_flipped_bit_in_the_data_is_found_when_read(stored):
    """Opening reads times and mask only; the checksum of each chunk of values speaks when they are read."""
    with h5py.File(stored) as file:
        place = file["values"].id.get_chunk_info(0).byte_offset
    content = bytearray(stored.read_bytes())
    content[place + 17] ^= 4
    stored.write_bytes(content)
    streams.check(stored, key=KEY, identity=IDENTITY)
    assert "want a whole stream" in refused(stored)
    with Stream(stored) as stream, pytest.raises(StoreError, match="want a whole stream"):
        stream.rows()


def test_a_flipped_bit_anywhere_is_found_or_harmless(stored):
    content, rng = stored.read_bytes(), np.random.default_rng(0)
    want, found = block(0, 40), 0
    for place in rng.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        stored.write_bytes(damaged)
        try:
            streams.check(stored, key=KEY, identity=IDENTITY, deep=True)
        except StoreError:
            found += 1
        else:
            with Stream(stored) as stream:
                np.testing.assert_array_equal(stream.rows(), want["values"])
                assert [stream.blob("crop", i) for i in range(40)] == want["crop"]
    assert found > 100


def test_asking_for_what_a_stream_has_not_is_a_store_error(stored):
    with Stream(stored) as stream, pytest.raises(StoreError, match="steps"):
        stream.rows("steps")


# ---- audio ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sound(tmp_path) -> Path:
    path = tmp_path / "cache" / "audio" / KEY / streams.file_name("one", IDENTITY, ".flac")
    wave = np.sin(np.arange(32000) / 20).astype(np.float32) / 2
    header = replace(HEADER, stage="audio", extra={"samples": 32000})
    with disk.atomic(path) as part:
        write_flac(part, [wave], 16000, json.dumps(header.attributes(), sort_keys=True))
    return path


def test_an_audio_track_says_what_it_is(sound):
    assert streams.check(sound, key=KEY, identity=IDENTITY, deep=True)["extra"] == {"samples": 32000}
    assert "want key" in refused(sound, key="a" * 12)
    assert "want identity" in refused(sound, identity="x")


def test_an_audio_track_is_cut_like_an_array(sound):
    track = streams.Sound(sound)
    whole = track[:]
    assert len(track) == len(whole) == 32000
    assert np.abs(whole - np.sin(np.arange(32000) / 20) / 2).max() < 1 / 32768
    for cut in (slice(0, 9), slice(5000, 20001), slice(31990, 32010), slice(32000, 33000), slice(9, 3)):
        assert np.array_equal(track[cut], whole[cut])


@pytest.mark.parametrize("keep", [0, 20, 0.6])
def test_a_cut_audio_track_is_refused(sound, keep):
    content = sound.read_bytes()
    sound.write_bytes(content[: keep if keep >= 1 else int(keep * len(content))])
    refused(sound)


@pytest.mark.parametrize("comment", ["hello", "5", "{}", "[1]"])
def test_audio_of_another_program_is_refused(sound, comment):
    write_flac(sound, [np.zeros(100, np.float32)], 16000, comment)
    assert "want a stored audio track" in refused(sound)


# ---- indexes ----------------------------------------------------------------------------------------------------------------------------


ENTRIES = {"two": Entry("absent", reason="two: no sound"), "one": Entry("done", "one.fedcba98.h5", 40), "é": Entry("failed", reason="é")}


def test_an_index_comes_back_in_order_of_ids(tmp_path):
    path = tmp_path / "shards" / "fit000-0.json"
    write_index(path, ENTRIES)
    assert read_index(path) == ENTRIES
    assert list(json.loads(path.read_text())) == sorted(ENTRIES)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", '{"one": 5}', '{"one": {"file": "x"}}', '{"one": {"status": "done", "size": 5}}', "\udcff"]
)
def test_an_index_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StoreError) as caught:
        read_index(path)
    assert str(caught.value).startswith(f"{path}: want an index of streams, got ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_index_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"a\.json: want an index of streams, got No such file"):
        read_index(tmp_path / "a.json")


# ---- the whole cache --------------------------------------------------------------------------------------------------------------------


def test_verify_finds_nothing_in_a_sound_cache(stored, sound):
    cache = stored.parents[2]
    write_index(stored.parent / "shards/fit000-0.json", {"one": Entry("done", stored.name, 40), "two": Entry("absent", reason="x")})
    write_index(sound.parent / "shards/fit000-0.json", {"one": Entry("done", sound.name, 32000)})
    assert list(caches.verify(cache)) == []
    assert [(f.stage, f.key, len(f.files), len(f.indexes)) for f in caches.folders(cache)] == [("audio", KEY, 1, 1), ("mesh", KEY, 1, 1)]


def test_verify_removes_what_a_killed_job_left_once_it_is_a_day_old(stored):
    cache = stored.parents[2]
    old, new = (stored.parent / f".x.h5.{name}.part" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert [path for path, _ in caches.verify(cache)] == [old]
    assert (old.exists(), new.exists()) == (False, True)


def test_verify_deletes_what_is_damaged_and_drops_indexes_with_holes(stored, sound):
    cache, folder = stored.parents[2], stored.parent
    cut = folder / streams.file_name("cut", IDENTITY)
    cut.write_bytes(stored.read_bytes()[:5000])
    renamed = folder / streams.file_name("other", IDENTITY)
    renamed.write_bytes(stored.read_bytes())
    misplaced = cache / "mesh" / ("b" * 12) / stored.name
    misplaced.parent.mkdir()
    misplaced.write_bytes(stored.read_bytes())
    content = bytearray(sound.read_bytes())
    content[len(content) // 2] ^= 255
    sound.write_bytes(content)
    write_index(folder / "shards/fit000-0.json", {"one": Entry("done", stored.name, 40)})
    write_index(folder / "shards/fit001-0.json", {"cut": Entry("done", cut.name, 40), "other": Entry("done", renamed.name, 40)})
    (folder / "shards/rest000-0.json").write_text("{")
    said = dict(caches.verify(cache))
    assert set(said) == {cut, renamed, misplaced, sound, folder / "shards/fit001-0.json", folder / "shards/rest000-0.json"}
    assert said[folder / "shards/fit001-0.json"] == f"dropped: it names {cut.name}, which is not there (and 1 more)"
    assert said[cut].startswith("deleted: ")
    assert all("\n" not in text for text in said.values())
    assert not any(path.exists() for path in said)
    assert stored.exists()
    assert (folder / "shards/fit000-0.json").exists()
    assert list(caches.verify(cache)) == []


def test_garbage_is_what_no_key_names(stored, sound):
    cache = stored.parents[2]
    streams.write(cache / "mesh" / ("b" * 12) / stored.name, replace(HEADER, key="b" * 12), **block(0, 40))
    (cache / "weights").mkdir()
    (cache / "weights" / "wavlm-tiny.json").write_text("{}")  # no folder of a stage

    def unused(*keys: str, days: float = 0) -> tuple[list[caches.Folder], list[caches.Folder]]:
        return caches.garbage(caches.folders(cache), lambda folder: folder.key in keys, days)

    found, young = unused(KEY)
    assert [folder.path for folder in found] == [cache / "mesh" / ("b" * 12)]
    assert found[0].bytes == (cache / "mesh" / ("b" * 12) / stored.name).stat().st_size
    assert young == []
    assert unused(KEY, "b" * 12) == ([], [])
    assert len(unused()[0]) == 3
    assert unused(KEY, days=1) == ([], found)
    os.utime(found[0].files[0], (0, 0))
    assert unused(KEY, days=1)[1], "the folder itself changed"
    os.utime(found[0].path, (0, 0))
    assert [folder.path for folder in unused(KEY, days=1)[0]] == [found[0].path]


def test_a_cache_that_is_not_there_is_empty(tmp_path):
    assert caches.folders(tmp_path / "none") == []
    assert list(caches.verify(tmp_path / "none")) == []


# ---- frames without a face --------------------------------------------------------------------------------------------------------------


def points(seen: np.ndarray) -> dict[str, np.ndarray]:
    """Landmarks of frames, zero where no face was seen."""
    rng, times = np.random.default_rng(len(seen)), np.arange(len(seen)) / 25
    values = rng.normal(size=(len(seen), 478, 3)).astype(np.float32) * seen[:, None, None]
    return {"values": np.where(seen[:, None, None], values, np.float32(0)), "start_s": times, "end_s": times + 0.04, "valid": seen}


def put(path: Path, rows: dict[str, np.ndarray], size: int) -> None:
    with streams.writing(path, HEADER) as out:
        for start in range(0, len(rows["valid"]), size):
            out.append(**{name: data[start : start + size] for name, data in rows.items()})


@pytest.mark.parametrize("size", [1, 45, 256, 2000])
def test_frames_without_a_face_take_no_room_and_read_as_ever(path, size):
    seen = np.zeros(2000, bool)
    seen[[0, 700, 701, 1999]] = True
    seen[1000:1100] = True
    rows = points(seen)
    put(path, rows, size)
    with Stream(path, key=KEY, identity=IDENTITY) as stream:
        np.testing.assert_array_equal(stream.rows(), rows["values"])
        np.testing.assert_array_equal(stream.rows("values", 690, 1020), rows["values"][690:1020])
        np.testing.assert_array_equal(stream.valid, seen)
        assert stream.rows().dtype == np.float32
    streams.check(path, key=KEY, identity=IDENTITY, deep=True)
    row = 478 * 3 * 4
    chunks = 6 * (streams.CHUNK_BYTES // row)  # those of the single frames, and what a hundred frames touch
    if size > 1:
        assert path.stat().st_size < chunks * row + 2000 * 17 + 40_000
    assert path.stat().st_size < 0.2 * 2000 * row


def test_a_stream_without_any_face_takes_the_room_of_its_times(path):
    put(path, points(np.zeros(5000, bool)), 256)
    assert path.stat().st_size < 5000 * 17 * 1.5 + 20_000
    with Stream(path) as stream:
        assert stream.rows().shape == (5000, 478, 3)
        assert not stream.rows().any()
    streams.check(path, key=KEY, identity=IDENTITY, deep=True)


def test_zeros_that_are_valid_and_signs_of_zero_are_written(path):
    rows = points(np.ones(200, bool))
    rows["values"][:] = 0
    put(path, rows, 50)
    whole = path.stat().st_size
    rows["valid"] = np.zeros(200, bool)
    rows["values"][:] = -0.0
    put(path, rows, 50)
    with Stream(path) as stream:
        assert np.signbit(stream.rows()).all()
    assert whole > 200 * 478 * 12
    assert path.stat().st_size == pytest.approx(whole, rel=0.01)


def test_a_stream_all_of_whose_frames_have_a_face_is_what_it_was(path):
    put(path, points(np.ones(300, bool)), 256)
    with h5py.File(path) as file:
        assert dict(file["values"].attrs) == {}


def test_a_lost_chunk_is_found_among_those_that_were_left_out(path):
    seen = np.arange(900) < 450
    put(path, points(seen), 256)
    with h5py.File(path, "r+", libver="v110") as file:
        assert file["values"].attrs["blank_chunks"] == 10
        file["values"].attrs["blank_chunks"] = 9
        with pytest.raises(ValueError, match=r"values of 2839320 bytes, of which 25\d+ are there"):
            layout.check_written(file)
    refused(path)


@pytest.mark.parametrize("said", [-1, 10**9, "many", [1, 2]])
def test_a_number_of_blank_chunks_that_cannot_be_is_refused(path, said):
    put(path, points(np.zeros(200, bool)), 256)
    with h5py.File(path, "r+", libver="v110") as file:
        file["values"].attrs["blank_chunks"] = said
    refused(path)


def test_wide_rows_cannot_be_blank(path):
    """A few kilobytes must not declare gigabytes."""
    put(path, points(np.zeros(200, bool)), 256)
    with h5py.File(path, "r+", libver="v110") as file:
        del file["values"]
        file.create_dataset("values", (200, 100_000), np.float32, chunks=(1, 100_000), maxshape=(None, 100_000))
        file["values"].attrs["blank_chunks"] = 200
    assert "200 blank chunks in values of 200 chunks, 400000 bytes a row" in refused(path)
