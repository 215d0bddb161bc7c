"""Stages and models as a layered graph of what reads what, with counts. It does without graphviz, which a fresh machine lacks.

Layers are longest paths from the sources. Edges that a longer path implies are left out (almost everything reads `frames`). An edge over
several layers gets a place in each, so that it passes between boxes. The order within a layer is by barycentres.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup

from affpipe.results.report.svg import Drawing, number

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 140.0, 58.0, 46.0, 16.0, 8.0
LETTERS, LINE = 16, 15.0  # letters of a name on one line of a box, and the height of each further line
PASSAGE = 10.0  # height of the place of an edge that passes a layer
SWEEPS = 8


def draw(
    reads: Mapping[str, Sequence[str]],
    kinds: Mapping[str, str],
    notes: Mapping[str, str],
    counts: Mapping[str, Mapping[str, int]],
    taught: Collection[str] = (),
) -> Markup:
    """Draw the graph as SVG.

    Args:
        reads: node -> nodes it reads, in an order in which every node follows what it reads.
        kinds: node -> class of its box (stage, feature, model, published).
        notes: node -> second line (encoder or kind). counts: node -> status -> number of items.
        taught: nodes that are read to fit a model alone; their lines are dashed.
    """
    edges = reduce(reads)
    layer = layers(edges)
    chains = {(a, b): [a, *((a, b, k) for k in range(layer[a] + 1, layer[b])), b] for b, sources in edges.items() for a in sources}
    columns = _columns(layer, chains)
    names = {name: lines(name) for name in reads}
    tall = HEIGHT + LINE * (max(map(len, names.values())) - 1)  # height of every box
    place = _places(columns, tall)
    height = max(y for _, y in place.values()) + tall / 2 + MARGIN
    drawing = Drawing(MARGIN * 2 + len(columns) * (WIDTH + GAP_X) - GAP_X, height, "stages and models, and what reads what")
    for chain in chains.values():
        drawing.add("path", d=_route([place[n] for n in chain]), kind="edge taught" if chain[0] in taught else "edge")
    for name in reads:
        _box(drawing, names[name], place[name], tall, kinds[name], notes[name], counts[name])
    return drawing.markup()


def reduce(reads: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the transitive reduction: node -> the nodes it reads on which no other node it reads depends."""
    above: dict[str, set[str]] = {}
    for name, sources in reads.items():
        above[name] = set(sources).union(*(above[s] for s in sources))
    return {name: [s for s in sources if not any(s in above[t] for t in sources)] for name, sources in reads.items()}


def layers(edges: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the longest path from a source to each node."""
    out: dict[str, int] = {}
    for name, sources in edges.items():
        out[name] = 1 + max((out[s] for s in sources), default=-1)
    return out


def _columns(layer: Mapping[str, int], chains: Mapping[tuple[str, str], list]) -> list[list]:
    columns: list[list] = [[n for n in layer if layer[n] == i] for i in range(max(layer.values()) + 1)]
    left: dict = {}
    right: dict = {}
    for chain in chains.values():
        for node in chain[1:-1]:
            columns[node[2]].append(node)
        for a, b in pairwise(chain):
            left.setdefault(b, []).append(a)
            right.setdefault(a, []).append(b)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        near = left if forward else right
        for i in range(len(columns)) if forward else range(len(columns) - 1, -1, -1):
            beside = columns[i - 1] if forward and i else columns[i + 1] if not forward and i + 1 < len(columns) else []
            rank = {n: k / max(len(beside) - 1, 1) for k, n in enumerate(beside)}
            here = {n: k / max(len(columns[i]) - 1, 1) for k, n in enumerate(columns[i])}
            mean = {n: _mean([rank[m] for m in near.get(n, ())], here[n]) for n in columns[i]}
            columns[i].sort(key=mean.__getitem__)  # stable: ties keep their order
    return columns


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _places(columns: list[list], tall: float) -> dict:
    """Return the centre of each node; columns are centred on the tallest."""
    heights = [[tall if isinstance(n, str) else PASSAGE for n in column] for column in columns]
    tallest = max(sum(h) + GAP_Y * (len(h) - 1) for h in heights)
    place = {}
    for i, (column, sizes) in enumerate(zip(columns, heights, strict=True)):
        y = MARGIN + (tallest - sum(sizes) - GAP_Y * (len(sizes) - 1)) / 2
        for node, size in zip(column, sizes, strict=True):
            place[node] = (MARGIN + WIDTH / 2 + i * (WIDTH + GAP_X), y + size / 2)
            y += size + GAP_Y
    return place


def _route(points: list[tuple[float, float]]) -> str:
    (x, y), path = points[0], ""
    for i, (to_x, to_y) in enumerate(points[1:], 1):
        leave, reach = x + WIDTH / 2, to_x - WIDTH / 2
        path += f"{'M' if i == 1 else 'L'}{number(leave)},{number(y)}"
        path += f"C{number(leave + GAP_X / 2)},{number(y)} {number(reach - GAP_X / 2)},{number(to_y)} {number(reach)},{number(to_y)}"
        x, y = to_x, to_y
    return path


def lines(name: str) -> list[str]:
    """Break a name into lines that fit a box, after underscores if possible."""
    out = [""]
    for part in re.findall(rf"[^_]{{1,{LETTERS - 1}}}_?|_", name):
        if len(out[-1] + part) > LETTERS:
            out.append("")
        out[-1] += part
    return out


def _box(
    drawing: Drawing, name: list[str], centre: tuple[float, float], tall: float, kind: str, note: str, counts: Mapping[str, int]
) -> None:
    x, y = centre[0], centre[1] - tall / 2
    told = ", ".join(f"{n} {status}" for status, n in counts.items())
    drawing.add("rect", x=x - WIDTH / 2, y=y, width=WIDTH, height=tall, rx=6, kind=f"node {kind}", tip=f"{''.join(name)}: {told}")
    y = centre[1] - (HEIGHT + LINE * (len(name) - 1)) / 2 + 19
    for line in name:
        drawing.add("text", line, x=x, y=y, text_anchor="middle", kind="name")
        y += LINE
    drawing.add("text", note, x=x, y=y, text_anchor="middle", kind="note")
    drawing.add("text", told, x=x, y=y + 16, text_anchor="middle", kind="bad" if counts.get("failed") else "note")
