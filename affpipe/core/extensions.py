"""Parts that other packages add, by entry points: their declarations stand in the tables beside our own."""

from collections.abc import Iterable
from functools import reduce
from importlib.metadata import entry_points
from operator import or_
from typing import Annotated, Any

from pydantic import Field

from affpipe.core.errors import SettingsError

GROUPS = ENCODERS, MODELS, TERMS = ("affpipe.encoders", "affpipe.models", "affpipe.terms")  # of entry points


def joined(group: str, own: Iterable[Any], kind: type, tag: str) -> dict[str, Any]:
    """Name -> declaration: our own first, then those of installed packages, by name.

    Args:
        group: of the entry points, such as "affpipe.encoders". own: declarations of this package. kind: what each declaration is.
        tag: setting that says the name, in the section of each.

    Raises SettingsError for an entry point that does not load, is no declaration, has a name that is taken, or settings of another name.
    """
    out = {part.name: part for part in own}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        who = f"entry point {point.name} of {group} ({point.value})"
        try:
            part = point.load()
        except Exception as error:  # whatever another package raises as it is imported
            raise SettingsError(f"{who}: does not load: {type(error).__name__}: {error}; mend or remove that package") from error
        if not isinstance(part, kind):
            raise SettingsError(f"{who}: want a {kind.__name__}, got {type(part).__name__}; mend or remove that package")
        if part.name in out:
            raise SettingsError(f"{who}: the name {part.name} is taken; rename it there, or remove that package")
        field = getattr(part.settings, "model_fields", {}).get(tag)
        if field is None or field.default != part.name:
            got = "no such setting" if field is None else repr(field.default)
            raise SettingsError(f"{who}: want settings whose {tag} is {part.name!r}, got {got}; mend or remove that package")
        out[part.name] = part
    return out


def tagged(sections: Iterable[type], tag: str) -> Any:
    """The type of a setting that is any of these sections, told apart by their setting `tag`."""
    sections = list(sections)
    return sections[0] if len(sections) == 1 else Annotated[reduce(or_, sections), Field(discriminator=tag)]


def others() -> bool:
    """Whether installed packages add parts."""
    return any(entry_points(group=group) for group in GROUPS)
