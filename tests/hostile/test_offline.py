"""Nothing touches the network unless it is asked to (`affpipe weights fetch`): the whole chain, with every attempt recorded and refused.

Attempts are seen by Python's audit events, which no way round the module `socket` avoids. Where the kernel lets it, the chain runs without
any network besides: what C++ or Rust might try there fails, and must not be missed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPY = """
import os, sys

EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def spy(event, arguments):
    if event in EVENTS and not (event == "socket.connect" and isinstance(arguments[1], (str, bytes))):  # a path is a socket of this machine
        with open(os.environ["ATTEMPTS"], "a") as file:
            print(event, arguments[1:], file=file)
        raise OSError(f"{event}: the network is not to be touched")


sys.addaudithook(spy)
"""
SETTINGS = """
name: offline
shards: 1
vad: {model: silero}
speech: {min_open_ratio: 0, min_coverage: 0, min_voice_ratio: 0}  # every window: what is made of them is read
features:
  grada: {encoder: grada, weights: grada-tiny, side: 64}
  qwen3vl: {describe: true, description_tokens: 2}
models:
  face: {training: {epochs: 1}}
  look: {kind: transformer, reads: grada, hidden: 16, layers: 1, heads: 2, window: 100, stride: 25, training: {epochs: 1}}
  behaviour: {training: {epochs: 1}}
  voice: {training: {epochs: 1}}
  fused: {training: {epochs: 1}}
"""
CHAIN = """
import json, socket, sys
from pathlib import Path

sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).with_name("jobs"))]


def main():
    from affpipe.jobs import apply, fit, predict, publish, start
    from affpipe.plan import config
    from affpipe.data.demo.clips import PAL, SQUARE, Clip, manifest_text
    from affpipe.data.demo.render import render
    from affpipe.encoders import tiny_weights as tiny

    clips = (Clip("one", "train", 3, PAL, SQUARE), Clip("two", "validation", 3, PAL, SQUARE))
    Path("data_manifest.csv").write_text(manifest_text(clips))
    render(Path("demo"), clips=clips, jobs=2)
    tiny._settle = lambda network, seed: None  # of GRADA: it takes longest of all, and here any numbers will do
    tiny.make_tiny(Path("weights"))
    settings = config.load([Path("config.yaml"), Path("offline.yaml")])
    frozen = start.freeze(settings)
    plan = start.plan_from(settings)
    for name in plan.names:
        if name in settings.models:
            fit.fit_model(frozen, name, Path(plan.fitted(name)), threads=1, progress=lambda *_: None)
        for index in plan.indexes(name):
            apply.apply_shard(frozen, Path(index), threads=1, progress=lambda stage, done, total: None)
    publish.publish_run(frozen, Path(plan.published()))
    quiet = {"subject": "largest", "progress": lambda *_: None, "done": []}
    predict.predict([Path("demo/videos/two.mp4")], Path("results/offline"), Path("out"), **quiet)

    import numpy as np
    from test_yolo import network, save
    from affpipe.faces.yolo.detector import YoloDetector

    detector = YoloDetector(save(Path("yolo.pt"), network()))
    detector.detect([np.zeros((64, 64, 3), np.uint8)])
    entries = apply.read_entries(plan, plan.names, list(plan.shards))
    states = {name: sorted({e.status for e in own.values()}) for name, own in entries.items()}
    links = [name for _, name in socket.if_nameindex()]
    Path("done.json").write_text(json.dumps({"states": states, "links": links, "modules": sorted(sys.modules)}))


if __name__ == "__main__":
    main()
"""


def isolated() -> list[str]:
    """The command that runs another one without a network, or nothing where the kernel does not let us."""
    for options in ("-n", "-rn"):
        command = ["unshare", options]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return []


def environment(folder: Path) -> dict[str, str]:
    """As it is on a machine of no habits: an empty home, nothing that says offline."""
    told = re.compile(r"HF_|HUGGINGFACE|TRANSFORMERS_|YOLO_|ULTRALYTICS|TORCH_HOME|XDG_|PL_|LIGHTNING|PYTHONPATH|.*_proxy", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not told.match(name)}
    (folder / "home").mkdir(exist_ok=True)
    (folder / "spy").mkdir(exist_ok=True)
    (folder / "spy/sitecustomize.py").write_text(SPY)
    more = {"HOME": str(folder / "home"), "PYTHONPATH": f"{folder / 'spy'}{os.pathsep}{ROOT}", "ATTEMPTS": str(folder / "attempts")}
    return kept | more


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> tuple[Path, dict]:
    """A folder in which every stage, every fit, publishing, a new video and a YOLO detector have run, and what they say of it."""
    folder = tmp_path_factory.mktemp("offline")
    shutil.copy(ROOT / "config.yaml", folder)
    (folder / "offline.yaml").write_text(SETTINGS)
    (folder / "chain.py").write_text(CHAIN)
    command = [*isolated(), sys.executable, "chain.py", str(ROOT / "tests" / "helpers")]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads((folder / "done.json").read_text())


def test_an_attempt_would_be_seen(tmp_path):
    """By whatever door."""
    for code in (
        "import urllib.request; urllib.request.urlopen('http://192.0.2.1/', timeout=1)",
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
        "import _socket; _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "import huggingface_hub; huggingface_hub.HfApi().model_info('x/y')",
    ):
        env = environment(tmp_path)
        assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True).returncode != 0
        assert (tmp_path / "attempts").read_text().startswith("socket.")
        (tmp_path / "attempts").unlink()


def test_nothing_touches_the_network(chain):
    folder, said = chain
    attempts = folder / "attempts"
    assert not attempts.exists(), attempts.read_text()
    assert {state for states in said["states"].values() for state in states} == {"done"}
    assert {"labels", "vad", "grada", "qwen3vl", "wavlm", "mesh", "fused"} <= set(said["states"])
    assert {"ultralytics", "lightning", "transformers", "mediapipe"} <= set(said["modules"])  # they were there to try
    assert (folder / "results/offline/report.html").is_file()
    assert (folder / "out/two.csv").is_file()


def test_the_chain_needs_no_network(chain):
    if not isolated():
        pytest.skip("the kernel gives no network namespace to this user (unshare -n)")
    assert chain[1]["links"] in ([], ["lo"])


def test_nothing_is_left_in_the_home_folder(chain):
    """Neither settings of ultralytics nor a cache of models. What libraries of drawing keep there (matplotlib, fontconfig) is theirs."""
    folder, _ = chain
    found = {path.relative_to(folder / "home").parts[:2] for path in (folder / "home").rglob("*") if path.is_file()}
    assert not {part for parts in found for part in parts if re.search(r"(?i)hugging|ultralytics|yolo|torch|lightning|wandb", part)}
