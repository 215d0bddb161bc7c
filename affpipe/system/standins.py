"""Stand-ins for modules that other packages import at their top and no job uses. A module is imported when it is first used.

`import mediapipe` imports matplotlib's pyplot for its drawings; transformers' models import scipy.optimize for the losses of detectors;
lightning imports every measure of torchmetrics with its dependencies; torchvision imports the compiler of torch, with sympy, for networks
that are compiled. That takes seconds of each job. While such a package is imported, stand-ins take the place of these modules. A stand-in
imports its module as soon as anything in it is asked for; for names that are listed, as soon as one of them is used. Afterwards everyone
who imports the module gets the module itself.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from operator import attrgetter
from types import ModuleType
from typing import Any, Union

ALL = "*"
MEDIAPIPE = {"matplotlib": (), "matplotlib.pyplot": (), "sounddevice": ()}
TORCHVISION = {"torch._dynamo.utils": ("is_compile_supported",)}
TRANSFORMERS = {"scipy.optimize": ("linear_sum_assignment",)}
_MEASURES = (
    "functional",
    "audio",
    "audio._deprecated",
    "classification",
    "detection",
    "detection._deprecated",
    "image",
    "image._deprecated",
)
_MEASURES += (
    "nominal",
    "regression",
    "retrieval",
    "retrieval._deprecated",
    "text",
    "text._deprecated",
    "utilities.checks",
    "utilities.plot",
)
LIGHTNING = {
    "scipy.signal": ("hamming",),  # torchmetrics adds it for another package if it is missing
    **{f"torchmetrics.{name}": (ALL,) for name in _MEASURES},
}


class _Standin(ModuleType):
    """Stand-in for a module. It imports the module when asked for a name, or gives a `_Name` for any name if all are `put_off`."""

    put_off = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # names that import itself looks for
            raise AttributeError(name)
        return _Name(self, name) if self.put_off else getattr(_itself(self), name)


class _Name:
    """Function or class of a module not imported yet: to call, take attributes of, derive from, or name in annotations."""

    def __init__(self, standin: _Standin, name: str):
        self._standin, self._name = standin, name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._itself()(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._itself(), name)

    def __mro_entries__(self, _: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._itself(),)

    def __or__(self, other: Any) -> Any:
        return Union[self, other]  # noqa: UP007 - the meaning of |

    def __ror__(self, other: Any) -> Any:
        return Union[other, self]  # noqa: UP007

    def __instancecheck__(self, value: Any) -> bool:
        return self._is_there() and isinstance(value, self._itself())

    def __subclasscheck__(self, other: type) -> bool:
        return self._is_there() and issubclass(other, self._itself())

    def _itself(self) -> Any:
        return attrgetter(self._name)(_itself(self._standin))

    def _is_there(self) -> bool:
        """Return whether anything of this class can exist: its module is imported."""
        return sys.modules.get(self._standin.__name__, self._standin) is not self._standin


def _itself(standin: _Standin) -> ModuleType:
    name = standin.__name__
    while name:
        if isinstance(found := sys.modules.get(name), _Standin):
            _remove(found)
        name = name.rpartition(".")[0]
    return importlib.import_module(standin.__name__)


def _remove(standin: _Standin) -> None:
    if sys.modules.get(standin.__name__) is standin:
        del sys.modules[standin.__name__]


def lightly(package: str, modules: Mapping[str, tuple[str, ...]]) -> None:
    """Import a package with stand-ins; without them if it needs more of these modules than another version did."""
    with suppress(ImportError, AttributeError, TypeError), standins(modules):
        importlib.import_module(package)
        return
    importlib.import_module(package)


@contextmanager
def standins(modules: Mapping[str, tuple[str, ...]]) -> Iterator[None]:
    """Give stand-ins to modules that are not imported yet, while the body imports a package.

    Args:
        modules: module -> names that are imported from it or looked up while the body runs, or ALL. What lies within another (a module, or
            a.b of a name a) comes after it.
    """
    placed: dict[str, _Standin] = {}
    for module, names in modules.items():
        if module in sys.modules:
            continue
        placed[module] = standin = _Standin(module)
        for name in names:
            if name == ALL:
                standin.put_off = True
                continue
            holder, _, own = name.rpartition(".")
            setattr(getattr(standin, holder) if holder else standin, own, _Name(standin, name))
        parent, _, own = module.rpartition(".")
        if parent in placed:
            setattr(placed[parent], own, standin)
    sys.modules.update(placed)
    try:
        yield
    finally:
        for standin in placed.values():
            _remove(standin)
