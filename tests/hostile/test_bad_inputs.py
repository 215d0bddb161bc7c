"""Bad inputs, as a user gives them: each ends as it should, with one line that says what is wrong and what to do, and in good time."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import clips
import pytest
from bad_case import LABELS, SETTINGS, Case, Said, outcome, sound_clip
from bad_inputs import CASES
from bad_settings import BOMB

from affpipe.core.errors import MediaError
from affpipe.jobs import predict

ROOT = Path(__file__).resolve().parents[2]
FORMS = (  # of a line: who, what is wanted, what was given, what to do
    r".+: want .+, got .+; .+",
    r".+: unknown key; allowed: .+",
)


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, Said]:
    """What became of each case."""
    return {case.name: outcome(case, tmp_path_factory.mktemp("case")) for case in CASES}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_bad_inputs", ROOT / "docs/make_bad_inputs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_twenty_of_each_kind_at_least():
    found = Counter(case.group for case in CASES)
    assert set(found) == {"media", "annotation or manifest", "settings"}
    assert min(found.values()) >= 20
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_input_ends_as_it_should(said, case: Case):
    found = said[case.name]
    assert found.ends == case.ends
    assert case.says in found.line


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_said_is_one_line_with_its_remedy(said, case: Case):
    line = said[case.name].line
    assert line
    assert line.isprintable()
    assert "Traceback" not in line
    if case.ends != "done":
        assert any(re.fullmatch(form, line) for form in FORMS)


def test_the_page_has_what_is_said(maker, said):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(said), "run python docs/make_bad_inputs.py"


# ---- the command line -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    """A sound run, with its settings as config.yaml."""
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(clips.apart(sound_clip(), name))
        (tmp_path / f"{name}.txt").write_text(LABELS if name == "a" else LABELS.replace("0.1", "0.2"))  # each its own
    (tmp_path / "m.csv").write_text("stream_id,video,partition,va\na,a.mp4,train,a.txt\nb,b.mp4,validation,b.txt\n")
    (tmp_path / "config.yaml").write_text(SETTINGS.format(tmp_path).replace("data_manifest.csv", "m.csv"))
    return tmp_path


def run(folder: Path, *words: str) -> tuple[int, str]:
    """Status and output of a command that may take neither two minutes nor, for what it holds, 16 GB."""
    command = f'ulimit -v {16 << 20}; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_video_that_is_none_ends_a_check_with_its_line(folder):
    (folder / "b.mp4").write_text("not a video\n" * 50)
    status, text = run(folder, "affpipe", "manifest", "check", "m.csv", "--media", "--jobs", "1")
    assert status == 2
    assert [line for line in text.splitlines() if "want" in line] == [
        "m.csv: row 3: b.mp4: want a readable video, got 'moov atom not found'; download or copy the file again"
    ]


def test_a_bomb_of_aliases_ends_a_command_with_its_line(folder):
    (folder / "my.yaml").write_text(BOMB)
    assert run(folder, "affpipe", "cache", "gc", "--config", "my.yaml") == (
        2,
        "affpipe: my.yaml: want YAML, got more than 100000 values, aliases written out, in line 6; mend the file\n",
    )


def test_a_recipe_is_read_without_snakemake_as_the_page_says(folder):
    (folder / "my.yaml").write_text("shard: 3\n")
    status, text = run(folder, "affpipe", "cache", "gc", "--config", "config.yaml", "my.yaml")
    assert status == 2
    assert text.startswith("affpipe: config.yaml, my.yaml: shard: unknown key; allowed: name, tasks, manifest")


def test_a_pipe_is_no_video_to_predict(tmp_path):
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(MediaError, match=r"x\.mp4: want a video file, got a pipe; check the path"):
        predict._row(tmp_path / "x.mp4", "largest")


@pytest.mark.parametrize("what", ["annotation", "video", "key"])
def test_a_workflow_is_not_planned_on_a_bad_input(folder, what):
    """The line is the last one, and the status is that of Snakemake."""
    if what == "annotation":
        (folder / "a.txt").unlink()
        (folder / "a.txt").symlink_to("/proc/self/mem")
        line = f"{folder}/a.txt: want a readable annotation file, got Input/output error; check the path"
    elif what == "video":
        (folder / "a.mp4").write_bytes(b"")
        line = f"{folder}/a.mp4: want a media file, got an empty one; download or copy the file again"
    else:
        with (folder / "config.yaml").open("a") as file:
            file.write("shards: 4\n")
        line = f"{folder}/config.yaml: want YAML, got the key 'shards' again in line 10; mend the file"
    options = "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--configfile", "config.yaml"
    status, text = run(folder, "snakemake", "--dry-run", "--cores", "1", *options)
    assert (status, text.splitlines()[-1]) == (1, f"affpipe: {line}")
