"""The stage of annotations: labels on the frames of a stream."""

from affpipe.core.stage import Cost, Stage
from affpipe.core.tasks.task import width

LABELS = Stage(
    name="labels",
    level="label",
    reads=("frames",),
    worker="affpipe.data.workers:labels",
    revision=1,
    cost=Cost(1e-4),  # by a cold run of the demo
    row_bytes=lambda context, network: (8 * width(context.tasks, "columns"), len(context.tasks)),
)
