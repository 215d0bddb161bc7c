"""Declarations of other packages: what is wrong with one is told as it is loaded, and whose it is stands in keys."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from other_package import entry_points

from affpipe.core import extensions
from affpipe.core.errors import SettingsError
from affpipe.core.extensions import Origin
from affpipe.core.stage import Stage
from affpipe.data.manifest import Row
from affpipe.encoders import table as encoders
from affpipe.encoders.table import ENCODERS
from affpipe.models import table as models
from affpipe.models.part import ModelPart
from affpipe.models.table import MODELS
from affpipe.models.terms import table as terms
from affpipe.models.terms.part import TermPart
from affpipe.models.terms.table import TERMS
from affpipe.plan import added, config
from affpipe.plan.plan import Plan
from affpipe.plan.stages import STAGES
from affpipe.store.cache import OWN

TABLES = {
    extensions.ENCODERS: (encoders.PARTS, Stage, "encoder", OWN),
    extensions.MODELS: (models.PARTS, ModelPart, "kind"),
    extensions.TERMS: (terms.PARTS, TermPart, "term"),
}
WORDS = {extensions.ENCODERS: "encoder", extensions.MODELS: "kind", extensions.TERMS: "term"}
NUMBER = itertools.count()
HEADS = {
    extensions.ENCODERS: """
from dataclasses import replace
from typing import Literal
from pydantic import BaseModel
from affpipe.core.section import Section
from affpipe.core.stage import Network, Stage
from affpipe.encoders.mesh.spec import MESH
def part(name="loud", base=Section, word=None, settings=None, **more):
    fields = {"encoder": word or Literal[name]}
    own = settings or type("Loud", (base,), {"__annotations__": fields, "encoder": name})
    return replace(MESH, name=name, settings=own, **more)
""",
    extensions.MODELS: """
from dataclasses import replace
from typing import Literal
from affpipe.core.section import Name, Section
from affpipe.models.heads.mamba.spec import MAMBA
from affpipe.models.settings import Fusion, SequenceModel
def part(base=SequenceModel, fields=("reads", "dataset"), **more):
    notes = {"kind": Literal["flat"], **dict.fromkeys(fields, Name)}
    return replace(MAMBA, name="flat", settings=type("Flat", (base,), {"__annotations__": notes, "kind": "flat"}), **more)
""",
    extensions.TERMS: """
from dataclasses import replace
from typing import Literal
from affpipe.core.section import Section
from affpipe.models.terms.asymmetric.spec import ASYMMETRIC
from affpipe.models.terms.part import TermSettings
def part(base=TermSettings, task=Literal["va"], **more):
    notes = {"term": Literal["jerk"], **({"task": task} if task else {})}
    own = {"__annotations__": notes, "term": "jerk"} | ({"task": "va"} if task else {})
    return replace(ASYMMETRIC, name="jerk", settings=type("Jerk", (base,), own), **more)
""",
}
FAULTS = {
    extensions.ENCODERS: {
        "part('a/b')": "want a name of at most 40 of a-z, 0-9 and _ that begins with a letter, got 'a/b'",
        "part('Up per')": "want a name of at most 40 of a-z, 0-9 and _ that begins with a letter, got 'Up per'",
        "part('loud\\n')": "want a name of at most 40 of a-z, 0-9 and _ that begins with a letter, got 'loud\\n'",
        "part('runs')": "want another name, got runs, a folder of the store",
        "part('weights')": "want another name, got weights, a folder of the store",
        "part('settings')": "want another name, got settings, a folder of the store",
        "part(word=str)": "want settings whose encoder is declared as Literal['loud'], got str",
        "part(base=BaseModel)": "want settings that are a subclass of Section, got Loud",
        "part(settings=3)": "want settings that are a subclass of Section, got 3",
        "part(word=Literal['loud', 'low'])": "want settings whose encoder is declared as Literal['loud'], got Literal",
        "part(level='videos')": "want level one of video, stream, label, got 'videos'",
        "part(axis='seconds')": "want axis one of frames, windows, samples, steps, got 'seconds'",
        "part(modality='smell')": "want modality one of face, behaviour, audio, text, mouth, got 'smell'",
        "part(rows='many')": "want rows one of vectors, windows, got 'many'",
        "part(rows='windows')": "want steps and the axis windows, as its rows are windows, got none and frames",
        "part(rows='windows', steps=len)": "want steps and the axis windows, as its rows are windows, got steps and frames",
        "replace(part(), width=Stage.width)": "want width, as it has no network, got none",
        "part(reads='audio')": "want reads as a tuple of names, got 'audio'",
        "part(reads=['audio'])": "want reads as a tuple of names, got ['audio']",
        "part(opens='frames')": "want opens as a tuple of names, got 'frames'",
        "part(revision='1')": "want a revision from 1, got '1'",
        "part(revision=True)": "want a revision from 1, got True",
        "part(revision=0)": "want a revision from 1, got 0",
        "part(axis='windows')": "want the settings length_s, hop_s, as it has windows, got none of the name length_s",
        "part(axis='steps')": "want step_s beside the axis steps and no other, got None with steps",
        "part(step_s=0.2)": "want step_s beside the axis steps and no other, got 0.2 with frames",
        "part(axis='steps', step_s=0)": "want step_s as seconds beyond 0, or a function that gives them, got 0",
        "part(network=Network(3))": "want the settings weights, batch_size, as it has a network, got none of the name weights",
        "part(worker='mylab.worker')": "want worker as 'module:function', got 'mylab.worker'",
        "part(worker='no_such_package.worker:loud')": "want worker in a package that is installed, got 'no_such_package.worker:loud'",
        "part(worker='.worker:loud')": "want worker in a package that is installed, got '.worker:loud'",
        "part(worker=len)": "want worker as 'module:function', got <built-in function len>",
        "part(within='no such')": "want within as 'module', got 'no such'",
    },
    extensions.MODELS: {
        "part(reads=['rows'])": "want reads one of rows, windows, members, got ['rows']",
        "part(reads='rowz')": "want reads one of rows, windows, members, got 'rowz'",
        "part(base=Section)": "want settings that are a subclass of SequenceModel, got Flat",
        "part(reads='members')": "want settings that are a subclass of Fusion, got Flat",
        "part(fields=('dataset',))": "want the setting reads, as it reads rows, got none of the name",
        "part(fields=('reads',))": "want the setting dataset, as it reads rows, got none of the name",
        "part(reads='windows')": "want the setting chunks, as it reads windows, got none of the name",
        "part(reads='windows', fields=('reads', 'chunks'))": "want window declared as Literal[1], as a row that it reads is a "
        "window of its own, got other lengths too",
        "part(network='flat')": "want network as 'module:class', got 'flat'",
    },
    extensions.TERMS: {
        "part(base=Section)": "want settings that are a subclass of TermSettings, got Jerk",
        "part(task=None)": "want the setting task, which names the task whose outputs the term takes, got none",
        "part(kinds=())": "want kinds of dimensions, classes, units, got ()",
        "part(kinds=3)": "want kinds of dimensions, classes, units, got 3",
        "part(kinds='units')": "want kinds of dimensions, classes, units, got 'units'",
        "part(kinds=('units', ['classes']))": "want kinds of dimensions, classes, units, got ('units', ['classes'])",
        "part(revision=None)": "want a revision from 1, got None",
        "part(network='no_such_package:Jerk')": "want network in a package that is installed, got 'no_such_package:Jerk'",
        "__import__('sys').exit(3)": "does not load: SystemExit: 3",
    },
}


def offered(folder: Path, monkeypatch, group: str, code: str, package: str = "My_Lab") -> str:
    """Install a package that offers what an expression gives; return the entry point's value."""
    module = f"theirs_{next(NUMBER)}"
    (folder / f"{module}.py").write_text(f"{HEADS[group]}\nPART = {code}\n")
    entry_points(folder, {group: {"theirs": f"{module}:PART"}}, package)
    monkeypatch.syspath_prepend(folder)
    return f"{module}:PART"


def said_of(group: str) -> str:
    own, kind, tag, *taken = TABLES[group]
    with pytest.raises(SettingsError) as error:
        extensions.joined(group, own, kind, tag, *taken)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("group", "code"), [(group, code) for group, faults in FAULTS.items() for code in faults])
def test_what_is_wrong_with_a_declaration_is_one_line_that_names_the_entry_point_and_its_package(tmp_path, monkeypatch, group, code):
    value = offered(tmp_path, monkeypatch, group, code)
    said, who = said_of(group), f"entry point theirs of {group} ({value}, of the package my-lab 0.1.0)"
    assert said.startswith(f"{who}: {FAULTS[group][code]}; ")
    assert said.endswith("; mend or remove that package")


@pytest.mark.parametrize("value", ["mylab encoders : :", "mylab:", ""])
def test_an_entry_point_that_does_not_parse_is_one_line(tmp_path, monkeypatch, value):
    entry_points(tmp_path, {extensions.ENCODERS: {"theirs": value}}, "mylab")
    monkeypatch.syspath_prepend(tmp_path)
    assert said_of(extensions.ENCODERS) == (
        f"entry point theirs of affpipe.encoders ({value}, of the package mylab 0.1.0): want module:attribute, got {value!r}; "
        "mend or remove that package"
    )


def test_a_name_that_two_packages_take_names_both(tmp_path, monkeypatch):
    for name in ("alab", "zlab"):
        (tmp_path / name).mkdir()
    one = offered(tmp_path / "zlab", monkeypatch, extensions.ENCODERS, "part()", "zlab")
    two = offered(tmp_path / "alab", monkeypatch, extensions.ENCODERS, "part()", "alab")
    first, second = sorted([(one, "zlab"), (two, "alab")])
    assert said_of(extensions.ENCODERS) == (
        f"entry point theirs of affpipe.encoders ({second[0]}, of the package {second[1]} 0.1.0): the name loud is taken by "
        f"entry point theirs of affpipe.encoders ({first[0]}, of the package {first[1]} 0.1.0); rename one of them, or remove a package"
    )


@pytest.mark.parametrize("group", TABLES)
def test_a_sound_declaration_joins_with_its_origin(tmp_path, monkeypatch, group):
    value = offered(tmp_path, monkeypatch, group, "part()")
    own, kind, tag, *taken = TABLES[group]
    found = extensions.joined(group, own, kind, tag, *taken)
    (name,) = found.keys() - {part.name for part in own}
    assert found[name].origin == Origin(group, "theirs", value, "my-lab", "0.1.0")
    assert all(found[part.name] is part for part in own)
    assert all(part.origin is None and extensions._fault(part, tag) == "" for part in own)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "faces"}, "want another name, got faces, a stage's"),
        ({"reads": ("audoi",)}, "want reads of frames, labels, audio, vad, faces, subject, landmarks, mouth, speech, got 'audoi'"),
        ({"reads": ("audio",), "opens": ("vad",)}, "want opens of frames, audio, got 'vad'"),
        ({"reads": ("audio",), "sees": ("sound",)}, "want sees of frames, audio, got 'sound'"),
    ],
)
def test_an_encoder_stands_among_the_stages_that_there_are(more, said):
    theirs = Origin(extensions.ENCODERS, "loud", "mylab:LOUD", "mylab", "0.1")
    with pytest.raises(SettingsError) as error:
        added.check([*ENCODERS.values(), replace(ENCODERS["mesh"], origin=theirs, **more)])
    who = "entry point loud of affpipe.encoders (mylab:LOUD, of the package mylab 0.1)"
    assert str(error.value) == f"{who}: {said}; mend or remove that package"
    added.check(
        [replace(ENCODERS["wavlm"], name="loud", origin=theirs), replace(ENCODERS["mesh"], reads=lambda context: (), origin=theirs)]
    )


def test_what_a_function_says_that_an_encoder_reads_is_a_stage_too():
    theirs = Origin(extensions.ENCODERS, "loud", "mylab:LOUD", "mylab", "0.1")
    encoder = replace(ENCODERS["mesh"], reads=lambda context: (context,), origin=theirs)
    assert added.reads(encoder, "audio") == ("audio",)
    with pytest.raises(SettingsError) as error:
        added.reads(encoder, "mood")
    assert str(error.value) == f"{theirs}: want reads of {', '.join(STAGES)}, got 'mood'; mend or remove that package"


@pytest.mark.parametrize("name", OWN)
def test_a_model_has_no_name_of_a_folder_of_the_store(name):
    settings = {"features": {"mesh": {"encoder": "mesh"}}, "models": {name: {"kind": "transformer", "reads": "mesh"}}, "publish": name}
    with pytest.raises(SettingsError, match=f"models.{name}: the name is that of a folder of the store; choose another"):
        config.parse(settings)


def test_code_that_is_not_there_names_the_part_and_its_package():
    theirs = Origin(extensions.ENCODERS, "loud", "mylab:LOUD", "mylab", "0.1")
    for path, said in {
        "no_such_package.worker:loud": "ModuleNotFoundError: No module named 'no_such_package'",
        "json:loud": "AttributeError: module 'json' has no attribute 'loud'",
    }.items():
        with pytest.raises(SettingsError) as error:
            extensions.code(path, theirs)
        assert str(error.value) == f"{theirs}: want {path}, got {said}; mend or remove that package"
    with pytest.raises(AttributeError):  # of our own, a bug
        extensions.code("json:loud", None)
    assert extensions.code("json:dumps", None)([1]) == "[1]"


# ---- keys -------------------------------------------------------------------------------------------------------------------------------

FEATURE = {"features": {"mesh": {"encoder": "mesh"}}, "publish": "face", "tasks": ["au"]}
TERM = {"training": {"terms": [{"term": "asymmetric"}]}}


def plan(folder: Path, **model) -> Plan:
    (folder / "v.mp4").write_bytes(b"v")
    settings = config.parse(FEATURE | {"models": {"face": {"kind": "mamba", "reads": "mesh", **model}}, "cache": str(folder / "cache")})
    return Plan(settings, [Row("v", folder / "v.mp4", "largest", "predict")])


def test_a_term_that_computes_otherwise_moves_the_keys_of_its_models_alone(tmp_path, monkeypatch):
    before = plan(tmp_path, **TERM)
    plain, key = plan(tmp_path).key("face"), before.key("face")
    assert (before.code("face"), plan(tmp_path).code("face")) == ([4, [[1]]], [4])
    monkeypatch.setitem(TERMS, "asymmetric", replace(TERMS["asymmetric"], revision=2))
    after = plan(tmp_path, **TERM)
    assert after.code("face") == [4, [[2]]]
    assert after.key("face") != key
    assert after.key("mesh") == before.key("mesh")
    assert plan(tmp_path).key("face") == plain


@pytest.mark.parametrize(("table", "name"), [(ENCODERS, "mesh"), (MODELS, "mamba"), (TERMS, "asymmetric")])
def test_a_part_of_another_package_has_its_name_in_the_key_and_its_version_in_headers_alone(tmp_path, monkeypatch, table, name):
    who, keys = "mesh" if table is ENCODERS else "face", {}
    for package, version in ((None, ""), ("alab", "1"), ("alab", "2"), ("zlab", "1")):
        origin = Origin("group", name, "value", package, version) if package else None
        monkeypatch.setitem(table, name, replace(table[name], origin=origin))
        found = plan(tmp_path, **TERM)
        keys[package, version] = found.key("face")
        versions = {package: version} if package else {}
        assert found.packages(who) == versions
        job = found.job(who, found.items(who)[0])
        said = job.header(25).attributes()
        assert "packages" not in said
        assert {name: version for name, version in said["versions"].items() if name in ("alab", "zlab")} == versions
    assert keys["alab", "1"] == keys["alab", "2"]
    assert len(set(keys.values())) == 3
