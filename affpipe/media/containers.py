"""Recognition of video files: by suffix, or by the first bytes if the suffix is not a video's."""

from pathlib import Path

from av.stream import Disposition

from affpipe.core.errors import MediaError
from affpipe.media.reader import open_media

VIDEOS = (  # suffixes, in upper or lower case
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".flv", ".mj2", ".ismv"),
    *(".mkv", ".mk3d", ".webm", ".avi", ".divx", ".xvid", ".asf", ".wmv", ".wtv", ".dvr-ms", ".rm", ".rmvb"),
    *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mpv", ".m2p", ".vob", ".evo", ".ts", ".mts", ".m2ts", ".m2t", ".trp"),
    *(".mxf", ".gxf", ".dv", ".dif", ".ogv", ".ogm", ".nut", ".ivf", ".amv", ".dav", ".y4m", ".mjpeg", ".mjpg"),
    *(".h264", ".264", ".h265", ".265", ".hevc", ".vc1"),
)
OTHERS = (  # not looked into: there may be millions of them, or their container is a video's but holds a photograph
    *(".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".heif", ".avif"),
    *(".csv", ".json", ".npy", ".npz", ".h5", ".pt", ".pth", ".zip", ".tar", ".gz"),
)
HEAD_BYTES = 400
_FIRST = (  # bytes at the start of a container that may hold a video
    *(b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS", b"\x06\x0e\x2b\x34", b"\x1f\x07\x00", b".RMF", b"nut/multimedia", b"DKIF", b"YUV4MPEG2"),
    *(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"\xb7\xd8\x00\x20\x37\x49\xda\x11", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"GIF8"),
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def hidden_video(path: Path) -> str:
    """Return the container of a file that holds a moving picture though its suffix is not in VIDEOS; "" for any other file."""
    if path.suffix.lower() in (*VIDEOS, *OTHERS):
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if not _may_hold_video(head):
            return ""
        with open_media(path) as container:
            moving = any(not stream.disposition & Disposition.attached_pic for stream in container.streams.video)
            return container.format.long_name if moving else ""
    except (OSError, MediaError):
        return ""


def _may_hold_video(head: bytes) -> bool:
    transport = any(len(head) > at + 188 and head[at] == head[at + 188] == 0x47 for at in (0, 4))
    return head.startswith(_FIRST) or head[4:8] in _BOXES or (head[:4], head[8:11]) == (b"RIFF", b"AVI") or transport
