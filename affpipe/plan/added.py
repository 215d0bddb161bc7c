"""Checks of encoders of other packages against the existing stages, which the encoders' own room does not know."""

from collections.abc import Iterable

from affpipe.core.errors import SettingsError
from affpipe.core.extensions import MEND
from affpipe.core.stage import Context, Stage
from affpipe.plan.stages import STAGES


def check(encoders: Iterable[Stage]) -> None:
    """Raise SettingsError if an encoder of another package has a stage's name, or declares a stage that is missing or not behind it."""
    for encoder in encoders:
        if encoder.origin and (wrong := _fault(encoder)):
            raise SettingsError(f"{encoder.origin}: {wrong}; {MEND}")


def reads(stage: Stage, context: Context) -> tuple[str, ...]:
    """Return the stages that a stage reads by its settings; SettingsError if a function of another package names a missing one."""
    found = stage.reads(context) if callable(stage.reads) else stage.reads
    for name in found if stage.origin else ():
        if name not in STAGES:
            raise SettingsError(f"{stage.origin}: want reads of {', '.join(STAGES)}, got {name!r}; {MEND}")
    return found


def _fault(encoder: Stage) -> str:
    """Return the fault of an encoder's place among the stages; "" if there is none."""
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
    """Return these stages and all that they read, directly or not; all stages if settings decide."""
    out = set()
    for read in filter(STAGES.get, reads):
        own = STAGES[read].reads
        out |= {read} | (set(STAGES) if callable(own) else _behind(own))
    return out
