"""A plan of many streams, as `snakemake -n` makes it: 600 streams of 600 videos, settings of config.yaml, default shards.

ours: the plan for a store that is empty, and for one that holds everything. floor: Snakemake's own plan of a Snakefile with one rule and
nothing to do, which is its start.
"""

import tempfile
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

from benchmarks.planning import finish_here, prepare
from benchmarks.speed.arms import DisagreeError, Row, take_turns

GOAL_S = 5.0
ONE_RULE = 'rule all:\n    input: "Snakefile"\n'


def rows(*, quick: bool) -> list[Row]:
    """One row a state of the store."""
    streams = 60 if quick else 600
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(Path(folder) / "planning", streams)
        empty = Path(folder) / "empty"
        empty.mkdir()
        (empty / "Snakefile").write_text(ONE_RULE)
        out = []
        for store_is in ("empty", "finished"):
            if store_is == "finished":
                with chdir(workspace.folder):
                    finish_here()

            def ours() -> int:
                return sum(workspace.planned("--quiet", "rules").values())

            def floor() -> int:
                where = ("--directory", str(empty), "--snakefile", str(empty / "Snakefile"))
                workspace.run("-m", "snakemake", "--cores", "1", "--dry-run", "--quiet", "rules", *where)
                return 0

            def compare(outputs: Mapping[str, Any], finished: bool = store_is == "finished") -> str:
                if (outputs["ours"] == 0) is not finished:
                    raise DisagreeError(f"{outputs['ours']} jobs planned")
                return f"{outputs['ours']} jobs"

            costs, outputs = take_turns({"ours": ours, "floor": floor}, units=1, rounds=1 if quick else 5, compare=compare)
            what, figure = f"snakemake -n, {streams} streams, store {store_is}", "seconds by the clock"
            out.append(Row(what, "plan", costs, figure, costs["ours"].wall_ms / 1000, GOAL_S, outputs, at_most=True))
    return out
