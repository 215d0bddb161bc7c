"""Work in other processes: what hangs is killed, what dies is said, and nothing else is lost."""

import os
import time
from pathlib import Path

from affpipe.system import disk
from affpipe.system.processes import Late, in_processes


def test_every_item_has_its_result():
    assert dict(in_processes(abs, range(-20, 0), processes=3)) == {item: -item for item in range(-20, 0)}


def test_work_that_hangs_is_killed_and_the_rest_goes_on():
    begun = time.monotonic()
    found = dict(in_processes(time.sleep, [600, 0.01, 0.02], processes=2, limit_s=60, each_s=5))
    assert found.pop(600) == Late(gone=False)
    assert found == {0.01: None, 0.02: None}
    assert time.monotonic() - begun < 60


def test_a_process_that_dies_loses_its_item_alone():
    found = list(in_processes(os._exit, [1, 2, 3], processes=1, limit_s=60, each_s=30))
    assert found == [(item, Late(gone=True)) for item in (1, 2, 3)]


def test_what_hangs_or_dies_among_many_loses_nothing_behind_it():
    items = [*range(10), "hangs", *range(10, 20), "dies", *range(20, 60)]  # more than one process gets at once
    found = list(in_processes(odd, items, processes=1, each_s=3))
    assert [item for item, _ in found] == items
    assert dict(found) == {item: item for item in range(60)} | {"hangs": Late(), "dies": Late(gone=True)}


def odd(item: object) -> object:
    if item == "hangs":
        time.sleep(600)
    if item == "dies":
        os._exit(1)
    return item


def test_what_is_not_reached_in_time_is_not_given():
    assert dict(in_processes(time.sleep, [30, 31], processes=1, limit_s=0.5, each_s=60)) == {}
    assert list(in_processes(time.sleep, [], processes=4, limit_s=1, each_s=1)) == []


def test_nothing_is_at_work_any_more_once_its_caller_has_enough(tmp_path):
    pids = [tmp_path / "0", tmp_path / "1"]
    for _ in in_processes(begun_and_stays, [*pids, tmp_path / "gives its id"], processes=3):
        break
    assert not any(disk.is_running(int(path.read_text())) for path in pids)


def begun_and_stays(path: Path) -> None:
    path.write_text(str(os.getpid()))
    if path.name in "01":
        time.sleep(600)
    while not all((path.parent / name).is_file() and (path.parent / name).read_text() for name in "01"):
        time.sleep(0.01)
