"""Parts of other packages: whether their code is there, which planning does not ask, and entry points that nobody reads."""

from collections.abc import Iterator, Mapping
from typing import Any

from affpipe.core import extensions
from affpipe.core.errors import SettingsError
from affpipe.encoders.table import ENCODERS
from affpipe.jobs.doctor.finding import Finding, fine, of_error, warning
from affpipe.models.table import MODELS
from affpipe.models.terms.table import TERMS

TABLES: dict[str, Mapping[str, Any]] = {"encoder": ENCODERS, "kind of model": MODELS, "term": TERMS}


def check() -> Iterator[Finding]:
    """Findings on every part of another package, whether the run names it or not. Imports its code, heavy as it may be."""
    for what, table in TABLES.items():
        for part in table.values():
            if part.origin:
                yield _part(what, part)
    for origin in extensions.misspelt():
        found = f"{origin}: nobody reads that group, so what it offers is not there; want one of {', '.join(extensions.GROUPS)}"
        yield warning("parts", found, "correct the group in that package")


def _part(what: str, part: Any) -> Finding:
    try:
        for path in filter(None, (getattr(part, name, None) for name in ("worker", "network", "within"))):
            if isinstance(path, str):  # else it is a size, or settings decide which code it is
                extensions.code(path, part.origin)
    except SettingsError as error:
        return of_error("parts", error)
    return fine("parts", f"{what} {part.name}, of the package {part.origin.package} {part.origin.version}")
