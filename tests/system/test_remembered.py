"""Checksums of weights that jobs note: a file is read again as soon as anything says that it may be another."""

import json
import os
from pathlib import Path

import pytest

from affpipe.core.errors import WeightsError
from affpipe.system.weights import records


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    """A folder of two files with a record, as if it had been there for long."""
    monkeypatch.setattr(records, "SETTLED_S", -1.0)
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12345678")
    records.record(folder, name="net", source="test")
    return folder


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the files that were read for their checksum."""
    names, real = [], records.sha256

    def sha256(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(records, "sha256", sha256)
    return names


BOTH = ["config.json", "model.safetensors"]


def test_what_was_verified_is_not_read_again_by_jobs(weights, read):
    first = records.verify(weights, remembered=True)
    assert read == BOTH
    assert records.used(weights.parent, "net", "mesh", remembered=True) == first
    assert read == BOTH


def test_who_asks_for_a_check_gets_one(weights, read):
    records.verify(weights, remembered=True)
    read.clear()
    records.verify(weights)
    records.used(weights.parent, "net", "weights")
    assert read == BOTH * 2


def test_a_single_file_is_noted_beside_it(tmp_path, monkeypatch, read):
    monkeypatch.setattr(records, "SETTLED_S", -1.0)
    path = tmp_path / "face.pt"
    path.write_bytes(b"net")
    for _ in range(3):  # the record is written, then the note
        records.used(tmp_path, "face.pt", "faces", remembered=True)
    assert read == ["face.pt"] * 2
    path.write_bytes(b"ten")
    with pytest.raises(WeightsError, match=r"face\.pt"):
        records.used(tmp_path, "face.pt", "faces", remembered=True)


def _write(path: Path) -> None:
    path.write_bytes(b"87654321")


def _write_with_its_old_time(path: Path) -> None:
    before = path.stat()
    _write(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_with_its_old_time(path: Path) -> None:
    before, other = path.stat(), path.with_name("other")
    _write(other)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [_write, _write_with_its_old_time, _replace_with_its_old_time])
def test_a_changed_file_is_noticed(weights, change):
    records.verify(weights, remembered=True)
    change(weights / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        records.verify(weights, remembered=True)


@pytest.mark.parametrize("field", range(5))
def test_any_field_that_differs_has_the_file_read(weights, read, field):
    records.verify(weights, remembered=True)
    path = records.seen_path(weights)
    noted = json.loads(path.read_text())
    noted["model.safetensors"][field] += "0"
    path.write_text(json.dumps(noted))
    read.clear()
    records.verify(weights, remembered=True)
    assert read == ["model.safetensors"]


def test_a_file_that_was_written_just_now_is_not_noted(weights, read, monkeypatch):
    monkeypatch.setattr(records, "SETTLED_S", 60.0)
    records.verify(weights, remembered=True)
    records.verify(weights, remembered=True)
    assert read == BOTH * 2
    assert not records.seen_path(weights).exists()


def test_a_note_makes_no_good_weights_bad(weights, read):
    records.verify(weights, remembered=True)
    path = records.seen_path(weights)
    noted = json.loads(path.read_text())
    noted["model.safetensors"][-1] = "0" * 64
    path.write_text(json.dumps(noted))
    records.verify(weights, remembered=True)
    read.clear()
    records.verify(weights, remembered=True)  # and has been mended
    assert read == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config.json": 3}', '{"config.json": []}', "\x00"])
def test_a_damaged_note_is_none(weights, read, text):
    records.seen_path(weights).write_text(text)
    records.verify(weights, remembered=True)
    assert read == BOTH


def test_a_note_that_is_no_file_is_none(weights, read):
    os.mkfifo(records.seen_path(weights))
    records.verify(weights, remembered=True)
    assert read == BOTH


def test_notes_of_other_people_are_not_believed(weights, read, monkeypatch):
    records.verify(weights, remembered=True)
    read.clear()
    real = Path.lstat

    def of_another(path: Path) -> os.stat_result:
        found = list(real(path))
        found[4] += 1  # st_uid
        return os.stat_result(found)

    monkeypatch.setattr(Path, "lstat", of_another)
    records.verify(weights, remembered=True)
    assert read == BOTH


def test_a_folder_that_takes_no_file_costs_a_checksum_and_no_more(weights, read, monkeypatch):
    monkeypatch.setattr(records.os, "access", lambda *_: False)
    records.verify(weights, remembered=True)
    records.verify(weights, remembered=True)
    assert read == BOTH * 2
    assert {path.name for path in weights.iterdir()} == {*BOTH, records.RECORD}
