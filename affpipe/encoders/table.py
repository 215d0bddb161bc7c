"""The encoders, listed by hand. Settings, plan, workers, resources and pages read this table."""

from functools import reduce
from operator import or_
from typing import Annotated

from pydantic import Field

from affpipe.core import extensions
from affpipe.core.extensions import joined
from affpipe.core.stage import Stage
from affpipe.encoders.grada.spec import GRADA
from affpipe.encoders.logmel.spec import LOGMEL
from affpipe.encoders.mesh.spec import MESH
from affpipe.encoders.qwen3vl.spec import QWEN3VL
from affpipe.encoders.wavlm.spec import WAVLM

PARTS = [MESH, GRADA, QWEN3VL, WAVLM, LOGMEL]
ENCODERS: dict[str, Stage] = joined(extensions.ENCODERS, PARTS, Stage, "encoder")
Feature = Annotated[reduce(or_, (stage.settings for stage in ENCODERS.values())), Field(discriminator="encoder")]
