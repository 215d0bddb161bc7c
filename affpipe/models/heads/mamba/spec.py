"""Settings and declaration of the Mamba head."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from affpipe.core.section import Name, later
from affpipe.models.part import ModelPart
from affpipe.models.settings import SequenceModel


class MambaModel(SequenceModel):
    """Mamba head on one stream of segments (Team RAS, sec. 3.2)."""

    kind: Literal["mamba"] = "mamba"
    reads: Name
    dataset: Name = Field("values", description="dataset of the stream that it reads: which of the encoder's outputs")
    hidden: int = Field(128, ge=1)
    window: int = Field(16, ge=1)
    stride: int = Field(8, ge=1)
    layers: int = Field(4, ge=1)
    state: int = Field(8, ge=1)
    kernel: int = Field(3, ge=1)
    head_hidden: int = Field(512, ge=1)
    block: Literal["mamba", "ras2026"] = later("mamba", description="Mamba's block, or the public code's, see models.md")
    start: Literal["torch", "xavier"] = later(
        "torch",
        description="initialisation: each part's own, or Xavier-uniform for every Linear but Mamba's step size, zero bias (public code)",
    )
    tail: Literal["shifted", "truncated"] = later(
        "shifted", description="last window of a stream: as long as the others, or from its stride to the end (public code)"
    )


def _kept(s: MambaModel, long: int) -> float:
    return s.layers * long * s.hidden * (1 if s.block == "ras2026" else 2) * (8 + 4 * s.state)


def _network(s: MambaModel) -> str:
    return "affpipe.models.heads.mamba.ras2026:Ras2026Head" if s.block == "ras2026" else "affpipe.models.heads.mamba.network:MambaHead"


def _arguments(s: MambaModel, dims: Mapping[str, int]) -> dict[str, Any]:
    names = ("hidden", "layers", "state", "kernel", "head_hidden", "dropout", "start")
    return {"dim": dims[s.reads], **{name: getattr(s, name) for name in names}}


MAMBA = ModelPart(
    name="mamba",
    settings=MambaModel,
    revision=4,
    network=_network,
    arguments=_arguments,
    row_s=2e-2,  # by a cold run of the demo
    kept=_kept,
)
