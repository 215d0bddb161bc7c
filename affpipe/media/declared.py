"""Facts that a media file declares, read without decoding: enough to plan with, not to measure with (`probe` decodes).

Declared figures may be wrong, as in cut downloads, edit lists and joined files.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from affpipe.core.errors import MediaError
from affpipe.media.picture.decode import chosen
from affpipe.media.reader import VideoPass, open_media, packets, video_stream

FASTEST = 1000  # frames a second; a higher rate is the clock's, as FFmpeg reports for a raw .dv
APART = 0.02  # relative difference of usual and mean rate above which the video's rate is variable


@dataclass(frozen=True)
class Declared:
    """Facts that a container declares.

    Attributes:
        duration_s: seconds, from the header, else from the packets.
        fps: mean frames a second.
        width, height: pixels, as stored.
        audio: whether there is an audio track.
        treated: what is done to the pictures, judged by the first one; filled in only on request.
        variable_rate: whether intervals between frames differ, as far as the container's index tells.
    """

    duration_s: float
    fps: Fraction
    width: int
    height: int
    codec: str
    audio: bool
    variable_rate: bool
    treated: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames by duration and rate, at least one."""
        return max(1, round(self.duration_s * self.fps))


def declared(path: Path, *, first_frame: bool = False) -> Declared:
    """Read what a video file declares. With `first_frame` its first frame must also decode.

    Raises MediaError if the file does not open, has no video, or gives no duration and rate in either header or packets.
    """
    track = chosen(path)
    with open_media(path) as container:
        stream = video_stream(container, path, track)
        duration_s = _duration_s(container, stream) or _packets_s(path, track)
        fps = next((rate for rate in (stream.average_rate, stream.guessed_rate) if rate and rate <= FASTEST), None)
        if duration_s <= 0 or not fps:
            raise MediaError(f"{path}: want a duration and a rate, got {duration_s:g} s and {fps or 'none'}; remux the video")
        found = Declared(
            duration_s,
            fps,
            stream.codec_context.width,
            stream.codec_context.height,
            stream.codec_context.codec.canonical_name,
            container.streams.best("audio") is not None,
            _varies(stream),
        )
        if first_frame:
            video = VideoPass(container, path, track=track)
            next(iter(video))
            found = replace(found, treated=video.treated())
    return found


def _packets_s(path: Path, track: int | None) -> float:
    """Return the seconds from the first packet to the end of the last one.

    Browser recordings and animated pictures have no duration in their header.
    """
    first, last = float("inf"), 0.0
    with open_media(path) as container, suppress(av.FFmpegError):  # a file that is cut off counts as far as it goes
        for packet in packets(container, [video_stream(container, path, track)]):
            if packet.pts is not None:
                first = min(first, float(packet.pts * packet.time_base))
                last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return max(0.0, last - first)


def _duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _varies(stream: av.VideoStream) -> bool:
    """Tell whether the rate varies: by the index if it lists every frame (mp4, mov), else by the two rates that FFmpeg guesses."""
    if stream.frames > 1 and len(stream.index_entries) == stream.frames:
        steps = np.diff([entry.timestamp for entry in stream.index_entries]) * float(stream.time_base)
        usual = float(np.median(steps))
        return bool((np.abs(steps - usual) > max(1.5 * float(stream.time_base), APART * usual)).any())
    mean, usual = stream.average_rate, stream.guessed_rate
    return bool(mean and usual and abs(mean / usual - 1) > APART)
