"""What a figure rests on: every frame that was not asked is found whatever filled it, and all is said where the figure stands."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from learnable import FPS, FRAMES, MODELS, make_plan
from pages import Reader, cells, section
from small_run import EVIL, KNOWN, SETTINGS, TIMES, Run, T
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.axis import NEAREST, NONE, OBSERVED, FrameAxis
from affpipe.data.manifest import Row
from affpipe.jobs import failures
from affpipe.models import workers
from affpipe.models.predictor import Output
from affpipe.plan import config
from affpipe.plan.plan import Plan
from affpipe.results import basis, caveats, late_fusion, ledger, publish
from affpipe.results.frames import frames_of
from affpipe.results.report import reference, score_tables
from affpipe.store.index import Entry

# ---- how the prediction of a frame was had ----------------------------------------------------------------------------------------------

AWAY = (*range(60, 80), *range(160, 170))  # frames of c without a mesh; its windows of sound that are kept end at frame 150
HEADS = {
    "face": MODELS["face"],
    "bare": MODELS["face"] | {"fill": "none"},
    "voice": MODELS["voice"],
}
FUSIONS = {
    "of_face": MODELS["fused"] | {"reads": ["face", "voice"]},
    "of_voice": MODELS["fused"] | {"reads": ["voice", "bare"]},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Plan:
    """A store of models whose outputs are all zero: their streams are written by the stage itself, from rows with holes."""
    plan = make_plan(tmp_path_factory.mktemp("made"), models=HEADS | FUSIONS, publish="face")
    (item,) = [i for i in plan.items("mesh") if i.id == "c"]
    job, times = plan.job("mesh", item), np.arange(FRAMES) / float(FPS)
    axis, seen = FrameAxis(times, FPS), ~np.isin(np.arange(FRAMES), AWAY)
    job.write(job.header(FPS), values=np.zeros((FRAMES, 6), np.float32), start_s=times, end_s=axis.ends_s, valid=seen)
    network = SimpleNamespace(dims={"any": 6}, experts=[])
    record = {"fold": None, "thresholds": None, "random": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "fitted", lambda *_, **__: (network, record))
        patch.setattr(workers, "run", lambda _, s, __: Output(*(np.zeros((*s.start_s.shape, n), np.float32) for n in (2, 16)), None))
        for name in plan.settings.models:
            (item,) = [i for i in plan.items(name) if i.id == "c"]
            workers.stage(plan.context(name))(plan.job(name, item))
    return plan


@pytest.mark.parametrize(
    ("model", "nearest", "without_lead"),
    [
        ("face", AWAY, ()),  # filled where its rows were read
        ("bare", AWAY, ()),  # masked there, and filled where its rows were brought to frames
        ("voice", range(150, 200), ()),  # no window that is kept covers them
        ("of_face", AWAY, ()),  # filled below it
        ("of_voice", range(160, 170), (*range(150, 160), *range(170, 200))),  # nothing at all, and the face alone
    ],
)
def test_a_frame_that_any_step_filled_is_not_asked(made, model, nearest, without_lead):
    (item,) = [i for i in made.items(model) if i.id == "c"]
    _, found = frames_of(made, model, item)
    want = np.full(FRAMES, OBSERVED)
    want[list(nearest)], want[list(without_lead)] = NEAREST, NONE
    np.testing.assert_array_equal(found.source, want)
    assert found.valid.all()
    known = np.arange(FRAMES) % 2 == 0  # every other frame, and of each stretch above half of its frames
    filled, alone = len(nearest) // 2, len(without_lead) // 2
    assert basis.count(known, found.source) == Counter(asked=100 - filled - alone, nearest=filled, without_lead=alone)


def test_late_fusion_is_as_good_as_the_worst_that_it_weighs():
    weights = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    given = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 1, 0]], bool)
    codes = np.array([[2, 1, 2, 0, 0, 0], [1, 2, 0, 2, 0, 0], [0, 0, 1, 1, 1, 0]], np.uint8)
    # two have a weight; two; the first; the second, for arousal with the third, as neither has one; the third, though it has none; nobody
    assert late_fusion.worst(weights, codes, given).tolist() == [1, 1, 2, 1, 1, 0]


# ---- where things were chosen -----------------------------------------------------------------------------------------------------------

STREAMS = {f"t{i}": "train" for i in range(4)} | {"v1": "validation", "v2": "validation"}


def planned(folder: Path, own: dict[str, dict[str, str]] | None = None, **more) -> Plan:
    """The plan of `small_run` alone: nothing is in its store."""
    settings, rows = config.parse(SETTINGS | {"cache": str(folder / "cache")} | more), []
    for id, partition in STREAMS.items():
        files = {task: folder / f"{id}.{task}.txt" for task in settings.tasks}
        for path in (folder / f"{id}.mp4", *files.values()):
            path.write_text(id)
        rows.append(Row(id, folder / f"{id}.mp4", "largest", partition, files, (own or {}).get(id, {})))
    return Plan(settings, rows)


@pytest.mark.parametrize(
    ("more", "own", "fusion"),
    [
        ({}, "reported streams", "reported streams"),
        ({"cross_fit": 2}, "reported streams", "reported streams"),
        ({"cross_validation": {"folds": 2, "use": "whole"}}, "reported streams", "reported streams"),
        ({"cross_validation": {"folds": 2}}, "held-out folds", "held-out folds and reported streams"),
        ({"cross_validation": {"folds": 2, "use": "per_target"}}, "held-out folds", "held-out folds and reported streams"),
    ],
)
def test_epochs_thresholds_and_folds_are_said_to_be_chosen_where_they_were(tmp_path, more, own, fusion):
    plan = planned(tmp_path, tasks=["va", "au"], late_fusion={}, **more)
    of = {system: basis.of(plan, system, "va", {"v1": 1}, {}, []) for system in ("face", "fused", "late_fusion")}
    assert [of[system]["epoch_chosen_on"] for system in of] == [own, fusion, fusion]
    assert [of[system].get("weights_chosen_on") for system in of] == [None, None, "other half"]
    assert "thresholds_chosen_on" not in of["face"]
    of_units = basis.of(plan, "fused", "au", {"v1": 1}, {}, [])
    assert of_units["thresholds_chosen_on"] == own  # a fusion's own fits alone
    per_target = "per_target" in str(more)
    assert {found.get("fold_chosen_on") for found in (*of.values(), of_units)} == {"reported streams" if per_target else None}


@pytest.mark.parametrize(
    ("cross", "want"), [({"cross_fit": 2}, "reported streams"), ({"cross_validation": {"folds": 2}}, "held-out folds")]
)
def test_a_stream_that_trains_another_task_is_predicted_by_the_fit_without_its_fold(tmp_path, cross, want):
    plan = planned(tmp_path, {"t1": {"au": "validation"}}, tasks=["va", "au"], **cross)
    assert basis.of(plan, "fused", "au", {"t1": 1}, {}, [])["epoch_chosen_on"] == want


def test_units_that_are_present_from_one_half_on_have_no_threshold_chosen(tmp_path):
    models = {"face": {"kind": "transformer", "reads": "mesh", "hidden": 8, "heads": 2, "decode": {"au_thresholds": "half"}}}
    plan = planned(tmp_path, tasks=["au"], models=models, publish="face")
    assert "thresholds_chosen_on" not in basis.of(plan, "face", "au", {"v1": 1}, {}, [])


# ---- a run ------------------------------------------------------------------------------------------------------------------------------

LABELS = "v3.va.txt: line 5: want a number, got x"
REFERENCE = {"source": "A paper", "rows": {"voice": {"label": "4"}, "fused": {"label": "5", "mean": 0.6}}}
WHOLE = {"t1": "train", "v1": "validation", "v2_left": "validation", "v2_right": "validation", "v3": "validation", "p1": "validation"}
LAST = TIMES >= 4  # frames that no window of sound covers: 50 of 150


class Windowed(Run):
    """A run whose voice has no window for the last two seconds; p1 has no sound, and of v3 the labels cannot be read."""

    @staticmethod
    def sources(model: str) -> np.ndarray:
        return np.where(LAST, NEAREST, OBSERVED).astype(np.uint8) if model == "voice" else Run.sources(model)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Windowed, Path]:
    run = Windowed(tmp_path_factory.mktemp("whole"), streams=WHOLE, late_fusion={"draws": 50}, reference=REFERENCE)
    run.entries["labels"]["v3"] = Entry("failed", reason=f"{LABELS}; mend the line")
    run.index()
    publish.publish(run.plan, run.entries)
    return run, Path(run.plan.settings.results) / "small"


def of_run(out: Path) -> dict[str, dict]:
    return {system: own["va"]["basis"] for system, own in json.loads((out / "scores.json").read_text()).items()}


def test_coverage_is_counted_over_all_labelled_streams(whole):
    """140 of 150 frames of a stream are labelled, none of frames 50 to 59; four streams have labels that can be read."""
    _, out = whole
    found = of_run(out)
    assert list(found) == ["face", "fused", "late_fusion", "voice"]
    for system in ("face", "fused"):
        own = found[system]
        assert (own["streams"], own["streams_labelled"], own["frames_labelled"]) == (4, 5, 560)
        assert [own[kind] for kind in caveats.FRAMES] == pytest.approx([4 * 115 / 560, 4 * 25 / 560, 0, 0])
        assert own["dropped"] == {"v3": LABELS}
    voice = found["voice"]
    assert (voice["streams"], voice["streams_labelled"], voice["frames_labelled"]) == (3, 5, 560)
    assert [voice[kind] for kind in caveats.FRAMES] == pytest.approx([3 * 90 / 560, 3 * 50 / 560, 0, 140 / 560])
    assert voice["dropped"] == {"p1": EVIL, "v3": LABELS}
    assert {own["seed"] for own in found.values()} == {42}


def test_frames_of_late_fusion_are_counted_by_the_weights_of_the_other_half(whole):
    run, out = whole
    asked = 0
    for half in json.loads((out / "late_fusion/va/weights.json").read_text())["validation"]:
        for stream in ("v1", "v2_left", "v2_right", "p1"):
            if stream.split("_")[0] in half["videos"]:
                weighed = {name for own in half["weights_of_the_other_half"].values() for name, weight in own.items() if weight}
                there = [run.sources(name) == OBSERVED for name in weighed if (stream, name) != ("p1", "voice")]
                asked += (np.all(there, axis=0) & KNOWN).sum()
    late = of_run(out)["late_fusion"]
    assert late["asked"] == pytest.approx(asked / 560)
    assert late["nearest"] == pytest.approx(1 - asked / 560)
    assert (late["streams"], late["dropped"]) == (4, {"v3": LABELS})


def test_both_tables_of_a_run_have_what_each_row_rests_on(whole):
    _, out = whole
    found = of_run(out)
    want = {
        s: {"streams": str(b["streams"]), "streams_labelled": "5", "asked": repr(b["asked"]), "none": repr(b["none"])}
        for s, b in found.items()
    }
    for row in csv.DictReader(io.StringIO((out / "table.csv").read_text())):
        assert row | want[row["model"]] == row
        assert (row["epoch_chosen_on"], row["seed"]) == ("reported streams", "42")
    rows = list(csv.DictReader(io.StringIO((out / "scores.csv").read_text())))
    assert {row["system"] for row in rows} == set(found)
    for row in rows:
        if row["figure"].startswith("constant"):
            assert {row[name] for name in caveats.COLUMNS} == {""}
        else:
            assert row | want[row["system"]] == row


SAID = [
    "Chosen on these very streams, so that figures are optimistic: the epoch of each fit.",
    "The weights of late_fusion were fitted on the other half of these streams.",
    "Scores are not all on the same streams: of 5 labelled, 3 are common to all systems, and only on these could all be compared.",
    f"voice: no score on 2 of 5 labelled streams: p1 ({EVIL}); v3 ({LABELS}).",
    "Every fit used one seed, 42: another would move each figure, perhaps by more than systems differ.",
]


def test_the_page_says_it_beside_the_scores_and_beside_the_published_table(whole):
    _, out = whole
    page = (out / "report.html").read_text()
    beside = {row[0].split()[0]: row[-3:] for row in cells(section(page, "scores")) if len(row) == 12}
    assert beside["voice"] == ["3 of 5", "420", "48.2 %"]
    assert beside["fused"] == ["4 of 5", "560", "82.1 %"]
    assert beside["constant"] == ["–"] * 3
    text = Reader(section(page, "scores")).text
    for sentence in SAID:
        assert text.count(sentence) == 1
    assert "voice (26.8 % filled from the nearest, 25.0 % without a prediction)" in text
    assert f"face, fused, late_fusion: no score on 1 of 5 labelled streams: v3 ({LABELS})." in text
    rows = [row for row in cells(section(page, "reference")) if row]
    assert [row[9:11] for row in rows] == [["3 of 5", "48.2 %"], ["4 of 5", "82.1 %"]]
    text = Reader(section(page, "reference")).text
    for sentence in (SAID[0], SAID[2], SAID[4]):
        assert text.count(sentence) == 1
    assert "members' own fits were chosen on the reported streams" in Reader(section(page, "late")).text


def test_evaluate_says_it_below_the_table(whole):
    _, out = whole
    text = CliRunner().invoke(main.app, ["evaluate", "--run", str(out)], catch_exceptions=False).output
    lines = text.splitlines()
    assert [line for line in lines if line in SAID] == SAID
    assert "Baselines are on the streams of face." in lines
    asked = {row[1]: row[-2] for row in ([cell.strip() for cell in line.split("│")] for line in lines) if len(row) == 11}
    want = {"face": "82.1 %", "fused": "82.1 %", "late_fusion": "82.1 %", "voice": "48.2 %", "constant per video": "-"}
    assert asked == want


def test_the_run_ends_with_the_figure_and_what_it_rests_on(whole, capsys):
    run, out = whole
    Path(run.plan.published()).parent.mkdir(exist_ok=True)
    Path(run.plan.published()).write_text("{}")
    failures.finished(run.plan)
    figure = json.loads((out / "scores.json").read_text())["fused"]["va"]["ccc"]
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"affpipe: fused, valence and arousal: ccc {figure:.3f} on 4 of 5 labelled validation streams, 82.1 % of their labelled frames "
        "asked; epochs chosen on reported streams; one seed, 42"
    )


def test_differences_from_the_published_model_say_on_how_many_streams(whole):
    _, out = whole
    found = json.loads((out / "scores.json").read_text())
    assert found["voice"]["va"]["less_published"]["streams"] == 3
    assert found["face"]["va"]["less_published"]["streams"] == 4


@pytest.fixture(scope="module")
def mute(tmp_path_factory) -> tuple[Run, Path]:
    """A run whose voice has no validation stream: it is in no table of scores, and has to be spoken of all the same."""
    run = Run(tmp_path_factory.mktemp("mute"), streams={"t1": "train"} | {f"v{i}": "validation" for i in range(5)}, reference=REFERENCE)
    for id in ("v0", "v1", "v2", "v3", "v4"):
        run.entries["voice"][id] = Entry("absent", reason=f"{id}: want something to predict from, got no usable row of wavlm")
    run.index()
    publish.publish(run.plan, run.entries)
    return run, Path(run.plan.settings.results) / "small"


def test_a_system_without_any_figure_is_spoken_of(mute):
    run, out = mute
    found = json.loads((out / "scores.json").read_text())["voice"]["va"]
    assert set(found) == {"basis"}
    assert (found["basis"]["streams"], found["basis"]["asked"], found["basis"]["none"]) == (0, 0, 1)
    why = "v0, v1, v2 and 2 more (want something to predict from, got no usable row of wavlm)"
    want = f"voice: no figure, as no labelled frame of 5 streams is predicted: {why}."
    assert want in Reader(section((out / "report.html").read_text(), "scores")).text
    text = CliRunner().invoke(main.app, ["evaluate", "--run", str(out)], catch_exceptions=False).output
    assert want in text.splitlines()
    assert "All scores are on the same streams, 5 of 5 labelled." in text  # those that are scored
    (row, _) = csv.DictReader(io.StringIO((out / "table.csv").read_text()))
    assert (row["mean"], row["streams"], row["asked"], row["none"]) == ("", "0", "0.0", "1.0")
    assert {row["system"] for row in csv.DictReader(io.StringIO((out / "scores.csv").read_text()))} == {"face", "fused"}
    assert [part.rows[0].cells[0] for part in score_tables.parts(run.plan, run.entries, json.loads((out / "scores.json").read_text()))] == [
        "face"
    ]
    assert reference.compare(run.plan, run.entries, {}).rows[0].own is None


def test_what_an_older_version_published_is_said_to_be_unknown(mute, tmp_path):
    _, out = mute
    found = json.loads((out / "scores.json").read_text())
    (tmp_path / "run.json").write_text((out / "run.json").read_text())
    (tmp_path / "scores.json").write_text(json.dumps({"fused": {"va": {k: v for k, v in found["fused"]["va"].items() if k != "basis"}}}))
    text = CliRunner().invoke(main.app, ["evaluate", "--run", str(tmp_path)], catch_exceptions=False).output
    assert caveats.UNKNOWN in text.splitlines()


# ---- words ------------------------------------------------------------------------------------------------------------------------------


def stands(**more) -> dict:
    plain = {"streams": 9, "streams_labelled": 9, "frames_labelled": 100, "asked": 1.0, "nearest": 0.0, "without_lead": 0.0, "none": 0.0}
    return {"frames": 100, "basis": plain | {"dropped": {}, "epoch_chosen_on": "reported streams", "seed": 7} | more}


def test_nothing_is_said_of_what_is_as_it_should_be():
    same = "All scores are on the same streams, 9 of 9 labelled."
    assert caveats.sentences({"a": stands(), "b": stands()}) == [SAID[0], same, SAID[4].replace("42", "7")]


def test_choices_name_the_systems_that_they_differ_in():
    folds, both = "held-out folds", "held-out folds and reported streams"
    of = {"a": stands(epoch_chosen_on=folds), "b": stands(epoch_chosen_on=both, thresholds_chosen_on=folds)}
    assert caveats.sentences(of)[:2] == [
        "Chosen on these very streams, so that figures are optimistic: the epoch of each fit (b in part).",
        "Chosen on held-out folds of the training streams: the epoch of each fit (a, b in part), the thresholds of units (b).",
    ]
    of = {"a": stands(epoch_chosen_on=folds, fold_chosen_on="reported streams")}
    assert "optimistic: which fold's fit predicts a target." in caveats.sentences(of)[0]


def test_many_streams_are_named_by_the_first_three_and_a_count():
    many = {f"v{i}": f"v{i}: no row" for i in range(594)}
    (said,) = [s for s in caveats.sentences({"a": stands(dropped=many, streams_labelled=600)}) if "no score" in s]
    assert said == "a: no score on 594 of 600 labelled streams: v0, v1, v10 and 591 more (no row)."
    apart = many | {"v1": "x" * 500}
    (said,) = [s for s in caveats.sentences({"a": stands(dropped=apart, streams_labelled=600)}) if "no score" in s]
    assert said == f"a: no score on 594 of 600 labelled streams: v0, v10 (no row); v1 ({'x' * 159}…) and 591 more."


def test_streams_are_common_where_no_system_lacks_them():
    of = {"a": stands(dropped={"v1": "x", "v2": "x"}), "b": stands(dropped={"v2": "x", "v3": "x"}), "c": stands()}
    said = caveats.sentences(of)
    words = "of 9 labelled, 6 are common to all systems, and only on these could all be compared"
    assert f"Scores are not all on the same streams: {words}." in said


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0 %"), (1.0, "100 %"), (0.9999, "> 99.9 %"), (0.0004, "< 0.1 %"), (0.7104, "71.0 %")],
)
def test_a_share_is_whole_or_nothing_only_where_it_is(value, text):
    assert caveats.share(value) == text


def test_the_reason_is_the_first_one_of_the_ledger(tmp_path):
    run = Run(tmp_path)
    for name, why in {"face": "no face", "voice": "no voice"}.items():
        run.entries[name]["v1"] = Entry("absent", reason=why)
    run.entries["fused"]["v1"] = Entry("absent", reason="no face; no voice")
    failures = ledger.of_run(run.plan, run.entries)
    dropped = {
        s: basis.of(run.plan, s, "va", {"v1": T, "v2": T}, {"v2": Counter()}, failures)["dropped"] for s in ("voice", "fused", "late")
    }
    assert dropped == {"voice": {"v1": "no voice"}, "fused": {"v1": "no face"}, "late": {"v1": "no face"}}
    assert basis.of(run.plan, "face", "va", {"v2": T}, {}, failures)["dropped"] == {"v2": basis.UNCOVERED}
