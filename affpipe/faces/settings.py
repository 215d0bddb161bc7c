"""Settings of the stages of faces, and of windows over a video."""

from typing import Any, Literal

from pydantic import Field, model_validator

from affpipe.core.section import HEX, Section, later, speed


class Faces(Section):
    """Detection, tracking and cropping of every face, or images of the faces, taken as they are."""

    source: Literal["video", "images"] = Field(
        "video",
        description="video: faces are looked for; images: the manifest's column `images` names a folder of cropped faces for each stream, "
        "and no other setting of this section counts",
    )
    detector: Literal["mediapipe", "yolo"] = "mediapipe"
    model: Literal["both", "full_range", "short_range"] = Field(
        "both", description="for mediapipe: which BlazeFace; both: short range where full range finds nothing"
    )
    weights: str = Field("yolov8n-face.pt", description="for yolo: a file or folder of the checkpoints, with or without keypoints")
    weights_revision: str | None = later(None, pattern=HEX)
    image_side: int = Field(640, ge=32, multiple_of=32, description="for yolo: longer side of the frame that the network sees, pixels")
    nms_iou: float = Field(0.7, gt=0, le=1, description="for yolo: boxes that overlap more are one face")
    batch_size: int = speed(8, ge=1)
    min_score: float = Field(0.5, gt=0, le=1)
    every: int = Field(1, ge=1, le=30, description="detect in frames 0, n, 2n … and the last; between, boxes of a track are interpolated")
    min_iou: float = Field(0.3, gt=0, le=1)
    min_similarity: float = Field(0.5, ge=0, le=1, description="least likeness to the track's latest or mean look; 0: overlap decides")
    max_gap_frames: int = Field(5, ge=0)
    crop_margin: float = Field(0.5, ge=0, le=2, description="margin of a kept crop on each side, in boxes")
    crop_side: int = Field(256, ge=32, le=2048, description="longest side of a kept crop, pixels")
    jpeg_quality: int = Field(90, ge=1, le=100)

    @model_validator(mode="after")
    def _weights(self):
        if self.weights_revision and (self.detector != "yolo" or self.source != "video"):
            what = f"detector {self.detector}" if self.source == "video" else f"source {self.source}"
            raise ValueError(f"weights_revision: it is of the weights of yolo, got {what}, which has none; take it out")
        return self

    def spec(self) -> dict[str, Any]:
        """Return the spec. With images it is the source alone, since nothing is detected, tracked or cut."""
        return {"source": self.source} if self.source == "images" else super().spec()


class Subject(Section):
    """Choice of the tracks that are the subject. A curation file (stream_id,tracks) overrides the rule of the manifest."""

    curation: str | None = speed(None)  # its rows are part of the identity of the streams that they name


class Landmarks(Section):
    """FaceMesh landmarks of the subject's crops."""

    model: str = Field("bundled", description="bundled, or the path of a face_landmarker.task")
    weights_revision: str | None = later(None, pattern=HEX)

    @model_validator(mode="after")
    def _weights(self):
        if self.weights_revision and self.model == "bundled":
            raise ValueError("weights_revision: it is of a model that a path names, got the bundled one; take it out")
        return self


class Mouth(Section):
    """Mouth opening per frame (Team RAS, sec. 3.3; constants of its public code)."""

    compat: Literal["none", "ras2026"] = "none"
    smooth_frames: int = Field(30, ge=2)
    gap_s: float = Field(0.15, ge=0)
    burst_s: float = Field(0.20, ge=0)


class Windowed(Section):
    """Grid of windows over a video (Team RAS, sec. 3.3: 4 s windows every 2 s)."""

    length_s: float = Field(4.0, gt=0)
    hop_s: float = Field(2.0, gt=0)

    @model_validator(mode="after")
    def _hop(self):
        if self.hop_s > self.length_s:
            raise ValueError(f"want hop_s of at most length_s, got {self.hop_s} > {self.length_s}")
        return self


class Speech(Windowed):
    """Windows in which the subject's mouth is open long enough to be heard."""

    min_open_ratio: float = Field(0.25, ge=0, le=1)
    min_coverage: float = Field(0.80, ge=0, le=1)
    min_voice_ratio: float = Field(0.25, ge=0, le=1, description="with `vad`: least part of the window with a voice")
    combine: Literal["both", "either"] = Field("both", description="with `vad`: mouth and voice must agree, or one of them is enough")
