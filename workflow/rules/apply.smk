"""Apply jobs: one a stage or model and shard. The index is the output that Snakemake tracks; the streams lie beside it in the store.

Inputs are `ancient`: an index under its name is right whatever its age, so nothing hangs on modification times. For the same reason an
output is flagged `update`: Snakemake then leaves one that another workflow on the same cache has made in the meantime, in place of deleting
it when a job starts. A job is told its index and nothing else that differs between recipes: two that call a feature by different names make
the same index, and neither makes it again.
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
            logs(f"apply_{_name}"),
        benchmark:
            logs(f"apply_{_name}").replace(".log", ".tsv")
        threads: resources.of_apply(PLAN, _name).threads
        resources:
            gpu=resources.of_apply(PLAN, _name).gpu,
            mem_mb=need_of_apply("mem_mb", _name),
            runtime=need_of_apply("minutes", _name),
        message:
            f"{_name}: shard {{wildcards.shard}}"
        shell:
            "{AFFPIPE} job apply --settings {SETTINGS:q} --index {output:q} --threads {threads} > {log:q} 2>&1 " f"{OR_TELL}"
