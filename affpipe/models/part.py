"""Declarations of kinds of models, as planning uses them. A network is imported in the job alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from affpipe.core import extensions
from affpipe.core.extensions import Origin
from affpipe.core.stage import LIGHT, Need
from affpipe.models.settings import Fusion, SequenceModel

Reads = Literal["rows", "windows", "members"]
SETTINGS = {"rows": ("reads", "dataset"), "windows": ("reads", "chunks"), "members": ("reads", "inputs")}  # settings that each needs

FIT = Need(1, 16000, 720)
LARGE_FIT = Need(1, 32000, 720)  # 50,000 audio windows of 199 x 1024 are 20 GB, 3 million frames of three models of width 256 are 9 GB


@dataclass(frozen=True)
class ModelPart:
    """One kind of model.

    Attributes:
        name: the word for it in settings, their `kind`.
        settings: its section.
        revision: raised by hand when its code changes values; models of another revision are then fitted again.
        network: module and class of its network, "affpipe.models.heads.mamba.network:MambaHead", which knows tensors alone.
        arguments: keywords of that class from the settings and the width of each input, by name; `outputs` is added to them.
        reads: its input: rows of one stream, windows of one stream, or the models that it fuses.
        gates: number of entries of its gate per row; 0: no gate.
        row_s: seconds to apply it to a row, without its matrix products; None: unknown before it is measured.
        kept: numbers that backpropagation keeps for a window of so many rows.
        needs, fit_needs: needs of a job that applies or fits it.
        origin: entry point and package of a kind that is not our own. It is set on loading, and the package is in the key.
    """

    name: str
    settings: type[SequenceModel]
    revision: int
    network: str | Callable[[Any], str]
    arguments: Callable[[Any, Mapping[str, int]], dict[str, Any]]
    reads: Reads = "rows"
    gates: Callable[[Any], int] = lambda settings: 0
    row_s: float | None = None
    kept: Callable[[Any, int], float] = lambda settings, long: 12.0 * long * settings.hidden
    needs: Need = LIGHT
    fit_needs: Need = FIT
    origin: Origin | None = None

    def fault(self) -> str:
        """Return the fault of the declaration, as far as it shows without others; "" if there is none."""
        if self.reads not in get_args(Reads):
            return f"want reads one of {', '.join(get_args(Reads))}, got {self.reads!r}"
        if wrong := extensions.base_fault(self.settings, Fusion if self.reads == "members" else SequenceModel):
            return wrong
        if lost := [name for name in SETTINGS[self.reads] if name not in self.settings.model_fields]:
            return f"want the setting {lost[0]}, as it reads {self.reads}, got none of the name"
        loose = [name for name in ("window", "stride") if get_args(self.settings.model_fields[name].annotation) != (1,)]
        if self.reads == "windows" and loose:
            return f"want {loose[0]} declared as Literal[1], as a row that it reads is a window of its own, got other lengths too"
        return "" if callable(self.network) else extensions.path_fault("network", self.network, "module:class")

    def build(self, settings: Any, dims: Mapping[str, int], outputs: int) -> Any:
        """Build the network (nn.Module) of `settings` for inputs of width `dims`, with `outputs` outputs a row."""
        network = extensions.code(self.network if isinstance(self.network, str) else self.network(settings), self.origin)
        return network(**self.arguments(settings, dims), outputs=outputs)


def attention_numbers(settings: Any, long: int) -> float:
    """Return how many numbers a stack of attention layers keeps for a window."""
    return settings.layers * (12 * long * settings.hidden + settings.heads * long**2 * 2)
