"""The plan, and the functions that rules name. Names of outputs are functions of settings, manifest and media, and of nothing else."""

import shlex
import sys
from pathlib import Path

from affpipe.core.errors import AffpipeError
from affpipe.core.plain import say

try:
    from affpipe.jobs import failures, resources, start  # a part of another package may not load
    from affpipe.plan.config import layered
    from affpipe.results import runs

    # Snakemake read them by its own rules: of a key that stands twice it took the second. The Snakefile's own file comes first.
    _given = list(workflow.overwrite_configfiles)
    layered(Path(_file).absolute() for _file in [*workflow.configfiles[len(_given) :], *_given])
    PLAN = start.plan_of_mapping(config)
except AffpipeError as error:
    sys.exit(f"affpipe: {error}")

AFFPIPE = f"{shlex.quote(sys.executable)} -m affpipe"
SETTINGS = runs.frozen_path(PLAN.settings)
MODELS = list(PLAN.settings.models)

# A job's last line is what a person is told of its failure; one that was killed had no last word.
OR_TELL = (
    "|| {{ code=$?; if [ $code -gt 128 ]; then"
    " printf 'affpipe: %s: killed by signal %s, most likely for want of memory; give it more mem_mb, then run again\\n' {log:q} $((code - 128));"
    " else tail -n 1 {log:q}; fi >&2; exit 2; }}"
)


def logs(name, wildcards="{shard}-{members}"):
    return f"{PLAN.logs(name)}/{wildcards}.log"


def need_of_apply(what, name):
    """Resource function: more with each try, where the profile allows several."""

    def need(wildcards, attempt):
        return getattr(resources.of_apply(PLAN, name).again(attempt), what)

    return need


def need_of_fit(what, model):
    def need(wildcards, attempt):
        return getattr(resources.of_fit(PLAN, model).again(attempt), what)

    return need


def inputs_of(name):
    """Input function: indexes of the same shard, of the stages that `name` reads; for a model also its fits.

    With cross-fit a fold's fit predicts training streams alone; with cross-validation it predicts all others too.
    """
    fits = [(fold, PLAN.fitted(name, fold)) for fold in PLAN.fits(name)] if name in MODELS else []

    def inputs(wildcards):
        indexes = [PLAN.index(read, wildcards.shard) for read in PLAN.reads(name)]
        every = PLAN.settings.cross_validation is not None or wildcards.shard.startswith("fit")
        return indexes + [path for fold, path in fits if fold is None or every]

    return inputs


def indexes_fitted_on(name):
    """Indexes of the group `fit`, of the stages that model `name` reads."""
    return [index for read in PLAN.learns(name) for index in PLAN.indexes(read, "fit")]


def everything():
    """All indexes and fits: what is published stands on them, and one that was dropped must be made again."""
    return [index for name in PLAN.names for index in PLAN.indexes(name)] + [PLAN.fitted(m, fold) for m in MODELS for fold in PLAN.fits(m)]


wildcard_constraints:
    shard=r"(fit|rest)\d{3}",
    members=r"[0-9a-f]{12}",


onstart:
    if _caution := start.caution(PLAN):
        say(f"affpipe: {_caution}", file=sys.stderr)
    for _name in PLAN.unread:
        say(f"affpipe: features.{_name}: no model reads it, so it is not made", file=sys.stderr)
    start.start(PLAN)
    start.bring_to_now(everything())


onsuccess:
    failures.finished(PLAN)


onerror:
    failures.stopped(PLAN)
