"""Reading a report in tests."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET


class Reader(HTMLParser):
    """Every start tag with its attributes, and the text of the page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def section(page: str, name: str) -> str:
    return re.search(rf'<section id="{name}">(.*?)</section>', page, re.S).group(1)


def cells(html: str) -> list[list[str]]:
    """Rows of all tables as text."""
    return [
        [Reader(c).text.strip() for c in re.findall(r"<td.*?>(.*?)</td>", row, re.S)]
        for row in re.findall(r"<tr.*?>(.*?)</tr>", html, re.S)
    ]


def drawing(page: str, label: str) -> ET.Element:
    """The drawing whose label ends so."""
    return ET.fromstring(re.search(rf'<svg[^>]*{re.escape(label)}".*?</svg>', page, re.S).group())
