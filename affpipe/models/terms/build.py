"""The training loss of a run, by its settings and its training labels."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from affpipe.core.tasks.task import EXPRESSIONS, slices
from affpipe.models.checks import given as checks
from affpipe.models.terms import losses
from affpipe.models.terms.part import TermSettings
from affpipe.models.terms.table import TERMS
from affpipe.models.training_settings import AULoss, ExprLoss, Loss, VALoss


def training_loss(
    tasks: Sequence[str], settings: Loss, target: np.ndarray, known: np.ndarray, terms: Sequence[TermSettings] = (), name: str = ""
) -> losses.MultiTaskLoss:
    """The training loss of the tasks together; weights of classes and units come from the labels (..., K), known (..., tasks).

    terms: added to it. name: of the model.
    """
    at = slices(tasks, "columns")
    own = {task: target[..., at[task]][known[..., i]] for i, task in enumerate(tasks)}  # (n, K of the task)
    parts = {task: LOSSES[task](getattr(settings, task), own[task]) for task in tasks}
    added = []
    for term in terms:
        who = f"models.{name} (term {term.term})"
        with checks.by(who):
            added.append((TERMS[term.term].build(term), who, term.task, term.weight))
    return losses.MultiTaskLoss(parts, {task: getattr(settings, f"{task}_weight") for task in tasks}, added)


def _va_loss(s: VALoss, labels: np.ndarray) -> nn.Module:
    return losses.VALoss(**s.model_dump())


def _expr_loss(s: ExprLoss, labels: np.ndarray) -> nn.Module:
    counts = torch.from_numpy(np.bincount(labels[:, 0].astype(np.int64), minlength=len(EXPRESSIONS)))
    weights = losses.effective_number_weights(counts, beta=s.beta) if s.class_weights == "effective_number" else None
    return losses.ExprLoss(kind=s.kind, gamma=s.gamma, class_weights=weights, label_smoothing=s.label_smoothing)


def _au_loss(s: AULoss, labels: np.ndarray) -> nn.Module:
    present = torch.from_numpy(labels.sum(axis=0, dtype=np.float64))
    weights = losses.positive_weights(present, len(labels) - present, limit=s.limit) if s.positive_weights == "balanced" else None
    return losses.AULoss(positive_weights=weights)


LOSSES: dict[str, Callable[..., nn.Module]] = {"va": _va_loss, "expr": _expr_loss, "au": _au_loss}
