"""The mutated files of the benchmark: the same each time, damaged where they should be, tried as in a job, taken up where it stopped."""

import json
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.fuzz import FAULTS, MUTATIONS, OUTCOMES, Clip, Task


@pytest.fixture
def clip(tmp_path) -> Clip:
    path = tmp_path / "x.mp4"
    path.write_bytes(bytes(i % 251 for i in range(5000)))
    return Clip(path, 1000)


def test_a_file_is_a_function_of_seed_and_number(clip):
    made = {(seed, n): fuzz.damage(Task(n, seed, (clip,))) for seed in (0, 1) for n in range(40)}
    assert made == {(seed, n): fuzz.damage(Task(n, seed, (clip,))) for seed in (0, 1) for n in range(40)}
    assert len({data for *_, data in made.values()}) > 70
    assert {kind for _, kind, *_ in made.values()} == set(MUTATIONS)


def test_every_second_file_is_as_it_was_up_to_its_first_frame(clip):
    sound = clip.path.read_bytes()
    for n in range(400):
        _, kind, behind, data = fuzz.damage(Task(n, 0, (clip,)))
        assert behind is (n % 2 == 1)
        if behind:
            assert data[: clip.behind] == sound[: clip.behind]
        assert (len(data) < len(sound)) is (kind == "cut")
    assert any(fuzz.damage(Task(n, 0, (clip,)))[3][:1000] != sound[:1000] for n in range(0, 40, 2))


def test_a_stop_costs_the_file_under_way_at_most(tmp_path):
    path = tmp_path / "seed0.jsonl"
    assert fuzz.known(path, 10) == {}
    path.write_text(json.dumps({"number": 3}) + "\n" + json.dumps({"number": 11}) + "\n" + '{"number": 4, "cli')
    assert fuzz.known(path, 10) == {3: {"number": 3}}


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Clip:
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz, "FORMATS", {"fast.mp4": fuzz.FORMATS["fast.mp4"]})
        (made,) = fuzz.make(folder)
    return made


def tried(path: Path, folder: Path) -> tuple[str, str]:
    folder.mkdir()
    return fuzz.stages(path, folder)


def test_what_became_of_a_file_is_told_from_its_streams(one, tmp_path):
    assert tried(one.path, tmp_path / "sound") == (OUTCOMES[0], "")
    half = tmp_path / "half.mp4"
    half.write_bytes(one.path.read_bytes()[: one.behind + (one.path.stat().st_size - one.behind) // 2])
    outcome, reason = tried(half, tmp_path / "cut")
    assert outcome == OUTCOMES[1]
    assert "before its declared duration" in reason
    half.write_bytes(b"no video at all" * 9)
    assert tried(half, tmp_path / "none")[0] == OUTCOMES[2]
    half.write_bytes(b"")
    assert tried(half, tmp_path / "empty")[0] == OUTCOMES[2]


def test_the_first_frame_comes_of_what_is_never_damaged_alone(one, tmp_path):
    """Cut there, the file still gives a frame."""
    path = tmp_path / "a.mp4"
    path.write_bytes(one.path.read_bytes()[: one.behind])
    assert tried(path, tmp_path / "first")[0] in OUTCOMES[:2]


def test_an_exception_that_leaves_a_job_is_told_and_is_no_outcome(one, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of the job")

    monkeypatch.setattr(fuzz.logging, "disable", lambda: None)
    monkeypatch.setattr(fuzz.resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(fuzz, "stages", broken)
    line = fuzz.attempt(Task(7, 0, (one,)))
    assert (line["outcome"], line["reason"], line["number"], line["behind"]) == (FAULTS[0], "ZeroDivisionError: of the job", 7, True)
