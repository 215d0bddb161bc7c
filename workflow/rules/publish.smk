"""What people read: written last, cheap, and named by everything that it depends on."""


rule publish:
    input:
        ancient(everything()),
    output:
        report(PLAN.published(), category="run"),
    params:
        run=PLAN.run,
    log:
        logs("publish", PLAN.run),
    benchmark:
        logs("publish", PLAN.run).replace(".log", ".tsv")
    message:
        f"publish {PLAN.settings.results}/{PLAN.settings.name}"
    shell:
        "{AFFPIPE} job publish --settings {SETTINGS:q} --out {output:q} > {log:q} 2>&1 " f"{OR_TELL}"
