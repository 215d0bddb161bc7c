"""Table of the encoders, listed by hand. Settings, plan, workers, resources and pages read it."""

from affpipe.core import extensions
from affpipe.core.extensions import joined, tagged
from affpipe.core.stage import Stage
from affpipe.encoders.grada.spec import GRADA
from affpipe.encoders.logmel.spec import LOGMEL
from affpipe.encoders.mesh.spec import MESH
from affpipe.encoders.qwen3vl.spec import QWEN3VL
from affpipe.encoders.wavlm.spec import WAVLM
from affpipe.store import cache

PARTS = [
    MESH,
    GRADA,
    QWEN3VL,
    WAVLM,
    LOGMEL,
]
ENCODERS: dict[str, Stage] = joined(extensions.ENCODERS, PARTS, Stage, "encoder", taken=cache.OWN)
Feature = tagged((stage.settings for stage in ENCODERS.values()), "encoder")
