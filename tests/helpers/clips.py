"""Synthetic clips for tests: chosen timestamps, rotation and sound.

Frame i shows its own number: eight vertical bars, black or white, are its bits (lowest at the left) in the upper half of the picture;
the lower half is grey. `number` reads it back after lossy coding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

WIDTH, HEIGHT = 96, 64


@dataclass(frozen=True)
class Sound:
    """An audio track: quiet but for clicks (smooth pulses of 1 ms) at click_s; all times on the container's clock.

    gaps: (from, to) stretches for which no packet is written. levels: one amplitude of the click per channel. hum: of a tone throughout.
    """

    start_s: float = 0.0
    length_s: float = 2.0
    click_s: Sequence[float] = (1.0,)
    sample_rate_hz: int = 44100
    levels: Sequence[float] = (0.8,)
    codec: str = "aac"
    gaps: Sequence[tuple[float, float]] = ()
    hum: float = 0.0

    def samples(self) -> np.ndarray:
        """(C, N) float32."""
        t = self.start_s + np.arange(round(self.length_s * self.sample_rate_hz)) / self.sample_rate_hz
        pulse = sum((np.exp(-0.5 * ((t - c) / 0.0005) ** 2) for c in self.click_s), np.zeros_like(t))
        return (np.outer(self.levels, pulse) + self.hum * np.sin(2 * np.pi * 220 * t)).astype(np.float32)


def apart(video: bytes, mark: str) -> bytes:
    """An MP4 as another file that plays the same: behind it is a box of free space, marked."""
    return video + (8 + len(mark.encode())).to_bytes(4, "big") + b"free" + mark.encode()


def picture(i: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(height, width, 3) uint8 picture of frame number i < 256."""
    image = np.full((height, width, 3), 128, np.uint8)
    bits = np.array([255 * (i >> k & 1) for k in range(8)], np.uint8)
    image[: height // 2] = np.repeat(bits, width // 8)[None, :, None]
    return image


def number(image: np.ndarray) -> int:
    """Frame number that a picture shows."""
    height, width = image.shape[:2]
    bars = image[height // 8 : height * 3 // 8].mean(axis=(0, 2)).reshape(8, width // 8)[:, width // 32 : -(width // 32)].mean(axis=1)
    return int(sum(int(bar > 128) << k for k, bar in enumerate(bars)))


def write(
    path: Path,
    *,
    count: int = 50,
    fps: Fraction | int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 90000),
    start_s: float = 0.0,
    codec: str = "libx264",
    rotation_deg: int = 0,
    mirror: bool = False,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    sound: Sound | None = None,
    pixels: str = "yuv420p",
    ratio: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a clip and return its path.

    Args:
        pts: of each frame in units of time_base; by default `count` frames at `fps` from start_s.
        rotation_deg: counter-clockwise turn written as the display matrix; mirror: left and right swapped after that.
        codec, pixels: of the video; libx264 writes B-frames. ratio: width by height of a pixel.
    """
    if pts is None:
        pts = [round((Fraction(start_s) + i / Fraction(fps)) / time_base) for i in range(count)]
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled", **(container_options or {})}) as out:
        video = out.add_stream(codec, rate=fps, options=options or {})
        video.width, video.height = size
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else pixels
        video.codec_context.time_base = time_base
        video.time_base = time_base
        video.codec_context.thread_count = 1
        if ratio:
            video.codec_context.sample_aspect_ratio = ratio
        if rotation_deg or mirror:
            video.set_display_rotation(rotation_deg, hflip=mirror)
        packets = []
        if sound is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound.levels)]
            audio = out.add_stream(sound.codec, rate=sound.sample_rate_hz, layout=layout)
            packets += _audio_packets(audio, sound, layout)
        for i, ticks in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(picture(i % 256, *size), format="rgb24")
            frame.pts, frame.time_base = int(ticks), time_base
            packets += video.encode(frame)
        packets += video.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


def _audio_packets(stream: av.AudioStream, sound: Sound, layout: str) -> list[av.Packet]:
    stream.codec_context.open()
    size = stream.codec_context.frame_size or 1024
    rate, samples = sound.sample_rate_hz, sound.samples()
    packets, kind = [], stream.codec_context.format
    for at in range(0, samples.shape[1], size):
        chunk = samples[:, at : at + size]
        if not kind.name.startswith("flt"):
            width = np.int32 if kind.name.startswith("s32") else np.int16
            chunk = np.rint(chunk.astype(np.float64) * np.iinfo(width).max).astype(width)
        if not kind.is_planar:
            chunk = chunk.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk), format=kind.name, layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(sound.start_s * rate) + at
        packets += stream.encode(frame)
    packets += stream.encode(None)
    return [p for p in packets if not any(a <= p.pts * p.time_base < b for a, b in sound.gaps)]


@dataclass(frozen=True)
class Seen:
    """A video track: its pictures at 25 frames a second (those of `picture` for an int); marks: its disposition."""

    pictures: int | Sequence[np.ndarray] = 30
    codec: str = "mpeg4"
    marks: Disposition | None = None


@dataclass(frozen=True)
class Heard:
    """A sound track: samples (C, N) at 48 kHz; marks: its disposition."""

    samples: np.ndarray
    codec: str = "pcm_s16le"
    layout: str = "mono"
    marks: Disposition | None = None


def pulses(at: Sequence[float], length_s: float = 1.2, level: float = 0.8) -> np.ndarray:
    """(N,) samples at 48 kHz, silent but for smooth pulses of 1 ms."""
    t = np.arange(round(length_s * 48000)) / 48000
    return level * sum((np.exp(-0.5 * ((t - c) / 0.0005) ** 2) for c in at), np.zeros_like(t))


def tracks(path: Path, seen: Sequence[Seen], heard: Sequence[Heard] = (), **options: str) -> Path:
    """Write a clip of several tracks, in their order, and return its path."""
    with av.open(str(path), "w", options=options) as out:
        packets = []
        streams = [out.add_stream(track.codec, rate=25) for track in seen]
        sounds = [out.add_stream(track.codec, rate=48000, layout=track.layout) for track in heard]
        for stream, track in zip([*streams, *sounds], [*seen, *heard], strict=True):
            if track.marks is not None:
                stream.disposition = track.marks
        for stream, track in zip(streams, seen, strict=True):
            images = [picture(i) for i in range(track.pictures)] if isinstance(track.pictures, int) else track.pictures
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
            for i, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for stream, track in zip(sounds, heard, strict=True):
            stream.codec_context.open()
            flat = np.ascontiguousarray(track.samples.T, np.float64).reshape(1, -1)
            whole = av.AudioFrame.from_ndarray(flat, format="dbl", layout=track.layout)
            whole.sample_rate, whole.time_base, whole.pts = 48000, Fraction(1, 48000), 0
            kind, size = stream.codec_context.format.name, stream.codec_context.frame_size or 1024
            cut = av.AudioResampler(format=kind, layout=track.layout, rate=48000, frame_size=size)
            for frame in [*cut.resample(whole), *cut.resample(None), None]:
                packets += stream.encode(frame)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


def damage(source: Path, target: Path, kind: str, which: slice) -> Path:
    """Copy a file with the bytes of some packets of its "video" or "audio" stream overwritten."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [p for p in container.demux(container.streams.best(kind)) if p.size]
    for packet in packets[which]:
        data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    target.write_bytes(data)
    return target


def remux(source: Path, target: Path, **options: str) -> Path:
    """Copy the packets into another container."""
    with av.open(str(source)) as a, av.open(str(target), "w", options=options) as b:
        streams = {s: b.add_stream_from_template(s) for s in a.streams}
        for packet in a.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                b.mux(packet)
    return target
