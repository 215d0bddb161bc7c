"""Table of the terms that can be added to a training loss, listed by hand."""

from affpipe.core import extensions
from affpipe.core.extensions import joined, tagged
from affpipe.models.terms.asymmetric.spec import ASYMMETRIC
from affpipe.models.terms.part import TermPart

PARTS = [
    ASYMMETRIC,
]
TERMS: dict[str, TermPart] = joined(extensions.TERMS, PARTS, TermPart, "term")
Term = tagged((part.settings for part in TERMS.values()), "term")
