"""Square face crops: cut, shrink, store as JPEG."""

from pathlib import Path

import cv2
import numpy as np

from affpipe.core.errors import InputError, MediaError, StoreError
from affpipe.faces import images

JPEG, SCAN = b"\xff\xd8\xff", b"\xff\xda"
FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that the size follows
LARGEST_SIDE = 4096  # pixels: twice the largest setting of `faces.crop_side`; a few bytes can declare a picture of gigabytes
MOST_SCANS = 100  # most scans of a progressive JPEG; ten are usual. Each goes over the whole picture, however few bytes it has
REMEDY = "remove the file and run the crop stage again"


def square(box: np.ndarray, margin: float) -> np.ndarray:
    """Return the (4,) int64 square round the centre of a (4,) box xyxy: its longer side plus `margin` of that side on each side.

    It may reach beyond the frame. The side is at least one pixel.
    """
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    if not (x1 > x0 and y1 > y0 and margin >= 0):
        raise InputError(f"crop: want a box with x1 > x0, y1 > y0 and a margin >= 0, got {[x0, y0, x1, y1]}, margin {margin}")
    side = max(1, round(max(x1 - x0, y1 - y0) * (1 + 2 * margin)))
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    return np.array([left, top, left + side, top + side], np.int64)


def cut(frame: np.ndarray, box: np.ndarray, margin: float, max_side: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the square round `box` out of an (H, W, 3) uint8 frame.

    Returns:
        crop: (S, S, 3) uint8, zero outside of the frame, S <= max_side: shrunk by area averaging, never enlarged.
        crop_box: (4,) int64 xyxy in pixels of the frame. Crop pixel p lies at crop_box[:2] + p * (side of crop_box) / S.
    """
    crop_box = square(box, margin)
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = crop_box.tolist()
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if left >= right or top >= bottom:
        raise InputError(f"crop: box {np.asarray(box).tolist()} lies outside of the {width}x{height} frame")
    beyond = top - y0, y1 - bottom, left - x0, x1 - right
    crop = cv2.copyMakeBorder(frame[top:bottom, left:right], *beyond, cv2.BORDER_CONSTANT)  # a copy, black outside
    if len(crop) > max_side:
        crop = cv2.resize(crop, (max_side, max_side), interpolation=cv2.INTER_AREA)
    return crop, crop_box


def encode_jpeg(crop: np.ndarray, quality: int) -> bytes:
    """Encode an (H, W, 3) uint8 RGB crop as JPEG; quality 1 to 100."""
    if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or not 1 <= quality <= 100:
        raise InputError(f"encode_jpeg: want uint8 (H, W, 3) and quality 1-100, got {crop.dtype} {crop.shape}, {quality}")
    return cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Read the height and width that the header of a JPEG declares, from a few of its bytes; None if it declares none."""
    at = 2 if data.startswith(JPEG) else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in FRAME:
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decode a JPEG to (H, W, 3) uint8 RGB. Raises StoreError if it is none, or would take much more to decode than faces do."""
    height, width = jpeg_size(data) or (0, 0)
    if max(height, width) > LARGEST_SIDE or data.count(SCAN) > MOST_SCANS:
        raise StoreError(f"decode_jpeg: want at most {LARGEST_SIDE} pixels a side and {MOST_SCANS} scans, got {width}x{height}; {REMEDY}")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if height and width else None
    if image is None:
        raise StoreError(f"decode_jpeg: {len(data)} bytes are no image; {REMEDY}")
    return image


def read_square(path: Path) -> tuple[bytes, int] | None:
    """Read a square JPEG: its bytes and its side in pixels; None if it does not decode (cut short, empty, no JPEG, huge).

    Raises MediaError if the file cannot be read, or its picture is not square.
    """
    data = images.content(path)
    try:
        height, width = decode_jpeg(data).shape[:2]
    except (StoreError, cv2.error):
        return None
    if height != width:
        raise MediaError(f"{path}: want a square image of a face, got {width}x{height}; take the cropped and aligned images")
    return data, width
