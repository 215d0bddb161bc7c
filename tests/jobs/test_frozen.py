"""Settings that jobs read lie in the cache under the digest of what they say: it is worked out again whenever they are read."""

import json
from pathlib import Path

import pytest
from limits import refused

from affpipe.core.errors import SettingsError
from affpipe.jobs import start


@pytest.fixture
def plan(small_plan, tmp_path):
    plan = small_plan("ab")
    manifest = tmp_path / "manifest.csv"
    (tmp_path / "labels.txt").write_text("valence,arousal\n0,0\n")
    rows = [
        f"{row.stream_id},{row.video},{part},{tmp_path}/labels.txt" for row, part in zip(plan.rows, ("train", "validation"), strict=True)
    ]
    manifest.write_text("\n".join(["stream_id,video,partition,va", *rows]) + "\n")
    return start.plan_from(plan.settings.model_copy(update={"manifest": str(manifest), "data_root": ""}))


def planted(whole: str) -> dict[str, str | bytes]:
    """Name -> what lies in place of the settings."""
    other = json.loads(whole)
    return {
        "truncated": whole[: len(whole) // 2],
        "empty": "",
        "no JSON": b"\xff\xfe\x00",
        "other results": json.dumps(other | {"results": "/elsewhere"}),
        "one thing more": json.dumps(other | {"more": 1}),
        "of another type": "[1, 2]",
        "true for one": whole.replace("true", "1", 1),
    }


CASES = list(planted("{}"))


@pytest.mark.parametrize("case", CASES)
def test_settings_that_are_not_those_of_their_name_are_refused_by_a_job_and_written_anew_by_the_workflow(plan, caplog, case):
    path = start.freeze(plan.settings)
    whole = path.read_text()
    content = planted(whole)[case]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(
        lambda: start.frozen(path), SettingsError, f"{path}: want resolved settings, got", "run the workflow again, which writes them anew"
    )
    assert start.freeze(plan.settings) == path
    assert f"{path}: not the settings that its name says; written anew" in caplog.text
    assert path.read_text() == whole
    assert start.frozen(path).settings == plan.settings


def test_settings_that_are_as_they_should_be_stay_untouched(plan, caplog):
    path = start.freeze(plan.settings)
    before = path.stat()
    assert start.freeze(plan.settings) == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert not caplog.text
    assert path.parent == Path(plan.settings.cache) / "settings"


def test_the_form_of_the_text_is_no_part_of_it(plan):
    """Sorted, in one line: the same settings."""
    path = start.freeze(plan.settings)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert start.frozen(path).settings == plan.settings


def test_a_link_in_place_of_the_settings_is_replaced_and_its_target_left_alone(plan, tmp_path):
    path = start.freeze(plan.settings)
    path.unlink()
    (tmp_path / "mine").write_text("mine")
    path.symlink_to(tmp_path / "mine")
    start.freeze(plan.settings)
    assert not path.is_symlink()
    assert (tmp_path / "mine").read_text() == "mine"
