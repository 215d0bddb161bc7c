"""The plan, and the functions that rules name. Names of outputs are functions of settings, manifest and media, and of nothing else."""

import shlex
import sys
from pathlib import Path

from affpipe import run
from affpipe.config import read_yaml
from affpipe.errors import AffpipeError
from affpipe.plan import digest

try:
    for _file in workflow.configfiles:  # Snakemake read them by its own rules: of a key that stands twice it took the second
        read_yaml(Path(_file))
    PLAN = run.plan_of_mapping(config)
except AffpipeError as error:
    sys.exit(f"affpipe: {error}")

AFFPIPE = f"{shlex.quote(sys.executable)} -m affpipe"
SETTINGS = Path(PLAN.settings.cache) / "settings" / f"{digest(PLAN.settings.model_dump(mode='json'))}.json"
LOGS = Path("logs") / PLAN.settings.name
MODELS = list(PLAN.settings.models)

# Stages that run a network worth a GPU, when the setting `device` is cuda. Minutes and MB are starting points that a profile overrides.
NETWORKS = {"qwen3vl": (24000, 720), "wavlm": (16000, 240), "grada": (8000, 240)}
if PLAN.settings.faces.detector == "yolo" and PLAN.settings.faces.source == "video":
    NETWORKS["faces"] = (8000, 480)


def gpus(name):
    wants = PLAN.kind(name) in NETWORKS or name in MODELS
    return int(wants and PLAN.settings.device == "cuda")


def network(name):
    """The encoder that a stage or model runs, if it runs one."""
    model = PLAN.settings.models.get(name)
    return PLAN.kind(name) if getattr(model, "cache_frozen", True) else PLAN.kind(model.reads)


def memory(name):
    return NETWORKS.get(network(name), (4000, 120))[0]


def minutes(name):
    return NETWORKS.get(network(name), (4000, 120))[1]


def memory_of_fit(name):
    """Inputs lie in memory: 50,000 audio windows of WavLM-Large are 20 GB, 3 million frames of three models of width 256 are 9 GB."""
    model = PLAN.settings.models[name]
    return 32000 if model.members or model.kind == "chunk_asp" else 16000


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
    run.freeze(PLAN.settings, SETTINGS)
