"""Checkpoints from outside: reading one never runs what is in it, and a trusted one can be made into numbers alone."""

import ast
import json
import os
import shutil
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from learnable import MODELS, entries, make_plan
from safetensors.torch import load_file

import affpipe
from affpipe.cli import main
from affpipe.core.errors import WeightsError
from affpipe.encoders.grada import network as grada
from affpipe.encoders.qwen3vl import network as qwen3vl
from affpipe.encoders.tiny_weights import make_tiny
from affpipe.encoders.wavlm import network as wavlm
from affpipe.faces.yolo import detector
from affpipe.jobs.fitting import fit
from affpipe.media.sound import voice
from affpipe.models.predictor import model_path
from affpipe.system.weights import checkpoint
from affpipe.system.weights.convert import convert

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
PACKAGE = Path(affpipe.__file__).parent

# torch warns where an explicit weights_only goes before the variable below
pytestmark = pytest.mark.filterwarnings("ignore:.*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.*")


@pytest.fixture(autouse=True)
def unguarded(monkeypatch):
    """The variable by which torch's default becomes to run everything: what is loaded safely says so itself."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    make_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def state(tiny) -> dict[str, torch.Tensor]:
    return torch.load(tiny / "grada-tiny/grada.pth", weights_only=True)


class Evil:
    """Unpickles as a call that leaves a file behind."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)


# ---- the code ---------------------------------------------------------------------------------------------------------------------------


@cache
def calls() -> list[tuple[str, str, dict[str, object]]]:
    """Every call in the package: file:line, dotted name, its keyword arguments that are constants."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
                found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", ast.unparse(node.func), given))
    return found


def test_nothing_in_the_package_unpickles_but_what_a_person_said_to_trust():
    unguarded = [where for where, name, given in calls() if name == "torch.load" and given.get("weights_only") is not True]
    assert [where.partition(":")[0] for where in unguarded] == ["system/weights/convert.py"]
    assert [where.partition(":")[0] for where, name, _ in calls() if name == "torch.jit.load"] == [
        "media/sound/voice.py"
    ]  # held to a checksum
    assert all(given.get("weights_only") is True for _, name, given in calls() if name == "trainer.fit")
    assert not [where for where, name, _ in calls() if name == "torch_safe_load"]
    assert not [where for where, name, given in calls() if name == "np.load" or given.get("allow_pickle")]


def test_nothing_in_the_package_runs_text_or_a_shell():
    runs = {
        "eval",
        "exec",
        "compile",
        "os.system",
        "os.popen",
        "yaml.load",
        "torch.hub.load",
        "pickle.load",
        "pickle.loads",
        "marshal.loads",
    }
    asked = {"system/device.py", "jobs/doctor/machine.py"}  # torch for the number of GPUs, SLURM for what it has; by lists of words
    found = [(where.partition(":")[0], name) for where, name, given in calls() if name in runs or given.get("shell")]
    found += [(where.partition(":")[0], name) for where, name, _ in calls() if name.startswith("subprocess.")]
    assert {where for where, _ in found} == asked


def test_pretrained_networks_come_from_the_disk_without_code():
    loads = [given for _, name, given in calls() if name.endswith(".from_pretrained")]
    assert loads
    assert all(given.get("local_files_only") is True for given in loads)
    assert not any(given.get("trust_remote_code") for given in loads)


# ---- the loaders ------------------------------------------------------------------------------------------------------------------------


def loaders(folder: Path, tiny: Path, zipped: bool, mark: Path) -> dict[str, object]:
    """Loader -> a call that gives it a checkpoint which would run something."""

    def save(path: Path) -> Path:
        torch.save({"model": Evil(mark), "x": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
        return path

    wav, qwen = shutil.copytree(tiny / "wavlm-tiny", folder / "wavlm"), shutil.copytree(tiny / "qwen3vl-tiny", folder / "qwen")
    for name in (wav, qwen):
        (name / "model.safetensors").unlink()
        save(name / "pytorch_model.bin")
    return {
        "grada": lambda: grada.load(save(folder / "g.pth"), **CPU),
        "wavlm": lambda: wavlm.load(wav, **CPU),
        "qwen3vl": lambda: qwen3vl.load(qwen, **CPU, min_pixels=32 * 32, max_pixels=64 * 64),
        "yolo": lambda: detector.YoloDetector(save(folder / "y.pt")),
        "silero": lambda: voice.load(save(folder / "s.jit"), device=torch.device("cpu")),
        "convert": lambda: convert(save(folder / "c.pt"), folder / "c.safetensors"),
        "read": lambda: checkpoint.read("x", save(folder / "r.bin")),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["grada", "wavlm", "qwen3vl", "yolo", "silero", "convert", "read"])
def test_a_checkpoint_that_would_run_something_is_refused_in_one_line_and_runs_nothing(tiny, tmp_path, name, zipped):
    mark = tmp_path / "ran"
    with pytest.raises(WeightsError) as raised:
        loaders(tmp_path, tiny, zipped, mark)[name]()
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)  # torch's advice is to load it without the restriction
    assert not mark.exists()


def test_the_code_of_a_checkpoint_folder_is_not_run(tiny, tmp_path):
    """A folder may bring classes of its own, named in its configuration: transformers would ask, and then import them."""
    mark = tmp_path / "ran"
    for name, load in {
        "wavlm-tiny": lambda path: wavlm.load(path, **CPU),
        "qwen3vl-tiny": lambda path: qwen3vl.load(path, **CPU, min_pixels=32 * 32, max_pixels=64 * 64),
    }.items():
        folder = shutil.copytree(tiny / name, tmp_path / name)
        (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
        for file in folder.glob("*config.json"):
            said = json.loads(file.read_text())
            auto = {auto: "evil.Evil" for auto in ("AutoConfig", "AutoModel", "AutoProcessor", "AutoTokenizer", "AutoVideoProcessor")}
            file.write_text(json.dumps(said | {"auto_map": auto}))
        load(folder)
        assert not mark.exists()


def test_a_fit_goes_on_from_numbers_alone(tmp_path, caplog):
    """Its state lies in the cache, which may be shared; one that is none, or that asks for more, is not gone on from."""
    mark = tmp_path / "ran"
    plan = make_plan(tmp_path)
    folder = plan.folder("behaviour") / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"state_dict": {}, "epoch": Evil(mark)}, folder / "last.ckpt")
    fit(plan, "behaviour", entries(plan))
    assert "last.ckpt does not read as weights" in caplog.text
    assert "fitted from the start" in caplog.text
    assert not mark.exists()
    assert not folder.exists()


@pytest.mark.parametrize("training", [{}, {"ema_decay": 0.9, "schedule": "cosine"}, {"precision": "mixed"}], ids=str)
def test_the_state_of_every_kind_of_fit_is_numbers_alone(tmp_path, monkeypatch, training):
    """Else no fit would go on."""
    model = MODELS["behaviour"]
    plan = make_plan(tmp_path, models={"behaviour": model | {"training": model["training"] | training}}, publish="behaviour")
    monkeypatch.setattr("affpipe.models.fit.shutil.rmtree", lambda folder, **how: None)
    fit(plan, "behaviour", entries(plan))
    path = plan.folder("behaviour") / "checkpoints/last.ckpt"
    found, want = checkpoint.read("fit", path), torch.load(path, weights_only=True)
    assert found.keys() == want.keys()
    assert found["callbacks"].keys() == want["callbacks"].keys()
    for name, value in want["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value)


def test_a_fit_whose_state_was_cut_short_starts_anew_and_ends_the_same(tmp_path):
    plan = make_plan(tmp_path)
    fit(plan, "behaviour", entries(plan))
    path = model_path(plan.folder("behaviour"))
    whole = path.read_bytes()
    path.unlink()
    folder = plan.folder("behaviour") / "checkpoints"
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(b"PK\x03\x04 half of a checkpoint")
    fit(plan, "behaviour", entries(plan))
    assert path.read_bytes() == whole


def test_an_archive_that_unfolds_is_refused_before_it_is_read(tiny, state, tmp_path):
    """Two megabytes of zeros in a few kilobytes: torch itself would unfold them, whatever their number."""
    torch.save({"x": torch.zeros(500_000)}, tmp_path / "plain.pt")
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as folded:
        for member in plain.infolist():
            folded.writestr(member.filename, plain.read(member))
    assert bomb.stat().st_size < 10_000
    assert len(torch.load(bomb, weights_only=True)["x"]) == 500_000
    shutil.copytree(tiny / "wavlm-tiny", tmp_path / "wav")
    (tmp_path / "wav/model.safetensors").unlink()
    shutil.copy(bomb, tmp_path / "wav/pytorch_model.bin")
    for load in (
        lambda: grada.load(bomb, **CPU),
        lambda: wavlm.load(tmp_path / "wav", **CPU),
        lambda: detector.YoloDetector(bomb),
        lambda: convert(bomb, tmp_path / "x.safetensors", trust=True),
    ):
        with pytest.raises(WeightsError, match=r"want tensors as they are, got \d+ bytes that unfold to 2000\d+: do not trust it"):
            load()


def test_a_checkpoint_that_asks_for_the_whole_memory_is_refused(tmp_path):
    """Weights-only unpickling makes byte arrays of any length."""
    pickled = b"\x80\x02cbuiltins\nbytearray\n\x8a\x08" + (2**62).to_bytes(8, "little") + b"\x85R."
    (tmp_path / "old.pt").write_bytes(pickled)
    torch.save({}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "new.pt", "w") as out:
        for member in plain.infolist():
            out.writestr(member.filename, pickled if member.filename.endswith("data.pkl") else plain.read(member))
    for name in ("old.pt", "new.pt"):
        with pytest.raises(WeightsError, match="does not read as weights"):
            checkpoint.read("x", tmp_path / name)


@pytest.mark.parametrize("length", [2**62, 2**31, 101 << 20])
def test_a_header_of_safetensors_that_is_longer_than_any_is_refused(tmp_path, length):
    (tmp_path / "x.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}" * 50)
    with pytest.raises(WeightsError, match="does not read as weights"):
        checkpoint.read_safe("x", tmp_path / "x.safetensors")


# ---- convert ----------------------------------------------------------------------------------------------------------------------------

TENSORS = {
    "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,  # not contiguous
    "a.half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "flag": torch.tensor([True, False]),
    "none": torch.zeros(0, 4),
}


def same(found: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> bool:
    return found.keys() == want.keys() and all(
        found[k].dtype == v.dtype and found[k].shape == v.shape and torch.equal(found[k], v) for k, v in want.items()
    )


@pytest.mark.parametrize("under", ["", "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("zipped", [True, False])
def test_names_shapes_types_and_values_are_kept(tmp_path, under, zipped):
    tied = TENSORS | {"b.weight": TENSORS["a.weight"], "row": TENSORS["a.weight"][1]}  # one storage, three tensors
    torch.save({under: tied, "epoch": 3} if under else tied, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    made = convert(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert same(load_file(tmp_path / "x.safetensors"), tied)
    assert (made.tensors, made.under, made.left_out) == (len(tied), under, ("epoch",) if under else ())


def test_what_is_no_tensor_is_left_out_and_named(tmp_path):
    torch.save({"state_dict": TENSORS | {"version": 2}, "lr": 0.1, "optimizer": {"state": {}}}, tmp_path / "x.pt")
    assert convert(tmp_path / "x.pt", tmp_path / "x.safetensors").left_out == ("state_dict.version", "lr", "optimizer")
    assert same(load_file(tmp_path / "x.safetensors"), TENSORS)


def test_a_file_that_asks_for_more_is_unpickled_only_where_it_is_trusted(tmp_path):
    """Numpy's numbers, which programs for training leave in their checkpoints, are reason enough."""
    source, out = tmp_path / "x.pt", tmp_path / "x.safetensors"
    torch.save({"model": TENSORS, "best": np.float64(0.5)}, source)
    with pytest.raises(
        WeightsError, match=r"it asks for numpy.*; to unpickle it runs whatever program .*: if you trust .*, add --trust"
    ) as e:
        convert(source, out)
    assert "\n" not in str(e.value)
    assert not out.exists()
    assert convert(source, out, trust=True).left_out == ("best",)
    assert same(load_file(out), TENSORS)


def test_a_trusted_network_gives_its_state(tmp_path):
    net = torch.nn.Linear(3, 2)
    for i, content in enumerate((net, {"model": net, "epoch": 1})):
        torch.save(content, tmp_path / f"{i}.pt")
        with pytest.raises(WeightsError, match="add --trust"):
            convert(tmp_path / f"{i}.pt", tmp_path / f"{i}.safetensors")
        convert(tmp_path / f"{i}.pt", tmp_path / f"{i}.safetensors", trust=True)
        assert same(load_file(tmp_path / f"{i}.safetensors"), dict(net.state_dict()))


def test_the_encoder_of_a_converted_file_is_that_of_the_checkpoint(tiny, state, tmp_path):
    torch.save({"state_dict": state, "epoch": 3, "scores": np.zeros(2)}, tmp_path / "run.pth")
    (tmp_path / "folder").mkdir()
    made = convert(tmp_path / "run.pth", tmp_path / "folder/grada.safetensors", trust=True).path
    crops = [np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)]
    want = grada.load(tiny / "grada-tiny", **CPU, side=64).extract(crops)
    for path in (made, made.parent):
        for ours, theirs in zip(grada.load(path, **CPU, side=64).extract(crops), want, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_wavlm_of_a_converted_checkpoint_is_the_same(tiny, tmp_path):
    folder = shutil.copytree(tiny / "wavlm-tiny", tmp_path / "wav")
    (folder / "model.safetensors").unlink()
    torch.save(load_file(tiny / "wavlm-tiny/model.safetensors"), tmp_path / "pytorch_model.bin")
    convert(tmp_path / "pytorch_model.bin", folder / "model.safetensors")
    rows, lengths = np.random.default_rng(0).normal(0, 0.1, (1, 4000)).astype(np.float32), np.array([4000])
    want = wavlm.load(tiny / "wavlm-tiny", **CPU).extract(rows, lengths)
    np.testing.assert_array_equal(wavlm.load(folder, **CPU).extract(rows, lengths), want)


BAD = {
    "no state": ({"epoch": 1, "lr": 0.1}, r"want a state dict, at the top or under .*, got a dict of \['epoch', 'lr'\]"),
    "a list": ([torch.zeros(2)], "want a state dict, at the top or under .*, got a list"),
    "numbers for names": ({0: torch.zeros(2)}, "want a state dict"),
    "a tensor larger than the file": (
        {"x": torch.zeros(1).expand(10**12)},
        r"want tensors that it holds, got \d+ bytes that make 4000000000000",
    ),
    "a sparse one": ({"x": torch.eye(3).to_sparse()}, r"it asks for torch\._utils\._rebuild_sparse_tensor"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")
def test_what_cannot_be_converted_is_said_in_one_line_and_leaves_nothing(tmp_path, case):
    content, said = BAD[case]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=said) as raised:
        convert(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert "\n" not in str(raised.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


def test_a_file_that_is_there_is_never_written_over(tmp_path):
    torch.save(TENSORS, tmp_path / "x.pt")
    (tmp_path / "mine.safetensors").write_bytes(b"mine")
    for out in ("mine.safetensors", "x.pt", "x.pth"):
        with pytest.raises(WeightsError, match=r"want a new file whose name ends in \.safetensors"):
            convert(tmp_path / "x.pt", tmp_path / out)
    assert (tmp_path / "mine.safetensors").read_bytes() == b"mine"
    with pytest.raises(WeightsError, match="want a checkpoint, got no file"):
        convert(tmp_path / "gone.pt", tmp_path / "x.safetensors")


def test_the_command_says_what_it_wrote_and_left_out(tmp_path, monkeypatch, capsys):
    torch.save({"model": TENSORS, "best": np.float64(0.5)}, tmp_path / "x.pt")
    monkeypatch.chdir(tmp_path)

    def run(*more: str) -> int | None:
        monkeypatch.setattr(sys, "argv", ["affpipe", "weights", "convert", "x.pt", "x.safetensors", *more])
        with pytest.raises(SystemExit) as left:
            main.main()
        return left.value.code

    assert run() == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("affpipe: convert: x.pt: it asks for numpy")
    assert not run("--trust")
    assert capsys.readouterr().out.splitlines() == [
        "x.safetensors: 5 tensors from model",
        "left out, as they are no tensors: best",
    ]
