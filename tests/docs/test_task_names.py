"""Nobody but the tasks themselves, those who read foreign files, settings and the demo asks for a task by its name."""

import ast
from pathlib import Path

import affpipe
from affpipe.core.tasks.table import TASKS
from affpipe.models.training_settings import OFFICIAL

PACKAGE = Path(affpipe.__file__).parent
SETTINGS = ("settings.py", "training_settings.py", "spec.py")  # they hold the words that a person writes
APART = ("core/tasks", "data/importers", "data/demo", "results/report/palette.py")
OTHERS = {  # the same letters, another word
    "media/opening.py": "au, a container of sound",
    "encoders/grada/worker.py": "va, a dataset of the encoder's stream",
}


def literals(path: Path) -> set[str]:
    """Names of tasks among the strings of a module, docstrings and comments aside."""
    found = (node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant))
    return {value for value in found if isinstance(value, str) and value in TASKS}


def test_task_names_stand_with_the_tasks_alone():
    named = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if not place.startswith(APART) and path.name not in SETTINGS and place not in OTHERS and (found := literals(path)):
            named[place] = found
    assert named == {}


def test_what_is_left_out_has_a_reason():
    assert all(literals(PACKAGE / place) for place in OTHERS)
    assert literals(PACKAGE / "models" / "training_settings.py") == set(OFFICIAL) <= set(TASKS)


def test_templates_ask_for_kinds():
    for path in sorted((PACKAGE / "results/report").glob("*.jinja")):
        text = path.read_text(encoding="utf-8")
        assert not [name for name in TASKS if f'"{name}"' in text], path.name
