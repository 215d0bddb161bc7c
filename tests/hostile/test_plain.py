"""Text of others on a terminal, in a log, in the ledger: it cannot steer a terminal, turn its direction, or write a line of its own."""

import ast
import csv
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from small_run import Run

import affpipe
from affpipe.cli import console, main
from affpipe.cli.console import print_table
from affpipe.core.errors import AffpipeError, SettingsError
from affpipe.core.plain import plain, say
from affpipe.plan.config import load
from affpipe.results import ledger

EVIL = {
    "title": "\x1b]0;owned\x07",
    "clear": "\x1b[2J\x1b[1;1H",
    "one byte": "\x9b31m",
    "line": "a\r\nb\vc\x85d\u2028e",
    "back": "safe\b\b\b\bevil",
    "right to left": "\u202egpj.exe",
    "isolate": "\u2066a\u2069",
    "mark": "\u200f\u061c",
    "hidden": "a\u200bb\ufeffc\u00add",
    "tag": "a\U000e0041",
    "surrogate": "a\udce9",
    "null": "a\0b",
    "delete": "a\x7f",
}
BAD = [
    chr(i) for i in (*range(32), *range(0x7F, 0xA0), *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0x61C, 0xFEFF)
]
ALL = "".join(EVIL.values())


@pytest.mark.parametrize("name", EVIL)
def test_what_does_not_print_as_itself_is_written_as_its_code(name):
    shown = plain(EVIL[name])
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("unicode_escape") == EVIL[name]
    assert plain(shown) == shown


def test_no_control_or_direction_mark_is_left():
    assert [c for c in BAD if plain(c) == c] == []


@pytest.mark.parametrize(
    "text", ["", "clip 1.mp4", "Tür – 100 %", "日本語　の名前", "النص", "हिन्दी", "a\u00a0b", "👩", r"C:\x1b", "e\u0301"]
)
def test_text_of_any_script_stays(text):
    assert plain(text) == text


def clean(text: str) -> None:
    assert not [c for c in text if c != "\n" and plain(c) != c], text


def test_an_error_is_one_clean_line(tmp_path, monkeypatch, capsys):
    """A key of a file of settings, which names itself in the error."""
    (tmp_path / "evil.yaml").write_text('"\\e]0;owned\\a\\nsafe, go on\\u202e": 1\n')
    with pytest.raises(SettingsError) as raised:
        load([tmp_path / "evil.yaml"])
    assert plain(str(raised.value)) == str(raised.value)
    monkeypatch.setattr(sys, "argv", ["affpipe", "estimate", "--config", str(tmp_path / "evil.yaml")])
    with pytest.raises(SystemExit):
        main.main()
    said = capsys.readouterr().err
    assert r"\x1b]0;owned\x07\nsafe, go on\u202e" in said
    assert said.count("\n") == 1
    clean(said)


def test_every_error_that_a_person_can_mend_is_clean_whatever_a_library_says():
    for kind in (AffpipeError, *AffpipeError.__subclasses__()):
        assert plain(f"{kind(ALL)}") == f"{kind(ALL)}"


def test_keys_of_a_checkpoint_cannot_forge_what_convert_says(tmp_path, monkeypatch, capsys):
    state = {"a": torch.zeros(2), f"b{ALL}": 3, "x\nx.safetensors: safe, go on": 4}
    torch.save({"state_dict": state, f"\x1b[1A{ALL}": 1}, tmp_path / "x.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["affpipe", "weights", "convert", "x.pt", "x.safetensors"])
    with pytest.raises(SystemExit) as left:
        main.main()
    said = capsys.readouterr()
    assert not left.value.code
    clean(said.out + said.err)
    assert len(said.out.splitlines()) == 2
    assert r"\x1b]0;owned\x07" in said.out


def test_a_record_of_the_log_is_one_line_and_a_traceback_its_own(capsys):
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(console.PlainFormatter("%(levelname)s %(message)s"))
    log = logging.Logger("x")
    log.addHandler(handler)
    log.warning("%s: undecodable\n12:00:00 INFO all is well", ALL)
    try:
        raise ValueError(ALL)
    except ValueError:
        log.exception("it failed")
    said = capsys.readouterr().err
    clean(said)
    assert said.splitlines()[0].startswith("WARNING")
    assert said.splitlines()[0].endswith(r"undecodable\n12:00:00 INFO all is well")
    assert said.splitlines()[1:3] == ["ERROR it failed", "Traceback (most recent call last):"]


def test_the_traceback_of_a_bug_and_a_warning_are_clean():
    """As a process of its own: both are set for the whole of it."""
    code = "from affpipe.cli.console import start_log; start_log(); "
    code += f"import warnings; warnings.warn({ALL!r}); raise KeyError, ValueError({ALL!r})"
    code = code.replace("raise KeyError, ", "raise ")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, errors="surrogateescape")
    assert done.returncode == 1
    assert "UserWarning: " + plain(ALL)[:9] in done.stderr
    assert "ValueError: " + plain(ALL)[:9] in done.stderr
    clean(done.stderr)


def test_lines_and_tables_are_clean(capsys):
    say(f"one {ALL}", "two\nthree")
    print_table(f"title {ALL}", (f"head {ALL}", "b"), [(f"cell {ALL}", "[red]b[/red]")])
    said = capsys.readouterr().out
    clean(said)
    assert said.splitlines()[1] == r"two\nthree"
    assert "[red]b[/red]" in said


def test_a_reason_in_the_ledger_is_clean_and_stays_in_its_cell(tmp_path):
    """Of an index that others wrote: the jobs' own reasons are clean before."""
    plan = Run(tmp_path).plan
    failure = ledger.Failure("a one", "audio", "failed", f'=1+1"{ALL}\n"b,c', "mend it", "voice", "no")
    ledger.write(plan, [failure])
    text = ledger.path(plan).read_text(encoding="utf-8")
    clean(text)
    assert len(text.splitlines()) == 2
    (row,) = csv.DictReader(text.splitlines())
    assert row["reason"] == plain(failure.reason)


def test_all_that_is_printed_passes_the_one_function():
    """`print` stands where text is made plain, and nowhere else in the package."""
    found = []
    for path in sorted(Path(affpipe.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo", "sys.stdout.write", "sys.stderr.write"):
                found.append(path.name)
    assert found == ["console.py", "plain.py"]


def test_json_that_is_printed_holds_no_control_of_its_own():
    assert "\x9b" not in json.dumps(ALL)
    clean(json.dumps(ALL))


def test_the_usual_form_of_warnings_is_kept():
    assert console._warning("a", UserWarning, "x.py", 3, line="") == warnings.formatwarning("a", UserWarning, "x.py", 3, line="")
