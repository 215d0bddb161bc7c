"""What a run publishes beside its models: late fusion whose figures are out of part, and the table beside a published one."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from small_run import KNOWN, SETTINGS, Run, T
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.errors import SettingsError
from affpipe.core.tasks import metrics
from affpipe.core.tasks.table import VA
from affpipe.data import annotations
from affpipe.plan import config
from affpipe.results import late_fusion, publish

STREAMS = {"t1": "train", "v1": "validation", "v2_left": "validation", "v2_right": "validation", "v3": "validation", "x1": "test"}
LATE = {"late_fusion": {"draws": 50}}
REFERENCE = {
    "reference": {
        "source": "A paper, Table 1",
        "rows": {
            "voice": {"label": "4 voice", "valence": 0.3415, "arousal": 0.4636, "mean": 0.4025},
            "fused": {"label": "5", "test": 0.58},
        },
    }
}
CCC = ("ccc_valence", "ccc_arousal", "ccc")


def published(folder: Path, **more) -> tuple[Run, Path, dict]:
    run = Run(folder, streams=STREAMS, **more)
    run.index()
    summary = publish.publish(run.plan, run.entries)
    out = folder / "results/small"
    return run, out, summary | {"files": {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}}


@pytest.fixture(scope="module")
def late(tmp_path_factory) -> tuple[Run, Path, dict]:
    return published(tmp_path_factory.mktemp("late"), **LATE)


def test_late_fusion_is_predicted_by_weights_of_the_other_half(late) -> None:
    run, out, summary = late
    found = json.loads((out / "late_fusion/va/weights.json").read_text())
    first, second = (set(half["videos"]) for half in found["validation"])
    assert not first & second
    assert first | second == {"v1", "v2", "v3"}
    videos = {}
    for id, partition in STREAMS.items():
        half = [h["weights_of_the_other_half"] for h in found["validation"] if id.split("_")[0] in h["videos"]]
        weights = half[0] if partition == "validation" else found["outside_validation"]["weights"]
        want = np.zeros((T, 2))
        for i, channel in enumerate(("valence", "arousal")):
            assert sum(weights[channel].values()) == pytest.approx(1)
            for model, weight in weights[channel].items():
                want[:, i] += weight * np.clip(run.prediction(model, id)[:, i].astype(np.float64), -1, 1)
        values, valid = annotations.read_labels(VA, out / f"late_fusion/va/predictions/{id}.txt")
        np.testing.assert_allclose(values, want, atol=1e-6)
        assert valid.all()
        if partition == "validation":
            truth, known = annotations.read_labels(VA, run.plan.rows[list(STREAMS).index(id)].labels["va"])
            videos[id] = (truth, want, known)
            np.testing.assert_array_equal(known, KNOWN)
    scores = json.loads((out / "scores.json").read_text())
    assert {k: scores["late_fusion"]["va"][k] for k in CCC} == pytest.approx(metrics.pooled(VA, videos), abs=1e-9)
    rows = list(csv.DictReader((out / "late_fusion/va/report.csv").read_text().splitlines()))
    assert [(r["system"], r["fitted_on"]) for r in rows] == [
        ("late fusion", "other half"),
        ("best single system", "other half"),
        ("late fusion", "same videos: optimistic"),
        ("best single system", "same videos: optimistic"),
    ]
    for key in CCC:
        assert float(rows[0][key]) == pytest.approx(scores["late_fusion"]["va"][key], abs=1e-12)
        assert float(rows[3][key]) == pytest.approx(scores["fused"]["va"][key], abs=1e-12)  # the best system by far
    assert float(rows[2]["ccc"]) >= float(rows[0]["ccc"]) - 1e-9
    assert set(summary["scores"]) == {"face", "voice", "fused", "late_fusion"}


def test_names_of_one_content_are_in_one_half(tmp_path: Path) -> None:
    names = ["v1", "v22", "v333", "v4444"]  # longer ids have other truth
    first, second = late_fusion.halves(names)
    original, copy = sorted([first[0], second[0]])  # by their names they would be apart
    streams = {"t1": "train", **dict.fromkeys(names, "validation"), "x1": "test", "x2": "test"}
    run = Run(tmp_path, streams=streams, copies={copy: original, "x1": original}, **LATE)
    run.index()
    publish.publish(run.plan, run.entries)
    out = tmp_path / "results/small/late_fusion/va"
    found = json.loads((out / "weights.json").read_text())
    assert sorted(video for half in found["validation"] for video in half["videos"]) == sorted({*names} - {copy})
    of = {video: half["weights_of_the_other_half"] for half in found["validation"] for video in half["videos"]}
    assert len({json.dumps(weights) for weights in of.values()}) == 2
    for id in (original, copy, "x1", "x2"):
        weights = found["outside_validation"]["weights"] if id == "x2" else of[original]
        want = np.zeros((T, 2))
        for i, channel in enumerate(("valence", "arousal")):
            for model, weight in weights[channel].items():
                want[:, i] += weight * np.clip(run.prediction(model, id)[:, i].astype(np.float64), -1, 1)
        np.testing.assert_allclose(annotations.read_labels(VA, out / f"predictions/{id}.txt")[0], want, atol=1e-6)


def test_names_of_one_content_are_drawn_as_one_video(tmp_path: Path) -> None:
    streams = {"t1": "train", "v1": "validation", "longer": "validation"}  # longer ids have other truth
    for name, copies in {"two": {}, "one": {"longer": "v1"}}.items():
        (tmp_path / name).mkdir()
        run = Run(tmp_path / name, streams=streams, copies=copies, **LATE)
        run.index()
        found = publish.publish(run.plan, run.entries)["scores"]
        intervals = [found["face"]["va"]["intervals"]["ccc"], found["face"]["va"]["less_published"]["low"]]
        assert [limits is None for limits in intervals] == [name == "one"] * 2
        assert ("late_fusion" in found) == (name == "two")


def test_the_order_of_members_changes_nothing(late, tmp_path: Path) -> None:
    _, out, _ = late
    _, other, _ = published(tmp_path, late_fusion={"draws": 50, "members": ["voice", "fused", "face"]})
    for name in ("weights.json", "report.csv"):
        assert (other / "late_fusion/va" / name).read_text() == (out / "late_fusion/va" / name).read_text()


def test_members_that_lack_a_stream_leave_their_weight_to_the_others(tmp_path: Path) -> None:
    run = Run(tmp_path, streams={**STREAMS, "p1": "predict"}, late_fusion={"members": ["face", "voice"]})
    run.index()  # p1 has no sound, hence no voice
    publish.publish(run.plan, run.entries)
    values, _ = annotations.read_labels(VA, tmp_path / "results/small/late_fusion/va/predictions/p1.txt")
    np.testing.assert_allclose(values, np.clip(run.prediction("face", "p1"), -1, 1), atol=1e-6)


def test_one_validation_video_gives_weights_and_no_figure(tmp_path: Path) -> None:
    run = Run(tmp_path, streams={"t1": "train", "v1": "validation", "x1": "test"}, **LATE)
    run.index()
    summary = publish.publish(run.plan, run.entries)
    out = tmp_path / "results/small"
    assert "late_fusion" not in summary["scores"]
    assert {p.name for p in (out / "late_fusion/va/predictions").iterdir()} == {"t1.txt", "x1.txt"}
    assert "other half" not in (out / "late_fusion/va/report.csv").read_text()
    assert "a half would be empty" in (out / "report.html").read_text()


def test_without_the_settings_nothing_is_written_and_what_was_goes(tmp_path: Path) -> None:
    _, out, with_both = published(tmp_path, **LATE, **REFERENCE)
    assert {"table.csv", "late_fusion/va/weights.json", "late_fusion/va/predictions/v2_left.txt"} <= with_both["files"]
    _, _, without = published(tmp_path)
    assert {name for name in with_both["files"] - without["files"]} == {
        *("table.csv", "late_fusion/va/weights.json", "late_fusion/va/report.csv"),
        *(f"late_fusion/va/predictions/{id}.txt" for id in STREAMS),
    }
    assert publish.read_table(out) == []
    page = (out / "report.html").read_text()
    assert 'id="late"' not in page
    assert 'id="reference"' not in page


def test_the_table_has_published_and_own_figures_and_what_they_rest_on(tmp_path: Path) -> None:
    _, out, summary = published(tmp_path, **REFERENCE, demo=("t1", "v1", "v2", "v3"), random={"voice": ("wavlm-tiny",)})
    voice, fused = csv.DictReader((out / "table.csv").read_text().splitlines())
    score = summary["scores"]["voice"]["va"]
    assert voice == {
        **{"model": "voice", "label": "4 voice", "data": "demo", "weights": "random: wavlm-tiny", "fusion_inputs": ""},
        **{"published_valence": "0.3415", "published_arousal": "0.4636", "published_mean": "0.4025", "published_test": ""},
        **{name: f"{score[key]:.4f}" for name, key in zip(("valence", "arousal", "mean"), CCC, strict=True)},
        "within_video": f"{score['within_video']['ccc']:.4f}",
        **{"streams": "4", "streams_labelled": "4", "frames_labelled": "560", "asked": repr(460 / 560), "nearest": repr(100 / 560)},
        **{"without_lead": "0.0", "none": "0.0", "epoch_chosen_on": "reported streams", "seed": "42"},
    }
    assert (fused["published_test"], fused["published_mean"]) == ("0.5800", "")
    assert (fused["weights"], fused["fusion_inputs"]) == ("none random", "not cross-fitted")
    short = publish.read_table(out)
    assert [len(row) for row in short] == [len(publish.TABLE_HEAD)] * 2
    assert (*short[0][:5], *short[0][-2:]) == ("4 voice", "0.3415", "0.4636", "0.4025", "-", "demo", "random")
    assert short[0][5:10] == (voice["valence"], voice["arousal"], voice["mean"], voice["within_video"], "82.1 %")


def test_evaluate_prints_the_table(tmp_path: Path) -> None:
    _, out, _ = published(tmp_path, **REFERENCE)
    result = CliRunner().invoke(main.app, ["evaluate", "--run", str(out)], catch_exceptions=False)
    text = result.output
    assert "besidethepublishedtable" in "".join(text.split())  # a long path wraps the title
    assert "0.3415" in text


def test_a_model_cannot_have_the_name_of_late_fusion() -> None:
    models = SETTINGS["models"] | {"late_fusion": SETTINGS["models"]["face"]}
    config.parse(SETTINGS | {"models": models})
    with pytest.raises(SettingsError, match="the name is that of late fusion in the scores; choose another"):
        config.parse(SETTINGS | {"models": models} | LATE)
