"""Stages of faces: every face of a video, the subject among them, landmarks, the mouth, and windows with speech."""

from affpipe.core.stage import LIGHT, Context, Cost, Need, Network, Stage

LANDMARK_BYTES = 478 * 3 * 4  # per frame
YOLO = Need(1, 8000, 480, threads=8)
YOLO_ADDS = 4.1e9  # multiply-adds for an image of 640 x 640, by its paper


def _level(context: Context) -> str:
    return "stream" if context.settings.source == "images" else "video"


def _runs_yolo(context: Context) -> bool:
    return context.settings.source == "video" and context.settings.detector == "yolo"


def _cost(context: Context) -> Cost:
    if context.settings.source == "images":
        return Cost(1e-3)  # assumed: files copied as they are
    if context.settings.detector == "mediapipe":
        return Cost(3.9e-2)  # by a cold run of the demo
    return Cost(
        8e-3,  # decode to RGB 2.9 ms, crop and JPEG 5 ms, 720p, one CPU core
        operations=lambda context, network: YOLO_ADDS * (context.settings.image_side / 640) ** 2 / context.settings.every,
        activations=lambda context, network: context.settings.image_side**2 * 16 * 6,
    )


FACES = Stage(
    name="faces",
    level=_level,
    reads=("frames",),
    sees=("frames",),
    worker="affpipe.faces.workers:faces",
    revision=2,
    cost=_cost,
    row_bytes=lambda context, network: (16, 8, 8, 4, 1, 16, 8),
    block=0,
    needs=lambda context: YOLO if _runs_yolo(context) else LIGHT,
    network=lambda context: Network(3_000_000, 0, False) if _runs_yolo(context) else None,
)
SUBJECT = Stage(
    name="subject",
    level="stream",
    reads=("frames", "faces"),
    sees=("faces",),
    worker="affpipe.faces.workers:subject",
    revision=1,
    cost=Cost(2e-4),
    row_bytes=lambda context, network: (16, 8),
)
LANDMARKS = Stage(
    name="landmarks",
    level="stream",
    reads=("faces", "subject"),
    worker="affpipe.faces.workers:landmarks",
    revision=1,
    cost=Cost(1.5e-2),
    row_bytes=lambda context, network: (LANDMARK_BYTES,),
    block=256,
)
MOUTH = Stage(
    name="mouth",
    level="stream",
    reads=("landmarks",),
    worker="affpipe.faces.workers:mouth",
    revision=1,
    cost=Cost(1e-4),
    row_bytes=lambda context, network: (8,),
)
SPEECH = Stage(
    name="speech",
    level="stream",
    reads=lambda context: ("mouth",) if context.see("vad").model == "none" else ("mouth", "vad"),
    opens=("frames",),
    sees=("vad",),
    worker="affpipe.faces.workers:speech",
    revision=1,
    axis="windows",
    cost=Cost(5e-3),
    row_bytes=lambda context, network: (12,) if context.see("vad").model == "none" else (16,),
)
