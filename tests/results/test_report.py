"""The report: every figure of a run is on the page, nothing on it comes from outside, and nothing a user named is taken for markup."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from pages import Reader, cells, drawing, section
from small_run import EVIL, EXPERTS, SETTINGS, STREAMS, Run

from affpipe.core.errors import StoreError
from affpipe.core.tasks.table import VA
from affpipe.media.sound.heard import Heard
from affpipe.media.tracks import Choice
from affpipe.plan import config
from affpipe.results import report
from affpipe.results.late_fusion import Half, Study
from affpipe.results.report import palette, rulegraph, sound, timeline
from affpipe.store.index import Entry


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return run.page()


# ---- the page ---------------------------------------------------------------------------------------------------------------------------


def test_page_says_which_run(run: Run, page: str) -> None:
    text = Reader(page).text
    assert run.plan.run in text
    assert "small" in text
    assert "5 videos, 5 streams, 750 frames, 30.0 s of video." in text


def test_scores_are_those_given(run: Run, page: str) -> None:
    rows = cells(section(page, "scores"))
    score = run.scores["fused"]["va"]
    keys = ("ccc_valence", "ccc_arousal", "ccc")
    want = [f"{score[k]:.3f}" for k in keys] + [f"{score['within_video'][k]:.3f}" for k in keys]
    assert score["intervals"]["ccc"] is None  # two like videos say nothing of others
    want.insert(3, "–")
    assert ["fused published", *want, "2 of 2", "280", "82.1 %"] in rows
    assert [row[0] for row in rows if len(row) == 11] == ["face", "voice", "fused published", "constant per video"]
    constant = [f"{of[k]:.3f}" for of in (score["constant"], score["constant"]["within_video"]) for k in keys]
    constant.insert(3, "–")
    assert ["constant per video", *constant, "–", "–", "–"] in rows
    for id in ("v1", "v2"):
        assert [id, *(f"{score['videos'][id][k]:.3f}" for k in keys), "140"] in rows


def test_page_without_scores_says_so(run: Run) -> None:
    assert "no model predicted a labelled stream of partition validation" in report.render(run.plan, run.entries, {})


def test_what_is_missing_has_one_line_per_cause(page: str) -> None:
    rows = [row for row in cells(section(page, "summary")) if len(row) == 6]
    assert rows == [["p1", "audio", "absent", EVIL, "–", "wavlm, voice"]]


def test_failure_of_a_video_is_passed_on_but_a_second_cause_is_its_own(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in run.plan.names:  # the video of t+1 is damaged, v1 fails in the model alone
        run.entries[name]["t+1"] = Entry("failed", reason="t+1.mp4: want frames, got none; copy it again")
    run.entries["face"]["v1"] = Entry("failed", reason="memory")
    run.entries["fused"]["v1"] = Entry("failed", reason="memory")
    rows = {tuple(row[:2]): row[2:] for row in cells(section(run.page(), "summary")) if len(row) == 6}
    without = ", ".join(name for name in run.plan.names[1:] if name != "labels")  # it has none
    assert rows["t+1", "frames"] == ["failed", "t+1.mp4: want frames, got none", "copy it again", without]
    assert rows["v1", "face"] == ["failed", "memory", "–", "fused"]
    assert len(rows) == 3


def test_frames_without_a_face_are_counted(page: str) -> None:
    rows = [row for row in cells(section(page, "summary")) if len(row) == 7]
    assert [row[0] for row in rows] == list(STREAMS)
    assert rows[0][2:6] == ["150", "6.0 s", "25", "16.7 %"]


def test_tracks_and_sound_of_note_are_said_with_their_shares(tmp_path: Path, page: str) -> None:
    assert "Nothing of note in 4 videos with sound." in page
    heard = Heard(given=1000, placed=900, holes=50, silent=600, clipped=20, louder=250, mended=3, values=1000)
    chosen = Choice("video", 1, 2, others={0: "is a still picture"})
    html = Run(tmp_path, sounds={"v1": heard}, tracks={"t+1": chosen}).page()
    rows = [re.sub("<[^>]+>", " ", row).split() for row in re.findall("<tr>(.*?)</tr>", html.split("Tracks and sound")[1])[1:3]]
    assert rows[0][:13] == ["v1", "60.0", "%", "10.0", "%", "0.0", "%", "2.0", "%", "25.0", "%", "0.3", "%"]
    assert "5.0% of the sound is gaps, left as silence; 2.0% of the sound beyond full scale" in html
    assert "60.0% of the sound is silent" in html
    assert " ".join(rows[1][-10:]) == "video track 1 of 2 (0 is a still picture)"


def test_of_many_videos_of_note_some_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "TOLD", 1)
    heard = Heard(given=10, placed=10, mended=1, values=10)
    run = Run(tmp_path, sounds=dict.fromkeys(("v1", "v2", "a one"), heard))
    table = sound.table(run.plan, run.entries)
    assert ([line.video for line in table.lines], table.more, table.heard) == (["a one"], 2, 4)
    assert "And 2 more" in run.page()


def test_text_of_users_is_escaped(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; none" in page


@pytest.mark.parametrize("random", [(), ("wavlm-tiny",)])
def test_banner_stands_where_random_weights_had_a_part(tmp_path: Path, random: tuple[str, ...]) -> None:
    page = Run(tmp_path, random=random).page()
    assert ("say nothing about the published system" in page) == bool(random)
    assert ("<code>wavlm-tiny</code>" in page) == bool(random)


def test_page_needs_nothing_from_outside(page: str) -> None:
    for tag, attributes in Reader(page).tags:
        assert tag not in ("script", "link", "iframe", "img", "object", "embed")
        for name in ("src", "href", "xlink:href", "data", "srcset"):
            assert not re.match(r"\s*(\w+:|//)", attributes.get(name) or ""), (tag, attributes)
    css = re.search(r"<style>(.*?)</style>", page, re.S).group(1)
    assert "url(" not in css
    assert "@import" not in css
    assert len(page) < 1_000_000


def test_links_lead_to_tables_and_sections(page: str) -> None:
    reader = Reader(page)
    links = [a["href"] for tag, a in reader.tags if tag == "a"]
    ids = {a["id"] for _, a in reader.tags if "id" in a}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert {link for link in links if not link.startswith("#")} == {f"predictions/{n}.csv" for n in ("v1", "v2", "t%2B1", "p1")}


def test_drawings_are_xml_and_hold_all_series(page: str) -> None:
    drawings = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]
    named = {d.get("aria-label"): d for d in drawings if d.get("aria-label")}
    assert len(named) == 1 + 3 + 2 + 1  # histograms, a model's curves, a validation stream, the graph
    stream = named["truth and prediction of v1 over time"]
    kinds = [e.get("class") for e in stream.iter("path")]
    assert kinds.count("line truth") == 2
    assert kinds.count("band") == len(EXPERTS)
    marks = {f"mark {m}" for m in ("faceless", "open", "speech", "observed", "nearest")}
    assert marks | {"away"} <= set(kinds)
    assert [e.get("stroke") for e in stream.iter("path") if e.get("class") == "line"] == list(palette.curves(VA).values())
    truth = next(e for e in stream.iter("path") if e.get("class") == "line truth")
    assert truth.get("d").count("M") == 2  # broken once, where the truth is invalid
    speech = next(e for e in stream.iter("path") if e.get("class") == "mark speech")
    first, last = (float(x) for x in re.fullmatch(r"M([\d.]+),.*h([\d.]+)v.*", speech.get("d")).groups())
    assert first == timeline.LEFT
    assert last == pytest.approx((timeline.WIDTH - timeline.LEFT - timeline.RIGHT) * 4 / 6, abs=0.1)
    texts = [t.text for t in named["stages and models, and what reads what"].iter("text")]
    assert set(SETTINGS["models"]) < set(texts)
    assert "4 done, 1 absent" in texts


def test_learning_curve_marks_the_best_epoch(page: str) -> None:
    assert "epoch 2 of 3, score 0.432" in Reader(page).text
    assert "best epoch 2: 0.4321" in page


def test_settings_are_shown_in_full(run: Run, page: str) -> None:
    import yaml

    shown = Reader(re.search(r"<pre>(.*?)</pre>", page, re.S).group(1)).text
    assert config.parse(yaml.safe_load(shown)) == run.plan.settings


def test_run_of_a_single_model_whose_faces_were_never_looked_at(tmp_path: Path) -> None:
    run = Run(tmp_path, models={"voice": SETTINGS["models"]["voice"]}, publish="voice")
    for name in ("faces", "subject", "landmarks", "mouth", "speech", "mesh"):
        run.entries[name] = {id: Entry("absent", reason="no face") for id in STREAMS}
    page = run.page()
    kinds = {e.get("class") for e in drawing(page, "of v1 over time").iter()}
    assert {"line truth", "line", "mark observed"} <= kinds
    assert not {"band", "away", "mark faceless", "mark open", "mark speech"} & kinds
    assert "Mean gate weights" not in page
    assert "gate, query" not in page
    assert ["v1", "validation", "150", "6.0 s", "–", "–", ""] in cells(section(page, "summary"))


def test_a_run_that_looks_at_no_face_shows_what_is_there(tmp_path: Path) -> None:
    voice = {**SETTINGS["models"]["voice"], "speech_only": False}
    run = Run(tmp_path, models={"voice": voice}, publish="voice", streams={"t": "train", "v": "validation"})
    assert run.plan.names == ["frames", "labels", "audio", "wavlm", "voice"]
    page = run.page()
    rows = cells(section(page, "summary"))
    assert ["t", "train", "150", "6.0 s"] in rows
    assert ["v", "validation", "150", "6.0 s"] in rows
    for absent in ("without a face", "Frames without", "mouth open", "subject not seen", "retained speech window"):
        assert absent not in page
    assert "source of the frame" in page
    stages = {text for text in Reader(page).text.split("\n")}
    assert not stages & {"faces", "subject", "landmarks", "mouth", "speech", "mesh"}


def test_curve_of_one_epoch_is_a_dot(tmp_path: Path) -> None:
    run = Run(tmp_path)
    path = Path(run.plan.fitted("fused"))
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"curves": record["curves"][:1], "best": record["curves"][0]}))
    curves = drawing(run.page(), "learning curves of fused")
    assert len(list(curves.iter("circle"))) == 2
    assert not any("nan" in value for e in curves.iter() for value in e.attrib.values())


def test_missing_fit_record_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    Path(run.plan.fitted("face")).unlink()
    with pytest.raises(StoreError, match=r"fit\.json: want the record of a fitted model, got No such file"):
        run.page()


REFERENCE = {
    "source": "A <paper>, Table 1",
    "rows": {"face": {"label": "1 <face>", "valence": 0.5869, "arousal": 0.6508, "mean": 0.6189, "test": 0.54}, "fused": {"label": "5"}},
}
DOUBT = "do not compare with the published ones"


def compared(run: Run) -> str:
    return report.render(run.plan, run.entries, run.scores, None, report.compare(run.plan, run.entries, run.scores))


def test_the_published_table_stands_beside_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, reference=REFERENCE, random={"fused": ("wavlm-tiny",)})
    html = section(compared(run), "reference")
    score = run.scores["face"]["va"]
    own = [f"{x:.4f}" for x in (*(score[k] for k in ("ccc_valence", "ccc_arousal", "ccc")), score["within_video"]["ccc"])]
    rows = [row for row in cells(html) if row]
    assert rows[0] == ["1 <face>face", "0.5869", "0.6508", "0.6189", "0.5400", *own, "2 of 2", "82.1 %", "real", "none random"]
    assert rows[1] == ["5fused", "–", "–", "–", "–", *own, "2 of 2", "82.1 %", "real", "random: wavlm-tiny"]
    text = Reader(html).text
    assert "Published: A <paper>, Table 1." in text
    assert "random weights stand in for trained checkpoints in 1 of 2 rows" in text
    assert "not cross-fitted: fusions learned from streams that their members were fitted on" in text


@pytest.mark.parametrize(
    ("demo", "data", "words"),
    [
        ((), "real", None),
        (("a one", "v1", "v2"), "demo", "the data are a rendered demo"),
        (("v1", "p1"), "mixed", "a part of the data is a rendered demo"),
        (("t+1", "p1"), "real", None),  # neither fitted nor scored on
    ],
)
def test_the_table_says_what_the_figures_rest_on(tmp_path: Path, demo: tuple[str, ...], data: str, words: str | None) -> None:
    html = section(compared(Run(tmp_path, reference=REFERENCE, demo=demo, cross_fit=2)), "reference")
    assert {row[11] for row in cells(html) if row} == {data}
    assert (DOUBT in html) == (words is not None)
    assert words is None or words in html
    assert "in 2 folds: fusions learned from streams that their members were not fitted on" in html


@pytest.mark.parametrize("where", ["fit", "streams"])
def test_random_weights_are_told_from_the_fit_and_from_the_streams(tmp_path: Path, where: str) -> None:
    run = Run(tmp_path, reference=REFERENCE, random=("wavlm-tiny",) if where == "streams" else ())
    path = Path(run.plan.fitted("face"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"random": ["grada-tiny"] if where == "fit" else []}))
    rows = [row for row in cells(section(compared(run), "reference")) if row]
    assert rows[0][12] == ("random: grada-tiny" if where == "fit" else "random: wavlm-tiny")
    assert "say nothing about the published system" in run.page()


def test_a_model_without_scores_has_an_empty_half_of_a_row(tmp_path: Path) -> None:
    run = Run(tmp_path, reference=REFERENCE)
    del run.scores["face"]
    assert next(row for row in cells(section(compared(run), "reference")) if row)[5:9] == ["–"] * 4


def test_late_fusion_shows_weights_by_channel_and_both_figures(run: Run) -> None:
    names = ("face", "fused", "voice")
    weights = np.array([[0.25, 0.75, 0], [1, 0, 0]])
    halves = (Half(("v1",), weights, "face"), Half(("v2",), weights[::-1], "fused"))
    figures = [{"ccc_valence": x, "ccc_arousal": x, "ccc": x} for x in (0.4, 0.3, 0.6, 0.5)]
    late = Study(VA, names, weights, "fused", ("v1", "v2"), halves, *figures)
    html = section(report.render(run.plan, run.entries, run.scores, {"va": late}), "late")
    rows = [row for row in cells(html) if row]
    assert rows[:4] == [
        ["late fusion", "the other half", "0.400", "0.400", "0.400"],
        ["best single system (face, fused)", "the other half", "0.300", "0.300", "0.300"],
        ["late fusion, optimistic", "the same videos", "0.600", "0.600", "0.600"],
        ["best single system, optimistic (fused)", "the same videos", "0.500", "0.500", "0.500"],
    ]
    assert re.findall(r'<th class="span" colspan="2">(.*?)</th>', html) == [
        "half 1: 1 video",
        "half 2: 1 video",
        "other videos",
    ]
    assert rows[4:] == [  # valence and arousal of each
        ["face", "0.250", "1.000", "1.000", "0.250", "0.250", "1.000"],
        ["fused", "0.750", "0", "0", "0.750", "0.750", "0"],
        ["voice", *["0"] * 6],
    ]


def test_gate_of_any_fusion_is_drawn(tmp_path: Path) -> None:
    heads = {
        "face": SETTINGS["models"]["face"],
        "look": SETTINGS["models"]["face"] | {"dropout": 0.3},
        "voice": SETTINGS["models"]["voice"],
    }
    raav = {"kind": "raav", "reads": ["face", "look"], "audio": "voice", "hidden": 8, "heads": 2}
    page = Run(tmp_path, models=heads | {"fused": raav}).page()
    stream = drawing(page, "of v1 over time")
    assert [e.find("title").text for e in stream.iter("path") if e.get("class") == "band"] == [
        "face: mean weight 0.250",
        "look: mean weight 0.750",
    ]
    text = Reader(page).text
    assert "gate, bottom up:" in text
    assert "Mean gate weights: face 0.25, look 0.75." in text


@pytest.mark.parametrize("model", ["none", "silero"])
def test_graph_has_the_stages_of_the_plan(tmp_path: Path, model: str) -> None:
    page = Run(tmp_path, vad={"model": model}).page()
    texts = [t.text for t in drawing(page, "what reads what").iter("text")]
    assert ("vad" in texts) == (model == "silero")


def test_graph_shows_which_models_learn_from_labels(page: str) -> None:
    graph = drawing(page, "what reads what")
    edges = [e.get("d") for e in graph.iter("path") if e.get("class") == "edge taught"]
    place = {t.text: (float(t.get("x")), float(t.get("y"))) for t in graph.iter("text") if t.get("class") == "name"}
    assert len(edges) == 2  # face and voice; that fused does too is implied by both
    half = rulegraph.WIDTH / 2
    starts, ends = ({float(re.findall(r"[\d.]+", d)[i]) for d in edges} for i in (0, -2))
    assert starts == {place["labels"][0] + half}
    assert ends == {place[name][0] - half for name in ("face", "voice")}
