"""Where AFFPIPE_FAKES is set, `FAKES` of the package are the files beside this one, loaded when they are asked for.

Where AFFPIPE_FORKS is, the socket of ../server.py, a process that is to run affpipe or snakemake leaves that to a fork of the server.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

FAKES = {"affpipe.jobs.workers": "fake_workers.py", "affpipe.jobs.fitting": "fake_training.py"}


class Finder:
    """Finds the fakes before the package's own modules are looked for."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in FAKES:
            return None
        return spec_from_file_location(name, Path(__file__).with_name(FAKES[name]))


if "AFFPIPE_FAKES" in os.environ:
    sys.meta_path.insert(0, Finder)

if "AFFPIPE_FORKS" in os.environ and sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2] in ("affpipe", "snakemake"):
    import forked

    forked.run(os.environ["AFFPIPE_FORKS"])
