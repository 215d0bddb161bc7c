"""The profiles name options that Snakemake knows and rules that there are, and take effect."""

import re

import pytest
import yaml
from small_workspace import ROOT
from snakemake import cli
from snakemake.resources import Resource

from affpipe.plan.config import load

PROFILES = ROOT / "workflow/profiles"
NAMES = ["default", "slurm", "site"]
OF_SITE = {"constraint", "gpu", "gres", "mem_mb", "qos", "runtime", "slurm_account", "slurm_partition"}  # resources that the plugin reads


def content(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text(encoding="utf-8"))


def options(*command: str):
    """What Snakemake makes of a command line and the profile that it loads, run from the root of the repository."""
    return cli.parse_args(list(command))[1]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("SNAKEMAKE_PROFILE", "SNAKEMAKE_SLURM_PARTITIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_known_and_written_as_snakemake_writes_them(name):
    known = {action.dest: action for action in cli.get_argument_parser()._actions}
    for option in content(name):
        assert f"--{option}" in known[option.replace("-", "_")].option_strings


@pytest.mark.parametrize("name", NAMES)
def test_options_that_are_commented_out_are_known_too(name):
    known = {option for action in cli.get_argument_parser()._actions for option in action.option_strings}
    text = (PROFILES / name / "config.yaml").read_text(encoding="utf-8")
    assert {f"--{option}" for option in re.findall(r"^# ([a-z-]+):", text, re.MULTILINE)} <= known


def test_the_profile_of_a_workstation_is_loaded_unasked_and_another_takes_its_place():
    alone = options("--cores", "2")
    assert alone.resources["gpu"].value == 1
    assert alone.rerun_incomplete
    assert options("--cores", "2", "--resources", "gpu=4").resources["gpu"].value == 4
    slurm = options("--workflow-profile", "workflow/profiles/slurm")
    assert "gpu" not in slurm.resources
    assert slurm.executor == "slurm"


def test_the_profile_for_slurm_says_what_it_means():
    args = options("--workflow-profile", "workflow/profiles/slurm")
    assert (args.jobs, args.retries, args.latency_wait, args.keep_going, args.rerun_incomplete) == (100, 2, 60, True, True)
    assert (str(args.slurm_logdir), args.slurm_requeue, args.slurm_keep_successful_logs) == ("logs/slurm", True, True)
    assert args.show_failed_logs


def test_the_template_of_a_site_holds_what_the_profile_for_slurm_holds():
    slurm, site = content("slurm"), content("site")
    assert slurm["default-resources"].items() <= site["default-resources"].items()
    assert {k: v for k, v in slurm.items() if k != "default-resources"}.items() <= {k: v for k, v in site.items() if k in slurm}.items()


def test_the_template_of_a_site_names_rules_and_resources_that_there_are():
    rules = content("site")["set-resources"]
    settings = load([ROOT / "config.yaml"])
    named = {f"apply_{name}" for name in (*settings.features, *settings.models)} | {f"fit_{name}" for name in settings.models}
    assert rules.keys() <= named | {"apply_grada"}
    assert set().union(*rules.values()) | set(content("site")["default-resources"]) <= OF_SITE
    for wanted in rules.values():
        assert ("gres" in wanted) is (wanted.get("gpu") == 0)  # by one or the other


def test_the_template_of_a_site_says_what_it_means_once_its_names_are_filled_in(tmp_path):
    def value(resource: Resource, attempt: int = 1) -> int | str:
        return resource.evaluate(None, input=[], attempt=attempt, threads=1, rulename="any", async_run=None).value

    (tmp_path / "config.yaml").write_text(re.sub(r"<([^> ]+)>", r"\1", (PROFILES / "site/config.yaml").read_text(encoding="utf-8")))
    args = options("--workflow-profile", str(tmp_path))
    assert value(args.default_resources["slurm_account"]) == "account"
    rules = args.set_resources
    assert value(rules["apply_qwen3vl"]["constraint"]) == "a100|h100"
    assert [value(rules["apply_qwen3vl"]["mem_mb"], attempt) for attempt in (1, 2)] == [48000, 96000]
    assert value(rules["apply_face"]["slurm_partition"]) == "gpu"
    assert (value(rules["fit_fused"]["gres"]), value(rules["fit_fused"]["gpu"])) == ("gpu:a100:1", 0)
