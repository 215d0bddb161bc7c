"""Write cpu.yaml and gpu.yaml from lock.txt, so that all environment files hold the same pins."""

from pathlib import Path

HERE = Path(__file__).parent
GPU = ("mamba-ssm>=2.2", "causal-conv1d>=1.4")  # compile against the node's CUDA and the pinned torch: pip's --no-build-isolation


def pins() -> list[str]:
    """The lines of the lock that name a package."""
    return [line for line in (HERE / "lock.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def environment(kind: str) -> str:
    """Text of the conda environment of a kind of node: cpu or gpu."""
    wanted = [*pins(), *(GPU if kind == "gpu" else ())]
    head = [f"name: affpipe-{kind}", "channels: [conda-forge]", "dependencies:", "  - python=3.11", "  - pip", "  - pip:"]
    return "\n".join(["# Made from lock.txt by make.py; see README.md.", *head, *(f"      - {pin}" for pin in wanted)]) + "\n"


if __name__ == "__main__":
    for kind in ("cpu", "gpu"):
        (HERE / f"{kind}.yaml").write_text(environment(kind), encoding="utf-8")
