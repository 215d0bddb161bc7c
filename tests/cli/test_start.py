"""What a job imports before it works: nothing that its stage does not use. A process of its own each time."""

import subprocess
import sys

import pytest

from affpipe.system.standins import ALL, lightly, standins

# What the workflow's job imports, then the modules of it that are named.
LOADED = "import sys; print(*[name for name in {names!r} if name in sys.modules])"


def loaded(code: str, *names: str) -> list[str]:
    """Those of `names` that are imported after `code`."""
    command = [sys.executable, "-c", f"{code}\n{LOADED.format(names=names)}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


HEAVY = ("torch", "scipy", "av", "cv2", "mediapipe", "transformers", "lightning", "matplotlib", "jinja2", "rich")


def test_a_job_that_may_have_nothing_to_do_imports_nothing_heavy():
    assert loaded("import affpipe.cli.main, affpipe.jobs.start, affpipe.jobs.workers, affpipe.jobs.apply", *HEAVY) == []


def test_publishing_reads_predictions_without_networks():
    assert loaded("import affpipe.results.publish, affpipe.results.report.page", "torch", "av", "matplotlib", "transformers") == []


@pytest.mark.parametrize("detector", ["affpipe.faces.detect import MediaPipeDetector", "affpipe.faces.landmarks import FaceMesh"])
def test_mediapipe_comes_without_what_draws_and_records(detector):
    name = detector.split()[-1]
    found = loaded(f"from {detector}\n{name}()", "mediapipe", "matplotlib", "matplotlib.pyplot", "sounddevice", "torch", "scipy")
    assert found == ["mediapipe"]


def test_stages_of_faces_import_no_solver():
    assert loaded("import affpipe.faces.workers", "scipy", "torch", "mediapipe") == []


def test_a_fit_imports_no_measures_and_no_other_networks():
    names = ("lightning", "torchmetrics", "torchmetrics.functional", "transformers", "scipy.signal", "matplotlib")
    assert loaded("import affpipe.models.fit", *names) == ["lightning", "torchmetrics"]


def test_grada_comes_without_the_compiler_and_wavlm_without_a_solver():
    assert loaded("import affpipe.encoders.grada.network", "torchvision", "torch._dynamo", "sympy") == ["torchvision"]
    assert loaded("import affpipe.encoders.wavlm.network", "transformers", "scipy") == ["transformers"]


def test_a_network_without_values_is_made_without_the_compiler():
    code = "import torch\nfrom affpipe.encoders.grada.network import GradaNet\nfrom affpipe.system.weights.declared_sizes import Undrawn\n"
    code += "with torch.device('meta'), Undrawn():\n    assert all(p.is_meta for p in GradaNet().parameters())"
    assert loaded(code, "torch._dynamo", "sympy") == []


# ---- stand-ins --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A package `borrower` that imports `lender.things`, in a folder of its own."""
    (tmp_path / "lender").mkdir()
    (tmp_path / "lender" / "__init__.py").write_text("")
    (tmp_path / "lender" / "things.py").write_text("class Thing:\n    size = 3\ndef double(x):\n    return 2 * x\n")
    (tmp_path / "borrower.py").write_text(
        "import lender.things as things\nfrom lender.things import Thing, double\n"
        "def annotated(x: Thing | None) -> tuple[Thing, ...]: ...\n"
        "def own(x):\n    return isinstance(x, Thing)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


MODULES = {"lender": (), "lender.things": (ALL,)}


def test_a_stand_in_imports_its_module_when_it_is_used(packages):
    lightly("borrower", MODULES)
    borrower = sys.modules["borrower"]
    assert not {"lender", "lender.things"} & sys.modules.keys()
    assert not borrower.own(3)  # nobody can have made a Thing so far
    assert "lender.things" not in sys.modules
    assert borrower.double(4) == 8
    assert borrower.Thing.size == borrower.things.Thing.size == 3
    from lender.things import Thing

    assert borrower.own(Thing())
    assert not borrower.own(3)

    class Other(borrower.Thing): ...

    assert issubclass(Other, Thing)


def test_whoever_imports_the_module_afterwards_or_before_has_the_module_itself(packages):
    with standins(MODULES):
        import borrower  # noqa: F401
    import lender.things

    assert lender.things.__file__ == str(packages / "lender" / "things.py")
    with standins(MODULES):
        assert sys.modules["lender.things"] is lender.things


def test_a_package_that_wants_more_of_a_module_is_imported_with_the_module(packages):
    (packages / "borrower.py").write_text("from lender.things.more import Thing\n")
    (packages / "lender" / "things.py").unlink()
    (packages / "lender" / "things").mkdir()
    (packages / "lender" / "things" / "__init__.py").write_text("")
    (packages / "lender" / "things" / "more.py").write_text("class Thing: ...\n")
    lightly("borrower", MODULES)
    assert sys.modules["borrower"].Thing.__module__ == "lender.things.more"
