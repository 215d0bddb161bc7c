"""The benchmarks' own arithmetic: turns, medians, goals, and that arms which disagree give no figure."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.speed.arms import Cost, DisagreeError, Row, measure, ratio, take_turns
from benchmarks.speed.table import markdown

ROOT = Path(__file__).resolve().parents[2]


def same(outputs):
    if len(set(outputs.values())) > 1:
        raise DisagreeError(str(outputs))
    return "equal"


def row(value, goal, *, at_most=False):
    costs = {"reference": Cost(8.0, 9.0, 100.0), "ours": Cost(2.0, 3.0, 1.0)}
    return Row("work", "frame", costs, "reference : ours", value, goal, "equal", at_most)


def test_every_arm_runs_once_to_warm_up_and_then_in_each_round():
    ran = []
    arms = {name: lambda name=name: ran.append(name) for name in "abc"}
    take_turns(arms, units=1, rounds=3, compare=same)
    assert "".join(ran) == "abc" + "abc" + "bca" + "cab"


def test_a_cost_is_of_one_unit_and_knows_work_from_waiting():
    def work():
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass

    busy, idle = measure(work, units=10), measure(lambda: time.sleep(0.1), units=10)
    assert 10 <= busy.cpu_ms < 30
    assert idle.cpu_ms < 3
    assert min(busy.wall_ms, idle.wall_ms) >= 10


def test_the_peak_is_what_an_arm_held_beyond_what_was_there():
    """In a process of its own: one that keeps freed memory has room for the arm already."""
    code = """
import numpy as np
from benchmarks.speed.arms import MB, measure
kept = np.ones(64 * MB, np.uint8)
print(measure(lambda: np.ones(128 * MB, np.uint8).sum()).peak_mb, kept.all())
"""
    peak_mb, kept = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split()
    assert 120 < float(peak_mb) < 160
    assert kept == "True"


def test_arms_that_disagree_have_no_figure():
    with pytest.raises(DisagreeError):
        take_turns({"reference": lambda: 1, "ours": lambda: 2}, units=1, rounds=1, compare=same)


def test_a_ratio_is_of_cpu_time():
    assert ratio(row(4, 4).costs) == 4.0
    assert ratio(row(4, 4).costs, "ours", "reference") == 0.25


def test_a_goal_is_reached_from_its_side():
    assert row(4.0, 4.0).reached
    assert not row(3.9, 4.0).reached
    assert row(1.1, 1.1, at_most=True).reached
    assert not row(1.2, 1.1, at_most=True).reached
    assert row(1.2, None).reached is None


def test_the_table_says_what_was_missed():
    assert markdown([row(3.9, 4.0).plain(), row(4.0, 4.0).plain()]).splitlines()[2:] == [
        "| work, a frame | reference 8, ours 2 | 9, 3 | 100, 1 | reference : ours | 3.9 | ≥ 4 **missed** | equal |",
        "| work, a frame | reference 8, ours 2 | 9, 3 | 100, 1 | reference : ours | 4 | ≥ 4 | equal |",
    ]
