"""Settings of the media stages: frames, sound, voices."""

from typing import Annotated, Literal

from pydantic import Field

from affpipe.core.section import Section, later

Track = Annotated[int, Field(ge=0)] | Literal["auto"]


class Frames(Section):
    """Decoding of each video, once, with its own timestamps."""

    backend: Literal["pyav", "decord"] = "pyav"
    deinterlace: bool = later(True, description="make whole pictures of those marked as interlaced, one for each stored frame")
    tone_map: bool = later(True, description="bring pictures of high dynamic range (PQ, HLG) to the ordinary one")
    video_track: Track = later(
        "auto",
        description="track of a file with several, from 0; auto: by what each holds; the manifest's column of this name goes first",
    )


class Audio(Section):
    """Mono track on the video's clock."""

    sample_rate_hz: int = Field(16000, ge=8000, le=48000)
    offset_s: float = Field(0.0, ge=-10, le=10, description="added to the track's timestamps, for recordings whose sound is out of step")
    audio_track: Track = later("auto", description="audio track, chosen as frames.video_track is")


class Vad(Section):
    """Voice activity on the audio track, for the stage `speech`."""

    model: Literal["none", "silero"] = Field("none", description="none: the stage is left out, and windows are kept by the mouth alone")
    min_probability: float = Field(0.5, gt=0, lt=1, description="least probability of speech for which a step of 32 ms counts as speech")
