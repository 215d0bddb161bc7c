"""Fit jobs: one a model, on the streams of the group `fit`; with cross-fit one more a fold, on what lies outside of it.

Outputs are `update`, as those of apply jobs.
"""

for _model in MODELS:
    for _fold in PLAN.fits(_model):

        rule:
            name:
                f"fit_{_model}" + ("" if _fold is None else f"_fold{_fold}")
            input:
                ancient(indexes_fitted_on(_model)),
                ancient([] if _fold is None else PLAN.fitted(_model)),
            output:
                update(PLAN.fitted(_model, _fold)),
            params:
                model=_model,
                fold="" if _fold is None else f" --fold {_fold}",
            log:
                logs(f"fit_{_model}", PLAN.key(_model) + ("" if _fold is None else f"-{_fold}")),
            benchmark:
                logs(f"fit_{_model}", PLAN.key(_model) + ("" if _fold is None else f"-{_fold}")).replace(".log", ".tsv")
            threads: 1
            resources:
                gpu=resources.of_fit(PLAN, _model).gpu,
                mem_mb=need_of_fit("mem_mb", _model),
                runtime=need_of_fit("minutes", _model),
            message:
                "{params.model}: fit{params.fold}"
            shell:
                "{AFFPIPE} job fit {params.model}{params.fold} --settings {SETTINGS:q} --out {output:q} --threads {threads} > {log:q} 2>&1 " f"{OR_TELL}"
