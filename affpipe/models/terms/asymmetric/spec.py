"""Settings and declaration of the asymmetric loss of units."""

from typing import Literal

from pydantic import Field

from affpipe.core.section import Name
from affpipe.models.terms.part import TermPart, TermSettings


class Asymmetric(TermSettings):
    """Asymmetric loss of units: absent units weigh less, and clearly absent ones nothing (Ridnik et al., ICCV 2021)."""

    term: Literal["asymmetric"] = "asymmetric"
    task: Name = "au"
    gamma_present: float = Field(1.0, ge=0, description="focusing on present units: the greater, the less well-predicted ones weigh")
    gamma_absent: float = Field(4.0, ge=0, description="focusing on absent units")
    margin: float = Field(0.05, ge=0, lt=1, description="probability up to which an absent unit costs nothing")


ASYMMETRIC = TermPart(
    name="asymmetric",
    settings=Asymmetric,
    revision=1,
    kinds=("units",),
    network="affpipe.models.terms.asymmetric.network:AsymmetricLoss",
    arguments=lambda s: {"gamma_present": s.gamma_present, "gamma_absent": s.gamma_absent, "margin": s.margin},
)
