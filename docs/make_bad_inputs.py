"""Write docs/bad-inputs.md: `python docs/make_bad_inputs.py`. tests/hostile/test_bad_inputs.py holds the two together.

Each line of the table is what affpipe says when it is given that input, now: the cases are those of tests/helpers/bad_inputs.py.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from bad_case import Said, outcome
from bad_inputs import CASES

PAGE = Path(__file__).with_name("bad-inputs.md")
HEAD = """\
# Bad inputs

Made by `python docs/make_bad_inputs.py` from the cases in `tests/helpers/bad_inputs.py`; do not edit.

What affpipe says of {} inputs that are not as they should be: each was made, given, and its line copied here, with the folder's path left
out. None ends in a traceback, none is passed over, none keeps you waiting. Lines of other faults are in
[troubleshooting.md](troubleshooting.md).

How it ends:

- *refused*: one line before any job, status 2; or when a job loads its network. `affpipe manifest check` gives all lines of a manifest.
- *failed*: the job does its other streams, then ends with this line; with `on_error: skip` the run goes on, and `failures.csv` has it.
- *absent*: no fault; there is nothing of this kind to make, and `failures.csv` says so.
- *done*: it is used. What should be looked at is a warning in the log of the job.

Settings that come by `--configfile` are read by Snakemake first: of a file that is missing, or that is no YAML, Snakemake speaks in its own
words. `affpipe cache gc --config config.yaml my.yaml` reads the same files without it.

| | input | ends | line | do |
| --- | --- | --- | --- | --- |
"""


def page(said: Mapping[str, Said]) -> str:
    """The whole page, with what was said of each case, by its name."""
    return HEAD.format(len(CASES)) + "".join(
        f"| {case.group} | {case.name} | {said[case.name].ends} | {_code(said[case.name].line)} | {case.todo} |\n" for case in CASES
    )


def _code(line: str) -> str:
    """A line as code in a cell of a table."""
    line = line.replace("|", "\\|")
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def main() -> None:
    said = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            said[case.name] = outcome(case, Path(folder).resolve())
    PAGE.write_text(page(said), encoding="utf-8")


if __name__ == "__main__":
    main()
