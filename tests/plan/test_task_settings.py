"""Tasks of one's own in the settings: what they may be, one line for what they may not, and keys that hang on what changes values."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml

from affpipe.core.errors import SettingsError
from affpipe.core.tasks.task import Decoding
from affpipe.data.manifest import columns
from affpipe.plan import config
from affpipe.plan.plan import Plan

MOOD = {"name": "mood", "classes": ["calm", "tense", "none"]}
SCALE = {"name": "dominance", "dimensions": {"dominance": [1, 9]}}
PAIN = {"name": "pain", "units": ["brows", "lips"]}


def settings(*tasks, **face):
    model = {"kind": "transformer", "reads": "mesh", **face}
    return {"tasks": list(tasks), "features": {"mesh": {"encoder": "mesh"}}, "models": {"face": model}, "publish": "face"}


def test_own_tasks_stand_behind_official_ones_by_name_whatever_their_order():
    found = config.parse(settings(PAIN, MOOD, "au", SCALE, "va"))
    assert list(found.task_table) == ["va", "au", "dominance", "mood", "pain"]
    assert found.task_table == config.parse(settings("va", SCALE, "au", MOOD, PAIN)).task_table
    assert found.task_table["mood"].chance_columns == ("p_mood_calm", "p_mood_tense", "p_mood_none")
    assert found.task_table["au"].chance_columns[0] == "p_AU1"
    assert config.parse(found.model_dump(mode="json")) == found  # as a job reads it again


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (["joy"], "tasks.0: want 'va', 'expr' or 'au', got 'joy'"),
        ([{"name": "mood"}], "tasks.0: want va, expr, au, or a task of your own as a name and one of dimensions, classes, units, got"),
        ([{**MOOD, "color": 1}], "tasks.0.color: unknown key; allowed: name, title, gap_s, classes, tier, invalid"),
        ([{"classes": ["a", "b"]}], "tasks.0.name: missing; give it a value"),
        ([{"name": "mood", "classes": ["calm"]}], "tasks.0.classes: want a list to have at least 2 items"),
        ([{"name": "mood", "classes": [True, False]}], "tasks.0.classes.0: want text, got true; put it between quotes"),
        ([{"name": "mood", "classes": ["1", "2", "3"]}], "classes: want no name that is another class's number, got '1' for 0; rename it"),
        ([{"name": "mood", "classes": ["calm", "Calm"]}], "want each name once, whatever its case, got 'Calm' again"),
        ([{"name": "mood", "classes": ["a,b", "c"]}], "tasks.0.classes.0: want text to match pattern"),
        ([{"name": "d", "dimensions": {"d": [3, 1]}}], r"dimensions.d: want the least value first, got [3, 1]"),
        ([{"name": "d", "dimensions": {"d": [-9, 9]}}], "invalid: want a mark outside of [-9, 9], where no label of d is, got -5"),
        ([{"name": "d", "dimensions": {"d": [1, 9], "D": [1, 9]}}], "dimensions: want each name once, whatever its case, got 'D' again"),
        ([{"name": "d", "dimensions": {"d": [0, 1e-6]}}], "dimensions.d: want numbers from -1000000 to 1000000, 0.01 or more apart"),
        ([{"name": "d", "dimensions": {"d": [0, 1e300]}}], "got [0, 1e+300]; write the labels in another unit"),
        ([{"name": "d", "dimensions": {"d": [1e9, 1e9 + 1]}}], "dimensions.d: want numbers from -1000000 to 1000000"),
        ([{**PAIN, "tier": "R1"}], "tasks.0.tier: unknown key; allowed: name, title, gap_s, units, invalid"),  # a unit's tier has its name
        ([{"name": "d", "tier": "R1", "dimensions": {"a": [0, 1], "b": [0, 1]}}], "tier: want none, as each of several dimensions has"),
        ([{**MOOD, "title": "how one\nfeels"}], "tasks.0.title: want text to match pattern"),
        ([{"name": "d", "dimensions": {"Time": [0, 1]}}], "want other names than the columns of times in label files, got 'Time' in d"),
        ([{"name": "pain", "units": ["start", "end"]}], "want other names than the columns of times in label files, got 'start' in pain"),
        ([{"name": "pain", "units": ["a", "p_pain_a"]}], "want names that a prediction table has once, got 'p_pain_a' twice in pain"),
        ([{"name": "va", "classes": ["a", "b"]}], "want another name than that of an official task, got va; rename it"),
        ([{"name": "subject", "classes": ["a", "b"]}], "want another name than that of a column of the manifest, got subject"),
        ([{"name": "x_partition", "classes": ["a", "b"]}], "want another name than that of a column of the manifest, got x_partition"),
        ([MOOD, {"name": "mood", "units": ["a"]}], "want each task once, got ['mood', 'mood']"),
        (["au", {"name": "pain", "units": ["au1"]}], "want names that a prediction table has once, got 'au1' in au and pain; rename one"),
        (
            [{"name": "pain", "units": ["source"]}],
            "want names that a prediction table has once, got 'source' in pain, where each table has it",
        ),
    ],
)
def test_a_task_that_cannot_be_is_one_line(tasks, said):
    with pytest.raises(SettingsError) as caught:
        config.parse(settings(*tasks))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("at least" in str(caught.value)) == ("at least" in said)  # what is refused of a list is not said to be missing in it


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tasks: va", "tasks: want a list, got 'va'; mend it"),
        ("tasks: [{name: a, classes: [x]}]", "tasks.0.classes: want a list to have at least 2 items, got ['x']; mend it"),
        ("tasks: [{name: a, classes: [x, no]}]", "tasks.0.classes.1: want text, got false; put it between quotes"),
        ("tasks: [{name: va, classes: [x, y]}]", "tasks: want another name than that of an official task, got va; rename it"),
    ],
)
def test_a_command_that_reads_the_tasks_alone_names_the_file(tmp_path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        config.known_tasks([tmp_path / "mine.yaml"])
    assert str(caught.value) == f"{tmp_path}/mine.yaml: {said}"


def test_classes_may_be_called_by_their_own_numbers():
    assert config.parse(settings({"name": "mood", "classes": ["0", "1", "2"]})).task_table["mood"].outputs == ("0", "1", "2")


@pytest.mark.parametrize(
    ("face", "said"),
    [
        ({"training": {"loss": {"tasks": {"joy": {}}}}}, "models.face.training.loss.tasks: want a task of the run among"),
        ({"training": {"loss": {"tasks": {"va": {}}}}}, "got 'va'"),
        ({"training": {"loss": {"tasks": {"mood": {"mse_weight": 1}}}}}, "loss.tasks.mood: want settings of classes ("),
        ({"decode": {"tasks": {"dominance": {"frames": 5}}}}, "decode.tasks.dominance: want settings of dimensions (none), got frames"),
        ({"decode": {"tasks": {"mood": {"frames": 4}}}}, "want an odd number, which has a middle, got 4"),
        (
            {"smooth": {"frames": {"valence": 5}}},
            "models.face.smooth.frames: want dimensions of your own tasks among ['dominance'], got 'valence'",
        ),
        ({"training": {"loss": {"tasks": {"dominance": {"weights": {"d": 1}}}}}}, "loss.tasks.dominance.weights: want dimensions"),
        ({"training": {"terms": [{"term": "asymmetric", "task": "mood"}]}}, "asymmetric is of tasks of units, got mood, of classes"),
        (
            {"training": {"terms": [{"term": "asymmetric", "task": "au"}]}},
            "asymmetric is of the task au, got ['va', 'dominance', 'mood', 'pain']",
        ),
    ],
)
def test_settings_by_name_are_held_against_the_tasks(face, said):
    with pytest.raises(SettingsError) as caught:
        config.parse(settings("va", MOOD, SCALE, PAIN, **face))
    assert said in str(caught.value)


def test_a_recipe_alone_tells_its_tasks(tmp_path):
    """Also one that takes out a model of the files below it, which are not given here; the last file that names tasks counts."""
    (tmp_path / "a.yaml").write_text("tasks: [{name: pain, units: [brows]}]\nmodels: {voice: null}\n")
    (tmp_path / "b.yaml").write_text("tasks: [va, {name: mood, classes: [calm, tense]}]\n")
    (tmp_path / "c.yaml").write_text("shards: 2\ntasks: null\n")
    found = config.known_tasks([tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml")])
    assert list(found) == ["va", "expr", "au", "mood"]
    assert list(config.known_tasks([tmp_path / "a.yaml"])) == ["va", "expr", "au", "pain"]
    assert list(config.known_tasks([])) == ["va", "expr", "au"]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("[{name: mood}]", "tasks.0: want va, expr, au, or a task of your own as a name and one of dimensions, classes, units, got"),
        ("[{name: mood, classes: [a, b], color: 1}]", "tasks.0.color: unknown key; allowed: name, title, gap_s, classes, tier, invalid"),
        ("[{name: mood, classes: [yes, no]}]", "tasks.0.classes.0: want text, got true; put it between quotes"),
        ("[mood]", "tasks.0: want 'va', 'expr' or 'au', got 'mood'"),
        ("mood", "tasks: want a list, got 'mood'"),
        ("[va, va]", "tasks: want each task once, got ['va', 'va']"),
    ],
)
def test_a_task_that_cannot_be_is_told_alike_where_tasks_alone_are_read(tmp_path, tasks, said):
    (tmp_path / "d.yaml").write_text(f"tasks: {tasks}\n")
    with pytest.raises(SettingsError) as caught:
        config.known_tasks([tmp_path / "d.yaml"])
    assert str(caught.value).startswith(f"{tmp_path / 'd.yaml'}: {said}")
    assert "; " in str(caught.value) or "want each task once" in said
    assert "\n" not in str(caught.value)


def test_the_page_of_data_says_what_is_read():
    """Its settings are settings, its manifest has their columns, and its prediction table those of a run."""
    page = (Path(__file__).resolve().parents[2] / "docs/data.md").read_text(encoding="utf-8")
    section = page[page.index("## Tasks of your own") : page.index("## Labels as intervals")]
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)]
    told = [yaml.safe_load(block) for block in blocks if block.startswith(("name: mine", "models:"))]
    assert len(told) == 2
    face = told[1]["models"]["face"]
    found = config.parse(settings(**face) | told[0])
    assert list(found.task_table) == ["dominance", "mood", "pain"]
    assert found.models["face"].decoding(found.task_table["mood"]) == Decoding("mode", (5,))
    heads = [block.splitlines()[0].split(",") for block in blocks]
    assert set(next(head for head in heads if head[0] == "stream_id")) <= set(columns(found.task_table))
    own = [[*task.columns, *(task.chance_columns if task.kind != "dimensions" else ())] for task in found.task_table.values()]
    assert next(head for head in heads if head[0] == "frame") == [
        "frame",
        "time_s",
        *(column for columns_of in own for column in columns_of),
        "source",
    ]
    assert next(head for head in heads if head[0] == "calm") == found.task_table["mood"].header.split(",")


def test_settings_by_name_reach_decoding():
    face = {
        "decode": {"tasks": {"mood": {"filter": "median", "frames": 5}, "pain": {"thresholds": "half", "frames": 3}}},
        "smooth": {"filter": "mean", "valence_frames": 7, "frames": {"dominance": 9}},
    }
    found = config.parse(settings("va", MOOD, SCALE, PAIN, **face))
    model, tasks = found.models["face"], found.task_table
    assert model.decoding(tasks["mood"]) == Decoding("median", (5,))
    assert model.decoding(tasks["dominance"]) == Decoding("mean", (9,))
    assert model.decoding(tasks["va"]) == Decoding("mean", (7, 1))
    assert model.decoding(tasks["pain"], np.full(2, 0.2)) == Decoding("mean", (3,))  # half each
    assert not model.chooses_thresholds(tasks["pain"])


def test_what_alters_values_is_in_the_keys_and_words_for_people_are_not():
    def keys(*tasks, **face):
        plan = Plan(config.parse(settings(*tasks, **face)), [])
        return plan.key("labels"), plan.key("face")

    first = keys(MOOD)
    assert keys({**MOOD, "title": "how one feels"}) == first
    assert keys({**MOOD, "tier": "", "gap_s": 1.0}) == first
    runs = [Plan(config.parse(settings({**MOOD, **more})), []).run for more in ({}, {"title": "mood"}, {"title": "how one feels"})]
    assert runs[0] == runs[1] != runs[2]  # the report says it
    for other in ({**MOOD, "classes": ["tense", "calm", "none"]}, {**MOOD, "tier": "x"}, {**MOOD, "invalid": -9}):
        assert not set(keys(other)) & set(first)
    labels, model = keys(MOOD, training={"loss": {"tasks": {"mood": {"weight": 2.0}}}})
    assert (labels == first[0], model == first[1]) == (True, False)
    assert keys(MOOD, decode={"tasks": {"mood": {"frames": 9}}}) == first
