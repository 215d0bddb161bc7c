"""Runs of frames: every run of True is there once, from its first frame to the one behind its last."""

import numpy as np
import pytest

from affpipe.core.axis import runs


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [([], []), ([0], []), ([1], [(0, 1)]), ([1, 1, 0, 1], [(0, 2), (3, 4)]), ([0, 1, 0, 0, 1, 1], [(1, 2), (4, 6)])],
)
def test_runs_of_true_are_found_one_by_one(flags, wanted):
    assert [tuple(run) for run in runs(np.array(flags, bool)).tolist()] == wanted


def test_runs_put_the_flags_together_again():
    flags = np.random.default_rng(0).random(500) < 0.6
    again = np.zeros(500, bool)
    for start, stop in runs(flags):
        assert not again[max(0, start - 1) : stop + 1].any()  # none touches another
        again[start:stop] = True
    assert (again == flags).all()
