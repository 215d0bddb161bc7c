"""GRADA: the published keys, sizes and preprocessing; what reaches the network is the detector's box and nothing else."""

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from affpipe.core.errors import InputError, SettingsError, WeightsError
from affpipe.data.manifest import Row
from affpipe.encoders.grada import network as grada
from affpipe.encoders.grada import worker
from affpipe.encoders.grada.network import Embedded, GradaNet, letterbox
from affpipe.encoders.tiny_weights import _write_grada
from affpipe.faces import crop as cropping
from affpipe.plan.config import parse
from affpipe.plan.plan import Plan
from affpipe.store.item_streams import Job
from affpipe.store.streams import Stream
from affpipe.system.compat import ensure_torchvision
from affpipe.system.weights import records

ensure_torchvision()

from torchvision.models import efficientnet_b1  # noqa: E402

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "grada-tiny"
    folder.mkdir()
    _write_grada(folder, 0)
    records.record(folder, name=folder.name, source="a test", random=True)
    return folder


@pytest.fixture(scope="module")
def state(tiny: Path) -> dict[str, torch.Tensor]:
    return torch.load(tiny / "grada.pth", weights_only=True)


def picture(height: int, width: int) -> np.ndarray:
    """Four by four colours, blurred into each other."""
    coarse = Image.fromarray(RNG.integers(40, 216, (4, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


# --- letterbox ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(96, 96), (200, 100), (100, 200), (31, 30), (7, 96), (300, 299), (1, 500), (500, 1)])
@pytest.mark.parametrize("side", [32, 96, 240])
def test_letterbox_keeps_the_ratio_and_pads_with_zeros_on_both_sides(shape: tuple[int, int], side: int) -> None:
    image = RNG.integers(1, 256, (*shape, 3), dtype=np.uint8)
    out = letterbox(image, side)
    assert (out.shape, out.dtype) == ((side, side, 3), np.uint8)
    inside = out.any(axis=2)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert inside.sum() == len(rows) * len(columns)  # one rectangle
    for found, length in ((rows, shape[0]), (columns, shape[1])):
        assert max(1, length * side / max(shape) - 1) <= len(found) <= max(1, length * side / max(shape))
        before, after = found[0], side - 1 - found[-1]
        assert after - before in (0, 1)


def test_letterbox_is_pillows_bilinear_filter() -> None:
    image = RNG.integers(0, 256, (150, 75, 3), dtype=np.uint8)
    want = np.asarray(Image.fromarray(image).resize((48, 96), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(letterbox(image, 96)[:, 24:72], want)


def test_letterbox_leaves_alone_what_fits() -> None:
    for side in (64, 240):
        image = RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)
        np.testing.assert_array_equal(letterbox(image, side), image)
    assert (letterbox(np.full((50, 20, 3), 137, np.uint8), 100)[:, 30:70] == 137).all()


def test_letterbox_cuts_sizes_off_as_published() -> None:
    """11 * (240 / 11) is less than 240 in floating point, and the published code takes the whole part."""
    out = letterbox(np.full((11, 11, 3), 9, np.uint8), 240)
    assert (out[:239, :239] == 9).all()
    assert not out[239].any()
    assert not out[:, 239].any()


# --- the network --------------------------------------------------------------------------------------------------------------------


def test_keys_are_the_published_ones(state: dict[str, torch.Tensor]) -> None:
    trunk = {f"model.{name}": value.shape for name, value in efficientnet_b1(weights=None).state_dict().items() if "classifier" not in name}
    heads = {
        "embeddings_layer.weight": (256, 1280), "embeddings_layer.bias": (256,),
        "batchnorm.weight": (256,), "batchnorm.bias": (256,), "batchnorm.running_mean": (256,), "batchnorm.running_var": (256,),
        "batchnorm.num_batches_tracked": (),
        "classifier.weight": (8, 256), "classifier.bias": (8,), "regression.weight": (2, 256), "regression.bias": (2,),
    }  # fmt: skip
    assert {name: tuple(value.shape) for name, value in state.items()} == {k: tuple(v) for k, v in (trunk | heads).items()}


def test_parameter_count() -> None:
    with torch.device("meta"):
        network = GradaNet()
    count = {name: sum(p.numel() for p in child.parameters()) for name, child in network.named_children()}
    assert count["model"] == 6_513_184
    assert count["embeddings_layer"] == 1280 * 256 + 256
    assert (count["batchnorm"], count["classifier"], count["regression"]) == (2 * 256, 256 * 8 + 8, 256 * 2 + 2)
    assert sum(count.values()) == 6_844_202


def test_forward_and_backward_at_paper_size(state: dict[str, torch.Tensor]) -> None:
    network = GradaNet().train()
    network.load_state_dict(state)
    embedding, emotion, va = network(torch.randn(2, 3, 240, 240, generator=torch.Generator().manual_seed(0)))
    assert (embedding.shape, emotion.shape, va.shape) == ((2, 256), (2, 8), (2, 2))
    assert embedding.abs().max() <= 1
    (emotion.square().sum() + va.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert network.model.features[0][0].weight.grad.any()


# --- the encoder --------------------------------------------------------------------------------------------------------------------


def test_outputs_follow_the_published_formula(tiny: Path, state: dict[str, torch.Tensor]) -> None:
    crops = [picture(64, 64), picture(80, 50), picture(20, 30)]
    found = grada.load(tiny, **CPU, side=64).extract(crops)

    trunk = efficientnet_b1(weights=None).eval()
    trunk.classifier = nn.Identity()
    trunk.load_state_dict({name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")})
    pixels = np.stack([letterbox(crop, 64) for crop in crops]).astype(np.float64)
    x = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        pooled = trunk(torch.from_numpy(x.transpose(0, 3, 1, 2)).float()).double().numpy()
    s = {name: value.double().numpy() for name, value in state.items() if not name.startswith("model.")}
    h = pooled @ s["embeddings_layer.weight"].T + s["embeddings_layer.bias"]
    h = (h - s["batchnorm.running_mean"]) / np.sqrt(s["batchnorm.running_var"] + 1e-5) * s["batchnorm.weight"] + s["batchnorm.bias"]
    h = np.tanh(h)
    arousal, valence = (h @ s["regression.weight"].T + s["regression.bias"]).T
    assert [part.dtype for part in found] == [np.float32] * 3
    np.testing.assert_allclose(found.embedding, h, atol=1e-4)
    np.testing.assert_allclose(found.emotion, h @ s["classifier.weight"].T + s["classifier.bias"], atol=1e-4)
    np.testing.assert_allclose(found.va, np.stack([valence, arousal], axis=1), atol=1e-4)


def test_batch_size_and_company_change_nothing(tiny: Path) -> None:
    crops = [picture(40 + 9 * i, 70 - 5 * i) for i in range(7)]
    whole = grada.load(tiny, **CPU, side=64, batch_size=7).extract(crops)
    for size in (1, 3):
        for part, again in zip(whole, grada.load(tiny, **CPU, side=64, batch_size=size).extract(crops), strict=True):
            np.testing.assert_allclose(again, part, atol=2e-5)
    backwards = grada.load(tiny, **CPU, side=64, batch_size=4).extract(crops[::-1])
    np.testing.assert_allclose(backwards.embedding[::-1], whole.embedding, atol=2e-5)


def test_several_threads_may_call_it_at_the_same_time(tiny: Path) -> None:
    encoder = grada.load(tiny, **CPU, side=64, batch_size=2)
    work = [[picture(60, 50 + i)] * (1 + i % 3) for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for crops, found in zip(work, pool.map(encoder.extract, work), strict=True):
            for one, other in zip(encoder.extract(crops), found, strict=True):
                np.testing.assert_array_equal(one, other)


def test_no_crops_are_no_rows(tiny: Path) -> None:
    assert [part.shape for part in grada.load(tiny, **CPU, side=64).extract([])] == [(0, 256), (0, 8), (0, 2)]


@pytest.mark.parametrize(
    "crop", [np.zeros((9, 9, 3), np.float32), np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((0, 9, 3), np.uint8)]
)
def test_crops_of_another_kind_are_refused(tiny: Path, crop: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"grada: want crops as uint8 \(h, w, 3\), got "):
        grada.load(tiny, **CPU, side=64).extract([picture(9, 9), crop])


def real_faces(media: Path) -> list[np.ndarray]:
    """The speaker's face of three clips, at two moments."""
    from affpipe.media.picture.decode import frames

    clips = ("grid_bbaf2n.mpg", "grid_brbk7n.mpg", "grid_id2_vcd_swwp2s.mpg")
    shots = [image for clip in clips for _, _, image in frames(media / clip, backend="pyav", wanted=np.array([10, 50]))]
    return [image[80:260, 100:260] for image in shots]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_bfloat16_gives_the_direction_of_float32(tiny: Path, media: Path, backend: str) -> None:
    """The batch norms hold statistics of pictures, so that random weights neither fade nor saturate, and faces differ from one another."""
    if backend == "openvino":
        pytest.importorskip("openvino")
    faces = real_faces(media)
    half = grada.load(tiny, device=CPU["device"], dtype=torch.bfloat16, backend=backend).extract(faces).embedding
    exact = grada.load(tiny, **CPU).extract(faces).embedding
    assert cosines(exact[:-2], exact[2:]).max() < 0.99
    assert cosines(exact, half).min() >= 0.999
    assert not np.array_equal(exact, half)


def test_openvino_differs_from_torch_by_rounding(tiny: Path) -> None:
    pytest.importorskip("openvino")
    crops = [picture(40 + 9 * i, 70 - 5 * i) for i in range(5)]
    want = grada.load(tiny, **CPU, side=64).extract(crops)
    for size in (2, 5):  # of a batch: the last one is shorter
        encoder = grada.load(tiny, **CPU, side=64, batch_size=size, backend="openvino")
        for part, same in zip(encoder.extract(crops), want, strict=True):
            np.testing.assert_allclose(part, same, atol=5e-5)
    assert [part.shape for part in encoder.extract([])] == [(0, 256), (0, 8), (0, 2)]


def test_openvino_that_is_not_installed_is_refused_in_one_line(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        SettingsError, match=r"grada: backend openvino wants the package openvino, got none; pip install affpipe\[openvino\]"
    ):
        grada.load(tiny, **CPU, backend="openvino")


def test_openvino_on_a_gpu_is_refused(tmp_path: Path, tiny: Path) -> None:
    plan = settings(tmp_path, tiny, backend="openvino")
    assert plan.features["grada"].spec() == settings(tmp_path, tiny).features["grada"].spec()  # it differs by rounding, as a device does
    with pytest.raises(
        SettingsError, match=r"features\.grada\.backend: openvino runs on a CPU, got device cuda; set torch, or device: cpu"
    ):
        parse({**plan.model_dump(mode="json"), "device": "cuda"})


def test_folded_batch_norms_change_rounding_alone(state: dict[str, torch.Tensor]) -> None:
    nets = [GradaNet().eval() for _ in range(2)]
    for net in nets:
        net.load_state_dict(state)
        net.double()
    grada.fold(nets[1])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in nets[1].modules())
    x = torch.from_numpy(np.stack([picture(64, 64) for _ in range(2)])).permute(0, 3, 1, 2).double() / 128 - 1
    with torch.no_grad():
        for folded, whole in zip(nets[1](x), nets[0](x), strict=True):
            torch.testing.assert_close(folded, whole, atol=1e-10, rtol=0)


def test_pixels_are_normalised_as_published() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    got = grada.Prepared(GradaNet(), torch.float32).normalise(torch.from_numpy(every))
    want = (every / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(got.numpy(), want.transpose(0, 3, 1, 2), atol=1e-6)
    assert got.is_contiguous(memory_format=torch.channels_last)


# --- checkpoints --------------------------------------------------------------------------------------------------------------------


def test_a_file_a_folder_and_two_wrappings_load_alike(tiny: Path, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    crops = [picture(50, 50)]
    want = grada.load(tiny, **CPU, side=64).extract(crops).embedding
    wrapped = {f"module.{name}": value for name, value in state.items()}
    for i, content in enumerate((state, {"state_dict": dict(state)}, wrapped, {"state_dict": wrapped})):
        torch.save(content, tmp_path / f"{i}.pth")
        np.testing.assert_array_equal(grada.load(tmp_path / f"{i}.pth", **CPU, side=64).extract(crops).embedding, want)


BAD = {
    "missing": (lambda s: {k: v for k, v in s.items() if k != "batchnorm.running_mean"}, r"Missing key\(s\).*batchnorm\.running_mean"),
    "left over": (lambda s: {**s, "head.bias": torch.zeros(1)}, r"Unexpected key\(s\).*head\.bias"),
    "shape": (lambda s: {**s, "regression.weight": torch.zeros(3, 256)}, "size mismatch for regression.weight"),
    "half wrapped": (lambda s: {"module.x": torch.zeros(1), **s}, r"Unexpected key\(s\).*module\.x"),
    "training state": (lambda s: {"state_dict": s, "epoch": 3}, r"want a state dict of tensors, got a dict of \['epoch', 'state_dict'\]"),
    "list": (lambda s: [1, 2], "want a state dict of tensors, got a list"),
    "empty": (lambda s: {}, "want a state dict of tensors, got a dict of"),
    "network": (lambda s: nn.Linear(2, 2), "(does not read as weights|want a state dict of tensors)"),
}


@pytest.mark.parametrize("case", BAD)
def test_another_checkpoint_is_refused_in_one_line(state: dict[str, torch.Tensor], tmp_path: Path, case: str) -> None:
    alter, said = BAD[case]
    torch.save(alter(dict(state)), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=rf"grada: .*{said}") as raised:
        grada.load(tmp_path, **CPU)
    assert "\n" not in str(raised.value)


def test_what_is_no_checkpoint_is_refused_in_one_line(tiny: Path, tmp_path: Path) -> None:
    half = (tiny / "grada.pth").read_bytes()[:100_000]
    buffer = io.BytesIO()
    torch.save({}, buffer)
    for i, content in enumerate((b"", b"no weights", half, buffer.getvalue()[:-20])):
        (tmp_path / f"{i}.pth").write_bytes(content)
        with pytest.raises(WeightsError, match=rf"grada: .*{i}\.pth does not read as weights") as raised:
            grada.load(tmp_path / f"{i}.pth", **CPU)
        assert "\n" not in str(raised.value)
    for i, content in enumerate((b"\x80\x02R.", b"\x80\x02h\x07.")):  # a pickle that takes from nothing, and one that looks up nothing
        (tmp_path / f"bad{i}").write_bytes(content)
        with pytest.raises(WeightsError, match=rf"grada: .*bad{i} does not read as weights"):
            grada.load(tmp_path / f"bad{i}", **CPU)
    with pytest.raises(WeightsError, match=r"want one \.pth or \.safetensors file in it, got \['0\.pth', '1\.pth'"):
        grada.load(tmp_path, **CPU)
    (tmp_path / "none").mkdir()
    with pytest.raises(WeightsError, match=r"want one \.pth or \.safetensors file in it, got \[\]"):
        grada.load(tmp_path / "none", **CPU)
    with pytest.raises(WeightsError, match=r"gone\.pth does not read as weights"):
        grada.load(tmp_path / "gone.pth", **CPU)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_does_not(tmp_path: Path, zipped: bool) -> None:
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": {"x": Evil()}}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="more in it than tensors: do not trust it") as raised:
        grada.load(tmp_path / "x.pth", **CPU)
    assert "weights_only" not in str(raised.value)  # torch's advice is to load it without the restriction
    assert not (tmp_path / "ran").exists()


# --- the stage ----------------------------------------------------------------------------------------------------------------------

# A frame whose colour says where a pixel lies: red is x, green is y, and blue is bright, unlike the black outside of it.
HEIGHT, WIDTH = 240, 250
FRAME = np.stack([*np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), np.full((HEIGHT, WIDTH), 200)], axis=2).astype(np.uint8)


def settings(tmp_path: Path, tiny: Path, faces: dict | None = None, **feature):
    return parse(
        {
            "cache": str(tmp_path / "cache"),
            "weights": str(tiny.parent),
            "faces": {"jpeg_quality": 100, **(faces or {})},
            "features": {"grada": {"encoder": "grada", "side": 64, **feature}},
            "models": {"face": {"kind": "transformer", "reads": "grada"}},
            "publish": "face",
        }
    )


def store(plan: Plan, boxes: list, row: list[int]) -> Job:
    """The streams `faces` (a face a box) and `subject`, and the job of `grada` that reads them."""
    (item,) = plan.items("grada")
    s = plan.settings.faces
    cuts = [cropping.cut(FRAME, np.array(box, np.float32), s.crop_margin, s.crop_side) for box in boxes]
    n, times = len(boxes), np.arange(max(len(boxes), len(row))) / 25
    faces = plan.job("faces", plan.item("faces", item))
    faces.write(
        faces.header(Fraction(25)),
        values=np.array(boxes, np.float32).reshape(n, 4),
        start_s=times[:n],
        end_s=times[:n] + 0.04,
        valid=np.ones(n, bool),
        crop_box=np.array([box for _, box in cuts], np.int32).reshape(n, 4),
        crop=[cropping.encode_jpeg(crop, s.jpeg_quality) for crop, _ in cuts],
    )
    subject, seen = plan.job("subject", item), np.array(row) >= 0
    values = np.where(seen[:, None], np.array(boxes, np.float32)[row], 0).astype(np.float32)
    own = times[: len(row)]
    subject.write(subject.header(Fraction(25)), values=values, start_s=own, end_s=own + 0.04, valid=seen, row=np.array(row, np.int64))
    return plan.job("grada", item)


@pytest.fixture
def planned(tmp_path: Path, tiny: Path):
    (tmp_path / "a.mp4").write_bytes(b"a")

    def make(faces: dict | None = None, **feature) -> Plan:
        return Plan(settings(tmp_path, tiny, faces, **feature), [Row("a", tmp_path / "a.mp4", "largest", "predict")])

    return make


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The faces that reach the encoder, which says their mean colours."""
    faces: list[np.ndarray] = []

    class Encoder:
        def extract(self, crops: list[np.ndarray]) -> Embedded:
            faces.extend(crops)
            mean = np.array([crop.mean(axis=(0, 1)) for crop in crops], np.float32).reshape(len(crops), 3)
            return Embedded(np.pad(mean, ((0, 0), (0, 253))), np.pad(mean, ((0, 0), (0, 5))), mean[:, :2])

    monkeypatch.setattr(grada, "load", lambda *args, **kwargs: Encoder())
    return faces


def run(plan: Plan, boxes: list, row: list[int]) -> Stream:
    job = store(plan, boxes, row)
    worker.grada(plan.context("grada"))(job)
    return Stream(job.path, key=plan.key("grada"), identity=job.item.identity)


BOXES = {
    "square": (60, 50, 120, 110),
    "tall": (100, 30, 130, 200),
    "wide": (20, 100, 210, 130),
    "between pixels": (60.4, 50.6, 99.6, 110.3),
    "in the corner": (0, 0, 40, 50),
    "in the other corner": (200, 190, 250, 240),
}


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_the_network_sees_the_box(planned, seen, box: tuple, margin: float) -> None:
    run(planned({"crop_side": 1000}, margin=margin), [box], [0]).__exit__()
    (face,) = seen
    wide, high = margin * (box[2] - box[0]), margin * (box[3] - box[1])
    left, top, right, bottom = (round(v) for v in (box[0] - wide, box[1] - high, box[2] + wide, box[3] + high))
    assert face.shape == (bottom - top, right - left, 3)
    y, x = np.mgrid[top:bottom, left:right]
    inside = (x >= 0) & (y >= 0) & (x < WIDTH) & (y < HEIGHT)
    want = np.stack([x, y, np.full_like(x, 200)], axis=2)
    deep = (x >= 16) & (y >= 16) & (x < WIDTH - 16) & (y < HEIGHT - 16)  # JPEG blurs the edge of the frame
    assert np.abs(face.astype(int) - want)[deep].max() <= 4
    assert face[~inside].size == 0 or face[~inside].mean() < 12


def test_a_box_half_outside_of_the_frame_is_black_there(planned, seen) -> None:
    run(planned({"crop_side": 1000}), [(-40, 60, 40, 140)], [0]).__exit__()
    (face,) = seen
    assert face.shape == (80, 80, 3)
    assert face[:, :24].max() < 12
    assert np.abs(face[:, 56:, 0].astype(int) - np.arange(16, 40)).max() <= 4
    assert np.abs(face[:, 56:, 1].astype(int) - np.arange(60, 140)[:, None]).max() <= 4


@pytest.mark.parametrize("box", [BOXES["square"], BOXES["tall"], (40, 60, 200, 180)], ids=["square", "tall", "wide"])
def test_the_box_is_found_in_a_shrunk_crop(planned, seen, box: tuple) -> None:
    run(planned({"crop_side": 64}), [box], [0]).__exit__()
    (face,) = seen
    side = round(2 * max(box[2] - box[0], box[3] - box[1]))  # of the crop before it was shrunk, with half a box on each side
    step = side / 64
    for axis, (first, last) in enumerate(((box[1], box[3]), (box[0], box[2]))):
        length = face.shape[axis]
        assert abs(length * step - (last - first)) <= step
        line = np.take(face, face.shape[1 - axis] // 2, 1 - axis)[:, 1 - axis].astype(float)  # green is y, red is x
        want = first + (np.arange(length) + 0.5) * step - 0.5
        assert np.abs(line - want).max() <= step / 2 + 4


def test_a_face_smaller_than_a_pixel_of_its_crop_is_still_a_face(planned, seen) -> None:
    run(planned({"crop_side": 32}), [(10, 10, 10.9, 200), (249.2, 10, 250, 200)], [0, 1]).__exit__()
    assert [face.shape[1] for face in seen] == [1, 1]


def test_rows_are_frames_and_what_was_not_seen_is_zero(planned, seen, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, row = [BOXES["square"], BOXES["tall"], BOXES["wide"]], [2, -1, 0, 0, -1, -1, -1, 1]
    want = np.array([[(b[0] + b[2] - 1) / 2, (b[1] + b[3] - 1) / 2] for b in boxes])
    for size in (256, 2):  # of a block; with 2, one block has no face
        monkeypatch.setattr(worker, "FACES", size)
        with run(planned(), boxes, row) as out:
            assert out.valid.tolist() == [r >= 0 for r in row]
            np.testing.assert_allclose(out.start_s, np.arange(8) / 25)
            assert {n: (out.rows(n).shape, out.rows(n).dtype.name) for n in ("values", "emotion", "va")} == {
                "values": ((8, 256), "float32"), "emotion": ((8, 8), "float32"), "va": ((8, 2), "float32")
            }  # fmt: skip
            for name in ("values", "emotion", "va"):
                assert not out.rows(name)[~out.valid].any()
                np.testing.assert_allclose(out.rows(name)[out.valid][:, :2], want[[2, 0, 0, 1]], atol=3)
            assert out.attributes["random"] == ["grada-tiny"]


def test_the_stage_stores_what_the_encoder_gives(planned, tiny: Path) -> None:
    box = BOXES["square"]
    with run(planned(), [box], [0]) as out:
        face = cropping.cut(FRAME, np.array(box, float), 0.5, 256)[0]
        face = cropping.decode_jpeg(cropping.encode_jpeg(face, 100))[30:90, 30:90]
        found = grada.load(tiny, **CPU, side=64).extract([face])
        for name, want in zip(("values", "emotion", "va"), found, strict=True):
            np.testing.assert_allclose(out.rows(name), want, atol=1e-5)


def test_a_margin_that_the_crops_do_not_hold_is_refused(tmp_path: Path, tiny: Path) -> None:
    assert settings(tmp_path, tiny, {"crop_margin": 0.2}, margin=0.2).features["grada"].margin == 0.2
    with pytest.raises(SettingsError, match=r"features\.grada\.margin: want at most faces\.crop_margin 0\.2, got 0\.3"):
        settings(tmp_path, tiny, {"crop_margin": 0.2}, margin=0.3)
