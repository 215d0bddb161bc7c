"""Safe opening of media files: only a local file in a format that holds its own pictures and sound.

FFmpeg reads some forty protocols and all kinds of playlists. It follows what a list names before it returns: other files, a pipe that never
answers, an address on the network. So lists are recognized by their first bytes and never opened. FFmpeg itself refuses any other format
that is not listed below, and has then read only the beginning of this file. Every library is given the full path: one that begins with a
slash is a file to all of them, and "http:/x" or "a:b.mp4" is not.
"""

import re
from pathlib import Path

from affpipe.core.errors import MediaError
from affpipe.media import unfinished
from affpipe.media.identity import check

FORMS = (  # containers, raw streams, sound; FFmpeg's names
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
    *("dhav", "hxvs", "mpjpeg", "smjpeg"),  # cameras
    "tty",  # any text: recognized here, so that it can be refused by name
)
WHITELIST = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMS)}
BEGINNING = 4096  # bytes
LISTS = re.compile(
    rb"(\xef\xbb\xbf)?\s*(#EXTM3U|ffconcat|\[playlist\]|\[Reference\]|<asx\b|<smil\b|RTSPtext|v=0\s)|[^\x00]*<(\w+:)?(MPD|AssetMap)\b",
    re.IGNORECASE | re.DOTALL,
)


def local(path: Path) -> str:
    """Return the path of a media file to give to FFmpeg and the like. Raises MediaError if it is no whole file, or a list of others."""
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
