"""The setting `umask`: who can read what a run writes."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.workspace import Workspace

from affpipe.core.errors import SettingsError
from affpipe.plan import config
from affpipe.system import disk

FACE = "shards: 1\nfeatures: {qwen3vl: null, wavlm: null}\nmodels: {behaviour: null, voice: null, fused: null}\npublish: face\n"


@pytest.fixture(autouse=True)
def mask_as_it_was() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_nothing_that_a_run_writes_can_be_read_by_others_where_the_settings_say_so(tmp_path):
    workspace = Workspace(tmp_path / "workspace", {"clip1": "train", "clip4": "validation"}, recipe=f'{FACE}umask: "077"\n')
    workspace.snakemake()
    made = [path for top in ("cache", "results", "logs") for path in (workspace.folder / top, *(workspace.folder / top).rglob("*"))]
    assert len(made) > 60
    assert [path for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    keys = {path.parent.name for path in workspace.folder.glob("cache/*/*/*.h5")}
    workspace.settings(FACE)
    assert workspace.planned() == {}
    assert {path.parent.name for path in workspace.folder.glob("cache/*/*/*.h5")} == keys


def test_the_settings_only_take_rights(tmp_path):
    """A run of others, whose settings `affpipe predict` reads, opens nothing."""
    for umask, mode in ((None, 0o644), ("000", 0o644), ("007", 0o640), ("0077", 0o600), ("022", 0o600)):
        disk.mask(umask)
        disk.write_text(tmp_path / f"{umask}.txt", "mine")
        assert stat.S_IMODE((tmp_path / f"{umask}.txt").stat().st_mode) == mode


@pytest.mark.parametrize("umask", ["78", "7", "u=rwx", "0o77", "-77", "10077"])
def test_what_is_no_umask_is_refused(umask):
    data = config.layered([Path(__file__).resolve().parents[2] / "config.yaml"])
    config.parse(data | {"umask": "027"})
    with pytest.raises(SettingsError, match="umask"):
        config.parse(data | {"umask": umask})
