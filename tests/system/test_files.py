"""Small files read whole: what stands in place of a file is said, and nothing is waited for."""

import os
import socket
from pathlib import Path

import pytest

from affpipe.core.errors import ManifestError
from affpipe.system.files import instead_of_file, lines, read_bytes, read_text


def stand(folder: Path, what: str) -> Path:
    path = folder / "x"
    match what:
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a device":
            path.symlink_to("/dev/zero")
        case "a socket":
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(os.path.relpath(path))  # a name of at most 108 bytes
        case "Too many levels of symbolic links":
            path.symlink_to("x")
        case "":
            path.write_text("a")
    return path


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a device", "a socket", "Too many levels of symbolic links", "nothing", ""])
def test_it_is_said_what_stands_in_place_of_a_file(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    path = stand(tmp_path, what)
    assert instead_of_file(path) == what
    if what:
        got = {"a folder": "Is a directory", "nothing": "No such file or directory"}.get(what, what)
        with pytest.raises(ManifestError) as caught:
            read_bytes(path, "list", ManifestError, "check it")
        assert str(caught.value) == f"{path}: want a readable list, got {got}; check it"


def test_lines_end_as_in_editors():
    assert lines("") == []
    assert lines("a\nb\r\nc\rd") == ["a", "b", "c", "d"]
    assert lines("\n\r\n\r") == ["", "", ""]
    odd = "a\f\v\x1c\x1d\x1e\x85\u2028\u2029b"
    assert lines(f"{odd}\n{odd}") == [odd, odd]


def test_a_name_that_is_too_long_is_no_file(tmp_path):
    assert instead_of_file(tmp_path / ("x" * 300)) == "File name too long"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a\r\nb", "a\r\nb"),
        (b"\xef\xbb\xbfa", "a"),
        (b"", ""),
        ("a".encode("utf-16"), "UTF-16"),
        ("a\nb\né".encode("latin-1"), "bytes in line 3 that are not UTF-8"),
    ],
)
def test_text_is_utf8_with_or_without_a_mark(tmp_path, data, said):
    path = tmp_path / "x"
    path.write_bytes(data)
    if said in ("UTF-16", "bytes in line 3 that are not UTF-8"):
        with pytest.raises(ManifestError) as caught:
            read_text(path, "list", ManifestError, "check it")
        assert str(caught.value) == f"{path}: want a readable list, got {said}; save it as text in UTF-8"
    else:
        assert read_text(path, "list", ManifestError, "check it") == said
