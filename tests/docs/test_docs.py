"""The pages under docs/ and the README agree with the code and with each other."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydantic.fields import FieldInfo
from typer.main import get_command

from affpipe.cli import main
from affpipe.core.section import Section
from affpipe.encoders import table as encoders
from affpipe.faces.settings import Faces, Subject
from affpipe.models import table as models
from affpipe.plan.config import load
from affpipe.plan.plan import Plan
from affpipe.plan.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def settings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_settings", ROOT / "docs/make_settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_is_what_the_models_give(settings):
    assert settings.PAGE.read_text(encoding="utf-8") == settings.page(), "run python docs/make_settings.py"


def test_every_section_of_settings_has_its_table(settings):
    def leaves(section: type[Section]) -> set[type[Section]]:
        below = section.__subclasses__()
        return set().union(*map(leaves, below)) if below else {section}

    ours = {section for section in leaves(Section) if section.__module__.startswith("affpipe.")}
    assert ours <= {model for model, _, _ in settings.SECTIONS.values()}


def test_no_meaning_is_left_over(settings):
    """Each line of MEANING is used: the page changes without it, or cannot be made."""
    whole = settings.page()
    for name in list(settings.MEANING):
        text = settings.MEANING.pop(name)
        try:
            assert settings.page() != whole, name
        except KeyError:
            pass
        finally:
            settings.MEANING[name] = text


def test_limits_are_read_from_the_field(settings):
    field: FieldInfo = Faces.model_fields["crop_side"]
    assert settings._type(field) == ("whole number", "≥ 32, ≤ 2048")
    assert settings._type(Faces.model_fields["min_score"]) == ("number", "> 0, ≤ 1")
    assert settings._type(Subject.model_fields["curation"]) == ("text or none", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists() and not link.endswith(".png")]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_pages_name_exist(page):
    root = get_command(main.app)
    for words in re.findall(
        r"\baffpipe ((?:[a-z][a-z0-9-]* ?)+)", " ".join(re.findall(r"`[^`]+`|^    .*$", page.read_text("utf-8"), re.MULTILINE))
    ):
        command = root
        for word in words.split():
            if not hasattr(command, "commands"):
                break
            assert word in command.commands, f"affpipe {words}"
            command = command.commands[word]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_pages_give_in_full_are_understood(page):
    """Options and arguments are known and complete; of commands within a sentence, where there are any and none is left open."""
    for line, whole in _commands(page.read_text("utf-8")):
        command, words = get_command(main.app), shlex.split(re.split(r"\s[|&>#]|;", line)[0])
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        left_open = not words or "…" in words or words[-1].startswith("--")
        if not hasattr(command, "commands") and "--help" not in words and (whole or not left_open):
            command.make_context("affpipe", words)


def _commands(text: str) -> Iterator[tuple[str, bool]]:
    """What follows `affpipe` in blocks of code (True) and within sentences."""
    yield from ((line, True) for line in re.findall(r"^    (?:\S*/)?affpipe (.+)$", text, re.MULTILINE))
    for part in re.split(r"\n\n|\n(?=[|-])", re.sub(r"^    .*$", "", text, flags=re.MULTILINE)):
        yield from ((line, False) for line in re.findall(r"`affpipe ([^`]+)`", " ".join(part.split())))


def test_the_architecture_page_lists_every_stage():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    default = Plan(load([ROOT / "config.yaml"]), [])
    for stage in STAGES:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{stage}` |"))
        assert f"| {default.level(stage)} | {', '.join(default.reads(stage)) or 'the video'} |" in row
    for spec in encoders.PARTS:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{spec.name}` |"))
        assert f"| {spec.level} | {', '.join(spec.reads)} |" in row
    for part in models.PARTS:
        assert f"| `{part.name}` |" in text


def test_the_table_of_team_ras_names_files_that_are_there_and_marks_what_departs():
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    table = text[text.index("## Team RAS, part by part") : text.index("## A new model")]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("| part", "| ---"))]
    assert len(rows) > 100
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 6, row
        for name in re.findall(r"`([\w/]+\.py)`", cells[5]):
            assert (ROOT / "affpipe" / name).is_file(), name


@pytest.mark.parametrize(("page", "least"), [("safety", 50), ("faults", 16), ("privacy", 6)])
def test_every_promise_of_a_page_names_a_test_that_is_there(page, least):
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+): (test_\w+)`", text)
    assert len(named) >= least
    files = {path.stem.removeprefix("test_"): path for path in ROOT.glob("tests/*/test_*.py")}
    code = {file: files[file].read_text(encoding="utf-8") for file, _ in named}
    assert [name for file, name in named if f"def {name}(" not in code[file]] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_table_has_a_head(page):
    """Rows behind a blank line are no table."""
    lines = ["", *page.read_text(encoding="utf-8").splitlines(), ""]
    heads = [after for before, line, after in zip(lines, lines[1:], lines[2:], strict=False) if line.startswith("|") and not before]
    assert all(re.fullmatch(r"\|( *:?-+:? *\|)+", line) for line in heads), [line for line in heads if not line.startswith("| -")]
