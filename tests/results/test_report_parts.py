"""Parts of the report: long series made short, marks, the rule graph's layout, and colours."""

import itertools
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from affpipe.core.tasks.classes import Classes
from affpipe.core.tasks.dimensions import Dimensions
from affpipe.results.report import figures, palette, rulegraph, series
from affpipe.results.report.svg import LETTER


def test_thin_keeps_short_series_and_means_of_long_ones() -> None:
    values = np.arange(20.0).reshape(10, 2)
    times, same = series.thin(np.arange(10.0), values, np.ones(10, bool), 10)
    assert np.array_equal(same, values)
    valid = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0], bool)
    times, mean = series.thin(np.arange(10.0), values, valid, 3)  # groups of 4, 4, 2
    assert times.tolist() == [1.5, 5.5, 8.5]
    assert mean[[0, 2]].tolist() == [[3, 4], [16, 17]]
    assert np.isnan(mean[1]).all()


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 324_000])
def test_thin_never_exceeds_its_limit(n: int) -> None:
    times, mean = series.thin(np.arange(n) / 30, np.ones((n, 2)), np.ones(n, bool), 1000)
    assert len(times) == len(mean) <= 1000
    assert (mean == 1).all()


def test_runs_joins_touching_and_overlapping_rows() -> None:
    start, end = np.array([0.0, 2, 4, 6, 8]), np.array([4.0, 6, 8, 10, 12])
    assert series.runs(np.array([1, 1, 0, 0, 1], bool), start, end).tolist() == [[0, 6], [8, 12]]
    assert series.runs(np.zeros(5, bool), start, end).shape == (0, 2)


def test_marks_are_exact_while_few_and_shares_when_many() -> None:
    start = np.arange(400.0)
    few = (start >= 8) & (start < 12)
    assert {k: v.tolist() for k, v in series.marks(few, start, start + 1, 40).items()} == {1.0: [[8, 12]]}
    flicker = np.where(start < 200, start % 2 == 0, start % 10 == 0)  # half, then a tenth, of 40 groups of 10
    flicker[390:] = True
    found = {k: v.tolist() for k, v in series.marks(flicker, start, start + 1, 40).items()}
    assert found == {0.5: [[0, 200]], 0.25: [[200, 390]], 1.0: [[390, 400]]}
    assert series.marks(np.zeros(400, bool), start, start + 1) == {}


@pytest.mark.parametrize("low_s", [-0.0, -1e-9, -0.001, -0.02, -0.3, -1.0, -5.0])
@pytest.mark.parametrize("long_s", [0.2, 1.0, 3.0, 4.9, 30.0, 119.0])
def test_no_axis_has_a_negative_zero(low_s, long_s) -> None:
    labels = [label for _, label in series.time_ticks(low_s, low_s + long_s)]
    assert ("0 s" in labels) == (low_s + long_s >= 0)
    assert not [label for label in labels if label.startswith(("-", f"{series.MINUS}0 "))]
    assert not np.signbit(series.nice_ticks(low_s, low_s + long_s, 5)[series.nice_ticks(low_s, low_s + long_s, 5) == 0]).any()


def test_times_before_zero_keep_their_sign_on_a_clock() -> None:
    labels = dict(series.time_ticks(-90, 300, 13))
    assert (labels[-90.0], labels[-30.0], labels[0.0], labels[60.0]) == ("\u22121:30", "\u22120:30", "0:00", "1:00")


def test_time_ticks_are_round_and_inside() -> None:
    for high in (0.04, 0.9, 5, 59, 600, 3 * 3600, 40 * 3600):
        ticks = series.time_ticks(0.02, 0.02 + high)
        assert 2 <= len(ticks) <= 12, high
        assert all(0.02 <= t <= 0.02 + high + 1e-9 for t, _ in ticks)
        assert len({label for _, label in ticks}) == len(ticks)
    assert series.time_ticks(0, 3 * 3600)[-1] == (10800, "3:00:00")


def test_graph_is_reduced_and_layered() -> None:
    reads = {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["a", "c", "b"], "e": ["a"]}
    edges = rulegraph.reduce(reads)
    assert edges == {"a": [], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["a"]}
    assert rulegraph.layers(edges) == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 1}


def test_long_names_break_within_their_box() -> None:
    assert rulegraph.lines("face") == ["face"]
    assert rulegraph.lines("dcmmoe_face_multimodal_audio") == ["dcmmoe_face_", "multimodal_audio"]
    for name in ("a" * 40, "_" * 20, "x_" * 12 + "y" * 17, "é" * 18):
        broken = rulegraph.lines(name)
        assert "".join(broken) == name
        assert max(map(len, broken)) <= rulegraph.LETTERS
    boxes = ET.fromstring(rulegraph.draw({"b_" * 20: []}, {"b_" * 20: "stage"}, {"b_" * 20: "n"}, {"b_" * 20: {"done": 1}}))
    rect, texts = next(boxes.iter("rect")), [float(t.get("y")) for t in boxes.iter("text")]
    assert float(rect.get("y")) < min(texts) < max(texts) < float(rect.get("y")) + float(rect.get("height"))


def test_experts_of_three_modalities_have_colours_of_their_own() -> None:
    names = "abcdef"
    three = [f"{q}<-{k}" for q in names[:3] for k in names[:3] if q != k]
    assert len(set(palette.expert_colours(three))) == 6
    assert all(re.fullmatch("#[0-9a-f]{6}", c) for c in palette.expert_colours([f"{q}<-{k}" for q in names for k in names if q != k]))


def test_modes_are_runs_of_a_short_stream_and_majorities_of_a_long_one() -> None:
    start = np.arange(12.0)
    classes, valid = np.array([3, 3, 0, 0, 0, 3, 3, 3, 5, 5, 5, 5]), np.ones(12, bool)
    valid[8:10] = False
    found = {k: v.tolist() for k, v in series.modes(classes, valid, start, start + 1).items()}
    assert found == {0: [[2, 5]], 3: [[0, 2], [5, 8]], 5: [[10, 12]]}
    found = {k: v.tolist() for k, v in series.modes(classes, valid, start, start + 1, limit=3).items()}
    assert found == {0: [[0, 4]], 3: [[4, 8]], 5: [[8, 12]]}  # a tie goes to the least class
    assert series.modes(classes, np.zeros(12, bool), start, start + 1) == {}


def test_modes_of_a_long_stream_are_few() -> None:
    classes = np.random.default_rng(0).integers(0, 8, 324_000)
    start = np.arange(len(classes)) / 30
    found = series.modes(classes, np.ones(len(classes), bool), start, start + 1 / 30)
    assert sum(map(len, found.values())) <= series.POINTS
    assert sum((v[:, 1] - v[:, 0]).sum() for v in found.values()) == pytest.approx(10_800)  # no gap, no overlap


DICHROMATS = {  # Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB (3,)."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / (0.9505, 1, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", DICHROMATS)
def test_colours_of_classes_differ_for_the_colour_blind(eyes: str) -> None:
    rgb = np.array([palette.channels(c) for c in palette.CLASSES.values()]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = [lab(np.clip(np.array(DICHROMATS[eyes]) @ colour, 0, 1)) for colour in linear]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 25  # ten times what is just noticed


@pytest.mark.parametrize("colour", palette.CLASSES.values())
def test_letters_on_colours_are_readable(colour: str) -> None:
    letters = {"dark": palette.luminance(palette.INK), "light": 1.0}[palette.ink_on(colour)]
    low, high = sorted((letters, palette.luminance(colour)))
    assert (high + 0.05) / (low + 0.05) > 4.3


def test_numbers_and_names_of_own_tasks_are_whole_or_told() -> None:
    """Ticks of a range far from zero keep their digits; long names neither leave the drawing nor run into each other."""
    far = Dimensions("far", "far", -5, ranges={"far": (1000.0, 1001.0)})
    drawn = ET.fromstring(figures.histograms(far, {"far": [1] * 20}, {"far": [1] * 20}))
    assert {"1000", "1000.5", "1001"} <= {text.text for text in drawn.iter("text")}
    assert "1000.05 to 1000.1: truth 5.0 %" in {title.text for title in drawn.iter("title")}
    names = tuple(f"a class with the long name {i:02d}" for i in range(9))
    task = Classes("many", "many", -1, column="many", names=names)
    bars = ET.fromstring(figures.pairs("many", dict.fromkeys(names, 0.1), dict.fromkeys(names, 0.1)))
    ends = {text.text: float(text.get("x")) for text in bars.iter("text") if text.get("class") == "strip"}
    assert set(ends) == set(names)
    assert all(x >= LETTER * len(name) for name, x in ends.items())
    table = ET.fromstring(figures.confusion(task, np.eye(9, dtype=int).tolist()))
    heads = [text for text in table.iter("text") if text.get("class") == "strip" and text.text != "frames"]
    assert [text.find("title").text for text in heads] == [*names, *names]
    assert all(LETTER * len(text.text) <= 92 for text in heads)
