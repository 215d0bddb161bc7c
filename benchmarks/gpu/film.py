"""A 720p film, made and decoded with whatever this machine has: PyAV, OpenCV or the program ffmpeg, in this order.

Each way to decode gives frames in three forms: not converted at all (`count`), as RGB (`rgb`), and as they come out of the decoder
(`planes`: luma above both chroma planes), where it can; one thread a film.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np

from benchmarks.gpu.rows import LackingError

SIZE, TINY_SIZE, FPS = (1280, 720), (128, 96), 25
GRAIN = 3.0  # grey levels: a smooth picture has next to no bits to decode
QUIET = ("-hide_banner", "-loglevel", "error")


def pictures(count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8: waves of colour with the grain of a camera; after a second the same again."""
    rng = np.random.default_rng(0)
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    drawn = []
    for i in range(min(count, FPS)):
        waves = [127 + 90 * np.sin((x * a + y * b) / width * 6 + 2 * np.pi * i / FPS) for a, b in ((1, 0), (0.5, 1), (-1, 0.7))]
        picture = np.stack(waves, axis=-1) + rng.normal(0, GRAIN, (height, width, 1))
        drawn.append(np.clip(picture, 0, 255).astype(np.uint8))
    yield from (drawn[i % FPS] for i in range(count))


class PyAV:
    """Through the pipeline's own reader."""

    def write(self, path: Path, count: int, size: tuple[int, int]) -> None:
        import av

        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=FPS)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            for picture in pictures(count, size):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())

    def count(self, path: Path) -> int:
        from affpipe.media.reader import VideoPass, open_media

        with open_media(path) as container:
            return sum(1 for _ in VideoPass(container, path))

    def rgb(self, path: Path) -> Iterator[np.ndarray]:
        from affpipe.media.picture.decode import frames

        for _, _, image in frames(path):
            yield image

    def planes(self, path: Path) -> Iterator[np.ndarray]:
        from affpipe.media.reader import VideoPass, open_media

        with open_media(path) as container:
            for _, _, frame in VideoPass(container, path):
                yield frame.to_ndarray(format="yuv420p")


class OpenCV:
    """It gives no planes; its own encoder is MPEG-4, which is cheaper to decode than H.264."""

    def write(self, path: Path, count: int, size: tuple[int, int]) -> None:
        import cv2

        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, size)
        for picture in pictures(count, size):
            writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
        writer.release()

    def count(self, path: Path) -> int:
        video, found = self._open(path), 0
        while video.grab():
            found += 1
        return found

    def rgb(self, path: Path) -> Iterator[np.ndarray]:
        video = self._open(path)
        while (image := video.read()[1]) is not None:
            yield np.ascontiguousarray(image[:, :, ::-1])

    planes = None

    @staticmethod
    def _open(path: Path):
        import cv2

        return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


class FFmpeg:
    """The program, through a pipe."""

    def write(self, path: Path, count: int, size: tuple[int, int]) -> None:
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", str(FPS), "-i", "-"]
        command = ["ffmpeg", *QUIET, "-y", *raw, "-pix_fmt", "yuv420p", str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            for picture in pictures(count, size):
                process.stdin.write(picture.tobytes())
        if process.returncode:
            raise OSError(f"ffmpeg: want a film, got exit status {process.returncode}")

    def count(self, path: Path) -> int:
        say = ["-f", "null", "-progress", "-", "-"]
        done = subprocess.run(
            ["ffmpeg", *QUIET, "-nostdin", "-threads", "1", "-i", str(path), *say], check=True, capture_output=True, text=True
        )
        return int(done.stdout.rpartition("frame=")[2].split()[0])

    def rgb(self, path: Path) -> Iterator[np.ndarray]:
        with self._read(path, "-f", "image2pipe", "-c:v", "ppm") as pipe:
            while pipe.readline():  # P6
                width, height = map(int, pipe.readline().split())
                pipe.readline()  # 255
                yield np.frombuffer(pipe.read(width * height * 3), np.uint8).reshape(height, width, 3)

    def planes(self, path: Path) -> Iterator[np.ndarray]:
        with self._read(path, "-f", "yuv4mpegpipe", "-pix_fmt", "yuv420p") as pipe:
            sizes = {word[:1]: word[1:] for word in pipe.readline().split()}
            width, height = int(sizes[b"W"]), int(sizes[b"H"])
            while pipe.readline():  # FRAME
                yield np.frombuffer(pipe.read(width * height * 3 // 2), np.uint8).reshape(height * 3 // 2, width)

    @staticmethod
    @contextmanager
    def _read(path: Path, *form: str) -> Iterator[BinaryIO]:
        command = ["ffmpeg", *QUIET, "-nostdin", "-threads", "1", "-i", str(path), *form, "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=2**22) as process:
            try:
                yield process.stdout
            finally:
                process.kill()  # whoever reads may have enough before the end


Decoder = PyAV | OpenCV | FFmpeg


def decoder() -> Decoder:
    """The first that is here."""
    if find_spec("av"):
        return PyAV()
    if find_spec("cv2"):
        return OpenCV()
    if shutil.which("ffmpeg"):
        return FFmpeg()
    raise LackingError("av, cv2 or ffmpeg")
