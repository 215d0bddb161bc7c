"""Stages of media: the frame axis of a video, its sound on that axis, and its voice activity."""

from affpipe.core.stage import Cost, Stage

VAD_RATE_HZ, VAD_STEP = 16000, 512  # sample rate of the network of voice activity, and samples of a step

FRAMES = Stage(
    name="frames",
    level="video",
    reads=(),
    worker="affpipe.faces.workers:frames",  # faces decide which of several video tracks is the camera's
    revision=3,
    cost=Cost(2.2e-3),  # H.264 at 720p decoded by PyAV, 2.18 ms a frame, one CPU core
    row_bytes=lambda context, network: (4,),
)
AUDIO = Stage(
    name="audio",
    level="video",
    reads=("frames",),
    worker="affpipe.media.workers:audio",
    revision=2,
    axis="samples",
    cost=Cost(1.1e-6),  # for a sample, by a cold run of the demo
)
VAD = Stage(
    name="vad",
    level="video",
    reads=("audio",),
    opens=("frames",),
    sees=("audio",),
    worker="affpipe.media.workers:vad",
    revision=1,
    axis="steps",
    step_s=lambda context: VAD_STEP / context.see("audio").sample_rate_hz,
    cost=Cost(2.7e-5),  # for a step of 32 ms: a minute of sound in a twentieth of a second
    row_bytes=lambda context, network: (4,),
)
