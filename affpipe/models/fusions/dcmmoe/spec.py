"""Settings and declaration of the directed cross-modal mixture of experts."""

from typing import Any, Literal

from pydantic import field_validator

from affpipe.models.part import LARGE_FIT, ModelPart, attention_numbers
from affpipe.models.settings import Attention, Fusion, stack_sizes


class DCMMOEModel(Attention, Fusion):
    """Directed cross-modal mixture of experts over models (Team RAS, sec. 3.4)."""

    kind: Literal["dcmmoe"] = "dcmmoe"
    fill: Literal["none"] = "none"

    @field_validator("fill", mode="before")
    @classmethod
    def _of_before(cls, value: Any):
        return "none" if value == "nearest" else value

    def spec(self) -> dict[str, Any]:
        """Return the spec with `fill` as it was written before, when it said nearest and no frame was filled: so no key moved."""
        return super().spec() | {"fill": "nearest"}


def _experts(s: DCMMOEModel) -> int:
    return len(s.members) * (len(s.members) - 1)


DCMMOE = ModelPart(
    name="dcmmoe",
    settings=DCMMOEModel,
    revision=3,
    network="affpipe.models.fusions.dcmmoe.network:DCMMOE",
    arguments=lambda s, dims: {"dims": {m: dims[m] for m in s.reads}, **stack_sizes(s)},
    reads="members",
    gates=_experts,
    row_s=1e-3,  # by a cold run of the demo
    kept=lambda s, long: _experts(s) * attention_numbers(s, long),
    fit_needs=LARGE_FIT,
)
