"""Settings and stage of FaceMesh geometry."""

from typing import Literal

from affpipe.core.section import Section
from affpipe.core.stage import Cost, Stage

WIDTH = 144  # coordinates of a row


class Mesh(Section):
    """Pose- and size-normalised FaceMesh geometry."""

    encoder: Literal["mesh"] = "mesh"


MESH = Stage(
    name="mesh",
    level="stream",
    reads=("landmarks",),
    worker="affpipe.encoders.mesh.worker:mesh",
    revision=1,
    cost=Cost(2e-4),  # by a cold run of the demo
    row_bytes=lambda context, network: (4 * WIDTH,),
    block=512,
    settings=Mesh,
    modality="face",
    width=lambda settings, network: WIDTH,
)
