from snakemake.utils import min_version, validate

from affpipe.core.extensions import others

min_version("9.27")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/apply.smk"
include: "workflow/rules/fit.smk"
include: "workflow/rules/publish.smk"


if not others():  # the file knows our own parts; the plan has checked the settings of every part by the schema of what is installed
    validate(PLAN.settings.model_dump(mode="json"), "workflow/schemas/config.schema.json", set_default=False)


localrules:
    all,
    publish,


rule all:
    default_target: True
    input:
        PLAN.published(),
        everything(),
