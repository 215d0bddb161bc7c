"""The only reader of config.yaml and of recipes.

Several YAML files are laid over each other, later ones winning key by key, and the result over the defaults of `settings`. A key set to
null counts as never set, so a recipe can remove what the files below it set. If a setting has a default and may be off (`clip_norm: null`),
null switches it off.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import ValidationError

from affpipe.core.errors import SettingsError
from affpipe.core.section import Section
from affpipe.core.tasks.table import TASKS
from affpipe.core.tasks.task import Task
from affpipe.data.settings import OWN_TASKS, OwnTask, parse_tasks
from affpipe.encoders.table import ENCODERS
from affpipe.models.table import MODELS
from affpipe.models.terms.table import TERMS
from affpipe.plan.literals import kinds, misread
from affpipe.plan.settings import Settings
from affpipe.plan.yaml_file import read_yaml

NAMED = (("features",), ("models",), ("reference", "rows"))  # places that hold sections by names that the user chooses

_WORDS = {"Tuple": "a list", "Dictionary": "settings", "String": "text"}  # pydantic's words and ours


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`: mappings merge key by key, anything else is replaced."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(out.get(key), Mapping) and isinstance(value, Mapping)
        out[key] = overlay(out[key], value) if both else value
    return out


def without_null(data: Mapping[str, Any], section: Any = Settings) -> dict[str, Any]:
    """Return the mapping of a section without null values, at any depth, except settings that null switches off, and unknown keys."""
    out = {}
    for key, value in data.items():
        field = getattr(section, "model_fields", {}).get(key)
        if value is None and field is not None and (not _off(field) or field.default is None):
            continue
        out[key] = _inside(field.annotation, value) if field is not None else value
    return out


def _off(field: Any) -> bool:
    """Tell whether a setting may be none."""
    return type(None) in get_args(field.annotation)


def _inside(annotation: Any, value: Any) -> Any:
    """Apply `without_null` to the value of a field: a section, a list of them, or sections by name, of which null ones are removed."""
    if _is_list(annotation, value):
        return [without_null(own, _named(annotation, own)) if isinstance(own, Mapping) else own for own in value]
    if not isinstance(value, Mapping):
        return value
    if get_origin(annotation) is not dict:
        return without_null(value, _section(annotation))
    out = {}
    for name, own in value.items():
        if isinstance(own, Mapping):
            out[name] = without_null(own, _named(annotation, own))
        elif own is not None or not isinstance(name, str):
            out[name] = own
    return out


def _is_list(annotation: Any, value: Any) -> bool:
    return get_origin(annotation) is tuple and isinstance(value, list | tuple)


def _named(annotation: Any, own: Mapping[str, Any]) -> Any:
    """Return the section for the value under a name that the user chooses, or in a list: of several, the one whose tag it has."""
    kind = get_args(annotation)[0 if get_origin(annotation) is tuple else 1]
    sections, *about = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    tag = next((found.discriminator for found in about if getattr(found, "discriminator", None)), None)
    if callable(tag):  # the entries of `tasks`
        return OWN_TASKS.get(tag(own))
    return next((section for section in get_args(sections) if section.model_fields[tag].default == own.get(tag)), None) if tag else kind


def layered(paths: Iterable[Path]) -> dict[str, Any]:
    """Lay files over each other in order; SettingsError if a file sets a name to null that none before it has: it is misspelt."""
    data: dict[str, Any] = {}
    for path in paths:
        own = read_yaml(path)
        for place in NAMED:
            known, named = _at(data, place), _at(own, place)
            for name in (name for name, value in named.items() if value is None and name not in known):
                has = f"{', '.join(map(str, known))}" if known else "none"
                raise SettingsError(
                    f"{path}: {'.'.join(place)}.{name}: want null for a name of the files before it, of which it takes one out, "
                    f"got another (they have {has}); mend the name, or leave it out"
                )
        data = overlay(data, own)
    return data


def _at(data: Mapping[str, Any], place: Iterable[str]) -> Mapping[str, Any]:
    """Return the mapping at a place; an empty one if there is none."""
    found: Any = data
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def load(paths: Iterable[Path]) -> Settings:
    """Read settings from files laid over each other in order."""
    paths = list(paths)
    return parse(layered(paths), where=", ".join(map(str, paths)))


def known_tasks(paths: Iterable[Path]) -> dict[str, Task]:
    """Return the official tasks and those that settings files name. Nothing else in the files is checked, so a recipe alone will do."""
    named = [(path, own["tasks"]) for path, own in ((path, read_yaml(path)) for path in paths) if own.get("tasks") is not None]
    path, tasks = named[-1] if named else ("", ())
    given = without_null({"tasks": tasks})
    faults, found = dict(_misread(given)), {}
    try:
        found = parse_tasks(given["tasks"])
    except ValidationError as error:
        faults = _lines({**fault, "loc": ("tasks", *fault["loc"])} for fault in _first(error)) | faults
    except ValueError as error:
        faults["tasks"] = f"tasks: {error}"
    if faults:
        raise SettingsError(f"{path}: {'; '.join(faults.values())}")
    return TASKS | found


def parse(data: Mapping[str, Any], *, where: str = "settings") -> Settings:
    """Parse settings from a mapping; SettingsError is one line with each fault's key path, what is allowed, and what was given."""
    given = without_null(data)
    faults = dict(_misread(given))  # path -> line: values that pydantic would misread
    try:
        found = Settings.model_validate(given)
    except ValidationError as error:
        found = None
        faults = _lines(_first(error)) | faults
    if found is None or faults:
        raise SettingsError(f"{where}: " + "; ".join(faults.values())) from None
    return found


def _misread(data: Mapping[str, Any], section: Any = Settings, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and fault of each value of a section, and of the sections in it, that could be read differently from what is meant."""
    for key, value in data.items():
        field, here = getattr(section, "model_fields", {}).get(key), f"{path}{key}"
        if field is None:
            continue
        if isinstance(value, Mapping) and get_origin(field.annotation) is dict:
            for name, own in value.items():
                if isinstance(own, Mapping):
                    yield from _misread(own, _named(field.annotation, own), f"{here}.{name}.")
        elif _is_list(field.annotation, value) and any(isinstance(own, Mapping) for own in value):
            for number, own in enumerate(value):
                if isinstance(own, Mapping):
                    yield from _misread(own, _named(field.annotation, own), f"{here}.{number}.")
        elif isinstance(value, Mapping):
            yield from _misread(value, _section(field.annotation), f"{here}.")
        elif why := misread(value, kinds(field.annotation)):
            yield here, f"{here}: {why}"


def _first(error: ValidationError) -> list[Any]:
    """Faults but those that others cause: pydantic calls a list too short for what it refused of it."""
    return [f for f in error.errors() if f["type"] != "too_short" or len(f["input"]) < f["ctx"]["min_length"]]


def _lines(faults: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Path of each fault -> its line, which says what to do."""
    return {path: line if "; " in line else f"{line}; mend it" for path, line in map(_explain, faults)}


def _explain(fault: Mapping[str, Any]) -> tuple[str, str]:
    """Return the path of a fault, and its line."""
    path = ".".join(str(p) for i, p in enumerate(fault["loc"]) if not _tag(fault["loc"], i) and p != "[key]")  # a tag is no key
    given = repr(fault["input"])
    return path, _line(fault, path, given if len(given) <= 80 else f"{given[:77]}...")


def _line(fault: Mapping[str, Any], path: str, given: str) -> str:
    match fault["type"]:
        case "extra_forbidden":
            return f"{path}: unknown key; {_allowed(fault['loc'])}"
        case "missing":
            return f"{path}: missing; give it a value"
        case "value_error":
            text = str(fault["ctx"]["error"])
            return f"{path}: {text}" if path else text
        case "union_tag_not_found" if fault["loc"][0] == "tasks":
            forms = ", ".join(OWN_TASKS)
            return f"{path}: want {', '.join(TASKS)}, or a task of your own as a name and one of {forms}, got {given}; mend it"
        case "union_tag_invalid" | "union_tag_not_found":
            key = fault["ctx"]["discriminator"].strip("'")
            known = ", ".join(tag for place, tag in _TAGGED if _TAGS.get(place) == key)
            remedy = "correct it, or install the package that adds it" if key in fault["input"] else "name one of them"
            return f"{path}.{key}: want one of {known}, got {fault['input'].get(key)!r}; {remedy}"
        case "literal_error" if fault["loc"][-1] == "term":  # there is only one kind, so pydantic discriminates nothing
            return f"{path}: want one of {', '.join(TERMS)}, got {given}; correct it, or install the package that adds it"
        case "string_type" if isinstance(fault["input"], bool | int | float):  # as YAML reads yes, no, on, off, and digits
            return f"{path}: want text, got {str(given).lower()}; put it between quotes"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{path}: want settings as `key: value`, got {given}"
        case _:
            return f"{path}: {_wanted(fault['msg'])}, got {given}"


def _wanted(message: str) -> str:
    """Translate pydantic's words ("Input should be a valid integer") into ours ("want a valid integer")."""
    what, should, rest = message.partition(" should ")
    rest = rest.partition(" after validation")[0]
    if not should:
        return f"want another value ({message})"
    if what != "Input":
        return f"want {_WORDS.get(what, what.lower())} to {rest}"
    rest = rest.removeprefix("be ").replace("a valid tuple", "a list")
    return f"want a number {rest}" if rest.startswith(("greater", "less")) else f"want {rest}"


def _allowed(loc: tuple[Any, ...]) -> str:
    section: Any = Settings
    for i, part in enumerate(loc[:-1]):
        field = getattr(section, "model_fields", {}).get(part)
        section = _section(field.annotation) if field else _tag(loc, i) or section
    return f"allowed: {', '.join(section.model_fields)}" if hasattr(section, "model_fields") else "see docs/settings.md"


def _section(annotation: Any) -> Any:
    """Return the section of a field that may also be none."""
    return next((a for a in get_args(annotation) if hasattr(a, "model_fields")), annotation)


def _tag(loc: tuple[Any, ...], i: int) -> type[Section] | None:
    """Return the section whose tag is the i-th part of a location; pydantic puts it after the name, or the number, of a section."""
    return _TAGGED.get((loc[i - 2], loc[i])) if i == 2 or (i > 2 and isinstance(loc[i - 1], int)) else None


_TAGS = {"features": "encoder", "models": "kind", "terms": "term"}  # place -> the setting that says which section stands there
_TAGGED: dict[tuple[str, str], type[Section]] = {  # place, and the value of that setting -> the section
    (place, name): part.settings
    for place, parts in (("features", ENCODERS), ("models", MODELS), ("terms", TERMS))
    for name, part in parts.items()
} | {("tasks", form): section for form, section in {**OWN_TASKS, "name": OwnTask}.items()}


def schema() -> dict[str, Any]:
    """Return the JSON schema of the settings, as kept in workflow/schemas/config.schema.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}
