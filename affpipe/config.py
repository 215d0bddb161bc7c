"""The only reader of config.yaml and of recipes.

Several YAML files are laid over each other, later ones winning key by key, and the result over the defaults of `settings`. A key set to
null is as if it had never been set, so a recipe can take out what the files below it put in; where a setting has a default and may be off
(`clip_norm: null`), null is off.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from affpipe import settings
from affpipe.errors import SettingsError
from affpipe.files import read_text
from affpipe.settings import Section, Settings

MOST = 100_000  # values in a settings file; the largest recipe has some hundred

_WORDS = {"Tuple": "a list", "Dictionary": "settings", "String": "text"}  # pydantic's and ours


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`: mappings merge key by key, anything else is replaced."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(out.get(key), Mapping) and isinstance(value, Mapping)
        out[key] = overlay(out[key], value) if both else value
    return out


def without_null(data: Mapping[str, Any], section: Any = Settings) -> dict[str, Any]:
    """The mapping of a section without what is null, at any depth, but for settings that null switches off, and for unknown keys."""
    out = {}
    for key, value in data.items():
        field = getattr(section, "model_fields", {}).get(key)
        if value is None and field is not None and (not _off(field) or field.default is None):
            continue
        out[key] = _inside(field.annotation, value) if field is not None and isinstance(value, Mapping) else value
    return out


def _off(field: Any) -> bool:
    """Whether a setting may be none."""
    return type(None) in get_args(field.annotation)


def _inside(annotation: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    """`without_null` for what a field holds: a section, or sections by name, of which those that are null are taken out."""
    if get_origin(annotation) is not dict:
        return without_null(value, _section(annotation))
    out = {}
    for name, own in value.items():
        if isinstance(own, Mapping):
            tag = own.get("encoder", own.get("kind"))
            out[name] = without_null(own, _TAGGED.get(tag) if isinstance(tag, str) else _section(annotation))
        elif own is not None:
            out[name] = own
    return out


def read_yaml(path: Path) -> dict[str, Any]:
    """One settings file as a mapping; SettingsError names the file and line if it is none."""
    text = read_text(path, "settings file", SettingsError, "check --config")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _count_values(node, {})
        data = node and loader.construct_document(node)
    except yaml.YAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        what = " ".join(str(getattr(error, "problem", None) or error).removeprefix("but found ").split())
        raise SettingsError(f"{path}: want YAML, got {what}{place}; mend the file") from None
    except RecursionError:
        raise SettingsError(f"{path}: want YAML, got values nested too deep to read; mend the file") from None
    except ValueError as error:  # a date or number that YAML writes and Python has not
        what = str(error).partition(";")[0]
        raise SettingsError(f"{path}: want YAML, got a value that is none ({what}); put it between quotes") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: want settings as `key: value`, got {type(data).__name__}; mend the file")
    return data


def _count_values(node: yaml.Node | None, counts: dict[int, int]) -> int:
    """Values below a node of YAML, those behind an alias as often as it stands there; YAMLError where they are more than MOST.

    So ten lines of aliases of aliases do not become a billion values. A key that stands twice is refused too: which is meant?
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in counts:
        if not counts[id(node)]:
            raise yaml.MarkedYAMLError(problem="an alias of what it is part of", problem_mark=node.start_mark)
        return counts[id(node)]
    counts[id(node)] = 0  # being counted
    below = node.value
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} again", problem_mark=key.start_mark)
            seen.add(key.value)
        below = [part for pair in node.value for part in pair]
    counts[id(node)] = 1 + sum(_count_values(part, counts) for part in below)
    if counts[id(node)] > MOST:
        raise yaml.MarkedYAMLError(problem=f"more than {MOST} values, aliases written out,", problem_mark=node.start_mark)
    return counts[id(node)]


def load(paths: Iterable[Path]) -> Settings:
    """Settings from files laid over each other in order."""
    data: dict[str, Any] = {}
    paths = list(paths)
    for path in paths:
        data = overlay(data, read_yaml(path))
    return parse(data, where=", ".join(map(str, paths)))


def parse(data: Mapping[str, Any], *, where: str = "settings") -> Settings:
    """Settings from a mapping; SettingsError is one line with each fault's key path, what is allowed, and what was given."""
    try:
        return Settings.model_validate(without_null(data))
    except ValidationError as error:
        faults = [line if "; " in line else f"{line}; mend it" for line in map(_explain, error.errors())]
        raise SettingsError(f"{where}: " + "; ".join(faults)) from None


def _explain(fault: Mapping[str, Any]) -> str:
    loc = [str(p) for i, p in enumerate(fault["loc"]) if not (p in _TAGGED and i == 2) and p != "[key]"]  # the tag of a union is no key
    path = ".".join(loc)
    given = repr(fault["input"])
    given = given if len(given) <= 80 else f"{given[:77]}..."
    match fault["type"]:
        case "extra_forbidden":
            return f"{path}: unknown key; {_allowed(fault['loc'])}"
        case "missing":
            return f"{path}: missing; give it a value"
        case "value_error":
            text = str(fault["ctx"]["error"])
            return f"{path}: {text}" if path else text
        case "union_tag_invalid" | "union_tag_not_found":
            key = fault["ctx"]["discriminator"].strip("'")
            known = ", ".join(tag for tag, section in _TAGGED.items() if key in section.model_fields)
            return f"{path}.{key}: want one of {known}, got {fault['input'].get(key)!r}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{path}: want settings as `key: value`, got {given}"
        case _:
            return f"{path}: {_wanted(fault['msg'])}, got {given}"


def _wanted(message: str) -> str:
    """pydantic's words ("Input should be a valid integer") as ours ("want a valid integer")."""
    what, should, rest = message.partition(" should ")
    rest = rest.partition(" after validation")[0]
    if not should:
        return f"want another value ({message})"
    if what != "Input":
        return f"want {_WORDS.get(what, what.lower())} to {rest}"
    rest = rest.removeprefix("be ")
    return f"want a number {rest}" if rest.startswith(("greater", "less")) else f"want {rest}"


def _allowed(loc: tuple[Any, ...]) -> str:
    section: Any = Settings
    for part in loc[:-1]:
        field = getattr(section, "model_fields", {}).get(part)
        section = _section(field.annotation) if field else _TAGGED.get(part, section)
    return f"allowed: {', '.join(section.model_fields)}" if hasattr(section, "model_fields") else "see docs/settings.md"


def _section(annotation: Any) -> Any:
    """The section of a field that may also be none."""
    return next((a for a in get_args(annotation) if hasattr(a, "model_fields")), annotation)


_TAGGED: dict[str, type[Section]] = {  # the value of `encoder` or `kind` -> its section
    section.model_fields["encoder" if union is settings.Feature else "kind"].default: section
    for union in (settings.Feature, settings.ModelSettings)
    for section in get_args(get_args(union)[0])
}


def schema() -> dict[str, Any]:
    """JSON schema of the settings, as kept in workflow/schemas/config.schema.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}
