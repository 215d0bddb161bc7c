"""Settings and declaration of the transformer head."""

from typing import Literal

from pydantic import Field

from affpipe.core.section import Name, later
from affpipe.models.part import ModelPart, attention_numbers
from affpipe.models.settings import Attention, stack_sizes


class TransformerModel(Attention):
    """Transformer head on one stream of frames (Team RAS, sec. 3.1)."""

    kind: Literal["transformer"] = "transformer"
    reads: Name
    dataset: Name = Field("values", description="dataset of the stream that it reads: which of the encoder's outputs")
    embedding: Literal["layer", "head"] = later(
        "layer", description="its embedding: output of the last layer, or input of the last Linear of its head (public code)"
    )


TRANSFORMER = ModelPart(
    name="transformer",
    settings=TransformerModel,
    revision=4,
    network="affpipe.models.heads.transformer.network:TransformerHead",
    arguments=lambda s, dims: {"dim": dims[s.reads], **stack_sizes(s), "embedding": s.embedding},
    row_s=1e-3,  # by a cold run of the demo
    kept=attention_numbers,
)
