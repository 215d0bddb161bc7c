"""Weights: tiny ones are the same for the same seed and move with their input; records notice any change; downloads are pinned."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.errors import WeightsError
from affpipe.encoders.grada import network as grada
from affpipe.encoders.qwen3vl import network as qwen3vl
from affpipe.encoders.tiny_weights import _write_grada, make_tiny
from affpipe.encoders.wavlm import network as wavlm
from affpipe.system.weights import records
from affpipe.system.weights.catalog import CATALOG
from affpipe.system.weights.fetch import fetch

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
WEIGHTS = ("model.safetensors", "model.safetensors", "grada.pth")  # of each tiny folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return make_tiny(tmp_path_factory.mktemp("weights"))


# --- tiny ---------------------------------------------------------------------------------------------------------------------------


def test_tiny_is_small_random_and_said_to_be(tiny: tuple[Path, Path, Path]) -> None:
    assert [folder.name for folder in tiny] == ["qwen3vl-tiny", "wavlm-tiny", "grada-tiny"]
    for folder, weights in zip(tiny, WEIGHTS, strict=True):
        assert sum(file.stat().st_size for file in folder.iterdir()) < (30e6 if folder.name == "grada-tiny" else 5e6)
        known = records.verify(folder)
        assert (known.name, known.random, known.revision) == (folder.name, True, "seed 0")
        assert weights in known.sha256


def test_tiny_bytes_follow_the_seed_and_nothing_else(tiny: tuple[Path, Path, Path], tmp_path: Path) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again, other = make_tiny(tmp_path / "again"), make_tiny(tmp_path / "other", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for first, second, third, weights in zip(tiny, again, other, WEIGHTS, strict=True):
        assert records.read_record(first) == records.read_record(second)
        differ = {file for file, digest in records.read_record(third).sha256.items() if digest != records.read_record(first).sha256[file]}
        assert differ == {weights}


def test_tiny_leaves_whole_folders_and_refuses_altered_ones(tmp_path: Path) -> None:
    folders = make_tiny(tmp_path)
    stamps = [(folder / weights).stat().st_mtime_ns for folder, weights in zip(folders, WEIGHTS, strict=True)]
    assert make_tiny(tmp_path) == folders
    assert [(folder / weights).stat().st_mtime_ns for folder, weights in zip(folders, WEIGHTS, strict=True)] == stamps
    (folders[1] / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"config\.json in .*wavlm-tiny: want sha256"):
        make_tiny(tmp_path)


def test_tiny_wavlm_hears_pitch_and_loudness(tiny: tuple[Path, Path, Path]) -> None:
    seconds = np.arange(16000) / 16000
    tones = [loud * np.sin(2 * np.pi * hz * seconds) for hz in (110, 220, 440, 880) for loud in (0.01, 0.05, 0.2)]
    hidden = wavlm.load(tiny[1], **CPU).extract(np.stack(tones).astype(np.float32), np.full(12, 16000))
    mean = hidden.mean(axis=1).reshape(4, 3, -1)  # (pitch, loudness, D)
    assert mean.std(axis=0).mean() > 0.1 * mean.std()
    assert mean.std(axis=1).mean() > 0.1 * mean.std()


def test_tiny_qwen_sees_the_picture(tiny: tuple[Path, Path, Path]) -> None:
    grid = np.random.default_rng(0).integers(0, 256, (6, 6, 10, 3), dtype=np.uint8)
    clips = [np.kron(picture, np.ones((16, 16, 1), np.uint8))[None].repeat(4, axis=0) for picture in grid]
    encoder = qwen3vl.load(tiny[0], **CPU, min_pixels=32 * 32, max_pixels=96 * 96)
    out = encoder.extract(clips, [np.arange(4.0)] * 6).multimodal_last
    assert out.std(axis=0).mean() > 0.1 * out.std()


@pytest.mark.parametrize("side", [64, 128])
def test_tiny_grada_sees_the_picture_and_is_not_saturated(tiny: tuple[Path, Path, Path], side: int) -> None:
    rng = np.random.default_rng(0)
    crops = [np.kron(rng.integers(64, 192, (n, n, 3)), np.ones((120 // n, 120 // n, 1))).astype(np.uint8) for n in (2, 3, 3, 4, 5, 6)]
    found = grada.load(tiny[2], **CPU, side=side).extract(crops)
    assert 0.2 < np.abs(found.embedding).mean() < 0.8
    assert found.embedding.std(axis=0).mean() > 0.15
    assert (np.abs(found.embedding) > 0.99).mean() < 0.1
    assert found.va.std(axis=0).min() > 0.05


def test_tiny_grada_is_settled_alike_by_any_number_of_threads(tiny: tuple[Path, Path, Path], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        _write_grada(tmp_path, 0)
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "grada.pth").read_bytes() == (tiny[2] / "grada.pth").read_bytes()


# --- records ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    (made / "part").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "part" / "model.bin").write_bytes(b"\x00\x01")
    (made / ".cache").mkdir()
    (made / ".cache" / "note").write_text("of the download tool")
    return made


def test_record_is_written_once_and_holds(folder: Path) -> None:
    made = records.record(folder, name="mine", source="a friend", revision="v2")
    assert made.sha256 == {
        "config.json": hashlib.sha256(b"{}").hexdigest(),
        "part/model.bin": hashlib.sha256(b"\x00\x01").hexdigest(),
    }
    assert made == records.read_record(folder) == records.verify(folder)
    assert records.record(folder, name="other name", source="elsewhere") == made
    assert json.loads((folder / "affpipe-weights.json").read_text())["random"] is False


def test_digest_follows_the_files_and_not_the_name(folder: Path, tmp_path: Path) -> None:
    first = records.record(folder, name="mine", source="a")
    (folder / records.RECORD).unlink()
    assert records.record(folder, name="yours", source="b").digest == first.digest
    (folder / records.RECORD).unlink()
    (folder / "config.json").write_text("{ }")
    assert records.record(folder, name="mine", source="a").digest != first.digest


def test_a_revision_means_a_commit_or_the_beginning_of_a_digest(folder: Path) -> None:
    made = records.record(folder, name="mine", source="a friend", revision="v2")
    assert made.pinned == made.digest[:12]
    assert all(made.answers(said) for said in (made.pinned, made.digest, "v2"))
    assert not any(made.answers(said) for said in ("0" * 12, made.digest[1:13], made.digest + "0"))
    commit = "ebb281ec70b05090aa6165b016eac8ec08e71b17"
    fetched = records.WeightsRecord("mine", False, "the hub", commit, made.sha256)
    assert fetched.pinned == commit
    assert fetched.answers(commit)
    assert fetched.answers(made.digest[:12])
    assert not fetched.answers(commit[:12])  # of a commit the whole: one weights, one key


def test_the_commands_say_what_to_write_in_the_settings(hub: list[dict], tmp_path: Path) -> None:
    def lines(*words: str) -> list[str]:
        done = CliRunner().invoke(main.app, ["weights", *words], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output.splitlines()

    fetched = lines("fetch", "qwen3-vl-4b", "--out", str(tmp_path))
    known = records.read_record(tmp_path / "qwen3-vl-4b")
    assert fetched[-1] == f'in the settings, beside their name: weights_revision: "{known.revision}"'
    assert known.digest in fetched[0]
    assert lines("show", "qwen3-vl-4b", "--weights", str(tmp_path)) == fetched
    (tmp_path / "grada.pth").write_bytes(b"weights")
    shown = lines("show", "grada.pth", "--weights", str(tmp_path))
    assert shown[-1] == f'in the settings, beside their name: weights_revision: "{records.read_record(tmp_path / "grada.pth").digest[:12]}"'
    (tmp_path / "grada.pth").write_bytes(b"others")
    for name, said in (("grada.pth", "want sha256"), ("none", "want weights, got nothing"), ("../x", "want weights below")):
        with pytest.raises(WeightsError, match=said):
            lines("show", name, "--weights", str(tmp_path))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "part" / "model.bin").write_bytes(b"\x00\x02"), r"part/model\.bin in .*: want sha256 .*, got .*; fetch mine again"),
        (lambda f: (f / "config.json").unlink(), r"lacks config\.json, which its record lists; fetch mine again"),
        (lambda f: (f / "new.bin").write_bytes(b""), r"holds new\.bin, which its record does not list; remove it"),
        (lambda f: (f / records.RECORD).write_text("{"), "does not read as a record"),
        (lambda f: (f / records.RECORD).write_text('{"name": 1}'), "does not read as a record"),
        (lambda f: (f / records.RECORD).unlink(), r"has no affpipe-weights\.json; record it"),
    ],
)
def test_verify_names_the_fault(folder: Path, harm, message: str) -> None:
    records.record(folder, name="mine", source="a friend")
    harm(folder)
    with pytest.raises(WeightsError, match=message):
        records.verify(folder)


def test_a_single_file_has_its_record_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "grada.pth"
    with pytest.raises(WeightsError, match=r"no .*grada\.pth; fetch the weights, or correct the path"):
        records.record(file, name="grada", source="its authors")
    file.write_bytes(b"weights")
    made = records.record(file, name="grada", source="its authors")
    assert made.sha256 == {"grada.pth": hashlib.sha256(b"weights").hexdigest()}
    assert records.record_path(file) == tmp_path / "grada.pth.affpipe-weights.json"
    file.write_bytes(b"other weights")
    with pytest.raises(WeightsError, match=r"grada\.pth in .*: want sha256"):
        records.record(file, name="grada", source="its authors")


def test_an_empty_folder_is_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no file"):
        records.record(tmp_path, name="none", source="nowhere")


# --- fetch --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A hub that holds every model at commit "abc" or the one asked for, and notes what was downloaded."""
    calls: list[dict] = []

    def model_info(self, repo: str, *, revision: str | None = None) -> SimpleNamespace:
        return SimpleNamespace(sha=revision or "abc")

    def snapshot_download(repo: str, *, revision: str, local_dir: Path, allow_patterns: list[str]) -> str:
        calls.append({"repo": repo, "revision": revision, "files": allow_patterns})
        local_dir.mkdir(parents=True)
        (local_dir / "config.json").write_text("{}")
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_fetch_pins_the_commit_and_records_it(hub: list[dict], tmp_path: Path) -> None:
    made = fetch("qwen3-vl-4b", tmp_path)
    pinned = "ebb281ec70b05090aa6165b016eac8ec08e71b17"
    assert [(call["repo"], call["revision"]) for call in hub] == [("Qwen/Qwen3-VL-4B-Instruct", pinned)]
    assert (made.revision, made.random, made.source) == (pinned, False, "https://huggingface.co/Qwen/Qwen3-VL-4B-Instruct")
    assert records.verify(tmp_path / "qwen3-vl-4b") == made
    assert fetch("qwen3-vl-4b", tmp_path) == made
    assert len(hub) == 1  # whole and recorded: not downloaded again


def test_fetch_resolves_what_nobody_pinned(hub: list[dict], tmp_path: Path) -> None:
    assert fetch("odyssey", tmp_path).revision == "abc"
    assert not any(name.endswith(".py") or name == "*" for entry in CATALOG.values() for name in entry.files)
    assert fetch("wavlm-base", tmp_path, revision="def").revision == "def"
    with pytest.raises(WeightsError, match="holds wavlm-base at def, want abc; fetch it to another folder"):
        fetch("wavlm-base", tmp_path, revision="abc")


def test_fetch_refuses_unknown_names(hub: list[dict], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="unknown name 'bert'; known are odyssey, qwen3-vl-4b, wavlm-base, wavlm-large"):
        fetch("bert", tmp_path)
    assert hub == []


def test_fetch_without_a_network_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(self, repo: str, *, revision: str | None = None) -> None:
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(WeightsError, match=r"cannot download microsoft/wavlm-large \(Name or service not known\); try again") as raised:
        fetch("wavlm-large", tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
