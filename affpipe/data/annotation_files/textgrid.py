"""Intervals of Praat (`.TextGrid`), in its long and its short text form, which hold the same values in the same order.

Values are texts between quotes, with doubled quotes within, and numbers and flags that stand alone. All else is there for people, as for
Praat itself. A point tier is read as intervals without length, which are refused if that tier is read.

Source: Praat's manual, "TextGrid file formats". Read with the standard library.
"""

import codecs
import re
from collections.abc import Iterator
from math import inf
from pathlib import Path

from affpipe.core.errors import ManifestError
from affpipe.data.annotation_files.intervals import SHOWN, Span
from affpipe.system.files import lines, read_bytes, read_text

HEADS = ("ooTextFile", "ooTextFile short")
TOKEN = re.compile(
    r'"(?P<text>[^"]*+(?:""[^"]*+)*+)"|(?<!\S)(?:(?P<number>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)|(?P<flag><\w+>)|![^\r\n]*)(?!\S)', re.ASCII
)
_AGAIN = "save it in Praat again, as a text file"


class _Tokens:
    """Values of a file in order."""

    def __init__(self, path: Path, text: str):
        self.path, self.content = path, text
        self.found: Iterator[re.Match[str]] = (match for match in TOKEN.finditer(text) if match.lastgroup)

    def text(self, want: str) -> str:
        return self._next(want, "text").replace('""', '"')

    def number(self, want: str) -> float:
        return float(self._next(want, "number"))

    def count(self, want: str) -> int:
        number = self.number(want)
        return int(min(number, len(self.content))) if number < inf else len(self.content)

    def flag(self, want: str) -> str:
        return self._next(want, "flag")

    def _next(self, want: str, group: str) -> str:
        match = next(self.found, None)
        if match is not None and match.lastgroup == group:
            return match[group]
        seen = self.content if match is None else self.content[: match.start() + 1]
        got = "the end of the file" if match is None else repr(match[0][:SHOWN])
        line = max(1, len(lines(seen)))
        raise ManifestError(f"{self.path}: line {line}: want {want}, got {got}; {_AGAIN}")


def read_spans(path: Path) -> dict[str, list[Span]]:
    """Read tier -> its intervals, in the order of the file; UTF-8, or UTF-16 with its mark.

    Raises ManifestError, one line, if it is no complete TextGrid in a text form.
    """
    tokens = _Tokens(path, _text(path))
    head = [next(tokens.found, None) for _ in range(2)]
    kind = [match["text"] if match else None for match in head]
    if kind[0] not in HEADS or kind[1] != "TextGrid":
        got = next(iter(lines(tokens.content)), "")[:SHOWN]
        raise ManifestError(f"{path}: line 1: want a TextGrid (ooTextFile), got {got!r}; {_AGAIN}")
    tokens.number("the start of the TextGrid")
    tokens.number("the end of the TextGrid")
    tiers: dict[str, list[Span]] = {}
    if tokens.flag("<exists> or <absent>") == "<exists>":
        for number in range(1, tokens.count("the number of tiers") + 1):
            name, spans = _tier(tokens, f"tier {number}")
            if name in tiers:
                raise ManifestError(f"{path}: want tiers of different names, got {name[:SHOWN]!r} twice; rename one")
            tiers[name] = spans
    return tiers


def _tier(tokens: _Tokens, place: str) -> tuple[str, list[Span]]:
    kind, name = tokens.text(f"the class of {place}"), tokens.text(f"the name of {place}")
    if kind not in ("IntervalTier", "TextTier"):
        raise ManifestError(f"{tokens.path}: {place}: want an IntervalTier or a TextTier, got {kind[:SHOWN]!r}; {_AGAIN}")
    for end in ("start", "end"):
        tokens.number(f"the {end} of {place}")
    count = tokens.count(f"the number of intervals of {place}")
    if kind == "IntervalTier":
        return name, [_interval(tokens, f"interval {i}", name) for i in range(1, count + 1)]
    return name, [_point(tokens, f"point {i}", name) for i in range(1, count + 1)]


def _interval(tokens: _Tokens, place: str, tier: str) -> Span:
    start_s, end_s = (tokens.number(f"the {end} of {place} of tier {tier[:SHOWN]!r}") for end in ("start", "end"))
    return Span(place, start_s, end_s, tokens.text(f"the text of {place} of tier {tier[:SHOWN]!r}"))


def _point(tokens: _Tokens, place: str, tier: str) -> Span:
    time_s = tokens.number(f"the time of {place} of tier {tier[:SHOWN]!r}")
    return Span(place, time_s, time_s, tokens.text(f"the text of {place} of tier {tier[:SHOWN]!r}"))


def _text(path: Path) -> str:
    data = read_bytes(path, "annotation file", ManifestError, "check the path")
    if data.startswith(b"ooBinaryFile"):
        raise ManifestError(f"{path}: want a TextGrid as text, got a binary one; {_AGAIN}")
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return read_text(path, "annotation file", ManifestError, "check the path")
    try:
        return data.decode("utf-16")
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: want a readable annotation file, got UTF-16 that breaks off; {_AGAIN}") from None
