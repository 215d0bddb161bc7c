"""Apply jobs: one a stage or model and shard. The index is the output that Snakemake tracks; the streams lie beside it in the store.

Inputs are `ancient`: an index under its name is right whatever its age, so nothing hangs on modification times.
"""

for _name in PLAN.names:

    rule:
        name:
            f"apply_{_name}"
        input:
            ancient(inputs_of(_name)),
        output:
            f"{PLAN.folder(_name)}/shards/{{shard}}-{{members}}.json",
        params:
            stage=_name,
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
            "{params.stage}: shard {wildcards.shard}"
        shell:
            "{AFFPIPE} job apply {params.stage} --settings {SETTINGS:q} --shard {wildcards.shard}"
            " --members {wildcards.members} --index {output:q} --threads {threads} > {log:q} 2>&1 || {{ tail -n 1 {log:q} >&2; exit 2; }}"
