"""Checks of what the code of a network or a term returns. The message names the model, and the kind or the term.

Shapes: B windows, T rows (C: predictions of a window of sound), O outputs, H embedding width, G entries of a gate.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affpipe.core.errors import AffpipeError, InputError, PartError
from affpipe.system import faults

NEAR = 1e-3  # greatest distance of a gate's sum from 1


@contextmanager
def by(who: str) -> Iterator[None]:
    """Turn an exception of a part's code into a PartError that names it; exceptions of affpipe or of the machine stay as they are.

    An InputError, which a network's own checks raise, keeps its words and gets the name too.

    Args:
        who: "models.light (kind pointwise)", or "models.light (term huber)".
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{who}: {error}") from error
    except (AffpipeError, PartError):
        raise
    except Exception as error:
        if faults.of_machine(error):
            raise
        raise _fault(who, "an answer", faults.words(error)) from error


def answer(
    who: str, found: Any, rows: tuple[int, int], sizes: tuple[int, int], *, fused: bool, gates: Sequence[str]
) -> list[Tensor | None]:
    """Return prediction, embedding and gate of a network's answer; PartError unless they match `sizes` and `gates`.

    Args:
        rows: B, T. sizes: O, H.
        fused: True for a fusion's answer, which has names; else the answer is a pair.
        gates: names of a gate's entries.
    """
    names = ("prediction", "embedding", "gate") if fused else ("prediction", "embedding")
    if fused and all(hasattr(found, name) for name in names):
        parts = [found.prediction, found.embedding, found.gate]
    elif not fused and isinstance(found, tuple | list) and len(found) == 2:
        parts = [*found, None]
    else:
        want = "Fused(prediction, embedding, gate)" if fused else "a pair of prediction and embedding"
        raise _fault(who, want, _kind(found))
    if parts[2] is not None and not gates:
        raise _fault(who, "`gate_names` of a network with a gate", "none")
    for name, letter, width, part in zip(("prediction", "embedding", "gate"), "OHG", (*sizes, len(gates)), parts, strict=True):
        if part is None and name == "gate":
            continue
        if not isinstance(part, Tensor) or not part.is_floating_point() or part.shape != (*rows, width):
            raise _fault(who, f"{name} (B, T, {letter}) of floating point, {(*rows, width)}", _kind(part))
    return parts


def term(who: str, loss: nn.Module, *parts: Tensor) -> Tensor:
    """Return the value of a term; PartError unless it is one number."""
    with by(who):
        value = loss(*parts)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
        raise _fault(who, "a scalar loss", _kind(value))
    return value


def finite(who: str, values: Mapping[str, Tensor | None]) -> None:
    """Raise PartError if something of the first batch of a fit is not finite.

    This is before any step, so the learning rate cannot be the cause.
    """
    for name, value in values.items():
        if value is not None and not torch.isfinite(value).all():
            raise _fault(who, f"a finite {name} of the first batch", "nan or inf")


def weights(who: str, gate: np.ndarray) -> None:
    """Raise PartError unless a gate (B, T, G) sums to 1, or to 0 where it weighs nothing; NaN and infinity are not checked here."""
    total = gate.sum(axis=-1)
    bad = (np.abs(total - 1) > NEAR) & (np.abs(total) > NEAR) | (gate < -NEAR).any(axis=-1)
    if bad.any():
        row = ", ".join(f"{weight:g}" for weight in gate[bad][0])
        raise _fault(who, "gate weights that sum to 1 where they weigh anything, else 0", row)


def _kind(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"{tuple(found.shape)}{'' if found.is_floating_point() else f' of {found.dtype}'}"
    return f"a {type(found).__name__}{f' of {len(found)}' if isinstance(found, tuple | list) else ''}"


def _fault(who: str, want: str, got: str) -> PartError:
    return PartError(f"{who}: want {want}, got {got}; mend the code of that {'term' if '(term ' in who else 'kind'}")
