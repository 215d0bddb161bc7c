"""Needs of a job of the node that it runs on: GPUs, memory, time, cores. They are starting points, which a profile overrides.

Stages and models declare them; here they are adapted to the device of the run. Planning uses this module, so nothing heavy is imported
here.
"""

from dataclasses import replace

from affpipe.core.stage import Need
from affpipe.models.table import MODELS
from affpipe.plan.plan import Plan


def of_apply(plan: Plan, name: str) -> Need:
    """Return the needs of a job that applies a stage or model to a shard."""
    need = _need(plan, name)
    gpu = _gpus(plan, need.gpu or name in plan.settings.models)
    return replace(need, gpu=gpu, threads=need.threads if gpu else 1)  # a network on the CPU leaves decoders no core


def of_fit(plan: Plan, model: str) -> Need:
    """Return the needs of a job that fits a model, whose inputs are in memory."""
    need = MODELS[plan.settings.models[model].kind].fit_needs
    return replace(need, gpu=_gpus(plan, need.gpu))


def _need(plan: Plan, name: str) -> Need:
    stage = plan.stage(name)
    if stage is None:
        model = plan.settings.models[name]
        return _need(plan, model.within) if model.within else MODELS[model.kind].needs
    return stage.needs(plan.context(name)) if callable(stage.needs) else stage.needs


def _gpus(plan: Plan, wants: object) -> int:
    return int(bool(wants) and plan.settings.device == "cuda")
