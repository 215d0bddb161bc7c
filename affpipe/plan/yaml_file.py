"""Reader of a settings file in YAML as a mapping. It refuses what YAML reads differently from what its author means.

YAML 1.1 reads 010 as 8, 1:30 as 90, and the key `no` as false. It reads `{offset_s: 0,1}` as the number 0 and a key 1 without a value.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from affpipe.core.errors import SettingsError
from affpipe.plan.literals import is_lost
from affpipe.system.files import read_text

MOST = 100_000  # values in a settings file; the largest recipe has some hundred
_TAG = "tag:yaml.org,2002:"
_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
_OCTAL = re.compile(r"[-+]?0[0-7_]+")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one settings file as a mapping; SettingsError names the file and line if it is none."""
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
    except ValueError as error:  # a date or number that YAML can write and Python cannot hold
        what = str(error).partition(";")[0]
        raise SettingsError(f"{path}: want YAML, got a value that is none ({what}); put it between quotes") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: want settings as `key: value`, got {type(data).__name__}; mend the file")
    return data


def _count_values(node: yaml.Node | None, counts: dict[int, int]) -> int:
    """Count the values below a YAML node, those behind an alias as often as it is used; YAMLError for more than MOST.

    So ten lines of aliases of aliases do not become a billion values. Values that can be misread are refused on the way.
    """
    if not isinstance(node, yaml.CollectionNode):
        if isinstance(node, yaml.ScalarNode):
            _check_number(node)
        return 1
    if id(node) in counts:
        if not counts[id(node)]:
            raise yaml.MarkedYAMLError(problem="an alias of what it is part of", problem_mark=node.start_mark)
        return counts[id(node)]
    counts[id(node)] = 0  # being counted
    below = node.value
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        below = [part for pair in node.value for part in pair]
    counts[id(node)] = 1 + sum(_count_values(part, counts) for part in below)
    if counts[id(node)] > MOST:
        raise yaml.MarkedYAMLError(problem=f"more than {MOST} values, aliases written out,", problem_mark=node.start_mark)
    return counts[id(node)]


def _check_number(node: yaml.ScalarNode) -> None:
    """Raise YAMLError for a number that YAML reads differently from its reader: octal, sexagesimal, or lost to rounding."""
    text, said = node.value, ""
    if node.tag == f"{_TAG}int" and _OCTAL.fullmatch(text):
        said = f"{text}, which YAML takes for {int(text.replace('_', ''), 8)} (leave the zero in front out)"
    elif node.tag in (f"{_TAG}int", f"{_TAG}float") and ":" in text:
        said = f"{text}, which YAML takes for a number to the base of 60 (write seconds, or put it between quotes)"
    elif node.tag == f"{_TAG}float" and is_lost(text.replace("_", "")):
        said = f"{text}, which is 0 to a computer (write 0, or a larger number)"
    if said:
        raise yaml.MarkedYAMLError(problem=said, problem_mark=node.start_mark)


def _check_keys(node: yaml.MappingNode) -> None:
    """Raise YAMLError for a key that stands twice, so its value is ambiguous, comes by two merges, or is no text to YAML."""
    seen: set[str] = set()
    before = ""
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            kind = key.tag.removeprefix(_TAG)
            said = ""
            if key.value in seen:
                said = f"the key {key.value!r} again"
            elif kind in ("int", "float") and value.tag == f"{_TAG}null":
                said = f"'{before},{key.value}', which YAML takes for two keys (write decimals with a point)"
            elif kind not in ("str", "merge", "value"):
                said = f"the key {key.value!r}, which YAML takes for {_KINDS.get(kind, kind)} (put it between quotes)"
            if said:
                raise yaml.MarkedYAMLError(problem=said, problem_mark=key.start_mark)
            seen.add(key.value)
            before = f"{key.value}: {value.value}" if isinstance(value, yaml.ScalarNode) else f"{key.value}: …"
    merged: set[str] = set()
    for of in (part for key, value in node.value if key.tag == f"{_TAG}merge" for part in _merged(value)):
        own = {key.value for key, _ in of.value if isinstance(key, yaml.ScalarNode)} - seen
        if twice := sorted(merged & own):
            raise yaml.MarkedYAMLError(problem=f"the key {twice[0]!r} from two merged mappings", problem_mark=node.start_mark)
        merged |= own


def _merged(node: yaml.Node) -> list[yaml.MappingNode]:
    """Return the mappings that `<<` names."""
    return [part for part in (node.value if isinstance(node, yaml.SequenceNode) else [node]) if isinstance(part, yaml.MappingNode)]
