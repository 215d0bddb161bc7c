"""Two runs compared by their files: what is the same gives 0, and the least that is not is named."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from benchmarks import same
from benchmarks.contents import compare

KEY = "cache/mesh/0123456789ab"
STREAM, MODEL, TABLE = f"{KEY}/clip.01234567.h5", "cache/face/ba9876543210/model.safetensors", "results/demo/table.csv"


def make(folder: Path, created: str) -> Path:
    """The files of a small run that was made at that time."""
    for name in (STREAM, MODEL, TABLE):
        (folder / name).parent.mkdir(parents=True)
    with h5py.File(folder / STREAM, "w") as file:
        file["values"] = np.arange(6, dtype=np.float32).reshape(3, 2)
        file.attrs["affpipe"] = json.dumps({"key": "0123456789ab", "created": created})
        file.attrs["rows"] = 3
    sound = folder / KEY / "clip.01234567.flac"
    with soundfile.SoundFile(sound, "w", 16000, 1, "PCM_16") as file:
        file.comment = json.dumps({"id": "clip", "created": created})
        file.write(np.arange(100, dtype=np.int16))
    save_file({"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}, folder / MODEL, {"model": "face"})
    (folder / TABLE).write_text("system,ccc\nface,0.5\n")
    (folder / "results/demo/run.json").write_text(json.dumps({"affpipe": created, "run": "abc"}))
    (folder / "results/demo/report.html").write_text(f"<p>{created}")
    return folder


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    return make(tmp_path / "one", "2026-01-01T00:00:00Z"), make(tmp_path / "two", "2026-01-02T00:00:00Z")


def unlike(runs: tuple[Path, Path]) -> list[str]:
    """What is wrong; the exit status hangs on `told`."""
    found = compare(*runs)
    wrong = [name for line in found if line.wrong for name in line.unlike]
    assert same.told("", found) is bool(wrong)
    return wrong


def alter(path: Path, name: str, byte: int) -> None:
    """Flip the lowest bit of a byte of a dataset."""
    with h5py.File(path, "r+") as file:
        bits = file[name][:].copy()
        bits.reshape(-1).view(np.uint8)[byte] ^= 1
        file[name][...] = bits


def test_runs_that_differ_in_when_they_were_made_are_the_same(runs, capsys):
    assert unlike(runs) == []
    assert "1 unlike, as they may be (they say when they were made): results/demo/report.html: bytes" in capsys.readouterr().out


def test_one_bit_of_a_dataset(runs):
    alter(runs[1] / STREAM, "values", 13)
    assert unlike(runs) == [f"{STREAM}: values"]


def test_zeros_of_two_signs_are_not_the_same(runs):
    alter(runs[1] / STREAM, "values", 0)
    with h5py.File(runs[1] / STREAM, "r+") as file:
        file["values"][0, 0] = -0.0
    assert unlike(runs) == [f"{STREAM}: values"]


def test_another_type_of_equal_values(runs):
    with h5py.File(runs[1] / STREAM, "r+") as file:
        values = file["values"][:]
        del file["values"]
        file["values"] = values.astype(np.float64)
    assert unlike(runs) == [f"{STREAM}: values"]


def test_what_a_stream_says_of_itself(runs):
    with h5py.File(runs[1] / STREAM, "r+") as file:
        file.attrs["affpipe"] = json.dumps({"key": "0123456789ac", "created": ""})
        file["values"].attrs["blank"] = 1
    assert unlike(runs) == [f"{STREAM}: @affpipe.key", f"{STREAM}: values@blank only after"]


def test_a_sample_of_sound(runs):
    path = runs[1] / KEY / "clip.01234567.flac"
    with soundfile.SoundFile(path) as file:
        samples, comment = file.read(dtype="int16"), file.comment
    samples[50] += 1
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
        file.comment = comment
        file.write(samples)
    assert unlike(runs) == [f"{KEY}/clip.01234567.flac: samples"]


def test_a_weight_of_a_model(runs):
    save_file({"weight": np.ones((2, 3), np.float32), "bias": np.float32([0, 1e-30])}, runs[1] / MODEL, {"model": "face"})
    assert unlike(runs) == [f"{MODEL}: bias"]


def test_a_cell_of_a_table(runs):
    (runs[1] / TABLE).write_text("system,ccc\nface,0.6\n")
    assert unlike(runs) == [f"{TABLE}: line 2"]


def test_the_end_of_a_line_of_a_table(runs):
    (runs[1] / TABLE).write_bytes(b"system,ccc\r\nface,0.5\n")
    assert unlike(runs) == [f"{TABLE}: line 1"]


def test_a_stream_that_is_missing(runs):
    (runs[1] / STREAM).unlink()
    assert unlike(runs) == [f"{STREAM} only before"]


def test_another_key(runs):
    (runs[1] / KEY).rename(runs[1] / "cache/mesh/0123456789ac")
    assert unlike(runs)[:2] == [f"{KEY} only before", "cache/mesh/0123456789ac only after"]


def test_a_file_of_a_kind_that_is_not_known(runs):
    (runs[1] / "cache/mesh/note").write_text("new")
    assert unlike(runs) == ["cache/mesh/note only after"]


def test_runs_that_made_nothing_are_not_the_same(runs):
    for folder in runs:
        shutil.rmtree(folder / "cache")
    assert unlike(runs) == ["there are none"] * 3  # keys, streams, models


def test_jobs_of_a_plan():
    text = "job count\n--- ---\nall 1\napply_mesh          4\nfit_face    1\npublish  1\ntotal 7\n\nReasons:\n"
    assert same.planned(text) == {"apply_mesh": 4, "fit_face": 1, "publish": 1}
