"""Apply jobs: one a stage and shard. The index is the output that Snakemake tracks; the streams lie beside it in the store.

Inputs are `ancient`: an index under its name is right whatever its age, so nothing hangs on modification times.
"""

for _stage in APPLY:

    rule:
        name:
            f"apply_{_stage}"
        input:
            ancient(indexes_read_by(_stage)),
        output:
            f"{PLAN.folder(_stage)}/shards/{{shard}}-{{members}}.json",
        params:
            stage=_stage,
        log:
            str(LOGS / f"apply_{_stage}" / "{shard}-{members}.log"),
        benchmark:
            str(LOGS / f"apply_{_stage}" / "{shard}-{members}.tsv")
        threads: 1
        resources:
            gpu=gpus(_stage),
            mem_mb=memory(_stage),
            runtime=minutes(_stage),
        message:
            "{params.stage}: shard {wildcards.shard}"
        shell:
            "{AFFPIPE} job apply {params.stage} --settings {SETTINGS:q} --shard {wildcards.shard}"
            " --members {wildcards.members} --index {output:q} --threads {threads} > {log:q} 2>&1"


for _model in MODELS:

    rule:
        name:
            f"apply_{_model}"
        input:
            ancient(indexes_read_by(_model)),
            fit=ancient(PLAN.fitted(_model)),
        output:
            f"{PLAN.folder(_model)}/shards/{{shard}}-{{members}}.json",
        params:
            stage=_model,
        log:
            str(LOGS / f"apply_{_model}" / "{shard}-{members}.log"),
        benchmark:
            str(LOGS / f"apply_{_model}" / "{shard}-{members}.tsv")
        threads: 1
        resources:
            gpu=gpus(_model),
            mem_mb=memory(_model),
            runtime=minutes(_model),
        message:
            "{params.stage}: predict shard {wildcards.shard}"
        shell:
            "{AFFPIPE} job apply {params.stage} --settings {SETTINGS:q} --shard {wildcards.shard}"
            " --members {wildcards.members} --index {output:q} --threads {threads} > {log:q} 2>&1"
