"""Loading of the code that makes the streams of a stage, when it is needed."""

from affpipe.core.extensions import code
from affpipe.core.stage import Context
from affpipe.store.item_streams import Worker


def start(context: Context) -> Worker:
    """Return the worker of a stage, with its networks loaded."""
    return code(context.worker, context.origin)(context)
