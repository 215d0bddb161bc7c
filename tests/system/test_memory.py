"""Freed memory."""

import subprocess
import sys


def test_a_freed_block_serves_the_next_one() -> None:
    """Pages that were handed back would be faults again."""
    code = """
import resource, sys
import numpy as np
from affpipe.system.memory import keep
if sys.argv[1] == "keep":
    keep()
np.ones(2**27, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**27, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {how: int(subprocess.check_output([sys.executable, "-c", code, how], text=True)) for how in ("keep", "leave")}
    assert 4 * faults["keep"] < faults["leave"]
