"""Training losses of the three kinds of tasks, and of several tasks at once.

Dimensions, after "Team RAS in 10th ABAW Competition", sec. 4.2: one minus the concordance correlation coefficient (Lin, 1989), with a
weight for each dimension and optional absolute and squared error terms. Moments are the population's (divided by n), as in `metrics`. All
valid entries of a batch count as one sample, whatever window they come from, unless one CCC per window is chosen (the public code).
Classes: cross entropy, or focal loss with class weights by effective number (Yu et al., "Solution to the 10th ABAW Expression Recognition
Challenge", sec. 3.5 and 4.4; Lin et al., 2017; Cui et al., 2019). Units: binary cross entropy.
In all losses: entries that are not valid may hold anything, NaN too, and reach neither loss nor gradient. Sums are float32 or wider, since
half precision cannot hold sums over a batch. Without a valid entry the loss is zero, with a zero gradient.
Shapes: B windows, T rows, N entries, C classes, U units; the last axis is a task's outputs (prediction) or columns (target).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affpipe.core.errors import InputError
from affpipe.core.tasks.task import Tasks, slices, width
from affpipe.models.checks import given

EPS = 1e-8  # keeps the quotient and its gradient finite where prediction and target are constant and equal


def ccc_loss(prediction: Tensor, target: Tensor, valid: Tensor, *, weights: Sequence[float] = (0.5, 0.5)) -> Tensor:
    """Sum 1 - CCC over D dimensions by their weights (D,); with weights that sum to 1, one minus the weighted CCC.

    Args:
        prediction, target: (N, D) or (B, T, D); targets of invalid entries may hold anything.
        valid: (N,) or (B, T) bool.

    Returns:
        A scalar, float32 or wider; zero with a zero gradient if fewer than 2 entries are valid.
    """
    prediction, target = _valid_entries("ccc_loss", prediction, target, valid, len(weights), len(weights))  # (n, D)
    if len(prediction) < 2:
        return prediction.sum() * 0
    return _weighted_ccc_loss(prediction, target, weights)


class ConcordanceLoss(nn.Module):
    """Loss of dimensions: ccc_loss plus weighted mean absolute and mean squared error, both plain means over valid entries and dimensions.

    Args:
        weights: (D,), weights of the dimensions.
        over: "batch" takes one CCC over all valid entries; "window" the mean of one per window with at least 2 valid entries.
    """

    def __init__(
        self,
        weights: Sequence[float] = (0.5, 0.5),
        *,
        mae_weight: float = 0,
        mse_weight: float = 0,
        over: Literal["batch", "window"] = "batch",
    ):
        super().__init__()
        self.weights = tuple(weights)
        self.mae_weight, self.mse_weight, self.over = mae_weight, mse_weight, over

    def forward(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Return the scalar loss; shapes, dtype and the rule for fewer than 2 valid entries as in ccc_loss. The first axis is windows."""
        width = len(self.weights)
        p, t = _valid_entries("ConcordanceLoss", prediction, target, valid, width, width)  # (n, D)
        if len(p) < 2:
            return p.sum() * 0
        error = p - t
        errors = self.mae_weight * error.abs().mean() + self.mse_weight * error.square().mean()
        if self.over == "batch":
            return _weighted_ccc_loss(p, t, self.weights) + errors
        windows = [_valid_entries("ConcordanceLoss", *window, width, width) for window in zip(prediction, target, valid, strict=True)]
        losses = [_weighted_ccc_loss(*window, self.weights) for window in windows if len(window[0]) >= 2]
        return (torch.stack(losses).mean() if losses else p.sum() * 0) + errors


def _weighted_ccc_loss(prediction: Tensor, target: Tensor, weights: Sequence[float]) -> Tensor:
    """Map (n, D), (n, D) to a scalar."""
    mean_p, mean_t = prediction.mean(dim=0), target.mean(dim=0)
    p, t = prediction - mean_p, target - mean_t
    spread = p.square().mean(dim=0) + t.square().mean(dim=0) + (mean_p - mean_t).square()
    ccc = 2 * (p * t).mean(dim=0) / (spread + EPS)  # (D,)
    return ((1 - ccc) * prediction.new_tensor(weights)).sum()


class ClassLoss(nn.Module):
    """Loss of classes: cross entropy or focal loss on logits, the mean over valid entries of alpha_y · -(1 - p_y)^gamma · log p_y.

    y is the labelled class, p_y its probability. Source: Yu et al., eq. (5), with the weights of sec. 4.4 in front. The mean divides by the
    number of valid entries, as that equation does, not by the sum of their weights, as torch does: a batch of rare classes counts for more.

    Args:
        kind: "cross_entropy" is gamma 0. gamma: of the focal loss, >= 0; the paper's is 2.
        classes: C.
        class_weights: (C,) alpha, >= 0, see `effective_number_weights`; None: 1 each.
        label_smoothing: in [0, 1), the share of each label spread over all C classes; for cross entropy only.

    Raises InputError for an argument out of its range.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        classes: int,
        *,
        kind: Literal["cross_entropy", "focal"],
        gamma: float = 2.0,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        if kind not in ("cross_entropy", "focal"):
            raise InputError(f"ClassLoss: want kind cross_entropy or focal, got {kind!r}")
        if not gamma >= 0:
            raise InputError(f"ClassLoss: want gamma >= 0, got {gamma}")
        if not 0 <= label_smoothing < 1 or (label_smoothing and kind == "focal"):
            raise InputError(f"ClassLoss: want label_smoothing in [0, 1), and 0 with focal, got {label_smoothing} with {kind}")
        self.classes, self.kind, self.gamma, self.label_smoothing = classes, kind, gamma, label_smoothing
        _keep(self, "class_weights", class_weights, classes)

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            logits: (..., C). valid: (...) bool.
            target: (...), or (..., 1) as the task's one column: class numbers 0 to C - 1, as float or int.

        Raises InputError if a valid entry has another label, a fraction too.
        """
        if target.ndim == logits.ndim - 1:
            target = target.unsqueeze(-1)
        logits, target = _valid_entries("ClassLoss", logits, target, valid, self.classes, 1)  # (n, C), (n, 1)
        if len(logits) == 0:
            return logits.sum() * 0
        known = (target >= 0) & (target < self.classes) & (target == target.floor())  # False for NaN
        if not known.all():
            raise InputError(
                f"ClassLoss: want class numbers 0 to {self.classes - 1} where valid, got {target[~known][0].item():g}; "
                "a row of several frames needs one of their classes, not a mean"
            )
        classes, weights = target.squeeze(-1).long(), None if self.class_weights is None else self.class_weights.to(logits.dtype)
        if self.kind == "cross_entropy":
            total = F.cross_entropy(logits, classes, weights, label_smoothing=self.label_smoothing, reduction="sum")
            return total / len(logits)
        log_p = -F.cross_entropy(logits, classes, reduction="none")  # (n,)
        # The least positive number, not 0, where p is 1: a gamma below 1 would divide by it in the gradient.
        missing = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
        losses = -(missing**self.gamma) * log_p
        return (losses if weights is None else losses * weights[classes]).mean()


def effective_number_weights(counts: Tensor, beta: float = 0.999) -> Tensor:
    """Return class weights (1 - beta) / (1 - beta^n), scaled to a mean of 1 over the classes that occur (Cui et al., 2019, eq. 4).

    Args:
        counts: (C,) samples of each class, of any dtype.
        beta: in [0, 1): 0 weighs all alike, towards 1 a weight nears 1 / n.

    Returns:
        (C,) float32; 0 for a class that never occurs. The paper leaves this open; no label uses that weight.

    All classes with far more samples than 1 / (1 - beta) weigh alike. So frames, which come by the ten thousand, need a beta nearer to 1
    than images do.
    Raises InputError if no class occurs, or for an argument out of its range.
    """
    n = counts.double()
    if n.ndim != 1 or not (n >= 0).all() or not (n > 0).any() or not 0 <= beta < 1:
        raise InputError(
            f"effective_number_weights: want counts (C,) >= 0, not all 0, and beta in [0, 1), got {counts.tolist()} and beta {beta}"
        )
    occurs = n > 0
    weights = torch.where(occurs, (1 - beta) / (1 - beta**n), 0.0)
    return (weights * occurs.sum() / weights.sum()).float()


class UnitLoss(nn.Module):
    """Loss of units: binary cross entropy on logits, the mean over valid entries and units.

    Args:
        units: U.
        positive_weights: (U,) >= 0, factor of each unit's positive share, see `positive_weights`; None: 1 each.
    """

    positive_weights: Tensor | None

    def __init__(self, units: int, *, positive_weights: Tensor | None = None):
        super().__init__()
        self.units = units
        _keep(self, "positive_weights", positive_weights, units)

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            logits: (..., U). valid: (...) bool.
            target: (..., U) in [0, 1]; a fraction, such as the mean over a row's frames, counts as that share of a positive.

        Raises InputError if a valid entry has a label outside [0, 1].
        """
        logits, target = _valid_entries("UnitLoss", logits, target, valid, self.units, self.units)  # (n, U) each
        if len(logits) == 0:
            return logits.sum() * 0
        known = (target >= 0) & (target <= 1)  # False for NaN
        if not known.all():
            raise InputError(f"UnitLoss: want labels in [0, 1] where valid, got {target[~known][0].item():g}; mark such frames invalid")
        weights = None if self.positive_weights is None else self.positive_weights.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weights)


def positive_weights(positives: Tensor, negatives: Tensor, limit: float = 10.0) -> Tensor:
    """Return negatives / positives of each unit, so that both sides count alike, within [1 / limit, limit].

    Args:
        positives, negatives: (C,) labels of each kind, of any dtype.
        limit: >= 1; it keeps a rare unit's few frames from dominating the batch.

    Returns:
        (C,) float32; 1 if a unit is never positive or never negative, as there is nothing to balance.

    Raises InputError for an argument out of range.
    """
    p, n = positives.double(), negatives.double()
    if p.ndim != 1 or p.shape != n.shape or not ((p >= 0) & (n >= 0)).all() or not limit >= 1:
        raise InputError(
            f"positive_weights: want two counts (C,) >= 0 and limit >= 1, got {positives.tolist()}, {negatives.tolist()} and limit {limit}"
        )
    return torch.where((p > 0) & (n > 0), (n / p).clamp(1 / limit, limit), 1.0).float()


class MultiTaskLoss(nn.Module):
    """Weighted sum of the losses of several tasks, each over the entries that have a label of its own.

    The weights are not rescaled if a task has no label in a batch. Else a task's frames would count more, the fewer other tasks have labels
    beside them, and a task of small weight would dominate each batch that only it has labels for.

    Args:
        tasks: the tasks of the run.
        losses: task -> its loss, called with prediction (..., O), target (..., K) and valid (...) of that task; its order orders every last
            axis.
        weights: task -> factor, >= 0.
        terms: further losses, each with the word for it in a fault, its task, its factor.

    Attributes:
        given: the last batch's value of each loss and term, by its name.
    """

    def __init__(
        self,
        tasks: Tasks,
        losses: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        terms: Sequence[tuple[nn.Module, str, str, float]] = (),
    ):
        super().__init__()
        if not losses or set(losses) != set(weights) or not all(weight >= 0 for weight in weights.values()):
            raise InputError(f"MultiTaskLoss: want a weight >= 0 for each loss, got losses {list(losses)} and weights {dict(weights)}")
        self.losses, self.weights = nn.ModuleDict(losses), dict(weights)
        self.terms, self.of_terms = nn.ModuleList(term for term, *_ in terms), [tuple(of) for _, *of in terms]
        self.given: dict[str, Tensor] = {}
        tasks = {name: tasks[name] for name in losses}
        self.outputs, self.columns = slices(tasks, "outputs"), slices(tasks, "columns")
        self.widths = (width(tasks, "outputs"), width(tasks, "columns"), len(losses))

    def forward(self, prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            prediction: (..., O) and target: (..., K), each task's outputs and columns side by side; the first axis counts windows.
            known: (..., n_tasks) bool, True where an entry has a label of the task.

        A task without a known entry adds exactly zero, and no gradient. Raises InputError for other shapes.
        """
        shapes = tuple(prediction.shape), tuple(target.shape), tuple(known.shape)
        if tuple(shape[-1] for shape in shapes) != self.widths:
            raise InputError(
                f"MultiTaskLoss: want last axes of {self.widths} (outputs, columns, tasks) for {list(self.losses)}, got {shapes}"
            )
        total = prediction.new_zeros((), dtype=torch.promote_types(prediction.dtype, torch.float32))
        for index, (name, loss) in enumerate(self.losses.items()):
            parts = prediction[..., self.outputs[name]], target[..., self.columns[name]], known[..., index]
            self.given[f"the loss of {name}"] = value = loss(*parts)
            total = total + self.weights[name] * value
        for term, (who, name, weight) in zip(self.terms, self.of_terms, strict=True):
            parts = prediction[..., self.outputs[name]], target[..., self.columns[name]], known[..., list(self.losses).index(name)]
            self.given[who] = value = given.term(who, term, *parts)
            total = total + weight * value
        return total


def _keep(module: nn.Module, name: str, weights: Tensor | None, outputs: int) -> None:
    """Store weights, one per output, as a buffer: it moves with the module. It comes from labels and settings, so it is not saved."""
    if weights is not None and (weights.shape != (outputs,) or not (weights >= 0).all()):
        raise InputError(f"{type(module).__name__}: want {name} ({outputs},) >= 0, got {weights.tolist()}")
    module.register_buffer(name, weights, persistent=False)


def _valid_entries(who: str, prediction: Tensor, target: Tensor, valid: Tensor, outputs: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return (n, outputs) and (n, columns) of the valid entries, both in the prediction's dtype, but at least float32."""
    shape = prediction.shape[:-1]
    if prediction.shape != (*shape, outputs) or target.shape != (*shape, columns) or valid.shape != shape or valid.dtype != torch.bool:
        raise InputError(
            f"{who}: want prediction (..., {outputs}), target (..., {columns}) and valid bool (...), "
            f"got {tuple(prediction.shape)}, {tuple(target.shape)} and {valid.dtype} {tuple(valid.shape)}"
        )
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return prediction[valid].to(dtype), target[valid].to(dtype)
