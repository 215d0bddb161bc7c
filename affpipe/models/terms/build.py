"""Construction of a run's training loss from its settings and its training labels."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from affpipe.core.tasks.task import Task, Tasks, slices
from affpipe.models.checks import given
from affpipe.models.terms import losses
from affpipe.models.terms.part import TermSettings
from affpipe.models.terms.table import TERMS
from affpipe.models.training_settings import AULoss, ExprLoss, Loss, TaskLoss, VALoss


def training_loss(
    tasks: Tasks, settings: Loss, target: np.ndarray, known: np.ndarray, terms: Sequence[TermSettings] = (), name: str = ""
) -> losses.MultiTaskLoss:
    """Build the training loss of the tasks together; weights of classes and units come from the labels (..., K), known (..., tasks).

    Args:
        terms: terms added to it. name: the model's name.
    """
    at = slices(tasks, "columns")
    own = {name: target[..., at[name]][known[..., i]] for i, name in enumerate(tasks)}  # (n, K of the task)
    parts = {name: LOSSES[task.loss](task, settings.of(name), own[name]) for name, task in tasks.items()}
    added = []
    for term in terms:
        who = f"models.{name} (term {term.term})"
        with given.by(who):
            added.append((TERMS[term.term].build(term), who, term.task, term.weight))
    return losses.MultiTaskLoss(tasks, parts, {name: settings.weight(name) for name in tasks}, added)


def _concordance(task: Task, s: VALoss | TaskLoss, labels: np.ndarray) -> nn.Module:
    even = 1 / len(task.columns)
    weights = [s.weights.get(name, 0.0 if s.weights else even) for name in task.columns]
    return losses.ConcordanceLoss(weights, mae_weight=s.mae_weight, mse_weight=s.mse_weight, over=s.over)


def _cross_entropy(task: Task, s: ExprLoss, labels: np.ndarray) -> nn.Module:
    counts = torch.from_numpy(np.bincount(labels[:, 0].astype(np.int64), minlength=len(task.outputs)))
    weights = losses.effective_number_weights(counts, beta=s.beta) if s.class_weights == "effective_number" else None
    return losses.ClassLoss(len(task.outputs), kind=s.kind, gamma=s.gamma, class_weights=weights, label_smoothing=s.label_smoothing)


def _binary_cross_entropy(task: Task, s: AULoss, labels: np.ndarray) -> nn.Module:
    present = torch.from_numpy(labels.sum(axis=0, dtype=np.float64))
    weights = losses.positive_weights(present, len(labels) - present, limit=s.limit) if s.positive_weights == "balanced" else None
    return losses.UnitLoss(len(task.outputs), positive_weights=weights)


LOSSES: dict[str, Callable[..., nn.Module]] = {  # by `Task.loss`
    "concordance": _concordance,
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
}
