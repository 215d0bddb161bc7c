"""Apply jobs: one a stage or model and shard. The index is the output that Snakemake tracks; the streams lie beside it in the store.

Inputs are `ancient`: an index under its name is right whatever its age, so nothing hangs on modification times. A job is told its index and
nothing else: two recipes that call a feature by different names make the same index by the same command, and neither makes it again.
Outputs are `update`: one that another workflow on the same store has made since planning is right, and must not be deleted before the job.
"""

for _name in PLAN.names:

    rule:
        name:
            f"apply_{_name}"
        input:
            ancient(inputs_of(_name)),
        output:
            update(f"{PLAN.folder(_name)}/shards/{{shard}}-{{members}}.json"),
        log:
            str(LOGS / f"apply_{_name}" / "{shard}-{members}.log"),
        benchmark:
            str(LOGS / f"apply_{_name}" / "{shard}-{members}.tsv")
        threads: 1
        resources:
            gpu=gpus(_name),
            mem_mb=memory(_name),
            runtime=minutes(_name),
        message:
            f"{_name}: shard {{wildcards.shard}}"
        shell:
            "{AFFPIPE} job apply --settings {SETTINGS:q} --index {output:q} --threads {threads} > {log:q} 2>&1"
            " || {{ tail -n 1 {log:q} >&2; exit 2; }}"
