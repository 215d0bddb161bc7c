"""What people read: written last, cheap, and named by everything that it depends on."""


rule publish:
    input:
        ancient(everything()),
    output:
        report(PLAN.published(), category="run"),
    params:
        run=PLAN.run,
    log:
        str(LOGS / "publish" / f"{PLAN.run}.log"),
    benchmark:
        str(LOGS / "publish" / f"{PLAN.run}.tsv")
    message:
        f"publish {PLAN.settings.results}/{PLAN.settings.name}"
    shell:
        "{AFFPIPE} job publish --settings {SETTINGS:q} --out {output:q} > {log:q} 2>&1 || {{ tail -n 1 {log:q} >&2; exit 2; }}"
