"""The network in a checkpoint of ultralytics, rebuilt from its description: no code of the file ever runs.

The file is a pickle of the network's objects. It is read as data (`weights.pickled`). Three things are taken from it: the description that
the network was built from (a table of layers: name, repeats, arguments), the names of its classes, and its tensors. The table may hold the
layers below, with numbers, truth values and a few words as arguments. ultralytics builds the network from it, first without memory, to
compare it with the tensors, then in full. A description says less than an object, so each part of the network is then compared with what
the file says of it. A network that was changed by hand after it was built is refused, since its boxes would be others.
"""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from affpipe.core.errors import WeightsError
from affpipe.system.weights.declared_sizes import unfilled
from affpipe.system.weights.pickled import Record
from affpipe.system.weights.pickled import load as load_pickle
from affpipe.system.weights.reading import first_line

AGAIN = "put a YOLO face checkpoint (.pt of ultralytics) there"
NETWORKS = {
    "ultralytics.nn.tasks.DetectionModel": "DetectionModel",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "DetectionModel",
    "ultralytics.nn.tasks.PoseModel": "PoseModel",
}
# Layers of detectors and pose models, YOLOv3 to 26. Left out: TorchVision, which fetches weights, and layers that read text.
LAYERS = {
    *("Conv", "DWConv", "GhostConv", "Focus", "ConvTranspose", "DWConvTranspose2d", "RepConv", "Concat"),
    *("Bottleneck", "BottleneckCSP", "GhostBottleneck", "C1", "C2", "C2f", "C3", "C3TR", "C3Ghost", "C3x", "C3k2", "RepC3", "C2fCIB"),
    *(
        "C2PSA",
        "C2fPSA",
        "PSA",
        "A2C2f",
        "SCDown",
        "ADown",
        "AConv",
        "ELAN1",
        "RepNCSPELAN4",
        "SPPELAN",
        "SPP",
        "SPPF",
        "CBLinear",
        "CBFuse",
    ),
    *("nn.Identity", "nn.Upsample", "nn.MaxPool2d", "nn.ZeroPad2d", "nn.ConvTranspose2d", "nn.BatchNorm2d"),
    *("Detect", "v10Detect", "Pose", "Pose26"),
}
WEIGHTLESS = {"nn.Upsample", "nn.MaxPool2d", "nn.ZeroPad2d", "SPP", "SPPF"}  # layers whose numbers no tensor of the file confirms
WORDS = {"nc", "kpt_shape", "nearest", "bilinear", "None", "True", "False"}
ACTIVATIONS = {"SiLU": nn.SiLU, "ReLU": nn.ReLU, "ReLU6": nn.ReLU6, "Hardswish": nn.Hardswish, "Mish": nn.Mish, "GELU": nn.GELU}
RENAMED = {"Silence": "Identity", "YOLOv10DetectionModel": "DetectionModel"}
CALLS = (  # calls that checkpoints name beside layers: numbers of numpy, paths, methods; kept as records and ignored
    *("numpy.", "pathlib.", "torch.device", "collections.", "argparse.Namespace"),
    *("builtins.getattr", "builtins.set"),
)
ROWS, REPEATS, WIDEST, WINDOW = 200, 100, 1 << 13, 64  # most rows of a table, repeats, argument, unconfirmed argument
PARTS = 100_000  # most parts of a network; YOLO26x has 3,000
SIDE = 256  # pixels of the picture from which ultralytics learns the strides
LARGEST = 1 << 26  # most numbers that a layer may give for that picture
PASSING = {*vars(nn.Module()), "inplace", "momentum", "np", "type", "shape"}  # attributes that change no box


def load(path: Path) -> nn.Module:
    """Load the network of a checkpoint, fused, float32, on the CPU.

    Raises WeightsError if there is none, or if the file asks for more than layers.
    """
    found = load_pickle("yolo", path)
    if foreign := sorted(name for name in found.calls if not name.startswith(CALLS)):
        raise WeightsError(
            f"yolo: {path}: want layers and numbers only, but it asks for {', '.join(foreign[:3])}; do not trust it; {AGAIN}"
        )
    try:
        said = found.value.get("ema") or found.value["model"]
        if not (isinstance(said, Record) and isinstance(said.state, dict)):
            raise ValueError("no network")
    except (AttributeError, LookupError, ValueError):
        raise WeightsError(f"yolo: {path}: no YOLO checkpoint, or a damaged one; {AGAIN}") from None
    if said.name not in NETWORKS:
        raise WeightsError(f"yolo: {path}: want a detection or pose model, got {said.name.rpartition('.')[2]}; {AGAIN}")
    try:
        return _build(said)
    except Exception as error:  # ultralytics raises all kinds of errors for layers that do not fit together
        raise WeightsError(
            f"yolo: {path}: want a network of known layers with its tensors, got {first_line(error)[:160]}; {AGAIN}"
        ) from error


def _build(said: Record) -> nn.Module:
    from ultralytics.nn import tasks
    from ultralytics.nn.modules import Conv

    parts, tensors = _parts(said)
    table, activation = _table(said.state["yaml"])
    usual = Conv.default_act
    Conv.default_act = activation or usual
    try:
        _check(table, parts, tensors)
        with torch.random.fork_rng(devices=[]):
            net = getattr(tasks, NETWORKS[said.name])(copy.deepcopy(table), verbose=False)
    finally:
        Conv.default_act = usual
    net.load_state_dict(tensors, strict=True)
    for name, part in net.named_modules():
        _compare(name, part, parts[name])
    net.names = _names(said.state.get("names"), table["nc"])
    net = net.float().fuse(verbose=False).eval().requires_grad_(False)
    with torch.inference_mode():
        net(torch.zeros(1, 3, 64, 64))
    return net


def _parts(said: Record) -> tuple[dict[str, Record], dict[str, Tensor]]:
    """Collect the objects of a network and its tensors, by the names that torch gives them."""
    parts: dict[str, Record] = {}
    tensors: dict[str, Tensor] = {}
    todo = [("", said)]
    while todo:
        prefix, part = todo.pop()
        if not (isinstance(part, Record) and isinstance(part.state, dict)) or len(parts) >= PARTS:
            raise ValueError(f"{prefix or 'the whole'}, which is no layer")
        parts[prefix] = part
        here = f"{prefix}." if prefix else ""
        passing = part.state.get("_non_persistent_buffers_set") or ()
        for name, value in {**part.state["_parameters"], **part.state["_buffers"]}.items():
            if value is not None and name not in passing:
                tensors[here + name] = value
        todo += [(here + name, child) for name, child in part.state["_modules"].items() if child is not None]
    if wrong := [name for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{wrong[0]}, which is no tensor")
    return parts, tensors


def _table(said: Any) -> tuple[dict[str, Any], nn.Module | None]:
    """Return the description that ultralytics builds from, with known words and numbers only, and the activation if it is unusual."""
    scales, scale = said.get("scales") or {}, said.get("scale") or ""
    if scales:
        scale = scale or next(iter(scales))
        depth, width, widest = scales[scale]
    else:
        depth, width, widest = said.get("depth_multiple", 1.0), said.get("width_multiple", 1.0), math.inf
    if scale not in ("", *"nsmlxtcebBpP") or not all(type(n) in (int, float) and n > 0 for n in (depth, width, widest)):
        raise ValueError(f"the scale {str(scale)[:20]} of {depth}, {width}, {widest}")
    table: dict[str, Any] = {"nc": _number(said["nc"], 1, 10_000), "scale": scale, "scales": {scale: [depth, width, widest]}}
    if said.get("channels", said.get("ch", 3)) != 3:
        raise ValueError(f"{said.get('channels', said.get('ch'))} colours")
    if "reg_max" in said:
        table["reg_max"] = _number(said["reg_max"], 1, 64)
    if "end2end" in said:
        table["end2end"] = bool(said["end2end"])
    if "kpt_shape" in said:
        table["kpt_shape"] = [_number(n, 1, 1000) for n in said["kpt_shape"]]
    rows = [_row(row, depth) for row in (*said["backbone"], *said["head"])]
    if not 1 <= len(rows) <= ROWS:
        raise ValueError(f"{len(rows)} rows of layers")
    table["backbone"], table["head"] = rows[: len(said["backbone"])], rows[len(said["backbone"]) :]
    return table, _activation(said.get("activation"))


def _number(said: Any, least: int, most: int) -> int:
    if type(said) is not int or not least <= said <= most:
        raise ValueError(f"{str(said)[:40]} for a number from {least} to {most}")
    return said


def _row(row: Any, depth: float) -> list[Any]:
    """Parse one row of the table: where from, repeats, layer, arguments."""
    sources, repeats, layer, args = row
    if layer == "Silence":
        layer = "nn.Identity"
    if layer not in LAYERS:
        raise ValueError(f"the layer {str(layer)[:60]}")
    for source in sources if isinstance(sources, list) else [sources]:
        _number(source, -ROWS, ROWS)
    _number(round(_number(repeats, 1, REPEATS) * depth), 0, REPEATS)
    return [copy.copy(sources), repeats, layer, [_argument(layer, i, arg) for i, arg in enumerate(args)]]


def _argument(layer: str, place: int, arg: Any) -> Any:
    if isinstance(arg, (list, tuple)) and len(arg) <= ROWS:
        return [_argument(layer, place, part) for part in arg if not isinstance(part, (list, tuple))]
    if arg is None or isinstance(arg, bool) or (isinstance(arg, str) and arg in WORDS):
        return arg
    most = WINDOW if layer in WEIGHTLESS and (place or layer.startswith("nn.")) else WIDEST
    if type(arg) in (int, float) and -most <= arg <= most:
        return arg
    raise ValueError(f"the argument {str(arg)[:60]} of {layer}")


def _activation(said: Any) -> nn.Module | None:
    """Find an activation by its text, such as `nn.SiLU()`. The text is compared, never evaluated."""
    if said is None:
        return None
    for name, kind in ACTIVATIONS.items():
        for inplace in ("", "inplace=True"):
            if said in (f"nn.{name}({inplace})", f"torch.nn.{name}({inplace})"):
                return kind()
    if said in ("nn.LeakyReLU(0.1)", "torch.nn.LeakyReLU(0.1)"):
        return nn.LeakyReLU(0.1)
    raise ValueError(f"the activation {str(said)[:60]}")


def _check(table: dict[str, Any], parts: dict[str, Record], tensors: dict[str, Tensor]) -> None:
    """Raise ValueError if the table makes another network than that of the tensors, or one whose layers give too much.

    It takes no memory.
    """
    from ultralytics.nn.tasks import parse_model

    with unfilled(len(parts)):
        layers, _ = parse_model(copy.deepcopy(table), 3, verbose=False)
    want = {f"model.{name}": value.shape for name, value in layers.state_dict().items()}
    if wrong := sorted(name for name in want.keys() | tensors.keys() if name not in tensors or want.get(name) != tensors[name].shape):
        shapes = [tuple(x) if x is not None else "nothing" for x in (want.get(wrong[0]), getattr(tensors.get(wrong[0]), "shape", None))]
        raise ValueError(f"{wrong[0]} of {shapes[1]} for {shapes[0]}")
    layers.eval()
    layers[-1].training = True
    x, given = torch.zeros(1, 3, SIDE, SIDE, device="meta"), []
    for layer in layers[:-1]:
        x = given[layer.f] if isinstance(layer.f, int) and layer.f != -1 else x
        x = layer(x if isinstance(layer.f, int) else [x if source == -1 else given[source] for source in layer.f])
        if (numbers := sum(part.numel() for part in (x if isinstance(x, (list, tuple)) else [x]))) > LARGEST:
            raise ValueError(f"{layer.type.rpartition('.')[2]} that gives {numbers} numbers")
        given.append(x)


def _compare(name: str, part: nn.Module, said: Record) -> None:
    """Raise ValueError if the file gives a part another class, another value of an attribute, or code of its own."""
    kind = said.name.rpartition(".")[2]
    if RENAMED.get(kind, kind) != type(part).__name__:
        raise ValueError(f"{name or 'the whole'} of {kind} for {type(part).__name__}")
    for attribute, value in said.state.items():
        if attribute.endswith("_hooks") and value:
            raise ValueError(f"{name}.{attribute} of its own")
        if attribute not in PASSING and hasattr(part, attribute):
            if callable(getattr(type(part), attribute, None)):
                raise ValueError(f"{name}.{attribute} of its own")
            ours, theirs = list(_plain(getattr(part, attribute))), list(_plain(value))
            if ours and theirs and ours != theirs:
                raise ValueError(f"{name}.{attribute} of {str(value)[:40]} for {str(getattr(part, attribute))[:40]}")


def _plain(value: Any) -> Iterator[Any]:
    """Yield a number, truth value or text, or those in a list; nothing of anything else."""
    if isinstance(value, (int, float, str)):
        yield value
    elif isinstance(value, (list, tuple)) and all(isinstance(part, (int, float)) for part in value):
        yield from value


def _names(said: Any, classes: int) -> dict[int, str]:
    """Return the name of each class."""
    names = dict(enumerate(said)) if isinstance(said, (list, tuple)) else dict(said or {})
    if sorted(names) != list(range(classes)) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"names of {len(names)} classes for {classes}")
    return names
