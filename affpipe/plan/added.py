"""Encoders of other packages against the stages that there are, which the encoders' own room does not know."""

from collections.abc import Iterable

from affpipe.core.errors import SettingsError
from affpipe.core.extensions import MEND
from affpipe.core.stage import Context, Stage
from affpipe.plan.stages import STAGES


def check(encoders: Iterable[Stage]) -> None:
    """SettingsError for an encoder of another package that has a stage's name, or declares a stage that is not there or not behind it."""
    for encoder in encoders:
        if encoder.origin and (wrong := _fault(encoder)):
            raise SettingsError(f"{encoder.origin}: {wrong}; {MEND}")


def reads(stage: Stage, context: Context) -> tuple[str, ...]:
    """Stages that a stage reads by its settings. SettingsError where a function of another package names one that is not there."""
    found = stage.reads(context) if callable(stage.reads) else stage.reads
    for name in found if stage.origin else ():
        if name not in STAGES:
            raise SettingsError(f"{stage.origin}: want reads of {', '.join(STAGES)}, got {name!r}; {MEND}")
    return found


def _fault(encoder: Stage) -> str:
    """What is wrong with an encoder's place among the stages; "" where nothing is."""
    if encoder.name in STAGES:
        return f"want another name, got {encoder.name}, a stage's"
    reads = () if callable(encoder.reads) else encoder.reads
    behind = set(STAGES) if callable(encoder.reads) else _behind(reads)
    for what, known in (("reads", set(STAGES)), ("opens", behind), ("sees", behind)):
        for name in reads if what == "reads" else getattr(encoder, what):
            if name not in known:
                return f"want {what} of {', '.join(stage for stage in STAGES if stage in known)}, got {name!r}"
    return ""


def _behind(reads: Iterable[str]) -> set[str]:
    """These stages and all that they read, directly or not; all that there are where settings decide."""
    out = set()
    for read in filter(STAGES.get, reads):
        own = STAGES[read].reads
        out |= {read} | (set(STAGES) if callable(own) else _behind(own))
    return out
