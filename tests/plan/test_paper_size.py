"""The models of recipes/ras.yaml at their published size: parameters as docs/models.md says, one forward and backward pass."""

import re
from pathlib import Path

import pytest
import torch

from affpipe.models.fusions.cross_attention.spec import CrossAttentionModel
from affpipe.models.fusions.raav.spec import RAAVModel
from affpipe.models.heads.chunk_asp.spec import ChunkModel
from affpipe.models.heads.mamba.spec import MambaModel
from affpipe.models.table import MODELS
from affpipe.plan import config

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = {"grada": 256, "qwen": 2560, "odyssey": 1024}  # of GRADA's embedding, Qwen3-VL-4B's and WavLM-Large's hidden states
ROW = re.compile(r"^\| `(?P<model>\w+)` \|.*\| (?P<parameters>[\d,]+) \|$", re.MULTILINE)
SIZES = (ROOT / "docs/models.md").read_text("utf-8").split("\n## Sizes\n")[1].split("\n## ")[0]
STATED = {row["model"]: int(row["parameters"].replace(",", "")) for row in ROW.finditer(SIZES)}
VARIANTS = (ROOT / "docs/models.md").read_text("utf-8").split("\n## Sizes as in the public code\n")[1].split("\n## ")[0]
CODE = {row["model"]: int(row["parameters"].replace(",", "")) for row in ROW.finditer(VARIANTS)}
FRAME_RATE = 30


@pytest.fixture(scope="module")
def models():
    return config.load([ROOT / "config.yaml", ROOT / "recipes/ras.yaml"]).models


def dims(models, name):
    """Input -> width."""
    settings = models[name]
    if not settings.members:
        return {settings.reads: WIDTHS[settings.reads]}
    outputs = 2 if settings.inputs == "embedding_and_prediction" else 0
    return {m: models[m].hidden + outputs for m in settings.members}


def rows(settings):
    """Of one window at its published length, and windows that fit into a test."""
    if isinstance(settings, ChunkModel):
        return 199, 8  # hidden states in 4 s
    if isinstance(settings, RAAVModel):
        return int(settings.window_s * FRAME_RATE), 8
    return settings.window, 8 if isinstance(settings, MambaModel) else 1


def make(models, name):
    torch.manual_seed(0)
    return MODELS[models[name].kind].build(models[name], dims(models, name), 2).train()


def test_the_page_lists_every_model_of_the_recipe(models):
    assert set(STATED) == set(models)


@pytest.mark.parametrize("name", STATED)
def test_a_model_has_the_parameters_that_the_page_states(models, name):
    assert sum(p.numel() for p in make(models, name).parameters()) == STATED[name]


@pytest.mark.parametrize(("name", "entries"), [("face_audio", 2), ("face_visual_audio", 6), ("face_multimodal_audio", 6)])
def test_dcmmoe_has_an_expert_for_each_ordered_pair(models, name, entries):
    assert len(make(models, f"dcmmoe_{name}").gate_names) == entries


@pytest.mark.parametrize("name", STATED)
def test_a_model_trains_at_its_published_size(models, name):
    model, inputs, (length, windows) = make(models, name), dims(models, name), rows(models[name])
    present = torch.rand(windows, length, len(inputs)) < 0.9
    streams = {m: torch.randn(windows, length, dim) for m, dim in inputs.items()}
    if models[name].members:
        prediction, embedding, gate = model(streams, present)
        weighed = present if name.startswith("dcmmoe") else present[..., :-1]
        torch.testing.assert_close(gate.sum(-1), weighed.any(-1).float())
    else:
        prediction, embedding = model(*streams.values(), present.squeeze(-1))
    outputs = models[name].chunks if isinstance(models[name], ChunkModel) else length
    assert prediction.shape == (windows, outputs, 2)
    assert embedding.shape == (windows, outputs, models[name].hidden)
    assert torch.isfinite(prediction).all()

    prediction.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().max() > 0 for p in model.parameters() if p.ndim > 1)


def as_in_the_code(models, name):
    """Settings of a model of that table."""
    stack = {"positions": "every_layer", "position_dropout": 0.1, "second_residual": True, "activation": "gelu"}
    stack |= {"heads": 8, "dropout_on": "residual", "start": "multihead"}
    if name == "cross_attention":
        reads = ("grada_transformer", "qwen_multimodal_mamba")
        asks = {"query": reads[0], "context": reads[1], "inputs": "embedding_and_prediction"}
        return CrossAttentionModel(reads=reads, **asks, **stack)
    settings = models[name]
    own = {"transformer": stack | {"embedding": "head"}, "mamba": {"block": "ras2026", "start": "xavier"}, "raav": {"compat": "ras2026"}}
    return type(settings)(**{**dict(settings), **own[settings.kind]})


@pytest.mark.parametrize("name", CODE)
def test_a_model_of_the_public_code_has_the_parameters_that_the_page_states(models, name):
    settings = {**models, name: as_in_the_code(models, name)}
    model = make(settings, name)
    assert sum(p.numel() for p in model.parameters()) == CODE[name]
    inputs = dims(settings, name)
    streams, present = {m: torch.randn(1, 8, dim) for m, dim in inputs.items()}, torch.ones(1, 8, len(inputs), dtype=torch.bool)
    prediction, embedding = model(streams, present)[:2] if len(inputs) > 1 else model(*streams.values(), present.squeeze(-1))
    assert prediction.shape == (1, 8, 2)
    assert embedding.shape == (1, 8, settings[name].hidden)
    prediction.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_page_lists_every_variant_that_changes_a_count(models):
    assert set(CODE) == {"cross_attention", *(name for name in models if models[name].kind in ("transformer", "mamba", "raav"))}
