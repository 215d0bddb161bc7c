"""Tests that want a real SLURM; `make test-slurm` runs them."""

import pytest
from cluster import NoCluster, install


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """Stop with one line where there can be no cluster."""
    try:
        install()
    except NoCluster as error:
        pytest.exit(str(error), returncode=2)
