"""Settings and declaration of cross-attention."""

from typing import Literal

from pydantic import Field, model_validator

from affpipe.core.section import Name
from affpipe.models.part import LARGE_FIT, ModelPart, attention_numbers
from affpipe.models.settings import Attention, Fusion, stack_sizes


class CrossAttentionModel(Attention, Fusion):
    """Cross-attention of a chosen query to a chosen context (Team RAS, public code, in place of `dcmmoe`)."""

    kind: Literal["cross_attention"] = "cross_attention"
    query: Name = Field(description="model whose embedding is the query, or `mean` of the present ones")
    context: Name = Field(description="model whose embedding is keys and values, or `mean`; a query in it is the updated one")
    fill: Literal["nearest", "none"] = Field(
        "none", description="a frame without a model's prediction takes its nearest one (public code), or stays masked"
    )
    positions: Literal["every_layer", "none"] = "every_layer"

    @property
    def needed(self) -> str | None:
        return None if self.query == "mean" else self.query

    @model_validator(mode="after")
    def _parts(self):
        for name in ("query", "context"):
            if getattr(self, name) not in (*self.reads, "mean"):
                raise ValueError(f"{name}: want one of {[*self.reads, 'mean']}, got {getattr(self, name)!r}")
        if "mean" in self.reads:
            raise ValueError("reads: want no model named mean, which is that of all; rename it")
        if "mean" not in (self.query, self.context) and {self.query, self.context} != set(self.reads):
            raise ValueError(f"reads: want the query and the context alone, or mean as one of them, got {list(self.reads)}")
        return self


CROSS_ATTENTION = ModelPart(
    name="cross_attention",
    settings=CrossAttentionModel,
    revision=1,
    network="affpipe.models.fusions.cross_attention.network:CrossAttention",
    arguments=lambda s, dims: {"dims": {m: dims[m] for m in s.reads}, "query": s.query, "context": s.context, **stack_sizes(s)},
    reads="members",
    row_s=1e-3,  # as dcmmoe
    kept=attention_numbers,
    fit_needs=LARGE_FIT,
)
