"""The visual path as a whole: films are decoded, a face is cut from every frame, EfficientNet-B1 embeds it, in bfloat16.

As many threads as films. Two ways from a frame to the network's square, with the same boxes: "CPU", as the pipeline does it (RGB, cut,
letterbox in the decoding thread; crops go to the GPU), and "GPU" (the decoder's planes go there whole, pinned and without waiting; there
they are cut and resized in one sampling and turned to RGB). "decode" does nothing with the frames: the bound that both are held against.
Tracking, detection and the JPEG that the pipeline stores in between are left out.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu import film
from benchmarks.gpu.clock import Place
from benchmarks.gpu.face import grada
from benchmarks.gpu.rows import Case

FRAMES, TINY_FRAMES, BATCH, TINY_BATCH = 250, 10, 32, 4
BOX = 0.4  # side of a face, in heights of the frame
GOAL = 0.8
# From limited-range Y, U, V to R, G, B (BT.601), as swscale takes a film that does not say what it is.
TO_RGB = ((1.164, 0.0, 1.596), (1.164, -0.392, -0.813), (1.164, 2.017, 0.0))
BLACK = (16.0, 128.0, 128.0)


def cases(at: Place, path: Path | None) -> Iterator[Case]:
    """A row a number of threads.

    Args:
        path: of a film to decode; without one it is made.
    """
    with tempfile.TemporaryDirectory() as folder:
        decoder = film.decoder()
        if path is None:
            path = Path(folder) / "film.mp4"
            decoder.write(path, TINY_FRAMES if at.tiny else FRAMES, film.TINY_SIZE if at.tiny else film.SIZE)
        frames, first = decoder.count(path), next(iter(decoder.rgb(path)))
        name = f"{first.shape[1]}x{first.shape[0]} by {type(decoder).__name__}, {frames} frames each"
        for threads in (1, 2) if at.tiny else counts():
            what = f"{threads} at once, {name}"
            yield Case(what, lambda n=threads: _measure(at, decoder, path, frames, n), ("of decode, GPU", GOAL))


def counts() -> list[int]:
    """Threads: 1, 2, 4, … and all cores that this process may use."""
    cores = len(os.sched_getaffinity(0))
    return sorted({min(2**i, cores) for i in range(cores.bit_length() + 1)})


class OnCPU:
    """Squares are cut and resized by the thread that decodes; the encoder takes them from there."""

    def __init__(self, decoder: film.Decoder, path: Path, encoder):
        from affpipe.encoders.grada.network import letterbox

        self.decoder, self.path, self.encoder, self.letterbox = decoder, path, encoder, letterbox
        self.shape: tuple[int, ...] = (encoder.side, encoder.side, 3)  # of what a buffer holds of a frame

    def images(self) -> Iterator[np.ndarray]:
        return self.decoder.rgb(self.path)

    def fill(self, buffer: Tensor, i: int, image: np.ndarray, number: int) -> None:
        x, y, side = face(number, *image.shape[:2])
        buffer.numpy()[i] = self.letterbox(image[y : y + side, x : x + side], self.encoder.side)

    def squares(self, buffer: Tensor, numbers: np.ndarray) -> Tensor:
        """(B, side, side, 3) in grey levels, on the device."""
        return buffer.to(self.encoder.device, non_blocking=True)

    @torch.inference_mode()
    def embed(self, buffer: Tensor, numbers: np.ndarray) -> Tensor:
        return self.encoder.run(self.squares(buffer, numbers))[0]


class OnGPU(OnCPU):
    """Frames go to the device as the decoder gives them, or as RGB where it gives no planes."""

    def __init__(self, decoder: film.Decoder, path: Path, encoder):
        super().__init__(decoder, path, encoder)
        self.shape = next(self.images()).shape

    def images(self) -> Iterator[np.ndarray]:
        return (self.decoder.planes or self.decoder.rgb)(self.path)

    def fill(self, buffer: Tensor, i: int, image: np.ndarray, number: int) -> None:
        buffer.numpy()[i] = image

    def squares(self, buffer: Tensor, numbers: np.ndarray) -> Tensor:
        frames = buffer.to(self.encoder.device, non_blocking=True)
        if frames.ndim == 4:  # RGB
            height, width = frames.shape[1:3]
            return _sample(frames.permute(0, 3, 1, 2), self._grid(numbers, height, width)).clamp(0, 255).permute(0, 2, 3, 1)
        height, width = frames.shape[1] * 2 // 3, frames.shape[2]
        grid = self._grid(numbers, height, width)
        luma = frames[:, None, :height]
        chroma = frames[:, height:].reshape(-1, 2, height // 2, width // 2)  # two of its rows lie in one of the buffer
        colours = torch.cat([_sample(luma, grid), _sample(chroma, grid)], dim=1)  # (B, 3, side, side)
        colours = colours - colours.new_tensor(BLACK).view(1, 3, 1, 1)
        return torch.einsum("rc,bchw->bhwr", colours.new_tensor(TO_RGB), colours).clamp(0, 255)

    def _grid(self, numbers: np.ndarray, height: int, width: int) -> Tensor:
        """Where the pixels of each frame's square lie: (B, side, side, 2) in [-1, 1]."""
        x, y, side = np.array([face(int(number), height, width) for number in numbers], np.float32).T
        zero = np.zeros_like(x)
        rows = [[side / width, zero, (2 * x + side) / width - 1], [zero, side / height, (2 * y + side) / height - 1]]
        theta = torch.from_numpy(np.array(rows).transpose(2, 0, 1)).to(self.encoder.device, non_blocking=True)  # (B, 2, 3)
        return F.affine_grid(theta, [len(numbers), 1, self.encoder.side, self.encoder.side], align_corners=False)


def face(number: int, height: int, width: int) -> tuple[int, int, int]:
    """Left, top and side of the face in a frame, in pixels: it goes to and fro."""
    side = int(BOX * height)
    swing = 0.5 + 0.4 * np.sin(number / 20)
    return int(swing * (width - side)), int(swing * (height - side)), side


def _sample(planes: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(planes.float(), grid, padding_mode="border", align_corners=False)


def _measure(at: Place, decoder: film.Decoder, path: Path, frames: int, threads: int) -> dict[str, float]:
    batch = TINY_BATCH if at.tiny else BATCH
    encoder = grada(at, torch.bfloat16, batch)
    ways = {"CPU": OnCPU(decoder, path, encoder), "GPU": OnGPU(decoder, path, encoder)}
    apart = _compare(ways, batch)
    works = {"decode": lambda: _decode(decoder, path, threads)}
    works |= {name: lambda way=way: _run(way, batch, frames, threads) for name, way in ways.items()}
    took = at.in_turn(works)
    rates = {f"frames/s, {name}": frames * threads / seconds for name, seconds in took.items()}
    shares = {f"of decode, {name}": took["decode"] / took[name] for name in ways}
    return {**rates, **shares, "grey levels apart": apart}


def _decode(decoder: film.Decoder, path: Path, threads: int) -> None:
    workers = [Thread(target=decoder.count, args=(path,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _compare(ways: dict[str, OnCPU], batch: int) -> float:
    """Mean difference between the first squares of the two ways: they filter in different ways, but cut the same."""
    found = []
    for way in ways.values():
        buffer, numbers = _buffer(way, batch), np.arange(batch)
        for number, image in zip(numbers.tolist(), way.images(), strict=False):
            way.fill(buffer, number, image, number)
        found.append(way.squares(buffer, numbers).float())
    return (found[0] - found[1]).abs().mean().item()


def _buffer(way: OnCPU, batch: int) -> Tensor:
    return torch.zeros(batch, *way.shape, dtype=torch.uint8, pin_memory=way.encoder.device.type == "cuda")


def _run(way: OnCPU, batch: int, frames: int, threads: int) -> None:
    """Threads decode and fill buffers, this one sends and embeds them; a buffer is free again once its copy is done."""
    free: Queue[Tensor] = Queue()
    full: Queue[tuple[Tensor, list[int]] | Exception | None] = Queue()
    for _ in range(2 * threads + 2):
        free.put(_buffer(way, batch))

    def work() -> None:
        try:
            buffer, numbers = free.get(), []
            for number, image in enumerate(way.images()):
                way.fill(buffer, len(numbers), image, number)
                numbers.append(number)
                if len(numbers) == batch:
                    full.put((buffer, numbers))
                    buffer, numbers = free.get(), []
            full.put((buffer, numbers) if numbers else None)
            if numbers:
                full.put(None)
        except Exception as error:  # raised in the thread that waits
            full.put(error)

    for _ in range(threads):
        Thread(target=work, daemon=True).start()
    found: list[Tensor] = []
    sent: tuple[Tensor, torch.cuda.Event | None] | None = None
    going = threads
    while going:
        item = full.get()
        if isinstance(item, Exception):
            raise item
        if item is None:
            going -= 1
            continue
        buffer, numbers = item
        found.append(way.embed(buffer[: len(numbers)], np.array(numbers)))
        if sent is not None:
            _wait(*sent, free)
        sent = buffer, _mark(way.encoder.device)
    embedded = torch.cat(found).float().cpu()
    if len(embedded) != frames * threads:
        raise ValueError(f"want {frames * threads} frames, got {len(embedded)}")


def _mark(device: torch.device) -> "torch.cuda.Event | None":
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record()
    return event


def _wait(buffer: Tensor, event: "torch.cuda.Event | None", free: Queue) -> None:
    if event is not None:
        event.synchronize()
    free.put(buffer)
