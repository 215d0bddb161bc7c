"""Fit jobs: one a model, on the streams of the group `fit`."""

for _model in MODELS:

    rule:
        name:
            f"fit_{_model}"
        input:
            ancient(indexes_fitted_on(_model)),
        output:
            PLAN.fitted(_model),
        params:
            model=_model,
        log:
            str(LOGS / f"fit_{_model}" / f"{PLAN.key(_model)}.log"),
        benchmark:
            str(LOGS / f"fit_{_model}" / f"{PLAN.key(_model)}.tsv")
        threads: 1
        resources:
            gpu=gpus(_model),
            mem_mb=16000,
            runtime=720,
        message:
            "{params.model}: fit"
        shell:
            "{AFFPIPE} job fit {params.model} --settings {SETTINGS:q} --out {output:q} --threads {threads} > {log:q} 2>&1 || {{ tail -n 1 {log:q} >&2; exit 2; }}"
