"""Typed settings: names, defaults and limits. Defaults exist only here.

A setting marked with `speed()` changes how fast a value is computed, never the value. So it is in no key. A setting marked with `after()`
changes what is published. So it is not in the keys of streams and models. A field added to a released section is `later()`. It is not in
the key while it has its default, and its default does what the code did before. So no key moves when a setting is added.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

HEX = r"^[0-9a-f]{12,64}$"  # a commit, or the unique beginning of a digest
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


def speed(default: Any, **limits: Any) -> Any:
    """Declare a field that cannot change a value and therefore is in no key."""
    return Field(default, json_schema_extra={"keyed": False}, **limits)


def after(default: Any, **limits: Any) -> Any:
    """Declare a field that changes what is made of a model's predictions, not the model: it is in the run's key alone."""
    return Field(default, json_schema_extra={"keyed": False}, **limits)


def later(default: Any, **limits: Any) -> Any:
    """Declare a field added to a released section. It is in the key if it differs from its default, which does what the code did before."""
    return Field(default, json_schema_extra={"later": True}, **limits)


class Section(BaseModel):
    """Base of all settings. They are immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def changed(self) -> set[str]:
        """Name the settings that differ from their defaults."""
        fields = type(self).model_fields.items()
        return {name for name, field in fields if getattr(self, name) != field.get_default(call_default_factory=True)}

    def spec(self) -> dict[str, Any]:
        """Return the settings that alter values, as plain JSON types: what a key hashes."""
        dump, out = self.model_dump(mode="json"), {}
        for name, field in type(self).model_fields.items():
            marks, value = field.json_schema_extra or {}, getattr(self, name)
            if marks.get("keyed", True) and not (marks.get("later") and value == field.get_default(call_default_factory=True)):
                out[name] = _spec(value, dump[name])
        return out


def _spec(value: Any, dump: Any) -> Any:
    """Return a setting's part of a key: for sections, also within mappings and lists, their own spec; for all else its JSON value."""
    if isinstance(value, Section):
        return value.spec()
    if isinstance(value, Mapping):
        return {key: _spec(of, own) for of, (key, own) in zip(value.values(), dump.items(), strict=True)}
    if isinstance(value, list | tuple):
        return [_spec(of, own) for of, own in zip(value, dump, strict=True)]
    return dump
