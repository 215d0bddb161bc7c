"""Parts that other packages add by entry points. Their declarations stand in the tables beside our own.

Each declaration is checked as it is loaded. A fault becomes one line that names the entry point and its package.
"""

import re
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from operator import or_
from typing import Annotated, Any, Literal, get_args, get_origin

from packaging.utils import canonicalize_name
from pydantic import Field, TypeAdapter, ValidationError

from affpipe.core.errors import SettingsError
from affpipe.core.section import Name, Section

PREFIX = "affpipe."
GROUPS = ENCODERS, MODELS, TERMS = ("affpipe.encoders", "affpipe.models", "affpipe.terms")  # names of entry-point groups
MEND = "mend or remove that package"


@dataclass(frozen=True)
class Origin:
    """Origin of a part that is not our own: an entry point, and the package that declares it.

    Attributes:
        group, name, value: those of the entry point.
        package, version: as installers know them. The package's name is in keys, its version is not.
    """

    group: str
    name: str
    value: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"entry point {self.name} of {self.group} ({self.value}, of the package {self.package} {self.version})"


def joined(group: str, own: Iterable[Any], kind: type, tag: str, taken: Collection[str] = ()) -> dict[str, Any]:
    """Return name -> declaration: our own first, then those of installed packages, by name, each with its `origin`.

    Args:
        group: group of the entry points, such as "affpipe.encoders".
        own: declarations of this package. kind: class of each declaration.
        tag: setting that holds the part's name, in the section of each. taken: names that no part may have.

    Raises SettingsError for an entry point that does not load, whose object is no declaration or a wrong one, or whose name is taken.
    """
    out = {part.name: part for part in own}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        origin = _origin(point)
        part = _loaded(point, origin)
        wrong = _fault(part, tag) if isinstance(part, kind) else f"want a {kind.__name__}, got {type(part).__name__}"
        if wrong:
            raise SettingsError(f"{origin}: {wrong}; {MEND}")
        if part.name in taken:
            raise SettingsError(f"{origin}: want another name, got {part.name}, a folder of the store; {MEND}")
        if part.name in out:
            other = out[part.name].origin or "affpipe"
            raise SettingsError(f"{origin}: the name {part.name} is taken by {other}; rename one of them, or remove a package")
        out[part.name] = replace(part, origin=origin)
    return out


def _origin(point: EntryPoint) -> Origin:
    return Origin(point.group, point.name, point.value, canonicalize_name(point.dist.name), point.dist.version)


def _loaded(point: EntryPoint, origin: Origin) -> Any:
    if not point.pattern.match(point.value):
        raise SettingsError(f"{origin}: want module:attribute, got {point.value!r}; {MEND}")
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # another package may raise anything as it is imported
        raise SettingsError(f"{origin}: does not load: {_said(error)}; {MEND}") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _fault(part: Any, tag: str) -> str:
    """Return the fault of a declaration; "" if there is none."""
    name, settings = part.name, part.settings
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        return f"want a name of at most 40 of a-z, 0-9 and _ that begins with a letter, got {name!r}"
    if type(part.revision) is not int or part.revision < 1:
        return f"want a revision from 1, got {part.revision!r}"
    if wrong := base_fault(settings, Section):
        return wrong
    field = settings.model_fields.get(tag)
    if field is None or field.default != name:
        return f"want settings whose {tag} is {name!r}, got {'no such setting' if field is None else repr(field.default)}"
    if get_origin(field.annotation) is not Literal or get_args(field.annotation) != (name,):
        return f"want settings whose {tag} is declared as Literal[{name!r}], got {getattr(field.annotation, '__name__', field.annotation)}"
    return part.fault()


def base_fault(settings: Any, base: type) -> str:
    """Return the fault of settings that must be a section of type `base`; "" if there is none."""
    if isinstance(settings, type) and issubclass(settings, base):
        return "" if settings.__pydantic_complete__ else f"want settings whose types are known, got {settings.__name__}, where one is not"
    return f"want settings that are a subclass of {base.__name__}, got {getattr(settings, '__name__', repr(settings))}"


def path_fault(what: str, path: Any, form: str = "module:name") -> str:
    """Return the fault of a string that names code, as far as it shows without an import; "" if there is none."""
    if not (isinstance(path, str) and re.fullmatch(r"[\w.]+:\w+" if ":" in form else r"[\w.]+", path)):
        return f"want {what} as {form!r}, got {path!r}"
    top = re.split("[.:]", path)[0]
    found = top in sys.modules or (top and find_spec(top))
    return "" if found else f"want {what} in a package that is installed, got {path!r}"


def code(path: str, origin: Origin | None) -> Any:
    """Import what "module:name" names, or the module if the string names a module alone.

    Raises SettingsError if it is in another package and does not load. An error in our own code is raised unchanged.
    """
    module, _, name = path.partition(":")
    try:
        found = import_module(module)
        return getattr(found, name) if name else found
    except (Exception, SystemExit) as error:
        if origin is None:
            raise
        raise SettingsError(f"{origin}: want {path}, got {_said(error)}; {MEND}") from error


def tagged(sections: Iterable[type], tag: str) -> Any:
    """Return the type of a setting that is one of these sections, discriminated by their setting `tag`."""
    sections = list(sections)
    return sections[0] if len(sections) == 1 else Annotated[reduce(or_, sections), Field(discriminator=tag)]


def others() -> bool:
    """Tell whether installed packages add parts."""
    return any(entry_points(group=group) for group in GROUPS)


def misspelt() -> list[Origin]:
    """List entry points whose group begins like ours but is none of ours."""
    groups = sorted(group for group in entry_points().groups if group.startswith(PREFIX) and group not in GROUPS)
    return [_origin(point) for group in groups for point in sorted(entry_points(group=group), key=lambda point: point.name)]
