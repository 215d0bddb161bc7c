"""What each encoder reads and gives, without importing torch.

`revision` goes up by hand when an encoder's code changes its values; streams made under another revision are then made anew.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder.

    Attributes:
        name: the word for it in settings, keys and file names.
        modality: face, behaviour, audio, text or mouth.
        level: "video" gives one stream for all subjects of a video, "stream" one for each.
        reads: the stages whose output it takes.
        revision: part of the key of its streams.
    """

    name: str
    modality: str
    level: Literal["video", "stream"]
    reads: tuple[str, ...]
    revision: int


MESH = EncoderSpec("mesh", "face", "stream", ("landmarks",), 1)
GRADA = EncoderSpec("grada", "face", "stream", ("faces", "subject"), 2)
QWEN3VL = EncoderSpec("qwen3vl", "behaviour", "video", ("frames",), 2)
WAVLM = EncoderSpec("wavlm", "audio", "video", ("audio",), 1)
LOGMEL = EncoderSpec("logmel", "audio", "video", ("audio",), 1)

ENCODERS: dict[str, EncoderSpec] = {spec.name: spec for spec in (MESH, GRADA, QWEN3VL, WAVLM, LOGMEL)}
