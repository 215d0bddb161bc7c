"""What jobs ask of a node."""

from pathlib import Path

import pytest
import yaml

from affpipe.core.stage import LIGHT, Need
from affpipe.encoders.table import ENCODERS
from affpipe.faces.stages import YOLO
from affpipe.jobs import resources
from affpipe.models.part import FIT, LARGE_FIT
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())


def plan(**over: object) -> Plan:
    return Plan(parse(overlay(DEFAULT, over)), [])


def test_without_a_gpu_in_the_settings_no_job_asks_for_one():
    found = plan()
    assert {resources.of_apply(found, name).gpu for name in found.names} == {0}
    assert {resources.of_fit(found, model).gpu for model in found.settings.models} == {0}


def test_networks_and_models_ask_for_a_gpu_and_nothing_else_does():
    found = plan(device="cuda")
    asking = {name for name in found.names if resources.of_apply(found, name).gpu}
    assert asking == {"qwen3vl", "wavlm", *found.settings.models}
    assert {resources.of_fit(found, model).gpu for model in found.settings.models} == {1}


def test_faces_ask_for_one_where_their_detector_is_a_network():
    assert resources.of_apply(plan(device="cuda"), "faces") == LIGHT
    assert resources.of_apply(plan(device="cuda", faces={"detector": "yolo"}), "faces") == YOLO


def test_several_videos_at_a_time_are_for_networks_on_a_gpu_that_decode_as_they_go():
    faces = {"detector": "yolo"}
    found = plan(device="cuda", faces=faces)
    assert {name for name in found.names if resources.of_apply(found, name).threads > 1} == {"faces", "qwen3vl"}
    at_cpu = plan(faces=faces)
    assert {resources.of_apply(at_cpu, name).threads for name in at_cpu.names} == {1}
    assert {resources.of_fit(found, model).threads for model in found.settings.models} == {1}


@pytest.mark.parametrize(("model", "need"), [("face", FIT), ("voice", LARGE_FIT), ("fused", LARGE_FIT)])
def test_fits_that_hold_more_ask_for_more(model, need):
    assert resources.of_fit(plan(device="cuda"), model) == need


def test_a_model_that_runs_an_encoder_within_itself_asks_for_what_that_asks():
    found = plan(models={"voice": {"cache_frozen": False, "standardise": False}})
    assert resources.of_apply(found, "voice").mem_mb == ENCODERS["wavlm"].needs.mem_mb


def test_each_try_gets_half_as_much_again():
    need = Need(1, 1000, 60)
    assert [need.again(n) for n in (1, 2, 3)] == [need, Need(1, 1500, 90), Need(1, 2250, 135)]
