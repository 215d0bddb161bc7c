"""What a media file is opened as: itself, a local file in a form that holds its own pictures and sound.

FFmpeg reads some forty protocols and lists of all kinds, and follows what a list names before it gives control back: other files, a pipe
that never answers, an address of the network. So lists are known by their first bytes and never opened; whatever else is not below is
refused by FFmpeg itself, which then has read the beginning of this file and nothing else. A path is given to every library in full: one
that begins with a slash is a file to all of them, and "http:/x" or "a:b.mp4" is not.
"""

import re
from pathlib import Path

from affpipe.core.errors import MediaError
from affpipe.media import unfinished
from affpipe.media.identity import check

FORMS = (  # of containers, streams without one, sound; FFmpeg's names
    *(
        "mov",
        "mp4",
        "m4a",
        "3gp",
        "3g2",
        "mj2",
        "matroska",
        "webm",
        "avi",
        "mpeg",
        "mpegts",
        "mpegtsraw",
        "flv",
        "live_flv",
        "asf",
        "asf_o",
    ),
    *("ogg", "rm", "mxf", "nut", "gxf", "dv", "ivf", "nsv", "swf", "wtv", "pva", "nuv", "ty", "yuv4mpegpipe", "gif", "apng", "amr", "caf"),
    *("h261", "h263", "h264", "hevc", "vvc", "m4v", "mpegvideo", "av1", "obu", "vc1", "cavsvideo", "mjpeg", "mjpeg_2000", "dirac", "dnxhd"),
    *("wav", "w64", "aiff", "au", "mp3", "aac", "loas", "ac3", "eac3", "flac", "ape", "tta", "tak", "wv", "dts", "dtshd", "truehd", "mlp"),
    *(f"{name}_pipe" for name in ("bmp", "gif", "jpeg", "jpegls", "jpegxl", "j2k", "png", "ppm", "pgm", "pbm", "tiff", "webp")),  # pictures
    *("dhav", "hxvs", "mpjpeg", "smjpeg"),  # of cameras
    "tty",  # any text: named as such and refused
)
WHITELIST = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMS)}
BEGINNING = 4096  # bytes
LISTS = re.compile(
    rb"(\xef\xbb\xbf)?\s*(#EXTM3U|ffconcat|\[playlist\]|\[Reference\]|<asx\b|<smil\b|RTSPtext|v=0\s)|[^\x00]*<(\w+:)?(MPD|AssetMap)\b",
    re.IGNORECASE | re.DOTALL,
)


def local(path: Path) -> str:
    """The path of a media file for FFmpeg and its like. MediaError where there is no whole file, or a list of others."""
    check(path)
    try:
        with path.open("rb") as file:
            beginning = file.read(BEGINNING)
        unfinished.check(path)
    except OSError as error:
        raise MediaError(f"{path}: want a readable file, got {error.strerror!r}; make it readable") from None
    if LISTS.match(beginning):
        raise MediaError(f"{path}: want a video, got a list of files; name the video itself")
    return str(path.absolute())
