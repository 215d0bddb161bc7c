"""Videos that are none, or not as they should be: each is made as `clip.mp4` in a folder."""

import os
import struct
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import clips
import numpy as np
from bad_case import FRAMES, Case, sound_clip, watch
from PIL import Image

from affpipe.data.demo.clips import PAL, SQUARE, Clip
from affpipe.data.demo.render import render_clip

SOUND = clips.Sound(length_s=FRAMES / 25, click_s=(0.2,), hum=0.01)
write = partial(clips.write, count=FRAMES, sound=SOUND)


def sound(folder: Path) -> Path:
    path = folder / "sound.mp4"
    path.write_bytes(sound_clip())
    return path


def cut_at_the_end(folder: Path) -> None:
    data = sound_clip()
    (folder / "clip.mp4").write_bytes(data[: data.index(b"moov")])


def cut_in_the_middle(folder: Path) -> None:
    whole = write(folder / "whole.mp4", count=50, sound=replace(SOUND, length_s=2.0), options={"g": "1", "bf": "0"})
    data = clips.remux(whole, folder / "fast.mp4", movflags="faststart").read_bytes()
    (folder / "clip.mp4").write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])


def download(folder: Path) -> None:
    """Half of it is there, in room for two megabytes more."""
    cut_in_the_middle(folder)
    data = (folder / "clip.mp4").read_bytes()
    at, more = data.index(b"mdat"), 2 << 20
    (folder / "clip.mp4").write_bytes(data[: at - 4] + (len(data) - at + 4 + more).to_bytes(4, "big") + data[at:] + bytes(more))


def sound_alone(folder: Path) -> None:
    with av.open(str(sound(folder))) as a, av.open(str(folder / "clip.mp4"), "w") as b:
        track = b.add_stream_from_template(a.streams.audio[0])
        for packet in a.demux(a.streams.audio[0]):
            if packet.size:
                packet.stream = track
                b.mux(packet)


def two_people(folder: Path) -> None:
    render_clip(folder, Clip("clip", "test", 1, PAL, SQUARE, people=2), 7)
    (folder / "videos" / "clip.mp4").rename(folder / "clip.mp4")


def two_sizes(folder: Path) -> None:
    parts = [write(folder / f"{width}.ts", size=(width, 64)) for width in (96, 128)]
    (folder / "clip.mp4").write_bytes(b"".join(part.read_bytes() for part in parts))


def oblique(folder: Path) -> None:
    """The display matrix in the header of the track turns by 45 degrees."""
    data = bytearray(write(folder / "clip.mp4").read_bytes())
    at, c = data.index(b"tkhd") + 44, round(65536 * 0.5**0.5)
    data[at : at + 36] = struct.pack(">9i", c, c, 0, -c, c, 0, 0, 0, 1 << 30)
    (folder / "clip.mp4").write_bytes(data)


def clock_anew(folder: Path) -> None:
    (folder / "clip.mp4").write_bytes(2 * write(folder / "part.ts").read_bytes())


def damaged(folder: Path) -> None:
    source = write(folder / "source.mp4", options={"g": "4", "bf": "0"})
    clips.damage(source, folder / "clip.mp4", "video", slice(5, 7))


def huge(folder: Path) -> None:
    """A GIF of 30 bytes whose header says 16000 x 16000."""
    screen, image = struct.pack("<HHBBB", 16000, 16000, 0x80, 0, 0), struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    (folder / "clip.mp4").write_bytes(b"GIF89a" + screen + b"\0\0\0\xff\xff\xff," + image + b"\x02\x02\x44\x01\0;")


def a_list(folder: Path) -> None:
    (folder / "clip.mp4").write_text("ffconcat version 1.0\nfile 'a.mp4'\nfile 'b.mp4'\n")


def of_tracks(folder: Path, kind: str, seen: list[clips.Seen], heard: list[np.ndarray], **options: str) -> None:
    layouts = {1: "mono", 2: "stereo"}
    sounds = [clips.Heard(wave, "aac" if kind == "mp4" else "pcm_f32le", layouts[len(wave)]) for wave in heard]
    clips.tracks(folder / f"x.{kind}", seen, sounds, **options).rename(folder / "clip.mp4")


def animated(folder: Path) -> None:
    images = [Image.fromarray(clips.picture(i)) for i in range(3)]
    images[0].save(folder / "clip.mp4", "WEBP", save_all=True, append_images=images[1:], duration=40)


HUM = 0.1 * np.sin(2 * np.pi * 220 * np.arange(48000 * FRAMES // 25) / 48000)[None]
ONE, STILL = clips.Seen(FRAMES), clips.Seen([clips.picture(0)], "mjpeg")
KEY = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}


def days(folder: Path) -> None:
    path = clips.write(folder / "days.mkv", pts=[0, 40, 80, 10**12], time_base=Fraction(1, 1000))
    path.rename(folder / "clip.mp4")


FAILED, DONE = "failed", "done"
MEDIA = [
    Case(name, "media", make, watch, *rest)
    for name, make, *rest in [
        ("a folder", lambda f: (f / "clip.mp4").mkdir(), "refused", "got a folder at clip.mp4", "name the file in it"),
        ("a pipe", lambda f: os.mkfifo(f / "clip.mp4"), "refused", "got a pipe at clip.mp4", "write what comes out of it to a file"),
        ("a device", lambda f: (f / "clip.mp4").symlink_to("/dev/zero"), "refused", "got a device at clip.mp4", "record to a file first"),
        ("an empty file", lambda f: (f / "clip.mp4").touch(), "refused", "clip.mp4: want a media file, got an empty one", "get it again"),
        (
            "text",
            lambda f: (f / "clip.mp4").write_text("not a video\n" * 50),
            FAILED,
            "clip.mp4: want a readable video, got",
            "get the video itself: often the page of an error was saved in its place",
        ),
        (
            "cut off before its index",
            cut_at_the_end,
            FAILED,
            "clip.mp4: want a readable video, got 'moov atom not found'",
            "get it again",
        ),
        (
            "cut off within its frames",
            cut_in_the_middle,
            DONE,
            "frames: clip.mp4: ends 1.",
            "what is there is used: the stream is shorter. Get it again if the rest matters",
        ),
        (
            "a download that goes on, in room made for it",
            download,
            FAILED,
            "clip.mp4: want a file that is there whole, got zeros from byte",
            "wait for it; if it plays to its end, remux it",
        ),
        ("sound alone", sound_alone, FAILED, "clip.mp4: want a video, got a file without a video stream", "take it out of the manifest"),
        (
            "no sound track",
            lambda f: write(f / "clip.mp4", sound=None),
            "absent",
            "clip.mp4: want an audio track, got a video that has no audio track",
            "no fault: the models of sound have nothing for it, a fusion goes on with the others",
        ),
        (
            "sound that does not decode",
            lambda f: clips.damage(sound(f), f / "clip.mp4", "audio", slice(None)),
            FAILED,
            "clip.mp4: want a readable video, got 'undecodable data in each of",
            "get it again, or remove the track: then it is a video without sound",
        ),
        (
            "nobody in the picture",
            lambda f: write(f / "clip.mp4"),
            DONE,
            "subject: no face",
            "no frame has a face: `source` is `none` for models of the face, a fusion rests on sound and behaviour",
        ),
        (
            "two faces where one is meant",
            two_people,
            DONE,
            "subject: rule largest: took 1 of 2 tracks",
            "the larger face is taken; `left` or `right` in the column `subject`, or curation, take the other",
        ),
        ("frames of two sizes", two_sizes, FAILED, "clip.mp4: want frames of one size, got 96x64 then 128x64", "re-encode it"),
        ("turned by 45 degrees", oblique, FAILED, "clip.mp4: want a rotation by a right angle, got the display matrix", "re-encode it"),
        (
            "a clock that starts anew",
            clock_anew,
            DONE,
            f"frames: clip.mp4: {FRAMES} of {2 * FRAMES} timestamps missing or not increasing, repaired",
            "frames go on from there by the new clock; look whether sound and picture still agree",
        ),
        (
            "damaged packets in the middle",
            damaged,
            DONE,
            "frames: clip.mp4: 2 undecodable packets skipped",
            "the frames that decode are used, at their own times. Annotations count frames: get the video again if there are any",
        ),
        (
            "a header of 16000 x 16000 pixels",
            huge,
            FAILED,
            "clip.mp4: want a readable video, got 'no decodable frame of at most 67108864 pixels'",
            "scale it down; a file of a few bytes is damaged or made up",
        ),
        (
            "a still picture",
            lambda f: Image.fromarray(clips.picture(3)).save(f / "clip.mp4", "PNG"),
            FAILED,
            "clip.mp4: want a video, got a still picture",
            "images of faces belong into the column `images`, see data.md",
        ),
        ("a list of other videos", a_list, FAILED, "clip.mp4: want a video, got a list of files", "a row a video, or join them"),
        (
            "a timestamp years ahead",
            days,
            FAILED,
            "clip.mp4: want a video of at most 24 h, got 277778 h",
            "remux it, so that its timestamps are written anew",
        ),
        (
            "encrypted",
            lambda f: of_tracks(f, "mp4", [ONE], [HUM], **KEY),
            FAILED,
            "clip.mp4: want a video that may be read, got an encrypted one",
            "what a shop or a broadcaster locks is not read",
        ),
        ("an animated WebP", animated, FAILED, "clip.mp4: want a video, got an animated WebP", "GIF and APNG are read as videos"),
        (
            "a cover picture before the video",
            lambda f: of_tracks(f, "mkv", [STILL, ONE], [HUM]),
            DONE,
            "frames: clip.mp4: took video track 1 of 2 (0 is a still picture)",
            "the column `video_track`, or the setting, takes another",
        ),
        (
            "an empty microphone before the one in use",
            lambda f: of_tracks(f, "mkv", [ONE], [0 * HUM, HUM]),
            DONE,
            "audio: clip.mp4: took audio track 1 of 2 (0 is silent)",
            "the column `audio_track`, or the setting, takes another",
        ),
        (
            "a sound track that is silent",
            lambda f: of_tracks(f, "mkv", [ONE], [0 * HUM]),
            "absent",
            "clip.mp4: want sound, got an audio track that is digitally silent",
            "no fault: as of a video without sound",
        ),
        (
            "stereo of opposite phase",
            lambda f: of_tracks(f, "mkv", [ONE], [np.concatenate([HUM, -HUM])]),
            DONE,
            "audio: clip.mp4: 100.0% of the sound from one channel",
            "one channel is taken, as the mix would be silent. Look to the cable",
        ),
        (
            "samples that are no number",
            lambda f: of_tracks(f, "mkv", [ONE], [np.where(np.arange(HUM.size) == 9, np.nan, HUM)]),
            DONE,
            "audio: clip.mp4: 1 samples that are no number, set to 0",
            "look whether the sound is as it should be",
        ),
    ]
]
