"""Parts that other packages add, by entry points: their declarations stand in the tables beside our own.

What a declaration must be is asked as it is loaded, and told in one line that names the entry point and its package.
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
GROUPS = ENCODERS, MODELS, TERMS = ("affpipe.encoders", "affpipe.models", "affpipe.terms")  # of entry points
MEND = "mend or remove that package"


@dataclass(frozen=True)
class Origin:
    """Where a part comes from that is not our own: an entry point, and the package that has it.

    Attributes:
        group, name, value: of the entry point. package, version: as installers know it; the name is in keys, the version is not.
    """

    group: str
    name: str
    value: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"entry point {self.name} of {self.group} ({self.value}, of the package {self.package} {self.version})"


def joined(group: str, own: Iterable[Any], kind: type, tag: str, taken: Collection[str] = ()) -> dict[str, Any]:
    """Name -> declaration: our own first, then those of installed packages, by name, each with its `origin`.

    Args:
        group: of the entry points, such as "affpipe.encoders". own: declarations of this package. kind: what each declaration is.
        tag: setting that says the name, in the section of each. taken: names that no part may have.

    Raises SettingsError for an entry point that does not load, is no declaration or a wrong one, or has a name that is taken.
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
    except (Exception, SystemExit) as error:  # whatever another package raises as it is imported
        raise SettingsError(f"{origin}: does not load: {_said(error)}; {MEND}") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _fault(part: Any, tag: str) -> str:
    """What is wrong with a declaration; "" where nothing is."""
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
    """What is wrong with settings that have to be a section of a kind; "" where nothing is."""
    if isinstance(settings, type) and issubclass(settings, base):
        return "" if settings.__pydantic_complete__ else f"want settings whose types are known, got {settings.__name__}, where one is not"
    return f"want settings that are a subclass of {base.__name__}, got {getattr(settings, '__name__', repr(settings))}"


def path_fault(what: str, path: Any, form: str = "module:name") -> str:
    """What is wrong with a string that names code, as far as it can be told without importing it; "" where nothing is."""
    if not (isinstance(path, str) and re.fullmatch(r"[\w.]+:\w+" if ":" in form else r"[\w.]+", path)):
        return f"want {what} as {form!r}, got {path!r}"
    top = re.split("[.:]", path)[0]
    found = top in sys.modules or (top and find_spec(top))
    return "" if found else f"want {what} in a package that is installed, got {path!r}"


def code(path: str, origin: Origin | None) -> Any:
    """What "module:name" stands for, or the module that a string names alone.

    SettingsError where it is of another package and does not load; what is wrong with our own is raised as it is.
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
    """The type of a setting that is any of these sections, told apart by their setting `tag`."""
    sections = list(sections)
    return sections[0] if len(sections) == 1 else Annotated[reduce(or_, sections), Field(discriminator=tag)]


def others() -> bool:
    """Whether installed packages add parts."""
    return any(entry_points(group=group) for group in GROUPS)


def misspelt() -> list[Origin]:
    """Entry points of groups that begin like ours and are none."""
    groups = sorted(group for group in entry_points().groups if group.startswith(PREFIX) and group not in GROUPS)
    return [_origin(point) for group in groups for point in sorted(entry_points(group=group), key=lambda point: point.name)]
