"""What a job needs of the node that it runs on: GPUs, memory, time, cores. Starting points, which a profile overrides.

Planning uses it, so nothing heavy is imported here.
"""

from dataclasses import dataclass, replace

from affpipe.plan.plan import Plan

RETRY = 1.5  # a job that is tried again gets this many times the memory and time of the try before


@dataclass(frozen=True)
class Need:
    """Of one job.

    Attributes:
        gpu: how many.
        mem_mb: of main memory.
        minutes: it is stopped after.
        threads: cores. More than one: it makes as many videos at a time, a thread each, so that its GPU need not wait for one decoder.
    """

    gpu: int
    mem_mb: int
    minutes: int
    threads: int = 1

    def again(self, attempt: int) -> "Need":
        """The need of the nth try, from 1."""
        factor = RETRY ** (attempt - 1)
        return replace(self, mem_mb=round(self.mem_mb * factor), minutes=round(self.minutes * factor))


LIGHT = Need(0, 4000, 120)
NETWORKS = {  # threads: of those that decode as they go, and whose workers may be called by several threads at once
    "qwen3vl": Need(1, 24000, 720, threads=4),
    "wavlm": Need(1, 16000, 240),
    "grada": Need(1, 8000, 240, threads=8),
    "yolo": Need(1, 8000, 480, threads=8),
}
FIT = Need(1, 16000, 720)
LARGE_FIT = Need(1, 32000, 720)  # 50,000 audio windows of WavLM-Large are 20 GB, 3 million frames of three models of width 256 are 9 GB


def of_apply(plan: Plan, name: str) -> Need:
    """Of a job that applies a stage or model to a shard."""
    need = NETWORKS.get(_network(plan, name), LIGHT)
    gpu = _gpus(plan, need.gpu or name in plan.settings.models)
    return replace(need, gpu=gpu, threads=need.threads if gpu else 1)  # a network on the CPU leaves decoders no core


def of_fit(plan: Plan, model: str) -> Need:
    """Of a job that fits a model, whose inputs lie in memory."""
    settings = plan.settings.models[model]
    need = LARGE_FIT if settings.members or settings.kind == "chunk_asp" else FIT
    return replace(need, gpu=_gpus(plan, need.gpu))


def _network(plan: Plan, name: str) -> str:
    """The encoder or detector that a stage runs, or a model within itself."""
    if name == "faces":
        return plan.settings.faces.detector if plan.settings.faces.source == "video" else ""
    model = plan.settings.models.get(name)
    return plan.kind(name) if getattr(model, "cache_frozen", True) else plan.kind(model.reads)


def _gpus(plan: Plan, wants: object) -> int:
    return int(bool(wants) and plan.settings.device == "cuda")
