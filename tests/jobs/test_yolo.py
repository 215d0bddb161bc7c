"""Faces by YOLO: tiny random checkpoints in ultralytics' own form, against ultralytics itself and against boxes worked out by hand."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from limits import bounded, refused

from affpipe.core.errors import InputError, SettingsError, WeightsError
from affpipe.data.demo.film import write_film
from affpipe.data.manifest import Row
from affpipe.faces import workers as stages
from affpipe.faces.yolo import network as yolo_file
from affpipe.faces.yolo.detector import YoloDetector, prepare
from affpipe.jobs import apply
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan
from affpipe.system.weights.records import record

CONFIG = yaml.safe_load((Path(__file__).resolve().parents[2] / "config.yaml").read_text())
DETECT, POSE = "yolov8n.yaml", "yolov8n-pose.yaml"
FRAME = (360, 640)  # not square: the network sees 320 x 192 of it, with 6 rows of padding above and below


def network(config: str = DETECT, names: tuple[str, ...] = ("face",), lively: bool = True, **more) -> torch.nn.Module:
    """A YOLOv8 a quarter as wide as the smallest. Lively: it answers to what it sees, though without sense. more: of its description."""
    prepare()
    from ultralytics.nn.tasks import DetectionModel, PoseModel, yaml_model_load

    torch.manual_seed(0)
    spec = yaml_model_load(config) | {"scales": {"n": [0.33, 0.0625, 1024]}, "scale": "n", "nc": len(names)}
    spec |= {"kpt_shape": [5, 3]} if config == POSE else more
    net = (PoseModel if config == POSE else DetectionModel)(spec, nc=len(names), verbose=False)
    net.names = dict(enumerate(names))
    if lively:
        for m in net.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(m.weight, 1.5, 3)
                torch.nn.init.normal_(m.bias, std=0.5)
        for level in net.model[-1].cv3:
            level[-1].bias.data.fill_(-1)
    return net.eval()


def save(path: Path, net: torch.nn.Module) -> Path:
    """As ultralytics' trainer does at the end."""
    args = {"imgsz": 640, "task": "pose" if hasattr(net, "kpt_shape") else "detect"}
    more = {"epoch": -1, "best_fitness": None, "ema": None, "updates": None, "optimizer": None, "date": "2024-01-01", "version": "8.1.0"}
    torch.save(more | {"model": net.half(), "train_args": args, "train_metrics": {"fitness": np.float64(0.5)}}, path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {config: save(folder / f"{config}.pt", network(config)) for config in (DETECT, POSE)}


def pictures(count: int, size: tuple[int, int] = FRAME) -> list[np.ndarray]:
    """Blots of strong colours."""
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 256, (size[0] // 40, size[1] // 40, 3)), np.ones((40, 40, 1))).astype(np.uint8) for _ in range(count)]


def table(found) -> np.ndarray:
    return np.array([[*d.box, d.score] for d in found], np.float64).reshape(-1, 5)


HOW = {"image_side": 320, "min_score": 0.3, "nms_iou": 0.6}


@pytest.mark.parametrize("config", [DETECT, POSE])
def test_boxes_are_those_of_ultralytics_itself(files, config):
    from ultralytics import YOLO

    frames = pictures(3)
    detector = YoloDetector(files[config], **HOW)
    found = detector.detect(frames)
    bgr = [np.ascontiguousarray(f[:, :, ::-1]) for f in frames]
    theirs = YOLO(files[config]).predict(bgr, imgsz=320, conf=0.3, iou=0.6, verbose=False)
    for ours, want in zip(found, theirs, strict=True):
        assert 3 < len(ours) < 300
        np.testing.assert_allclose(table(ours), want.boxes.data[:, :5].numpy(), atol=2e-3)
        assert all(d.box.dtype == np.float32 for d in ours)
        assert (np.diff([d.score for d in ours]) <= 0).all()
    swapped = table(detector.detect(bgr)[0])
    assert len(swapped) != len(found[0]) or np.abs(swapped - table(found[0])).max() > 5  # so the order of colours does count


def test_coordinates_by_hand_on_a_frame_that_is_not_square(tmp_path):
    """Every cell of the coarsest grid sees a face that reaches one stride to each side; the finer grids see none."""
    net = network(lively=False)
    head = net.model[-1]
    for i in range(3):
        for last, bias in ((head.cv3[i][-1], 3.0 if i == 2 else -20.0), (head.cv2[i][-1], -20.0)):
            last.weight.data.zero_()
            last.bias.data.fill_(bias)
        head.cv2[i][-1].bias.data[1::16] = 20.0  # of the 16 distances of each side: 1 stride
    found = YoloDetector(save(tmp_path / "grid.pt", net), image_side=320, nms_iou=1.0).detect([np.zeros((*FRAME, 3), np.uint8)])[0]
    want = []
    for row in range(6):
        for column in range(10):
            x, y = (column + 0.5) * 32, (row + 0.5) * 32 - 6  # in the scaled frame, padding off
            want.append(np.clip([2 * (x - 32), 2 * (y - 32), 2 * (x + 32), 2 * (y + 32)], 0, [640, 360, 640, 360]))
    want = np.array(sorted(map(tuple, want)))
    np.testing.assert_allclose(np.array(sorted(map(tuple, table(found)[:, :4]))), want, atol=1e-2)
    np.testing.assert_allclose(table(found)[:, 4], 1 / (1 + np.exp(-3)), atol=1e-4)


def test_a_batch_changes_nothing_even_with_frames_of_different_sizes(files):
    frames = pictures(3) + pictures(2, (400, 240)) + pictures(1)
    all_ = YoloDetector(files[DETECT], **HOW, batch_size=4).detect(frames)
    single = YoloDetector(files[DETECT], **HOW, batch_size=1)
    for got, frame in zip(all_, frames, strict=True):
        np.testing.assert_allclose(table(got), table(single.detect([frame])[0]), atol=1e-3)
    assert single.detect([]) == []


def test_several_threads_may_call_it_at_the_same_time(files):
    """With frames of different sizes, of which the network keeps the grid."""
    detector = YoloDetector(files[DETECT], **HOW)
    work = [[frame] for size in (FRAME, (640, 360), (320, 320)) for frame in pictures(4, size)]
    alone = [table(detector.detect(frames)[0]) for frames in work]
    with ThreadPoolExecutor(4) as pool:
        together = [table(found[0]) for found in pool.map(detector.detect, work)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_of_several_classes_only_faces_count(tmp_path):
    from ultralytics import YOLO

    net = network(names=("person", "Face", "car"))
    for level in net.model[-1].cv3:
        level[-1].bias.data[1] += 1.5
    path = save(tmp_path / "many.pt", net)
    frames = pictures(1)
    (found,) = YoloDetector(path, **HOW).detect(frames)
    want = YOLO(path).predict(frames[0][:, :, ::-1].copy(), imgsz=320, conf=0.3, iou=0.6, classes=[1], verbose=False)[0].boxes.data
    assert len(found) > 3
    np.testing.assert_allclose(table(found), want[:, :5].numpy(), atol=2e-3)
    for names in (("person", "car"), ("face", "Face", "car")):
        with pytest.raises(WeightsError, match=f"got {len(names)} classes"):
            YoloDetector(save(tmp_path / "none.pt", network(names=names)))


class Call:
    """Unpickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_a_checkpoint_that_would_run_something_is_refused_and_does_not_run(tmp_path):
    mark = tmp_path / "ran"
    path = tmp_path / "bad.pt"
    for call, name in (
        (Call(os.system, f"touch {mark}"), "posix.system"),
        (Call(eval, f"open({str(mark)!r}, 'w')"), "builtins.eval"),
        (Call(shutil.copy, __file__, str(mark)), "shutil.copy"),
        (Call(torch.hub.load, str(tmp_path), "x"), "torch.hub.load"),
    ):
        torch.save({"model": network(), "extra": call}, path)
        with pytest.raises(WeightsError, match=f"asks for {name}; do not trust it") as e:
            YoloDetector(path)
        assert "\n" not in str(e.value)
    torch.save({"model": Call(os.system, f"touch {mark}")}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"asks for posix\.system; do not trust it"):
        YoloDetector(path)
    assert not mark.exists()


SAVED = {"11": ("yolo11n.yaml", {}), "26": ("yolo26n.yaml", {}), "another activation": (DETECT, {"activation": "nn.ReLU()"})}


@pytest.mark.parametrize(("config", "more"), SAVED.values(), ids=SAVED)
def test_the_network_that_is_built_anew_is_the_one_that_was_saved_to_the_last_bit(tmp_path, config, more):
    saved = network(config, lively=False, **more)
    torch.manual_seed(1)
    for part in saved.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(part.running_mean, std=0.1)
            torch.nn.init.uniform_(part.weight, 0.8, 1.3)
    state = torch.get_rng_state()
    built = yolo_file.load(save(tmp_path / "x.pt", saved))
    assert torch.equal(torch.get_rng_state(), state)
    kept, seen = saved.float().fuse(verbose=False).eval(), torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(built(seen)[0], kept(seen)[0])
    assert torch.equal(built.stride, kept.stride)


def layer(net: torch.nn.Module) -> torch.nn.Module:
    """A layer of this network alone: all share one activation."""
    net.model[0].act = torch.nn.SiLU()
    return net.model[0].act


def test_code_that_a_network_would_run_when_it_is_used_is_refused(tmp_path):
    """Attributes of layers are objects too, and each layer is of a known class: a `forward` of its own, a hook, another activation."""
    path = tmp_path / "x.pt"

    def forward(net: torch.nn.Module) -> None:
        layer(net).forward = torch.nn.ReLU().forward

    def hook(net: torch.nn.Module) -> None:
        layer(net)._forward_hooks[0] = torch.nn.Identity

    def other(net: torch.nn.Module) -> None:
        net.model[0].act = torch.nn.ReLU()

    def number(net: torch.nn.Module) -> None:
        net.model[0].bn.eps = 0.5

    def topology(net: torch.nn.Module) -> None:
        net.model[-1].f = [15, 18, 18]

    said = {
        forward: r"model\.0\.act\.forward of its own",
        hook: r"model\.0\.act\._forward_hooks of its own",
        other: r"model\.0\.act of ReLU for SiLU",
        number: r"model\.0\.bn\.eps of 0\.5 for 0\.001",
        topology: r"model\.22\.f of \[15, 18, 18\] for \[15, 18, 21\]",
    }
    for change, what in said.items():
        net = network()
        change(net)
        with pytest.raises(WeightsError, match=what) as raised:
            YoloDetector(save(path, net))
        assert "\n" not in str(raised.value)


TABLES = {
    "an activation to be evaluated": ({"activation": "open({mark!r}, 'w') and nn.SiLU()"}, "the activation open"),
    "a layer of torch that is none of a detector": ({"head": [[-1, 1, "nn.Module.__init__", []]]}, "the layer nn.Module.__init__"),
    "a name of ultralytics' own code": ({"head": [[-1, 1, "torch", []]]}, "the layer torch"),
    "a network of torchvision": ({"head": [[-1, 1, "TorchVision", [512, "resnet18", "DEFAULT"]]]}, "the layer TorchVision"),
    "an operator of torchvision": ({"head": [[-1, 1, "torchvision.ops.nms", []]]}, "the layer torchvision.ops.nms"),
    "a word to be evaluated": ({"head": [[-1, 1, "Conv", ["__import__('os')"]]]}, "the argument __import__"),
    "a name of a variable": ({"head": [[-1, 1, "Conv", ["d"]]]}, "the argument d of Conv"),
    "a wide layer": ({"scales": {"n": [0.33, 8.0, 1 << 20]}}, r"model\.0\.bn\.bias of \(8,\) for \(512,\)"),
    "many layers": ({"scales": {"n": [30.0, 0.0625, 1024]}}, "for a number from 0 to 100"),
    "more layers than the file has": ({"scales": {"n": [15.0, 0.0625, 1024]}}, "more layers than"),
    "a wide picture": ({"upsample": 64}, "Sizes of tensors must match"),
    "a wider picture": ({"upsample": 65}, "the argument 65 of nn.Upsample"),
    "many classes": ({"nc": 10**12}, "1000000000000 for a number from 1 to 10000"),
    "other colours": ({"channels": 4}, "4 colours"),
    "no table at all": ({"backbone": None}, "want a network of known layers"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_description_is_held_to_known_words_and_to_the_tensors_before_anything_is_built(tmp_path, monkeypatch, case):
    """Nothing is evaluated, fetched or allocated: each is refused within the room and time of test_bombs."""
    change, said = TABLES[case]
    mark, path = tmp_path / "ran", tmp_path / "x.pt"
    asked: list[object] = []
    monkeypatch.setattr("socket.socket.connect", lambda *address: asked.append(address))
    net = network()
    change = {k: v.format(mark=str(mark)) if isinstance(v, str) else v for k, v in change.items()}
    if side := change.pop("upsample", None):
        net.yaml["head"][0][3][1] = side
    net.yaml |= change
    save(path, net)
    refused(lambda: yolo_file.load(path), WeightsError, "want a network of known layers with its tensors, got")
    with pytest.raises(WeightsError, match=said):
        yolo_file.load(path)
    assert not mark.exists()
    assert not asked


def test_layers_that_give_more_than_any_are_refused_before_they_give_it():
    """Layers without tensors, which nothing in the file bears out: two in a row make 300 million pixels of a small picture."""
    prepare()
    from ultralytics.nn.tasks import parse_model

    up = [-1, 1, "nn.Upsample", [None, 64, "nearest"]]
    table = {"nc": 1, "scale": "", "scales": {"": [1.0, 1.0, 1024]}, "backbone": [up, up], "head": [[[1], 1, "Detect", ["nc"]]]}
    with torch.device("meta"):
        layers, _ = parse_model({**table, "head": [[[1], 1, "Detect", ["nc"]]]}, 3, verbose=False)
    tensors = {f"model.{name}": value for name, value in layers.state_dict().items()}
    with bounded(), pytest.raises(ValueError, match="Upsample that gives 805306368 numbers"):
        yolo_file._check(table, {name: None for name, _ in layers.named_modules()}, tensors)


def test_a_network_that_contains_itself_many_times_over_is_refused(tmp_path):
    """Forty parts, each twice the next: a walk over all of them would take years."""
    net = network()
    part = torch.nn.Identity()
    for _ in range(40):
        part = torch.nn.Sequential(part, part)
    net.more = part
    refused(lambda: yolo_file.load(save(tmp_path / "x.pt", net)), WeightsError, "which is no layer")


def test_what_is_no_checkpoint_is_said_in_one_line(files, tmp_path):
    whole = files[DETECT].read_bytes()
    other = tmp_path / "other.pt"

    def refused(match: str, path: Path = other) -> None:
        with pytest.raises(WeightsError, match=match) as e:
            YoloDetector(path)
        assert "\n" not in str(e.value)

    for data in (b"", b"no zip", whole[: len(whole) // 2], whole[:1000] + b"\xff" * 300 + whole[1300:]):
        other.write_bytes(data)
        refused(r"other\.pt(: no YOLO checkpoint, or a damaged one| does not read as weights)")
    for content in ({"state_dict": {"x": torch.zeros(2)}}, [1, 2], torch.zeros(3)):
        torch.save(content, other)
        refused(r"other\.pt: no YOLO checkpoint")
    torch.save({"model": torch.nn.Linear(2, 2)}, other)
    refused("want a detection or pose model, got Linear")
    net = network()
    del net.model[3].conv
    save(other, net)
    refused(r"model\.3\.conv\.weight of nothing for \(16, 8, 3, 3\)")
    refused(r"no \.pt file of that name", tmp_path / "yolov8n.pt")  # ultralytics would fetch this one
    refused(r"no \.pt file of that name", Path("yolov8n.pt"))
    refused(r"want one \.pt file in the folder, got \[\]", Path(__file__).parent)
    (tmp_path / "it's.pt").write_bytes(whole)
    refused("without quotes in it", tmp_path / "it's.pt")
    assert not Path("yolov8n.pt").exists()


def test_bad_settings_and_frames(files):
    for bad in ({"min_score": 0}, {"nms_iou": 1.1}, {"batch_size": 0}):
        with pytest.raises(SettingsError, match="want min_score and nms_iou in"):
            YoloDetector(files[DETECT], **bad)
    with pytest.raises(SettingsError, match=r"a multiple of 32, the stride of .*, got 100"):
        YoloDetector(files[DETECT], image_side=100)
    with pytest.raises(InputError, match="yolo: want uint8 RGB"):
        YoloDetector(files[DETECT], **HOW).detect([np.zeros((10, 10, 3))])


def test_it_is_quiet_and_leaves_the_home_folder_alone(files, tmp_path):
    code = f"""
import numpy as np, torch
from affpipe.faces.yolo.detector import YoloDetector
threads = torch.get_num_threads()
found = YoloDetector({str(files[DETECT])!r}, image_side=320, min_score=0.01).detect([np.zeros((90, 160, 3), np.uint8)])
assert len(found) == 1 and torch.get_num_threads() == threads
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith("YOLO_")} | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "t")}
    (tmp_path / "t").mkdir()
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [p.name for p in tmp_path.rglob("*")] == ["t"]


def test_the_stage_uses_it_and_says_that_its_weights_are_random(files, media, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "face.pt").write_bytes(files[POSE].read_bytes())
    record(weights / "face.pt", name="face.pt", source="a test", random=True)
    faces = {"detector": "yolo", "weights": "face.pt", "image_side": 160, "min_score": 0.3, "nms_iou": 0.1, "every": 25}
    plan = Plan(
        parse(overlay(CONFIG, {"cache": str(tmp_path / "cache"), "weights": str(weights), "faces": faces})),
        [Row("a", media / "grid_bbaf2n.mpg", "largest", "predict")],
    )
    for name, stage in (("frames", stages.frames), ("faces", stages.faces)):
        stage(plan.context(name))(plan.job(name, plan.items(name)[0]))
    with plan.streams(plan.items("subject")[0]).open("faces") as found:
        assert found.attributes["random"] == ["face.pt"]
        assert set(found.rows("frame")[found.rows("detected")]) <= {0, 25, 50, 74}
        assert len(found) > 0
    assert (plan.cache / "weights" / "face.pt.json").exists()


def test_the_stage_makes_the_same_streams_of_several_videos_at_a_time(files, tmp_path, small_plan):
    weights = tmp_path / "weights"
    weights.mkdir()
    shutil.copy(files[DETECT], weights / "face.pt")
    record(weights / "face.pt", name="face.pt", source="a test")
    found = []
    for threads in (1, 3):
        faces = {"detector": "yolo", "weights": "face.pt", "every": 2, **HOW, "nms_iou": 0.01}
        plan = small_plan("abcde", weights=str(weights), faces=faces)
        for i, row in enumerate(plan.rows):
            blots, ticks = pictures(3 + i, (320, 320)), np.arange(3 + i)
            write_film(row.video, blots, ticks, Fraction(1, 25), fps=Fraction(25), size=(320, 320), sound=None)
        plan = Plan(plan.settings, plan.rows)  # the videos are others now
        entries: dict = {}
        for name, stage in (("frames", stages.frames), ("faces", stages.faces)):
            entries[name] = apply.apply(plan, name, plan.items(name), entries, stage, lambda *_: None, threads=threads)
        with ExitStack() as opened:
            streams = [opened.enter_context(plan.streams(item).open("faces")) for item in plan.items("subject")]
            found.append((entries, [{name: stream.rows(name).tobytes() for name in stream.names} for stream in streams]))
    assert found[0] == found[1]
    assert all(entry.rows > 0 for entry in found[0][0]["faces"].values())
