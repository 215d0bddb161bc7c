"""Face detection with a YOLO checkpoint, through ultralytics (AGPL-3.0).

Any checkpoint in ultralytics' own format will do, with one class or with one of several called "face": a plain detector, or a pose model,
whose keypoints are ignored, since crops are not aligned by them. Preparation, network and suppression are ultralytics' functions, called
one by one. Its predictor would read the user's settings, print, and drop boxes where suppression exceeds its time limit.

A checkpoint is a pickle of the network's objects, which can run any code when it is loaded and whenever the network is used. None of these
objects is used: `network` rebuilds the network from its description.
"""

import atexit
import os
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch

from affpipe.core.errors import SettingsError, WeightsError
from affpipe.faces.detect import Detection, check_frame, clip
from affpipe.faces.yolo.network import AGAIN, load
from affpipe.system.compat import ensure_torchvision
from affpipe.system.files import left_by_mac


class YoloDetector:
    """Face detector with the network of a .pt file, or of a folder with one such file. Several threads may call it at the same time."""

    def __init__(
        self,
        path: Path,
        *,
        device: torch.device | str = "cpu",
        min_score: float = 0.5,
        nms_iou: float = 0.7,
        image_side: int = 640,
        batch_size: int = 8,
    ):
        """Load the network in float32.

        Args:
            nms_iou: of two boxes that overlap more, the better one stays. Networks without suppression (YOLOv10, 26) do not use it.
            image_side: longer side of the frame that the network sees, in pixels. Smaller frames are enlarged.
            batch_size: frames that the network sees at a time.

        Raises:
            WeightsError: no such file, or none that holds a face detector.
            SettingsError: a setting out of range, or a side that the network's stride does not divide.
        """
        if not (0 < min_score <= 1 and 0 < nms_iou <= 1 and batch_size >= 1):
            raise SettingsError(f"yolo: want min_score and nms_iou in (0, 1] and batch_size >= 1, got {min_score}, {nms_iou}, {batch_size}")
        prepare()
        self.device, self.batch_size = torch.device(device), batch_size
        self._min_score, self._nms_iou = min_score, nms_iou
        path = _file(Path(path))
        self._net = load(path).to(self.device)
        self._classes, self._face = _classes(path, self._net)
        stride = int(self._net.stride.max())
        if image_side < stride or image_side % stride:
            raise SettingsError(f"yolo: want image_side a multiple of {stride}, the stride of {path.name}, got {image_side}")
        from ultralytics.data.augment import LetterBox

        self._letterbox = LetterBox(image_side, auto=True, stride=stride)
        self._alone = threading.Lock()  # the network keeps the grid of the last size that it saw

    def detect(self, frames: list[np.ndarray]) -> list[list[Detection]]:
        """Detect the faces of each (H, W, 3) uint8 RGB frame, best score first. Boxes are clipped to the frame.

        Raises InputError for any other shape or dtype.
        """
        for frame in frames:
            check_frame("yolo", frame)
        groups: dict[tuple[int, ...], list[int]] = {}  # size -> frames of that size
        for i, frame in enumerate(frames):
            groups.setdefault(frame.shape, []).append(i)
        out: list[list[Detection]] = [[] for _ in frames]
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                batch = group[start : start + self.batch_size]
                for i, found in zip(batch, self._detect([frames[i] for i in batch]), strict=True):
                    out[i] = found
        return out

    @torch.inference_mode()
    def _detect(self, frames: list[np.ndarray]) -> list[list[Detection]]:
        """Detect the faces of frames of one size."""
        from ultralytics.utils.nms import non_max_suppression
        from ultralytics.utils.ops import scale_boxes

        x = torch.from_numpy(np.stack([self._letterbox(image=frame) for frame in frames])).to(self.device)
        x = x.permute(0, 3, 1, 2).contiguous().float() / 255  # (N, 3, h, w)
        with self._alone:
            found = non_max_suppression(
                self._net(x),
                self._min_score,
                self._nms_iou,
                classes=[self._face],
                nc=self._classes,
                end2end=self._net.end2end,
                max_time_img=float("inf"),
            )
        size = frames[0].shape[:2]
        rows = [f[:, :5].float().cpu() for f in found]  # (n, 5) box, score
        return [clip(scale_boxes(x.shape[2:], row[:, :4].clone(), size).numpy(), row[:, 4].tolist(), size) for row in rows]


def prepare() -> None:
    """Make `import ultralytics` quiet and harmless: no network, no installing, nothing written to the home folder."""
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="affpipe-yolo-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["YOLO_CONFIG_DIR"] = folder
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
    ensure_torchvision()


def _file(path: Path) -> Path:
    """Find the checkpoint at a path before ultralytics sees it, which would download a name that it does not find."""
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix == ".pt" and not left_by_mac(p.name))
        if len(files) != 1:
            raise WeightsError(f"yolo: {path}: want one .pt file in the folder, got {[p.name for p in files]}; name the file")
        path = files[0]
    if not path.is_file() or path.suffix != ".pt" or "'" in str(path):  # ultralytics drops quotes from a path
        raise WeightsError(f"yolo: {path}: no .pt file of that name (without quotes in it); {AGAIN}")
    return path.absolute()


def _classes(path: Path, net: torch.nn.Module) -> tuple[int, int]:
    """Return the number of classes, and which of them is a face."""
    names = dict(net.names) if isinstance(net.names, dict) else dict(enumerate(net.names))
    faces = [i for i, name in names.items() if len(names) == 1 or str(name).lower() == "face"]
    if len(faces) != 1:
        shown = ", ".join(map(str, list(names.values())[:5]))
        raise WeightsError(f"yolo: {path}: want one class, or one called face, got {len(names)} classes ({shown}); {AGAIN}")
    return len(names), int(faces[0])
