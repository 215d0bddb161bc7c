"""Table of the kinds of models, listed by hand. Settings, plan, resources and pages read it."""

from affpipe.core import extensions
from affpipe.core.extensions import joined, tagged
from affpipe.models.fusions.cross_attention.spec import CROSS_ATTENTION
from affpipe.models.fusions.dcmmoe.spec import DCMMOE
from affpipe.models.fusions.raav.spec import RAAV
from affpipe.models.heads.chunk_asp.spec import CHUNK_ASP
from affpipe.models.heads.mamba.spec import MAMBA
from affpipe.models.heads.transformer.spec import TRANSFORMER
from affpipe.models.part import ModelPart

PARTS = [
    TRANSFORMER,
    MAMBA,
    CHUNK_ASP,
    DCMMOE,
    CROSS_ATTENTION,
    RAAV,
]
MODELS: dict[str, ModelPart] = joined(extensions.MODELS, PARTS, ModelPart, "kind")
ModelSettings = tagged((part.settings for part in MODELS.values()), "kind")


def takes(settings: ModelSettings) -> str:
    """Return the input of a model: "rows", "windows" or "members", see `ModelPart.reads`."""
    return MODELS[settings.kind].reads
