"""A face from frame and box to the network's normalised input, on one core, by way of a JPEG that is kept.

reference: the crop in a file of its own, read with PIL, resized, padded, ToTensor and Normalize crop by crop, then stacked.
ours: `crop.cut`, JPEG into the store, blocks of it out again, `inner`, `letterbox`, and a batch that the network normalises.
floor: what both must do: shrinking by area, libjpeg there and back, and PIL's resizing.

The crops' bytes are the same in both. The second row begins with what was kept; the third leaves out JPEG too.
"""

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from affpipe.encoders.grada.network import MEAN, STD, Prepared, letterbox
from affpipe.encoders.grada.worker import inner
from affpipe.faces import crop as cropping
from affpipe.faces.detect import MediaPipeDetector
from affpipe.media.picture.decode import frames
from affpipe.store import streams
from affpipe.system import memory
from affpipe.system.compat import ensure_torchvision
from benchmarks.speed.arms import GLIBC_BYTES, DisagreeError, Row, ratio, take_turns
from benchmarks.speed.efficientnet import SIDE, network
from benchmarks.speed.inputs import film

ensure_torchvision()

from torchvision.transforms import functional  # noqa: E402

MARGIN, CROP_SIDE, QUALITY = 0.5, 256, 90  # defaults of the settings
BATCH = 32
CLOSE = 1e-6
HEADER = streams.Header("faces", "0" * 12, "film", "0" * 16, {}, 1, {}, Fraction(25))
FILE = "film.h5"


def square_crop(frame: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """What published scripts do: the square round the box, black beyond the frame, shrunk."""
    x0, y0, x1, y1 = cropping.square(box, MARGIN).tolist()
    height, width = frame.shape[:2]
    canvas = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    inside = frame[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    canvas[max(-y0, 0) : max(-y0, 0) + len(inside), max(-x0, 0) : max(-x0, 0) + inside.shape[1]] = inside
    if len(canvas) > CROP_SIDE:
        canvas = cv2.resize(canvas, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
    return canvas, [x0, y0, x1, y1]


def published_input(image: Image.Image) -> torch.Tensor:
    """A face as (3, SIDE, SIDE), normalised: resize_image_saving_aspect_ratio of the published code, ToTensor, Normalize."""
    ratio_ = SIDE / max(image.size)
    width, height = (max(1, int(length * ratio_)) for length in image.size)
    canvas = Image.new("RGB", (SIDE, SIDE))
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR), ((SIDE - width) // 2, (SIDE - height) // 2))
    return functional.normalize(functional.to_tensor(canvas), MEAN, STD)


def face_of(crop: Image.Image, crop_box: list[int], box: np.ndarray) -> Image.Image:
    """The box within its crop."""
    scale = crop.width / (crop_box[2] - crop_box[0])
    corners = np.round((box.astype(np.float64).reshape(2, 2) - crop_box[:2]) * scale).astype(int)
    return crop.crop((*corners[0].clip(0, crop.width - 1).tolist(), *corners[1].clip(1, crop.width).tolist()))


def batches(count: int) -> list[slice]:
    """Rows of each batch."""
    return [slice(i, i + BATCH) for i in range(0, count, BATCH)]


def compare(found: dict[str, Any]) -> str:
    """Normalised inputs must be equal to rounding."""
    a, b = (torch.cat(found[name]) for name in ("reference", "ours"))
    if a.shape != b.shape or (apart := float((a - b).abs().max())) > CLOSE:
        raise DisagreeError(f"crops: want inputs within {CLOSE}, got {apart if a.shape == b.shape else (a.shape, b.shape)}")
    return f"within {apart:.1e}"


def rows(*, quick: bool) -> list[Row]:
    """The whole way, the way from what was kept, and the way without JPEG."""
    torch.set_num_threads(1)
    count = 8 if quick else 64
    with TemporaryDirectory() as folder:
        return [_row(folder=Path(folder), count=count, start=start, quick=quick) for start in ("frame", "kept", "decoded")]


def _row(*, folder: Path, count: int, start: str, quick: bool) -> Row:
    detector = MediaPipeDetector()
    pictures = [image for _, _, image in frames(film(4), wanted=np.arange(count))]
    boxes = [found[0].box for found in detector.detect(pictures)]
    detector.close()
    prepared = Prepared(network(), torch.float32)
    files = [folder / f"{i:05d}.jpg" for i in range(count)]

    def save() -> list[list[int]]:
        crop_boxes = []
        for picture, box, file in zip(pictures, boxes, files, strict=True):
            crop, crop_box = square_crop(picture, box)
            cv2.imwrite(str(file), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            crop_boxes.append(crop_box)
        return crop_boxes

    def keep() -> np.ndarray:
        cuts = [cropping.cut(picture, box, MARGIN, CROP_SIDE) for picture, box in zip(pictures, boxes, strict=True)]
        jpegs = [cropping.encode_jpeg(crop, QUALITY) for crop, _ in cuts]
        times = np.arange(count) / 25
        whole = {"values": np.array(boxes), "start_s": times, "end_s": times + 0.04, "valid": np.ones(count, bool)}
        streams.write(folder / FILE, HEADER, **whole, crop=jpegs)
        return np.array([crop_box for _, crop_box in cuts])

    crop_boxes, kept_boxes = save(), keep()
    crops = [cropping.decode_jpeg(file.read_bytes()) for file in files]
    images = [Image.fromarray(crop) for crop in crops]

    def reference() -> list[torch.Tensor]:
        memory.keep(GLIBC_BYTES)
        found = save() if start == "frame" else crop_boxes
        opened = images if start == "decoded" else (Image.open(file).convert("RGB") for file in files)
        faces = map(face_of, opened, found, boxes)
        inputs = [published_input(face) for face in faces]
        return [torch.stack(inputs[batch]) for batch in batches(count)]

    def ours() -> list[torch.Tensor]:
        memory.keep()
        found = keep() if start == "frame" else kept_boxes
        decoded = crops
        if start != "decoded":
            with streams.Stream(folder / FILE) as stream:
                decoded = map(cropping.decode_jpeg, stream.blobs("crop", range(count)))
        faces = [inner(crop, crop_box, box, 0.0) for crop, crop_box, box in zip(decoded, found, boxes, strict=True)]
        out = []
        for batch in batches(count):
            pixels = np.stack([letterbox(face, SIDE) for face in faces[batch]])
            out.append(prepared.normalise(torch.from_numpy(pixels)))
        return out

    def floor() -> None:
        for picture, box, crop, file in zip(pictures, boxes, crops, files, strict=True):
            if start == "frame":
                square = cropping.square(box, MARGIN).clip(0)
                cv2.resize(picture[square[1] : square[3], square[0] : square[2]], (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
                cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            if start != "decoded":
                cv2.imread(str(file))
            face_of(Image.fromarray(crop), crop_boxes[0], box).resize((SIDE, SIDE), Image.Resampling.BILINEAR)

    arms = {"reference": reference, "ours": ours, "floor": floor}
    costs, outputs = take_turns(arms, units=count, rounds=1 if quick else 4, compare=compare)
    what = {"frame": "frame and box to input", "kept": "kept JPEG to input", "decoded": "decoded crop to input"}[start]
    goal = 5 if start == "frame" else None
    return Row(f"{what}, {count} faces of 1280x720", "face", costs, "reference : ours", ratio(costs), goal, outputs)
