"""What is known of a term of the training loss without its code."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import Field

from affpipe.core.section import Section


class TermSettings(Section):
    """What all terms share; a term's own section has its name in `term`, and in `task` the task whose outputs it takes."""

    weight: float = Field(1.0, gt=0, description="of the term, beside the loss of the tasks")


@dataclass(frozen=True)
class TermPart:
    """One term, which is added to the loss of the tasks.

    Attributes:
        name: the word for it in settings, their `term`. settings: its section.
        network: module and class: forward(prediction (..., O), target (..., K), valid (...)) -> scalar, all of its task.
        arguments: keywords of that class by the settings.
    """

    name: str
    settings: type[TermSettings]
    network: str
    arguments: Callable[[Any], dict[str, Any]] = lambda settings: {}

    def build(self, settings: Any) -> Any:
        """The module (nn.Module) of `settings`."""
        module, kind = self.network.split(":")
        return getattr(import_module(module), kind)(**self.arguments(settings))
