"""The code that makes the streams of a stage, loaded when it is asked for."""

from affpipe.core.extensions import code
from affpipe.core.stage import Context
from affpipe.store.item_streams import Worker


def start(context: Context) -> Worker:
    """The worker of a stage, its networks loaded."""
    return code(context.worker, context.origin)(context)
