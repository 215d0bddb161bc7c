"""A training step of a model that trains the top four layers of WavLM-Large (random weights): loss and its gradient, no optimiser.

reference: transformers' WavLMModel as published code trains it: in train mode, `requires_grad` on the parameters of the top layers alone.
Its convolutions make what they give require a gradient, so the graph goes through all layers. ours: what a fit runs, the frozen layers at
every step; cached: the states that enter the top layers have been stored. All have dropout, and the same head; it is switched off for the
comparison, as is what the reference alone does at random (whole layers and stretches of time left out).
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from affpipe.encoders.wavlm.layers import Top, split
from affpipe.encoders.wavlm.network import LARGE, WavLM
from affpipe.models.encoder_layers import Backbone
from affpipe.models.heads.chunk_asp.spec import ChunkModel
from affpipe.models.inputs import FULL_SCALE
from affpipe.models.predictor import Predictor
from affpipe.system.compat import ensure_torchvision
from benchmarks.speed.arms import DisagreeError, Row, ratio, take_turns

ensure_torchvision()

from transformers import WavLMConfig, WavLMModel  # noqa: E402

TOP, RATE, WIDTH = 4, 16_000, LARGE["hidden_size"]
CONFIG = LARGE | {"activation_dropout": 0.0}  # microsoft/wavlm-large's; the others are the defaults
TOLERANCE = 0.01  # the states that enter the top layers pass through float16


def rows(*, quick: bool) -> list[Row]:
    windows, seconds, layers, rounds = (1, 1, 6, 1) if quick else (2, 4, LARGE["num_hidden_layers"], 2)
    torch.manual_seed(0)
    whole = WavLMModel(WavLMConfig(**CONFIG | {"num_hidden_layers": layers}))
    encoder = WavLM(deepcopy(whole), device=torch.device("cpu"), scale=None, layer=layers - TOP, top=Top.take(whole, TOP))
    trunk, top = split(encoder, TOP)
    settings = ChunkModel(reads="wavlm", cache_frozen=False)
    fresh = Predictor(settings, {"wavlm": WIDTH}, Backbone(top, trunk, WIDTH, ()), outputs=2)
    stored = Predictor(settings, {"wavlm": WIDTH}, Backbone(top, None, WIDTH, ()), outputs=2)
    stored.model = fresh.model
    reference = _Published(whole, fresh.model)

    sound = torch.randint(-3000, 3000, (windows, 1, seconds * RATE), dtype=torch.int16)
    target = torch.rand(windows, 1, settings.chunks, 2) * 2 - 1
    samples, present = torch.full((windows, 1), seconds * RATE), torch.ones(windows, 1, 1, dtype=torch.bool)
    states = trunk(sound[:, 0] / FULL_SCALE, samples[:, 0])[:, None]
    inputs = {"wavlm": sound, "steps": samples}, {"wavlm": states, "steps": trunk.frames(samples[:, 0])[:, None]}
    answers: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        "reference": (reference, lambda: reference(sound[:, 0] / FULL_SCALE).unsqueeze(1)),
        "ours": (fresh, lambda: fresh(inputs[0], present).prediction),
        "cached": (stored, lambda: stored(inputs[1], present).prediction),
    }

    def train(mode: bool) -> None:
        for model, _ in answers.values():
            model.train(mode)

    def step(name: str) -> float:
        model, predict = answers[name]
        model.zero_grad()
        loss = (predict() - target).square().mean()
        loss.backward()
        return loss.item()

    def gradients(name: str) -> list[Tensor]:
        layers = whole.encoder.layers[-TOP:] if name == "reference" else top.layers
        return [p.grad.clone() for n, p in layers.named_parameters() if "rel_attn_embed" not in n]

    def compare(_: dict[str, Any]) -> str:
        train(False)
        found = {name: (step(name), gradients(name)) for name in answers}
        train(True)
        return _agree(found)

    train(True)
    costs, outputs = take_turns({n: partial(step, n) for n in answers}, units=windows, rounds=rounds, compare=compare)
    what = f"WavLM of {layers} layers, top {TOP} trained, {windows} windows of {seconds} s"
    goals = {"ours": 2.5, "cached": 9.0}
    return [Row(what, "window and step", costs, f"reference : {own}", ratio(costs, fast=own), goal, outputs) for own, goal in goals.items()]


class _Published(nn.Module):
    """The whole encoder with a head; only the top layers and the head have parameters that require a gradient."""

    def __init__(self, whole: WavLMModel, head: nn.Module):
        super().__init__()
        self.whole, self.head = whole.requires_grad_(False), head
        whole.encoder.layers[-TOP:].requires_grad_(True)

    def forward(self, sound: Tensor) -> Tensor:
        """(B, S) -> (B, C, 2)."""
        sound = (sound - sound.mean(dim=1, keepdim=True)) / (sound.var(dim=1, keepdim=True, correction=0) + 1e-7).sqrt()
        states = self.whole(sound).last_hidden_state
        return self.head(states, torch.ones(states.shape[:2], dtype=torch.bool))[0]


def _agree(found: dict[str, tuple[float, list[Tensor]]]) -> str:
    """Losses and gradients of the top layers against the reference's."""
    want_loss, want = found["reference"]
    worst = 0.0
    for loss, grads in (found["ours"], found["cached"]):
        worst = max(worst, abs(loss - want_loss) / want_loss)
        flat, wanted = (torch.cat([g.ravel() for g in some]) for some in (grads, want))
        worst = max(worst, float((flat - wanted).norm() / wanted.norm()))
    if worst > TOLERANCE:
        raise DisagreeError(f"wavlm: loss or gradients differ by {worst:.1e}, want {TOLERANCE:g}")
    return f"loss and gradients of the top layers within {worst:.0e}, dropout off"
