"""Name -> worker: the one place that turns a stage of the plan into the code that makes its streams. Modules load when asked for."""

from importlib import import_module

from affpipe.jobs.apply import Context, Worker

STAGES = {  # stage or encoder -> the module whose function of that name makes the worker
    "frames": "affpipe.media.workers",
    "labels": "affpipe.data.workers",
    "audio": "affpipe.media.workers",
    "vad": "affpipe.media.workers",
    "faces": "affpipe.faces.workers",
    "subject": "affpipe.faces.workers",
    "landmarks": "affpipe.faces.workers",
    "mouth": "affpipe.faces.workers",
    "speech": "affpipe.faces.workers",
    "mesh": "affpipe.encoders.workers",
    "grada": "affpipe.encoders.workers",
    "qwen3vl": "affpipe.encoders.workers",
    "wavlm": "affpipe.encoders.workers",
    "logmel": "affpipe.encoders.workers",
}


def start(context: Context) -> Worker:
    """The worker of a stage, its networks loaded."""
    if context.name in context.plan.settings.models:
        return import_module("affpipe.models.workers").stage(context)
    name = context.plan.kind(context.name)
    return getattr(import_module(STAGES[name]), name)(context)
