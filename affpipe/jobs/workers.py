"""The code that makes the streams of a stage, loaded when it is asked for."""

from importlib import import_module

from affpipe.core.stage import Context
from affpipe.store.item_streams import Worker


def start(context: Context) -> Worker:
    """The worker of a stage, its networks loaded."""
    module, function = context.worker.split(":")
    return getattr(import_module(module), function)(context)
