"""Declarations of terms of the training loss, without their code."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import Field

from affpipe.core import extensions
from affpipe.core.extensions import Origin
from affpipe.core.section import Section
from affpipe.core.tasks.task import Kind


class TermSettings(Section):
    """Settings that all terms share. A term's own section has its name in `term`, and in `task` the task whose outputs it takes."""

    weight: float = Field(1.0, gt=0, description="weight of the term beside the loss of the tasks")


@dataclass(frozen=True)
class TermPart:
    """One term, which is added to the loss of the tasks.

    Attributes:
        name: the word for it in settings, their `term`. settings: its section.
        revision: raised by hand when its code changes values; models with the term are then fitted again.
        network: module and class: forward(prediction (..., O), target (..., K), valid (...)) -> scalar, all of its task.
        kinds: kinds of tasks that it is for; by default all.
        arguments: keywords of that class from the settings.
        origin: entry point and package of a term that is not our own. It is set on loading, and the package is in the key.
    """

    name: str
    settings: type[TermSettings]
    revision: int
    network: str
    kinds: tuple[str, ...] = get_args(Kind)
    arguments: Callable[[Any], dict[str, Any]] = lambda settings: {}
    origin: Origin | None = None

    def fault(self) -> str:
        """Return the fault of the declaration, as far as it shows without others; "" if there is none."""
        if wrong := extensions.base_fault(self.settings, TermSettings):
            return wrong
        if "task" not in self.settings.model_fields:
            return "want the setting task, which names the task whose outputs the term takes, got none"
        if not (isinstance(self.kinds, tuple) and self.kinds and all(kind in get_args(Kind) for kind in self.kinds)):
            return f"want kinds of {', '.join(get_args(Kind))}, got {self.kinds!r}"
        return extensions.path_fault("network", self.network, "module:class")

    def build(self, settings: Any) -> Any:
        """Build the module (nn.Module) of `settings`."""
        return extensions.code(self.network, self.origin)(**self.arguments(settings))
