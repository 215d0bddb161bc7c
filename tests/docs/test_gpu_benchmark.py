"""The benchmark on a GPU, as far as a CPU can tell: its rows run on a bare installation, its arithmetic and its experiments are right."""

import json
import math
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from affpipe.models.fusions.dcmmoe.network import DCMMOE
from benchmarks.gpu import arithmetic, qwen, rows, speech, visual
from benchmarks.gpu.clock import Place
from benchmarks.gpu.experts import Batched
from benchmarks.gpu.rows import Case, LackingError

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("av", "mediapipe", "h5py", "pydantic", "typer", "rich", "lightning", "pytorch_lightning", "ultralytics", "snakemake")
ABSENT += ("soundfile", "cv2", "opencv", "decord", "scipy", "skimage", "scikit_image", "matplotlib", "silero_vad", "__editable__")


def place() -> Place:
    return Place(torch.device("cpu"), tiny=True, budget_s=0)


def run_bare(folder: Path, absent: tuple[str, ...], groups: tuple[str, ...] = ()) -> list[dict]:
    """Rows of the benchmark in a Python that has this one's packages except some, and no program on its path."""
    packages = folder / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if entry.name.removesuffix(".py").split("-")[0].split(".")[0].lstrip("_") not in absent and not entry.name.startswith("__"):
            (packages / entry.name).symlink_to(entry)
    environment = {"PYTHONPATH": f"{packages}:{ROOT}", "PATH": "", "HOME": str(folder), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-S", "-m", "benchmarks.gpu", "--tiny", "--json", str(folder / "rows.json"), *groups]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "rows.json").read_text())
    assert found["machine"]["av"] == "none"
    assert "| what |" in done.stdout
    return found["rows"]


@pytest.mark.slow
def test_every_row_is_measured_or_says_what_it_needs(tmp_path):
    found = run_bare(tmp_path, ABSENT)
    lacking = {row["what"]: row["reason"] for row in found if not row["figures"]}
    assert set(lacking.values()) == {"needs a GPU", "needs mamba_ssm and a GPU", "needs ultralytics", "needs av, cv2 or ffmpeg"}
    assert len(lacking) == 7
    for row in found:
        assert bool(row["figures"]) != bool(row["reason"]), row
        assert all(math.isfinite(value) and value >= 0 for value in row["figures"].values()), row


@pytest.mark.slow
def test_without_torchvision_the_network_of_language_is_measured_and_that_of_faces_is_not(tmp_path):
    found = run_bare(tmp_path, (*ABSENT, "torchvision"), ("qwen", "face"))
    reasons = {row["what"]: row["reason"] for row in found}
    assert {reason for what, reason in reasons.items() if what.startswith("EfficientNet")} == {"needs torchvision"}
    assert reasons["96x64, 48 visual tokens, batch 1"] == ""


def later() -> float:
    return time.monotonic() + 60


def test_a_row_that_fails_says_why_and_the_next_is_measured():
    def broken() -> dict[str, float]:
        raise ValueError("no good\nand more")

    def lacks() -> dict[str, float]:
        raise LackingError("a GPU")

    def absent() -> dict[str, float]:
        import no_such_package.part  # noqa: F401

    def own() -> dict[str, float]:
        import affpipe.no_such_module  # noqa: F401

    cases = [Case("a", broken), Case("b", lacks), Case("c", absent), Case("d", own), Case("e", lambda: {"x/s": 2.0}, ("x/s", 3.0))]
    found = list(rows.measured("group", cases, later()))
    reasons = ["ValueError: no good", "needs a GPU", "needs no_such_package"]
    assert [row.reason for row in found[:3]] == reasons
    assert found[3].reason.startswith("ModuleNotFoundError")
    assert [row.failed for row in found] == [True, False, False, True, False]
    assert found[4].figures == {"x/s": 2.0}
    assert found[4].reached is False
    assert "| e | 2 | x/s ≥ 3 **missed** |  |" in rows.markdown(found)


def test_what_a_group_begins_with_may_fail_too():
    def cases():
        yield Case("a", lambda: {"x": 1.0})
        raise ValueError("no more")

    first, last = rows.measured("group", cases(), later())
    assert (first.failed, last.failed, last.what, last.reason) == (False, True, "all", "ValueError: no more")


def test_nothing_is_begun_when_the_time_is_up():
    (row,) = rows.measured("group", [Case("a", lambda: pytest.fail("begun"))], time.monotonic() - 1)
    assert row.failed
    assert "no time left" in row.reason


def test_a_wide_segment_has_as_many_tokens_as_is_said():
    t, h, w = qwen.grid(qwen.SIDES[0])
    assert (t, h, w) == (8, 44, 80)
    assert t * h * w // 4 == 7040


@torch.inference_mode()
def test_arithmetic_of_qwen_agrees_with_what_torch_counts():
    encoder, side = qwen.build(place()), (96, 64)
    row = qwen.segment(encoder, side)
    length, text = row["input_ids"].shape[1], qwen.TINY_TEXT
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as vision:  # the other kernels are not counted on a CPU
        encoder.model.visual(row["pixel_values_videos"].bfloat16(), grid_thw=row["video_grid_thw"])
    assert vision.get_total_flops() == arithmetic.qwen_vision(qwen.TINY_VISION, qwen.grid(side))
    states = torch.randn(1, length, encoder.dim, dtype=torch.bfloat16)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as language:
        encoder.model.language_model(inputs_embeds=states, use_cache=False)
    masked = 2 * length**2 * text["num_attention_heads"] * text["head_dim"] * text["num_hidden_layers"]  # torch counts what is masked too
    assert language.get_total_flops() == arithmetic.qwen_language(text, length) + masked


@torch.inference_mode()
def test_arithmetic_of_wavlm_agrees_with_what_torch_counts():
    encoder = speech._build(place(), speech.WavLMConfig(**speech.TINY), "float32")
    with FlopCounterMode(display=False) as counted:
        encoder.model(torch.randn(1, 64000))
    # Beside what is counted here: the gate of the position bias, 8 numbers of each head's rows.
    assert counted.get_total_flops() == pytest.approx(arithmetic.wavlm(encoder.model.config.to_dict(), 64000), rel=0.01)


def test_experts_in_one_batch_give_and_learn_the_same():
    torch.manual_seed(0)
    dims = {"face": 6, "behaviour": 5, "audio": 4}
    model = DCMMOE(dims, hidden=16, layers=2, heads=4, feedforward=24, dropout=0.5).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # norms and biases too
    batched = Batched(model).eval()
    present = torch.rand(3, 7, 3) < 0.6
    present[0, :, 1] = False
    streams = {name: torch.randn(3, 7, dim) for name, dim in dims.items()}
    for ours, theirs in zip(batched(streams, present), model(streams, present), strict=True):
        torch.testing.assert_close(ours, theirs)
    weight = torch.randn(3, 7, 2)
    for network in (model, batched):
        (network(streams, present).prediction * weight).sum().backward()
    for name in ("0.attention.key.weight", "1.feedforward.3.bias", "1.norm_attention.weight"):
        alone = torch.stack([dict(stack.named_parameters())[name].grad for stack in model.stacks])
        torch.testing.assert_close(batched.weights[name.replace(".", "/")].grad, alone)


class Fixed:
    """A decoder of frames that lie in memory."""

    def __init__(self, planes: list[np.ndarray] | None, rgb: list[np.ndarray]):
        self.planes = None if planes is None else lambda path: iter(planes)
        self.rgb = lambda path: iter(rgb)


def squares(decoder: Fixed, way: type[visual.OnCPU]) -> torch.Tensor:
    encoder = visual.grada(place(), torch.float32, 4)
    ours = way(decoder, Path(), encoder)
    buffer, numbers = visual._buffer(ours, 3), np.arange(3)
    for number, image in enumerate(ours.images()):
        ours.fill(buffer, number, image, number)
    return ours.squares(buffer, numbers).float()


def test_a_square_that_needs_no_resizing_is_the_pixels_of_the_frame():
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (160, 200, 3), dtype=np.uint8) for _ in range(3)]  # a face has 64 pixels, as the tiny network sees
    here, there = (squares(Fixed(None, frames), way) for way in (visual.OnCPU, visual.OnGPU))
    x, y, side = visual.face(2, 160, 200)
    assert side == 64
    assert np.array_equal(here[2].numpy(), frames[2][y : y + 64, x : x + 64])
    torch.testing.assert_close(there, here, atol=0.02, rtol=0)


def test_planes_become_colours():
    # Red, green and blue in limited range, BT.601: (81, 90, 240), (145, 54, 34), (41, 240, 110).
    colours, planes = np.eye(3) * 255, []
    for luma, u, v in ((81, 90, 240), (145, 54, 34), (41, 240, 110)):
        chroma = np.concatenate([np.full(8000, u), np.full(8000, v)]).reshape(80, 200)
        planes.append(np.concatenate([np.full((160, 200), luma), chroma]).astype(np.uint8))
    found = squares(Fixed(planes, []), visual.OnGPU)
    assert np.abs(found.mean(dim=(1, 2)).numpy() - colours).max() < 3
    assert found.std(dim=(1, 2)).max() < 1e-3


def test_a_film_gives_the_same_faces_both_ways(tmp_path):
    decoder, path = visual.film.PyAV(), tmp_path / "film.mp4"
    decoder.write(path, 6, (200, 160))
    assert decoder.count(path) == 6
    encoder = visual.grada(place(), torch.float32, 4)
    ways = {"CPU": visual.OnCPU(decoder, path, encoder), "GPU": visual.OnGPU(decoder, path, encoder)}
    assert visual._compare(ways, 4) < 3  # grey levels: chroma is drawn out in another way
    for way in ways.values():
        visual._run(way, 4, 6, threads=2)  # raises unless all twelve frames came


def test_a_fault_of_a_decoding_thread_is_told(tmp_path):
    encoder = visual.grada(place(), torch.float32, 4)
    way = visual.OnCPU(Fixed(None, [np.zeros((160, 200, 3), np.uint8)]), tmp_path, encoder)
    way.fill = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        visual._run(way, 4, 1, threads=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_real_sizes_want_a_gpu():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "want a CUDA device, got none" in done.stderr
