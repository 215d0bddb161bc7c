"""The package is laid out in twelve rooms, and what is declared of a part is true."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import affpipe
from affpipe.core.stage import Stage
from affpipe.encoders.table import ENCODERS
from affpipe.models.table import MODELS
from affpipe.plan.stages import STAGES

PACKAGE = Path(affpipe.__file__).parent
TESTS = Path(__file__).resolve().parents[1]
ROOMS = ("core", "system", "store", "media", "faces", "encoders", "models", "data", "plan", "results", "jobs", "cli")  # from below
ROLES = {"part", "settings", "stages", "workers", "spec", "worker", "network", "__init__", "table"}  # mean the same in every room
MODULES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
DECLARED = [*STAGES.values(), *ENCODERS.values()]


def test_the_top_of_the_package_is_twelve_rooms():
    there = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert there == {*ROOMS, "__init__.py", "__main__.py"}


def test_a_folder_reads_like_a_table_of_contents():
    counts = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {str(folder): count for folder, count in counts.items() if count > 16} == {}


def test_no_two_modules_have_one_name_but_those_of_a_role_and_what_a_person_or_the_workflow_calls():
    own = [path.stem for path in MODULES if path.stem not in ROLES and path.parent.name not in ("jobs", "cli") and path.parent != PACKAGE]
    assert [name for name, count in Counter(own).items() if count > 1] == []


def test_docstrings_begin_with_a_verb_or_the_name_of_the_thing():
    """Ruff's D401 knows verbs of functions; these words begin a fragment, or a clause whose verb comes late."""
    late = {"What", "Of", "Whether", "How", "That", "Where", "When", "Which", "Who"}
    nodes = ((path, node) for path, module in MODULES.items() for node in ast.walk(module))
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    texts = [(path, ast.get_docstring(node)) for path, node in nodes if isinstance(node, kinds) and ast.get_docstring(node)]
    assert len(texts) > 500
    assert [(path.name, text) for path, text in texts if text.split()[0].rstrip(",:") in late] == []


def test_every_folder_says_what_it_holds():
    assert [str(path) for path, tree in MODULES.items() if path.name == "__init__.py" and not ast.get_docstring(tree)] == []


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_imports_itself_by_way_of_others_not_even_for_type_checkers():
    names = {_name(path) for path in MODULES}
    graph = {}
    for path, tree in MODULES.items():
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("affpipe."):
                found |= {full if (full := f"{node.module}.{alias.name}") in names else node.module for alias in node.names}
        graph[_name(path)] = found - {_name(path)}
    TopologicalSorter(graph).prepare()  # CycleError, which names the circle


def test_one_encoder_is_named_where_it_is_and_in_its_lists_alone():
    """The two others are sources: of what the pooling takes, and of which layers are trained."""
    outside = [
        path.relative_to(PACKAGE)
        for path in MODULES
        if "wavlm" in path.read_text().lower()
        and "wavlm" not in path.parts
        and path.name not in ("table.py", "catalog.py", "tiny_weights.py")
    ]
    assert list(map(str, outside)) == ["models/encoder_layers.py", "models/heads/chunk_asp/network.py"]


def test_a_test_of_a_room_imports_nothing_from_rooms_above():
    found = []
    for number, room in enumerate(ROOMS):
        for path in sorted((TESTS / room).glob("test_*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("affpipe."):
                    above = node.module.split(".")[1]
                    if ROOMS.index(above) > number:
                        found.append(f"{room}/{path.name}: {node.module}")
    assert found == []


# ---- declarations -----------------------------------------------------------------------------------------------------------------------


def behind(name: str) -> set[str]:
    """Stages that a stage reads by any settings, directly or not."""
    stage = STAGES.get(name) or ENCODERS[name]
    reads = ("mouth", "vad") if callable(stage.reads) else stage.reads  # of `speech`, the only one whose reads hang on settings
    return {*reads, *(other for read in reads for other in behind(read))}


@pytest.mark.parametrize("stage", DECLARED, ids=lambda stage: stage.name)
def test_what_a_stage_declares_is_there_and_in_its_key(stage: Stage):
    module, function = stage.worker.split(":")
    assert callable(getattr(import_module(module), function))
    assert set(stage.opens) <= behind(stage.name)
    assert set(stage.sees) <= behind(stage.name) | {stage.name}
    assert stage.settings is None or stage.settings.model_fields["encoder"].default == stage.name


@pytest.mark.parametrize("part", MODELS.values(), ids=lambda part: part.name)
def test_a_kind_of_model_has_the_name_that_its_settings_have(part):
    assert part.settings.model_fields["kind"].default == part.name


def test_no_module_is_imported_under_another_name():
    """A module whose name is the word for a variable is named badly, and two names for one thing are one too many."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("affpipe"):
                for name in (name for name in node.names if name.asname):
                    place = PACKAGE.parent / node.module.replace(".", "/") / name.name
                    if place.is_dir() or place.with_suffix(".py").is_file():
                        found.append(f"{path.relative_to(PACKAGE)}: {node.module}.{name.name} as {name.asname}")
    assert found == []
