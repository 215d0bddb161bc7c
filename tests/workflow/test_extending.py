"""docs/extending.md: every part on it runs as printed, in a package of its own and as a line here."""

import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from other_package import entry_points

from affpipe.core import extensions
from affpipe.core.errors import SettingsError
from affpipe.core.stage import Stage
from affpipe.data.demo.clips import PAL, Absence, Clip, manifest_text
from affpipe.data.demo.render import render_clip
from affpipe.encoders.table import PARTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) (\S+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
PACKAGE = "affpipe_extra"
ALSO = "shards: 1\nmodels:\n" + "".join(f"  {name}: {{training: {{epochs: 2}}}}\n" for name in ("face", "light", "sound", "both"))
SMALL = (320, 320)
CLIPS = (
    Clip("one", "train", 1, PAL, SMALL),
    Clip("two", "validation", 1, PAL, SMALL, absences=(Absence(0.3, 0.6),)),
    Clip("three", "test", 1, PAL, SMALL, audio=False),
)


def blocks(language: str) -> dict[str, str]:
    """File -> its text, of the blocks of a language that are not within the package alone."""
    return {name: text for found, name, text in BLOCKS if found == language}


def write(folder: Path, files: dict[str, str]) -> None:
    """Files of a package, with what makes each folder one."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        for parent in (folder / place for place in Path(name).parents):
            if not (parent / "__init__.py").exists():
                (parent / "__init__.py").write_text('"""Of the page."""\n')


def changed(text: str, diff: str) -> str:
    """A file with the hunks of a block; each stands in it once."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines()
        old = "\n".join(line[1:] for line in lines if line[0] in " -")
        new = "\n".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"{text.count(old)} times: {old}"
        text = text.replace(old, new)
    return text


def python(folder: Path, *arguments: str, paths: tuple[Path, ...], fails: bool = False) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done


def jobs(folder: Path, *arguments: str, paths: tuple[Path, ...]) -> dict:
    return json.loads(python(folder, str(ROOT / "tests/helpers/extending_jobs.py"), *arguments, paths=paths).stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder on the path with the made-up second package."""
    folder = tmp_path_factory.mktemp("site")
    write(folder / PACKAGE, {name: text for name, text in blocks("python").items() if not name.startswith("affpipe/")})
    project = tomllib.loads(blocks("toml")["pyproject.toml"])["project"]
    entry_points(folder, project["entry-points"], project["name"])
    return folder


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A folder with a copy of the package, in which all that the page says is done."""
    folder = tmp_path_factory.mktemp("copy")
    package = shutil.copytree(ROOT / "affpipe", folder / "affpipe", ignore=shutil.ignore_patterns("__pycache__"))
    write(package, {name.removeprefix("affpipe/"): text for name, text in blocks("python").items()})
    for language, name, diff in BLOCKS:
        if language == "diff":
            path = package / name.removeprefix("affpipe/")
            path.write_text(changed(path.read_text(encoding="utf-8"), diff), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    (folder / "extra.yaml").write_text(blocks("yaml")["extra.yaml"])
    (folder / "also.yaml").write_text(ALSO)
    (folder / "data_manifest.csv").write_text(manifest_text(CLIPS))
    for clip in CLIPS:
        render_clip(folder / "demo", clip, seed=7)
    return folder


SETTINGS = ("config.yaml", "extra.yaml", "also.yaml")


def test_planning_knows_the_parts_of_another_package_and_of_this_one_alike(workspace, site, copy):
    theirs = jobs(workspace, "plan", *SETTINGS, paths=(site, ROOT))
    assert {"brightness", "loudness", "light", "sound", "both"} <= set(theirs["names"])
    assert len(set(theirs["keys"].values())) == 4
    needs = dict.fromkeys(("brightness", "loudness", "light", "both"), 4000)
    assert theirs["needs"] == {**needs, "fit light": 16000, "fit both": 16000}
    assert [theirs["estimate"][name][:2] for name in ("brightness", "loudness")] == [[3, "default"]] * 2
    assert theirs["estimate"]["brightness"][2] > theirs["estimate"]["loudness"][2] > 0
    assert theirs["estimate"]["light"][1] == theirs["estimate"]["fit light"][1] == "unknown"
    assert theirs["estimate"]["both"][1] == theirs["estimate"]["fit both"][1] == "default"
    assert {"Brightness", "PointwiseModel", "AverageModel"} <= set(theirs["schema"])
    assert theirs["heavy"] == []
    own = jobs(workspace, "plan", *SETTINGS, paths=(copy,))
    assert not set(own["keys"].items()) & set(theirs["keys"].items())  # whose code it is, is in the key
    assert own | {"keys": theirs["keys"]} == theirs


def test_the_workflow_takes_parts_of_another_package(workspace, site):
    plan = python(workspace, "-m", "snakemake", "-n", "--cores", "1", "--configfile", *SETTINGS, paths=(site, ROOT)).stdout
    assert {"apply_brightness", "fit_light", "apply_both"} <= set(re.findall(r"^(\w+) +\d+$", plan, flags=re.MULTILINE))


def test_parts_of_another_package_predict(workspace, site):
    done = jobs(workspace, "run", *SETTINGS, paths=(site, ROOT))
    heard = {f"loudness {clip.name}" for clip in CLIPS if clip.audio}
    assert set(done["streams"]) == {f"{name} {clip.name}" for name in ("brightness", "light", "both") for clip in CLIPS} | heard
    assert all(finite for streams in done["streams"].values() for _, _, finite in streams)
    assert done["streams"]["brightness two"][0][1] == [25, 16]
    assert done["streams"]["loudness two"] == [["values", [5, 1], True]]
    assert done["streams"]["both two"] == [["values", [25, 32], True], ["prediction", [25, 2], True]]
    assert done["published"]
    assert all(missing == failed == 0 for _, missing, failed in done["status"])
    assert len((workspace / "results/extra/predictions/three.csv").read_text().splitlines()) == 26
    page = (workspace / "results/extra/report.html").read_text()
    assert "average" in page
    assert "pointwise" in page
    said = python(workspace, "-m", "affpipe", "status", "extra.yaml", "also.yaml", paths=(site, ROOT)).stdout
    assert "both" in said
    assert "nothing left" in said


def test_a_stage_a_loss_and_an_annotation_format_run_as_printed(tmp_path, copy):
    features, models = "features: {mesh: {encoder: mesh}}", "models: {face: {kind: pointwise, reads: mesh}}"
    (tmp_path / "run.yaml").write_text(f"cache: {tmp_path}/cache\n{features}\n{models}\npublish: face\n")
    frames = {f"{i:05d}": {"landmarks": [], "valence": v, "arousal": a} for i, (v, a) in enumerate([(-10, 5), (0, 0), (3, 10)])}
    (tmp_path / "001.json").write_text(json.dumps({"video_id": "001", "frames": frames}))
    found = jobs(tmp_path, "own", "run.yaml", "001.json", paths=(copy,))
    assert found["package"] == str(copy / "affpipe")
    before, after = found["names"]
    assert "motion" not in before
    assert after.index("subject") < after.index("motion") < after.index("mesh")
    assert found["motion"] == [[[0, 0], [1, 0], [0, 0], [0, 0]], [False, True, False, False]]  # half a face in half a second
    value, gradient = found["loss"]
    assert value == pytest.approx(2 * (0.05**2 / 2 + 0.1 * (1 - 0.05)) / 6)
    assert gradient == [0, 0]
    assert found["specs"][0]
    assert found["specs"][1]["huber_weight"] == 2
    beside = math.exp(-2)  # of a weight at one frame from the middle, where the deviation is half a frame
    assert found["smoothed"] == pytest.approx(np.array([0, beside, 1, beside, 0]) / (1 + 2 * beside))
    assert found["labels"] == [[[-1, 0.5], [0, 0], [0.3, 1]], [True] * 3]
    assert found["known"] == ["va", "expr", "au", "engagement"]
    assert found["tasks"]["engagement"] == ["low,middle,high", ["p_low", "p_middle", "p_high"]]
    truth, prediction = map(np.array, found["truth"])
    straight = [np.corrcoef(t, p)[0, 1] for t, p in zip(truth.T, prediction.T, strict=True)]
    assert found["figures"]["pearson"] == pytest.approx(np.mean(straight))
    assert found["interval"][0] < np.mean(straight) < found["interval"][1]
    assert found["slopes"] < 1e-6
    assert found["table"] == [9, 9, f"{np.mean(straight):z.3f}"]
    assert found["few"]  # three of twenty stop the job, two do not
    assert found["merged"][0] < 1e-12
    assert found["merged"][1] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found["covered"] == pytest.approx([0, 0.6 / 1.5, 0.5], abs=1e-6)


def test_the_package_tests_itself_as_printed(site, tmp_path):
    (tmp_path / "test_loudness.py").write_text(blocks("py")["tests/test_loudness.py"])
    done = python(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-W", "error", ".", paths=(site, ROOT))
    assert "3 passed" in done.stdout


def test_the_package_installs_without_a_network_from_the_tree_as_printed(site, tmp_path):
    source = shutil.copytree(site / PACKAGE, tmp_path / "affpipe-extra" / PACKAGE, ignore=shutil.ignore_patterns("__pycache__")).parent
    (source / "pyproject.toml").write_text(blocks("toml")["pyproject.toml"])
    tree = PAGE[PAGE.index("    affpipe-extra/\n") : PAGE.index("```toml pyproject.toml")]
    printed = [(Path(line.split(",")[0].strip()).parent, line.count(",") + 1) for line in tree.splitlines() if "__init__" in line]
    assert dict(printed) == {folder: len(list((source / folder).glob("*.py"))) for folder, _ in printed}
    assert len(printed) == len(list((source / PACKAGE).rglob("__init__.py")))
    words = re.search(r"-m (pip install .*) \./affpipe-extra$", PAGE, re.MULTILINE)[1].split()
    python(tmp_path, "-m", *words, "--quiet", "--target", str(tmp_path / "installed"), str(source), paths=())
    load = "from affpipe.encoders.table import ENCODERS; print(ENCODERS['loudness'].origin, ENCODERS['loudness'].worker)"
    said = python(tmp_path, "-c", load, paths=(tmp_path / "installed", ROOT)).stdout.strip()
    who = "affpipe_extra.encoders.loudness.spec:LOUDNESS, of the package affpipe-extra 0.1.0"
    assert said == f"entry point loudness of affpipe.encoders ({who}) affpipe_extra.encoders.loudness.worker:loudness"


def test_the_page_says_what_is_there():
    """Every file that the page changes is there; the two of a part that it counts are those that it prints."""
    assert all((ROOT / "affpipe" / name.removeprefix("affpipe/")).is_file() for name in blocks("diff"))
    for part in ("encoders/brightness", "encoders/loudness", "models/heads/pointwise", "models/fusions/average"):
        assert len([name for name in blocks("python") if name.startswith(part)]) == 2


PAGES = """
import importlib.util, sys
from pathlib import Path
def module(path):
    spec = importlib.util.spec_from_file_location("of_the_docs", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
root = Path(sys.argv[1])
made = module(root / "docs/make_settings.py")
print(made.page() == made.PAGE.read_text(encoding="utf-8"))
tests = module(root / "tests/docs/test_docs.py")
tests.test_every_section_of_settings_has_its_table(made)
tests.test_the_architecture_page_lists_every_stage()
"""


def test_the_pages_are_the_same_whatever_is_installed(site, tmp_path):
    assert python(tmp_path, "-c", PAGES, str(ROOT), paths=(site, ROOT)).stdout.splitlines() == ["True"]


# ---- faults -----------------------------------------------------------------------------------------------------------------------------

OTHER = "from affpipe.core.section import Section\nfrom affpipe.encoders.mesh.spec import MESH, Mesh\nfrom dataclasses import replace\n"
FAULTS = {
    "does not import": ("import no_such_module\n", "does not load: ModuleNotFoundError: No module named 'no_such_module'"),
    "raises": ("1 / 0\n", "does not load: ZeroDivisionError: division by zero"),
    "is not there": ("", "does not load: AttributeError"),
    "wrong type": ("PART = 3\n", "want a Stage, got int"),
    "taken": (OTHER + "PART = MESH\n", "the name mesh is taken"),
    "settings of another name": (OTHER + "PART = replace(MESH, name='net')\n", "want settings whose encoder is 'net', got 'mesh'"),
    "no settings": (OTHER + "PART = replace(MESH, name='net', settings=None)\n", "want settings that are a subclass of Section, got None"),
    "no name in the settings": (
        OTHER + "PART = replace(MESH, name='net', settings=type('Net', (Section,), {}))\n",
        "want settings whose encoder is 'net', got no such setting",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_of_another_package_is_one_error(case, tmp_path, monkeypatch):
    code, said = FAULTS[case]
    module = f"faulty_{case.replace(' ', '_')}"
    (tmp_path / f"{module}.py").write_text(code)
    entry_points(tmp_path, {extensions.ENCODERS: {"theirs": f"{module}:PART"}}, "faulty")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError) as error:
        extensions.joined(extensions.ENCODERS, PARTS, Stage, "encoder")
    assert str(error.value).startswith(f"entry point theirs of affpipe.encoders ({module}:PART, of the package faulty 0.1.0): {said}")
    assert "\n" not in str(error.value)
    assert extensions.others()


def test_it_is_one_line_of_a_command_and_of_the_workflow(workspace, tmp_path):
    (tmp_path / "faulty.py").write_text("import no_such_module\n")
    entry_points(tmp_path, {extensions.MODELS: {"theirs": "faulty:PART"}}, "faulty")
    line = (
        "affpipe: entry point theirs of affpipe.models (faulty:PART, of the package faulty 0.1.0): does not load: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    )
    for command in (("-m", "affpipe", "schema"), ("-m", "snakemake", "-n", "--cores", "1")):
        said = python(workspace, *command, paths=(tmp_path, ROOT), fails=True).stderr
        assert line in said
        assert "Traceback" not in said


def test_an_encoder_may_have_the_name_of_a_kind_of_model(tmp_path, workspace):
    """What is said of its settings is said by its own section."""
    code = "class Net(Mesh):\n    encoder: Literal['transformer'] = 'transformer'\n    layers: str = 'all'\n"
    part = "PART = replace(MESH, name='transformer', settings=Net)\n"
    (tmp_path / "theirs.py").write_text("from typing import Literal\n" + OTHER + code + part)
    entry_points(tmp_path, {extensions.ENCODERS: {"theirs": "theirs:PART"}}, "theirs")
    (tmp_path / "a.yaml").write_text("features: {mesh: {encoder: transformer, layers: top}}\n")
    (tmp_path / "b.yaml").write_text("features: {mesh: {encoder: transformer, heads: 2}}\n")
    load = "import sys; from pathlib import Path; from affpipe.plan.config import load; load(map(Path, sys.argv[1:]))"
    python(workspace, "-c", load, "config.yaml", str(tmp_path / "a.yaml"), paths=(tmp_path, ROOT))
    said = python(workspace, "-c", load, "config.yaml", str(tmp_path / "b.yaml"), paths=(tmp_path, ROOT), fails=True).stderr
    assert "features.mesh.heads: unknown key; allowed: encoder, layers" in said


DOCTOR = (
    "import json, dataclasses; from affpipe.jobs.doctor import packages; print(json.dumps([[f.level, f.found] for f in packages.added()]))"
)


def test_doctor_says_whether_the_code_of_parts_is_there_and_which_group_is_misspelt(site, workspace, tmp_path):
    assert json.loads(python(workspace, "-c", DOCTOR, paths=(ROOT,)).stdout) == []
    assert json.loads(python(workspace, "-c", DOCTOR, paths=(site, ROOT)).stdout) == [
        ["fine", "encoder brightness, of the package affpipe-extra 0.1.0"],
        ["fine", "encoder loudness, of the package affpipe-extra 0.1.0"],
        ["fine", "kind of model average, of the package affpipe-extra 0.1.0"],
        ["fine", "kind of model pointwise, of the package affpipe-extra 0.1.0"],
        ["fine", "term huber, of the package affpipe-extra 0.1.0"],
    ]
    code = (
        "class Net(Mesh):\n    encoder: Literal['net'] = 'net'\nPART = replace(MESH, name='net', settings=Net, worker='theirs.gone:net')\n"
    )
    (tmp_path / "theirs.py").write_text("from typing import Literal\n" + OTHER + code)
    points = {
        extensions.ENCODERS: {"net": "theirs:PART"},
        "affpipe.encoder": {"loud": "theirs:PART"},
        "other.encoders": {"x": "theirs:PART"},
    }
    entry_points(tmp_path, points, "theirs")
    who = "(theirs:PART, of the package theirs 0.1.0)"
    gone = "got ModuleNotFoundError: No module named 'theirs.gone'; 'theirs' is not a package"
    groups = "affpipe.encoders, affpipe.models, affpipe.terms"
    assert json.loads(python(workspace, "-c", DOCTOR, paths=(tmp_path, ROOT)).stdout) == [
        ["fault", f"entry point net of affpipe.encoders {who}: want theirs.gone:net, {gone}"],
        [
            "warning",
            f"entry point loud of affpipe.encoder {who}: nobody reads that group, so what it offers is not there; want one of {groups}",
        ],
    ]
    (tmp_path / "net.yaml").write_text("features: {mesh: {encoder: net}}\n")
    files = ("config.yaml", "extra.yaml", str(tmp_path / "net.yaml"))
    start = "import sys; from pathlib import Path; from affpipe.jobs import start, workers; plan = start.plan_of(map(Path, sys.argv[1:])); "
    said = python(workspace, "-c", f"{start}workers.start(plan.context('mesh'))", *files, paths=(tmp_path, site, ROOT), fails=True).stderr
    assert f"SettingsError: entry point net of affpipe.encoders {who}: want theirs.gone:net, {gone}; mend or remove that package" in said


TERMS = {
    "[{term: jerkk}]": "models.light.training.terms.0.term: want one of asymmetric, huber, got 'jerkk'; "
    "correct it, or install the package that adds it",
    "[{weight: 2}]": "models.light.training.terms.0.term: want one of asymmetric, huber, got None; name one of them",
    "[{term: asymmetric}, {term: huber, pwer: 2}]": "models.light.training.terms.1.pwer: unknown key; allowed: weight, term, task, delta",
    "[{term: huber, delta: many}]": "models.light.training.terms.0.delta: want a valid number, unable to parse string as a number, "
    "got 'many'; mend it",
    "[{term: huber, delta: yes}]": "models.light.training.terms.0.delta: want a number, got true",
    "[{term: huber, delta: null}]": "",
}
LOAD = """
import sys
from pathlib import Path
from affpipe.core.errors import SettingsError
from affpipe.plan.config import layered, parse
for path in map(Path, sys.argv[3:]):
    try:
        parse(layered([*map(Path, sys.argv[1:3]), path]), where="x")
        print("")
    except SettingsError as error:
        print(error)
"""


def test_a_wrong_setting_of_a_term_of_another_package_is_told_by_its_own_place(site, workspace, tmp_path):
    for number, terms in enumerate(TERMS):
        (tmp_path / f"{number}.yaml").write_text(f"models: {{light: {{training: {{terms: {terms}}}}}}}\n")
    files = [str(tmp_path / f"{number}.yaml") for number in range(len(TERMS))]
    said = python(workspace, "-c", LOAD, "config.yaml", "extra.yaml", *files, paths=(site, ROOT)).stdout.splitlines()
    wanted = [f"x: {line}" if line else "" for line in TERMS.values()]
    assert [line[: len(want)] if want else line for line, want in zip(said, wanted, strict=True)] == wanted


# ---- laws -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def theirs(site, monkeypatch):
    """A module of the second package, by its name within it."""
    monkeypatch.syspath_prepend(site)
    return lambda name: importlib.import_module(f"{PACKAGE}.{name}")


def test_absent_rows_padding_and_batches_change_nothing_of_the_head(theirs):
    torch.manual_seed(0)
    head = theirs("models.heads.pointwise.network").Pointwise(3, hidden=8, dropout=0.2, outputs=2).eval()
    x, present = torch.randn(2, 5, 3), torch.tensor([[1, 1, 0, 1, 1], [1, 0, 0, 1, 0]]).bool()
    prediction, embedding = head(x, present)
    assert not prediction[~present].any()
    assert not embedding[~present].any()
    other = x.masked_fill(~present[..., None], 1e30).requires_grad_()
    again = head(other, present)
    torch.testing.assert_close(again, (prediction, embedding), rtol=0, atol=0)
    again[0].sum().backward()
    assert not other.grad[~present].any()
    longer = head(torch.cat([x, torch.ones(2, 3, 3)], 1), torch.cat([present, torch.zeros(2, 3).bool()], 1))
    torch.testing.assert_close(longer[0][:, :5], prediction)
    torch.testing.assert_close(head(x[:1], present[:1])[0], prediction[:1])


def test_absent_models_change_nothing_of_the_fusion(theirs):
    torch.manual_seed(0)
    fusion = theirs("models.fusions.average.network").Average({"a": 3, "b": 4}, hidden=8, dropout=0.2).eval()
    streams, present = {"a": torch.randn(1, 4, 3), "b": torch.randn(1, 4, 4)}, torch.tensor([[[1, 1], [1, 0], [0, 1], [0, 0]]]).bool()
    fused = fusion(streams, present)
    assert fused.gate is None
    assert not fused.prediction[0, 3].any()
    assert not fused.embedding[0, 3].any()
    assert fused.prediction[0, :3].any(dim=-1).all()
    other = {m: x.masked_fill(~present[..., i, None], 1e30) for i, (m, x) in enumerate(streams.items())}
    torch.testing.assert_close(fusion(other, present), fused, rtol=0, atol=0)


def test_the_grid_of_the_encoder(theirs):
    grid = theirs("encoders.brightness.worker").grid
    crop = np.zeros((40, 40, 3), np.uint8)
    crop[:20, 20:] = 255
    np.testing.assert_allclose(grid(crop, 2), [0, 1, 0, 0])
    assert grid(np.full((3, 3, 3), 51, np.uint8), 4) == pytest.approx(np.full(16, 0.2))  # smaller than the grid
