"""Intervals of ELAN (`.eaf`): tiers of annotations whose ends lie at time slots, in whole milliseconds.

An annotation that refers to another (REF_ANNOTATION) has the times of that one. ELAN shows a slot without a time by a guess from its
neighbours. Here no time is guessed: an annotation with such an end is refused if its tier is read. If the media was shifted against the
annotations (TIME_ORIGIN of MEDIA_DESCRIPTOR), times are brought back to those of the media.

Source: EAF 3.0, http://www.mpi.nl/tools/elan/EAFv3.0.xsd. The standard library reads the file as a series of tags; only those that are
needed are kept. A file with a DOCTYPE is refused at that tag: ELAN writes none, and without one no entity is declared that could expand.
"""

import re
from dataclasses import dataclass
from math import nan
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree.ElementTree import ParseError, XMLParser
from xml.parsers.expat import ErrorString

from affpipe.core.errors import ManifestError
from affpipe.data.annotation_files.intervals import SHOWN, Span
from affpipe.system.files import composed, read_bytes

ROOT = "ANNOTATION_DOCUMENT"
DEEPEST = 64  # greatest number of annotations in a chain of references; more form a circle
MILLISECONDS = re.compile(r"-?[0-9]{1,12}", re.ASCII)
_AGAIN = "save it in ELAN again"


@dataclass
class _Annotation:
    """One annotation; ends: ids of its two slots, or () if it refers to another annotation, of id `refers`."""

    id: str
    ends: tuple[str, ...]
    refers: str
    value: str = ""


class _Document:
    """Parts of a file that are kept, as a target of XMLParser.

    Attributes:
        slots: id -> seconds, NaN without a time. tiers: name -> annotations. origins: (file name, seconds) of each media.
    """

    def __init__(self, path: Path):
        self.path = path
        self.inside = False
        self.slots: dict[str, float] = {}
        self.tiers: dict[str, list[_Annotation]] = {}
        self.origins: list[tuple[str, float]] = []
        self.annotations: dict[str, _Annotation] = {}
        self.tier: list[_Annotation] | None = None
        self.text: list[str] | None = None

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise self.fault("a file without a DOCTYPE", "one", _AGAIN)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.inside and tag != ROOT:
            raise self.fault(f"an ELAN file, which begins with {ROOT}", tag[:SHOWN], "name the .eaf file")
        self.inside = True
        if tag == "HEADER" and (units := attributes.get("TIME_UNITS", "milliseconds")) != "milliseconds":
            raise self.fault("times in milliseconds", units[:SHOWN], _AGAIN)
        elif tag == "MEDIA_DESCRIPTOR":
            url = attributes.get("MEDIA_URL") or attributes.get("RELATIVE_MEDIA_URL", "")
            self.origins.append((PurePosixPath(unquote(url)).name, self.seconds(tag, attributes.get("TIME_ORIGIN", "0"))))
        elif tag == "TIME_SLOT":
            time = attributes.get("TIME_VALUE")
            self.slots[self.own(tag, attributes, "TIME_SLOT_ID", self.slots)] = nan if time is None else self.seconds(tag, time)
        elif tag == "TIER":
            self.tier = self.tiers[self.own(tag, attributes, "TIER_ID", self.tiers)] = []
        elif tag in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION") and self.tier is not None:
            id = self.own(tag, attributes, "ANNOTATION_ID", self.annotations)
            self.annotations[id] = _Annotation(id, *self.ends(tag, attributes))
            self.tier.append(self.annotations[id])
        elif tag == "ANNOTATION_VALUE":
            self.text = []

    def data(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def end(self, tag: str) -> None:
        if tag == "ANNOTATION_VALUE":
            if self.tier and self.text is not None:
                self.tier[-1].value = "".join(self.text)
            self.text = None
        elif tag == "TIER":
            self.tier = None

    def close(self) -> "_Document":
        return self

    def fault(self, want: str, got: str, remedy: str) -> ManifestError:
        return ManifestError(f"{self.path}: want {want}, got {got}; {remedy}")

    def need(self, tag: str, attributes: dict[str, str], name: str) -> str:
        if name not in attributes:
            raise self.fault(f"{name} of each {tag}", "one without", _AGAIN)
        return attributes[name]

    def own(self, tag: str, attributes: dict[str, str], name: str, others: dict[str, object]) -> str:
        """Return a name from the attributes that nothing before it has."""
        found = self.need(tag, attributes, name)
        if found in others:
            raise self.fault(f"{name} once", f"{found[:SHOWN]!r} a second time", _AGAIN)
        return found

    def ends(self, tag: str, attributes: dict[str, str]) -> tuple[tuple[str, ...], str]:
        if tag == "REF_ANNOTATION":
            return (), self.need(tag, attributes, "ANNOTATION_REF")
        return tuple(self.need(tag, attributes, f"TIME_SLOT_REF{i}") for i in (1, 2)), ""

    def seconds(self, tag: str, text: str) -> float:
        if not MILLISECONDS.fullmatch(text):
            raise self.fault(f"whole milliseconds in {tag}", repr(text[:SHOWN]), _AGAIN)
        return int(text) / 1000

    def times(self, annotation: _Annotation) -> tuple[float, float]:
        """Return the seconds of both ends, of the annotation or of the one to which its references lead."""
        found: _Annotation | None = annotation
        for _ in range(DEEPEST):
            if found is None or found.ends:
                break
            found = self.annotations.get(found.refers)
        if found is None or not found.ends or not set(found.ends) <= set(self.slots):
            raise self.fault(f"times of annotation {annotation.id[:SHOWN]}", "a reference that leads to none", _AGAIN)
        return self.slots[found.ends[0]], self.slots[found.ends[1]]


def read_spans(path: Path, media: str = "") -> dict[str, list[Span]]:
    """Read tier -> its annotations, in the order of the file.

    Args:
        media: file name of the video, for a file of several media that were shifted by different times.

    Raises ManifestError, one line, if it is no complete ELAN file.
    """
    parser = XMLParser(target=_Document(path))
    try:
        parser.feed(read_bytes(path, "annotation file", ManifestError, "check the path"))
        document = parser.close()
    except ParseError as error:
        got = ErrorString(error.code) or "no XML"
        raise ManifestError(f"{path}: line {error.position[0]}: want an ELAN file (XML), got {got}; save or copy it again") from None
    except (LookupError, ValueError) as error:
        raise ManifestError(f"{path}: want an ELAN file in UTF-8, got {error}; {_AGAIN}") from None
    shift_s = _shift_s(document, media)
    return {name: [_span(document, own, shift_s) for own in annotations] for name, annotations in document.tiers.items()}


def _span(document: _Document, annotation: _Annotation, shift_s: float) -> Span:
    start_s, end_s = document.times(annotation)
    return Span(f"annotation {annotation.id[:SHOWN]}", start_s + shift_s, end_s + shift_s, annotation.value)


def _shift_s(document: _Document, media: str) -> float:
    """Return the seconds to add to a time of the annotations to get that of the media.

    ELAN shows second t + TIME_ORIGIN of the media as its own second t. Of several media those named as the video count; else those with its
    name but another suffix; else all.
    """
    name = composed(media)
    same = [origin for other, origin in document.origins if composed(other) == name]
    alike = [origin for other, origin in document.origins if composed(PurePosixPath(other).stem) == PurePosixPath(name).stem]
    found = set(same or alike or [origin for _, origin in document.origins])
    if len(found) > 1:
        told = ", ".join(f"{other} {origin:g} s" for other, origin in document.origins)[: 4 * SHOWN]
        raise document.fault("one TIME_ORIGIN", told, "name its media as the video")
    return found.pop() if found else 0.0
