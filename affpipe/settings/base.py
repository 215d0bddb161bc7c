"""Typed settings: what may be set, its default and its limits. Defaults exist only here.

A setting marked with `speed()` changes how fast a value is made, never the value, and so stays out of keys; one marked with `after()`
changes what is published, and so stays out of the keys of streams and models.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


def speed(default: Any, **limits: Any) -> Any:
    """A field that cannot change a value and therefore is no part of any key."""
    return Field(default, json_schema_extra={"keyed": False}, **limits)


def after(default: Any, **limits: Any) -> Any:
    """A field that changes what is made of a model's predictions, not the model: part of the run's key alone."""
    return Field(default, json_schema_extra={"keyed": False}, **limits)


class Section(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def spec(self) -> dict[str, Any]:
        """The part that alters values, as plain JSON types: what a key hashes."""
        dump = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if not (field.json_schema_extra or {}).get("keyed", True):
                del dump[name]
            elif isinstance(value, Section):
                dump[name] = value.spec()
            elif isinstance(value, Mapping):
                dump[name] |= {key: section.spec() for key, section in value.items()}
        return dump
