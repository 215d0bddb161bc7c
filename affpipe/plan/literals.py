"""Checks for values that pydantic would silently read as others: yes as 1, 1.0 as true, the text 0_1 as 1."""

import re
from typing import Any, Literal, get_args, get_origin

NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
FLAGS = ("true", "false", "yes", "no", "on", "off")


def kinds(annotation: Any) -> set[type]:
    """Return the types among bool, int, float and str that a field may hold, alone or in a list; sections by name add none."""
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    if get_origin(annotation) is dict:
        return set()
    found = set().union(*(kinds(part) for part in get_args(annotation)))
    return found | ({annotation} & {bool, int, float, str})


def misread(value: Any, of: set[type]) -> str:
    """Tell why a value cannot be read as one of these types without guessing; "" if it can, or if pydantic refuses it anyway.

    Text may stand for a number or a flag, as Snakemake's `--config` gives all of them as text; but a number must be in plain digits.
    """
    number, flag = bool(of & {int, float}), bool in of
    if isinstance(value, list | tuple):
        return next((why for why in (misread(part, of) for part in value) if why), "")
    if isinstance(value, bool) and number and not flag:
        return f"want a number, got {str(value).lower()} (YAML reads yes, no, on and off so too); write the number"
    if isinstance(value, int | float) and not isinstance(value, bool) and flag and not number:
        return f"want true or false, got {value}; write one of them"
    if isinstance(value, str) and str not in of:
        if number:
            return _of_number(value)
        if flag and value.lower() not in FLAGS:
            return f"want true or false, got {value!r}; write one of them"
    return ""


def _of_number(text: str) -> str:
    if NUMBER.fullmatch(text):
        return f"want a number that is not too small for a computer, got {text}; write 0, or a larger one" if is_lost(text) else ""
    if NUMBER.fullmatch(text.replace(",", ".")):
        return f"want a number, got {text!r}; write decimals with a point, and nothing between thousands"
    try:
        float(text)
    except ValueError:
        return ""
    return f"want a number in plain digits, got {text!r}; write it as in 10, 0.5 or 1e-4"


def is_lost(text: str) -> bool:
    """Tell whether a number that is not 0 becomes 0 when it is read: it is too small for a computer."""
    return re.search("[1-9]", re.split("[eE]", text)[0]) is not None and float(text) == 0
